"""What is wrong with a user's table is one line, and what looks wrong a warning."""

import re
import shlex
import subprocess
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pyarrow import parquet
from small_table import N, loaded, table_of

from kernelexp.data import SOURCES, table_file
from kernelexp.data.column_kinds import drop_option
from kernelexp.data.columns import Column, Columns
from kernelexp.data.table_file import read_table


def spoiled(frame, name):
    """A table with one thing wrong, and what is said of it."""
    rng = np.random.default_rng(0)
    made = frame.copy()
    if name == "missing number":
        made.loc[3, "income"] = np.nan
        return made, "income: 1 of 96 values are missing; dataset.missing=impute fills them in"
    if name == "missing text":
        made.loc[:, "city"] = made.city.where(rng.random(N) < 0.9)
        return made, "city: "
    if name == "missing label":
        made.loc[3, "left"] = None
        return made, "left: 1 of 120 values are missing; remove such rows"
    if name == "empty column":
        made["age"] = np.nan
        return made, "age: has no value at all; dataset.drop=[age] leaves it out"
    if name == "dates":
        made["since"] = pd.date_range("2020", periods=N)
        return made, "since: date32[day]; dates and times are no numbers"
    if name == "many texts":
        made = pd.concat([made] * 11, ignore_index=True)
        made["city"] = [f"street {i}" for i in range(len(made))]
        return made, "city: 1,056 different texts, 1,000 at most; leave it out"
    if name == "infinite":
        made.loc[3, "income"] = np.inf
        return made, "income: has infinite values"
    if name == "one class":
        made["left"] = "yes"
        return (
            made,
            "t.csv: left: all labels of training rows are yes; there must be two classes or more",
        )
    if name == "one row":
        return made.head(1), "1 rows; there must be 4 or more"
    if name == "nothing to predict from":
        return made[["left", "when"]], "no column is left to predict left from"
    if name == "no such target":
        return made.rename(columns={"left": "Left"}), "dataset.target=left: must be a column of"
    raise AssertionError(name)


@pytest.mark.parametrize("name", [
    "missing number", "missing text", "missing label", "empty column", "dates", "many texts", "infinite",
    "one class", "one row", "nothing to predict from", "no such target",
])  # fmt: skip
def test_what_is_wrong_is_one_line(name, frame, tmp_path):
    made, message = spoiled(frame, name)
    made.to_csv(tmp_path / "t.csv", index=False)
    source = SOURCES["table"](
        path=str(tmp_path / "t.csv"), target="left", drop=["when"] if "when" in made else []
    )
    with pytest.raises(ValueError, match=".") as caught:
        loaded(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_word_among_the_numbers_of_test_targets_is_named(frame, tmp_path):
    frame[:80].to_csv(tmp_path / "train.csv", index=False)
    test = frame[80:].astype({"income": object})
    test.loc[90, "income"] = "unknown"
    test.to_csv(tmp_path / "test.csv", index=False)
    paths = {"path": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    with pytest.raises(
        ValueError,
        match=r"test.csv: income: 'unknown' stands among numbers: correct it or remove the row",
    ):
        loaded(SOURCES["table"](**paths, target="income", drop=["when"]))


@pytest.mark.parametrize("task", ["auto", "regression"])
@pytest.mark.parametrize("file", ["my", "test"])
def test_a_word_among_the_numbers_of_a_target_is_named(file, task, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("my", "test"):
        made = pd.DataFrame({"x": rng.normal(size=200), "y": rng.integers(0, 41, 200)})
        if name == file:
            made = made.astype({"y": object})
            made.loc[17, "y"] = "?"
        made.to_csv(tmp_path / f"{name}.csv", index=False)
    options = {"test": f"{tmp_path}/test.csv"} if file == "test" else {}
    with pytest.raises(ValueError, match=".") as caught:
        loaded(table_of(tmp_path / "my.csv", target="y", drop=(), task=task, **options))
    assert str(caught.value) == (
        f"{tmp_path}/{file}.csv: y: '?' stands among numbers: correct it or remove the row; "
        "dataset.task=classification takes all for labels"
    )


def test_a_word_among_numbers_that_are_labels_is_a_label(tmp_path):
    labels = [*"0123456789", "other"] * 10
    made = pd.DataFrame({"x": range(110), "y": labels})
    made.to_csv(tmp_path / "t.csv", index=False)
    source = table_of(tmp_path / "t.csv", target="y", drop=(), task="classification")
    assert loaded(source).columns.classes == tuple(sorted(set(labels)))


def test_a_label_of_test_rows_alone_is_one_line(frame, tmp_path):
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.head(3).assign(left="perhaps").to_csv(tmp_path / "test.csv", index=False)
    source = SOURCES["table"](
        path=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv", target="left", drop=["when"]
    )
    with pytest.raises(ValueError, match="left=perhaps is not among the labels of training rows"):
        loaded(source)


def test_a_late_word_of_a_test_file_is_named(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_TOGETHER", 10)
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame["income"] = frame.income.astype(str).where(frame.index != 100, "much")
    frame.to_csv(tmp_path / "test.csv", index=False)
    source = SOURCES["table"](
        path=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv", target="left", drop=["when"]
    )
    with pytest.raises(ValueError, match="test.csv: income=much: must be a number, as in training"):
        loaded(source)


NAMES = [
    "when", "a-b", "größe", "x [cm]", "a=b", "n #1", "it's", "a\\", "a\\'b", "true", "NULL", "1", "0.5", "", "a,b", " a ",
    'say "x"', "$HOME", "`ls`", "a{b}", "(c)", "x\ty", "a:b", "-x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_setting_that_leaves_a_column_out_can_be_typed(name):
    echo = ["sh", "-c", f"printf %s {drop_option(name)}"]
    typed = subprocess.run(echo, capture_output=True, text=True, check=True).stdout
    [read] = OverridesParser.create().parse_override(typed).value()
    assert getattr(read, "text", read) == name


def test_a_column_is_left_out_by_what_the_message_says(cli, frame):
    frame.assign(**{"größe [cm] #1": None}).to_csv("t.csv", index=False)
    own = ("dataset=table", "dataset.path=t.csv", "dataset.target=member", "tracking.enabled=false")
    done = cli(*own, "dataset.time=when")
    assert done.code == 2
    [said] = done.err.splitlines()
    advice = said.split("no value at all; ")[1].removesuffix(" leaves it out")
    assert advice == "\"dataset.drop=['größe [cm] #1']\""
    done = cli(*own, "dataset.time=when", *shlex.split(advice))
    assert done.code == 0, done.err


def told(source):
    """What is warned of while it is loaded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded(source)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("written", "example"),
    [
        (lambda frame: frame.income.map("{:,.2f}".format), ","),
        (lambda frame: frame.income.map("{:.2f}%".format), "%"),
        (lambda frame: frame.when.dt.strftime("%d.%m.%Y"), ".2020"),
        (lambda frame: "u" + frame.index.astype(str).to_series(index=frame.index), "u0"),
    ],
)
def test_numbers_dates_and_names_written_as_texts_are_warned_of(written, example, frame, tmp_path):
    frame.assign(odd=written(frame)).to_csv(tmp_path / "t.csv", index=False)
    source = SOURCES["table"](path=f"{tmp_path}/t.csv", target="left", drop=["when"])
    [line] = told(source)
    assert line.startswith(f"{tmp_path}/t.csv: odd: 9")
    assert " different texts in 96 training rows, as '" in line
    assert example in line.split(", as ")[1].split(", each")[0]
    assert line.endswith("dates as YYYY-MM-DD, or leave it out by dataset.drop=[odd]")
    assert "\n" not in line


def test_levels_are_not_warned_of(frame, table, tmp_path):
    assert told(table()) == []
    few = [f"street {i % 40}" for i in range(N)]
    for levels in (few, [f"street {i}" if i < 19 else None for i in range(N)]):
        frame.assign(street=levels).to_csv(tmp_path / "t.csv", index=False)
        source = SOURCES["table"](path=f"{tmp_path}/t.csv", target="left", drop=["when"], missing="impute")  # fmt: skip
        assert told(source) == []


def test_test_rows_that_are_training_rows_are_warned_of(frame, tmp_path):
    path = tmp_path / "t.csv"
    repeated = pd.concat([frame, frame.head(60)], ignore_index=True)
    repeated.to_csv(path, index=False)
    [line] = told(table_of(path))
    assert line.startswith("dataset=table: ")
    assert " of 36 test rows (" in line
    assert "\n" not in line
    # A row of its own for each pair keeps it on one side.
    repeated.assign(who=[*range(N), *range(60)]).to_csv(path, index=False)
    assert told(table_of(path, group="who")) == []


def test_zeros_of_both_signs_are_equal_rows(tmp_path):
    made = pd.DataFrame(
        {
            "x": 2 * [*range(20)],
            "zero": 20 * [0.0] + 20 * [-0.0],
            "y": 2 * [i / 7 for i in range(20)],
        }
    )
    made.to_csv(tmp_path / "t.csv", index=False)
    [line] = told(table_of(tmp_path / "t.csv", target="y", drop=()))
    assert " of 8 test rows (" in line


@pytest.mark.parametrize("target", ["class", "number"])
def test_rows_of_few_whole_numbers_are_equal_by_chance(target, tmp_path):
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"age": rng.integers(18, 90, 2000), "children": rng.integers(0, 4, 2000)})
    made["y"] = made.age / 100 + rng.normal(size=2000)
    if target == "class":
        made["y"] = np.where(made.y > 0.5, "yes", "no")
    made.to_csv(tmp_path / "t.csv", index=False)
    assert told(table_of(tmp_path / "t.csv", target="y", drop=())) == []
    pd.concat([made, made]).to_csv(tmp_path / "t.csv", index=False)
    # That the table is there twice its targets tell, if they are more than two.
    assert len(told(table_of(tmp_path / "t.csv", target="y", drop=()))) == (target == "number")


@pytest.mark.parametrize(
    ("values", "mistake"),
    [
        (["<1", *map(str, range(1, 21)), ">20"], None),
        ([*map(str, range(10)), "10+"], None),
        ([*map(str, range(40)), "?"], "?"),
        ([*map(str, range(1000)), "1O"], "1O"),
    ],
)
def test_ends_of_a_scale_are_no_mistakes(values, mistake, tmp_path):
    some = [*values, *values[:-1]] if mistake == "1O" else 8 * values
    made = pd.DataFrame({"years": some, "y": np.arange(len(some)) / 7})
    made.to_csv(tmp_path / "t.csv", index=False)
    source = table_of(tmp_path / "t.csv", target="y", drop=())
    if mistake is None:
        assert f"years={values[-1]}" in loaded(source).columns.names
    else:
        with pytest.raises(ValueError, match=f"years: '{re.escape(mistake)}' stands among numbers"):
            loaded(source)


@pytest.mark.parametrize("missing", ["refuse", "impute"])
def test_a_column_of_nan_alone_has_no_value(missing, tmp_path):
    made = pa.table({"x": np.arange(30.0), "empty": np.full(30, np.nan), "y": np.arange(30.0)})
    parquet.write_table(made, tmp_path / "t.parquet")
    source = table_of(tmp_path / "t.parquet", target="y", drop=(), missing=missing)
    with pytest.raises(ValueError, match="empty: has no value at all"):
        loaded(source)


def test_a_warning_of_texts_is_one_line_of_the_command(cli, frame):
    frame.assign(name=[f"u{i}" for i in range(N)]).to_csv("t.csv", index=False)
    done = cli("dataset=table", "dataset.path=t.csv", "dataset.target=left", "dataset.drop=[when]",
               "solver=exact", "tracking.experiment=names", "cv=3")  # fmt: skip
    assert done.code == 0, done.err
    [line] = [line for line in done.err.splitlines() if "warning" in line]
    assert line.startswith(
        "kernelexp: warning: t.csv: name: 96 different texts in 96 training rows"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "not a readable csv file"),
        ("a.csv", b"x,left\n", "has no rows"),
        ("a.csv", b"x,left\n1,2,3\n", "not a readable csv file"),
        ("a.csv", b"x,x,left\n1,2,3\n", "1 names of columns occur twice, as 'x'"),
        (
            "a.csv",
            b"\xff\xfe\x00x",
            "a.csv: names of columns are not UTF-8; save the file as UTF-8",
        ),
        (
            "a.csv",
            "x,größe\n1,2\n".encode("latin-1"),
            "a.csv: names of columns are not UTF-8; save",
        ),
        (
            "a.tsv",
            "x\tgröße\n1\t2\n".encode("latin-1"),
            "a.tsv: names of columns are not UTF-8; save",
        ),
        ("a.csv", "x,left\n1,2\n".encode("utf-16"), "a.csv: names of columns are not UTF-8; save"),
        ("a.tsv", b"x;left\n1;2\n", "a.tsv: its columns are separated by semicolons; save it with"),
        ("a.parquet", b"PAR1", "not a readable parquet file"),
        ("a.feather", b"x,left\n1,2\n", "not a readable feather file"),
        ("a.arrow", b"", "not a readable arrow file"),
    ],
)
def test_broken_files_are_one_line(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=".") as caught:
        read_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("line", "name"), [("1,ö,no", "c"), ("1,u,nö", "y")])
def test_texts_that_are_not_utf_8_are_one_line(line, name, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(f"x,c,y\n{line}\n".encode("latin-1") + b"1,u,no\n2,v,yes\n" * 9)
    said = f"t.csv: {name}: bytes that are not UTF-8; save the file as UTF-8, or leave the column"
    with pytest.raises(ValueError, match=said):
        loaded(SOURCES["table"](path=str(path), target="y"))
    if name == "c":
        columns = Columns((Column("c", ("u", "v")),), "y", None)
        with pytest.raises(ValueError, match=said):
            columns.points(read_table(path), "t.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "path=None: must be a file"),
        ({"path": "none.csv"}, "path=none.csv: must be a file"),
        ({"target": None}, "target=None: must be the name of a column"),
        ({"test": 0}, "test=0: must be a share between 0 and 1"),
        ({"test": 1.5}, "test=1.5: must be a share between 0 and 1"),
        ({"test": "none.csv"}, "test=none.csv: must be a file"),
        ({"missing": "drop"}, "missing=drop: must be one of refuse, impute"),
        (
            {"group": "patient", "time": "when"},
            "time=when: must be null with dataset.group=patient",
        ),
        ({"test": 119}, "dataset.test=119: must be at most 118 of 120 points"),
        ({"drop": ["cty"]}, "dataset.drop=cty: must be a column of"),
        ({"drop": ["cty"]}, "(did you mean city?)"),
        ({"group": "x"}, "dataset.group=x: must be a column of"),
        ({"task": "regression"}, "dataset.task=regression: must be classification"),
    ],
)
def test_wrong_options_are_one_line(options, message, frame, tmp_path):
    frame.drop(columns="when").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=".") as caught:
        loaded(SOURCES["table"](**{"path": f"{tmp_path}/t.csv", "target": "left", **options}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


GOOD = "\n".join(["x,c,y"] + [f"{i},{'ab'[i % 2]},{i % 2}" for i in range(20)])
# Of a table of a number x, a text c and a label y: what is done to it, options, and what is said.
MALFORMED = [
    (lambda t: t.replace("\n3,b", "\n,b"), {}, "x: 1 of "),
    (lambda t: t.replace("\n3,b", "\n3,"), {}, "c: 1 of "),
    (lambda t: t.replace("\n3,b", "\nNA,b"), {}, "x: 1 of "),
    (lambda t: t.replace("\n3,b", "\nnan,b"), {}, "x: 1 of "),
    (lambda t: t.replace("\n3,b,1", "\n3,b,"), {}, "y: 1 of 20 values are missing; remove such rows"),
    (lambda t: t.replace("\n3,b", "\ninf,b"), {}, "x: has infinite values"),
    (lambda t: t.replace("\n3,b", "\n-inf,b"), {}, "x: has infinite values; correct them"),
    (lambda t: t.replace("\n3,b", "\n1e300,b"), {"scale": "none"}, "squares of which overflow"),
    (lambda t: t.replace("3,b,1", "3,b,1,9"), {}, "not a readable csv file"),
    (lambda t: t.replace("3,b,1", "3,b"), {}, "not a readable csv file"),
    (lambda t: t.replace("x,c,y", "x,c,"), {}, "dataset.target=y: must be a column of"),
    (lambda t: t.replace("x,c,y", "y,c,y"), {}, "occur twice, as 'y'"),
    (lambda t: t.replace("x,c,y", "x;c;y"), {}, "t.csv: its columns are separated by semicolons; save"),
    (lambda t: t.replace(",", ";"), {}, "t.csv: its columns are separated by semicolons; save it with commas"),
    (lambda t: t.replace(",", ";").replace("\n3;", "\n3,5;"), {}, "by semicolons; save it with commas"),
    (lambda t: t.replace(",", "\t"), {}, "t.csv: its columns are separated by tabs; let its name end in .tsv"),
    (lambda t: t.replace("x,c,y", "x, c, y"), {},
     "t.csv: x, ' c', ' y' (did you mean ' y'?)"),
    (lambda t: t.replace("x,c,y", "x,,y").replace("y", "z"), {}, "t.csv: x, '', z"),
    (lambda t: t.replace("x,c,y", "X,C,Y"), {}, "dataset.target=y: must be a column of"),
    (lambda t: t.replace("x,c,y", "x,c,why"), {}, "must be a column of"),
    (lambda t: "\n".join(t.splitlines()[1:]), {}, "occur twice, as '0'"),
    (lambda t: t.splitlines()[0], {}, "not a readable csv file"),
    (lambda t: "\n".join(t.splitlines()[:3]), {}, "2 rows; there must be 4 or more"),
    (lambda t: "", {}, "not a readable csv file"),
    (lambda t: t[: len(t) // 2] + '"', {}, "not a readable csv file"),
    (lambda t: t.replace("0\n", "1\n")[:-1] + "1", {}, "y_train, y: all labels are 1; there must be"),
    (lambda t: t.replace(",1\n", ",1.5\n"), {"task": "classification"}, "is no label"),
    (lambda t: t.replace("x,c,y", "y,c,x"), {"task": "auto"}, "distinct whole numbers"),
    (lambda t: t.replace("\n3,b", "\n2020-01-02,b"), {}, "x: '2020-01-02' stands among numbers"),
    (lambda t: t.replace("\n3,b", "\n3 km,b"), {}, "x: '3 km' stands among numbers: correct it"),
    (lambda t: t.replace("\n4,a", "\n4 km,a"), {}, "x: '4 km' stands among numbers: correct it"),
    (lambda t: t.replace("\n5,b", "\n5 km,b"), {}, "x: '5 km' stands among numbers"),
    (lambda t: t, {"drop": ["x", "c"]}, "no column is left to predict y from"),
    (lambda t: t, {"drop": ["y"], "target": "z"}, "dataset.target=z: must be a column of"),
    (lambda t: t, {"test": 19}, "dataset.test=19: must be at most 18 of 20 points"),
    (lambda t: t, {"group": "y", "target": "x", "test": 0.9}, "2 groups leave no other points"),
    (lambda t: t, {"n_train": 500}, "dataset.n_train=500: must be at most 16"),
    (lambda t: t, {"scale": "unit_norms"}, "scale=unit_norms: must be one of"),
    (lambda t: t, {"grayscale": True}, "has no three colours last"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "options", "message"), MALFORMED)
def test_malformed_tables_are_one_line(spoil, options, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(spoil(GOOD))
    with pytest.raises(ValueError, match=".") as caught:
        loaded(SOURCES["table"](**{"path": str(path), "target": "y", **options}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
