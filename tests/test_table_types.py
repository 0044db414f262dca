"""A column of texts is one in each later file, whatever it looks like there."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from small_table import loaded, table_of

from kernelexp.data import arrow_files
from kernelexp.data.columns import Columns
from kernelexp.data.table_file import read_table


def coded(codes, n=60, target=None):
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"code": rng.choice(codes, n), "x": rng.normal(size=n)})
    return made.assign(y=np.where(made.code == codes[0], "u", "v") if target is None else target)


def told(source):
    """The data and the warnings about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = loaded(source)
    return data, [str(warning.message) for warning in caught]


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.csv"
    coded(["007", "012", "A12", "1.50", "true"]).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("codes", [["007", "012"], ["1.50"], ["true"]])
def test_codes_of_a_test_file_are_texts(codes, large, ending, train, monkeypatch):
    if large:
        monkeypatch.setattr(arrow_files, "LARGE", 100)
    test, path = coded(codes, 20), train.with_name(f"test.{ending}")
    if ending == "parquet":
        test.to_parquet(path, index=False)
    else:
        test.to_csv(path, index=False, sep={"csv": ",", "tsv": "\t"}[ending])
    data, lines = told(table_of(train, "y", (), test=str(path), scale="none"))
    assert lines == []
    for name in codes:
        has = data.test.X[:, data.columns.names.index(f"code={name}")].numpy() == 1
        assert (has == (test.code == name)).all()


def test_new_rows_are_read_by_what_training_rows_had(train):
    columns = loaded(table_of(train, "y", ())).columns
    assert columns.texts == ["code", "y"]
    new = train.with_name("new.csv")
    new.write_text("x,code,other\n1,007,01\n2,012,02\n3,,03\n")
    rows = read_table(new, Columns.from_dict(columns.to_dict()).texts)
    assert rows["code"].to_pylist() == ["007", "012", None]
    assert rows["other"].to_pylist() == [1, 2, 3]
    assert columns.unknown(rows.slice(0, 2)) == []


@pytest.mark.filterwarnings("ignore:dataset=table. .* are equal to training rows")
def test_labels_of_a_test_file_are_texts(tmp_path):
    for name, codes in (("train", ["01", "A"]), ("test", ["01"])):
        made = coded(codes)
        made.assign(y=made.code, code=1.0).to_csv(tmp_path / f"{name}.csv", index=False)
    data = loaded(table_of(tmp_path / "train.csv", "y", (), test=f"{tmp_path}/test.csv"))
    assert data.columns.classes == ("01", "A")
    assert not data.test.labels.any()


def test_truth_values_stay_what_they_are(frame, table, tmp_path):
    columns = loaded(table()).columns
    assert columns.texts == ["city", "left"]
    frame.to_csv(
        tmp_path / "test.csv", index=False
    )  # as True and False, which become true and false
    rows = read_table(tmp_path / "test.csv", columns.texts)
    assert columns.unknown(rows) == []


def test_one_word_beside_truth_values(tmp_path):
    """With it they are read as the texts True and False: only its row is unknown."""
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"member": rng.random(60) < 0.5, "x": rng.normal(size=60)})
    made.assign(left=~made.member).to_csv(tmp_path / "train.csv", index=False)
    columns = loaded(table_of(tmp_path / "train.csv", "left", ())).columns
    odd = made.assign(left=~made.member).astype({"member": object, "left": object})
    odd.loc[7, "member"] = "unknown"
    odd.to_csv(tmp_path / "odd.csv", index=False)
    rows = read_table(tmp_path / "odd.csv", columns.texts)
    frame = pa.Table.from_pandas(odd.astype({"member": str, "left": bool}))
    for table in (rows, frame):
        assert columns.unknown(table) == ["member=unknown"]
        others = np.arange(60) != 7
        one_hot = columns.points(table, "new")[:, :2]
        assert one_hot[7].tolist() == [0, 0]
        assert (one_hot[others] == np.stack([~made.member, made.member], 1)[others]).all()
        assert (columns.targets(table, "new") == ~made.member).all()
    odd.loc[3, "left"] = "perhaps"
    odd.to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(ValueError, match="new: left=perhaps is not among the labels"):
        columns.targets(read_table(tmp_path / "odd.csv", columns.texts), "new")


def test_a_line_longer_than_what_is_parsed_at_a_time(tmp_path, monkeypatch):
    """Of a table with a column for each of 60,000 genes the header alone has a megabyte."""
    monkeypatch.setattr(arrow_files, "_USUAL", 1000)
    names = [f"x{i}" for i in range(500)]
    made = pd.DataFrame(np.arange(1500.0).reshape(3, 500), columns=names)
    made.to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.csv").to_pandas().equals(made)


@pytest.mark.parametrize("how", ["a file", "group", "time"])
def test_texts_of_test_rows_alone_are_warned_of(how, tmp_path):
    made = coded(["a", "b"], 60, np.arange(60) % 2).assign(when=range(60))
    test = coded(["e", "d", "c", "f"], 20, np.arange(20) % 2).assign(when=range(60, 80))
    path, options = tmp_path / "t.csv", {"drop": ["when"], "test": 20}
    if how == "a file":
        options["test"] = f"{tmp_path}/test.csv"
        test.to_csv(options["test"], index=False)
    else:
        made = pd.concat([made, test])
        made["who"] = (made.when >= 60).astype(int)
        options |= {"drop": ["who"], "time": "when"} if how == "time" else {"group": "who"}
    made.to_csv(path, index=False)
    _, lines = told(table_of(path, "y", **options))
    called = options["test"] if how == "a file" else path
    assert lines == [
        f"{called}: test rows have texts that are not in training rows: code=c, code=d, code=e, ...; counted as none "
        "of the known"
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([7, 12]), "code=7: int64"),
        (pa.array([7.5, 12]), "code=7.5: double"),
        (pa.array([None, 7]), "code=7: int64"),
        (pa.array([18000], pa.date32()), "code=2019-04-14: date32[day]"),
    ],
)
def test_numbers_for_texts_are_refused(values, kind, train):
    columns = loaded(table_of(train, "y", (), missing="impute")).columns
    rows = pa.table({"code": values, "x": pa.nulls(len(values), pa.float64())})
    parquet.write_table(rows, train.with_name("new.parquet"))
    with pytest.raises(ValueError, match=".") as caught:
        columns.points(read_table(train.with_name("new.parquet")), "new")
    assert str(caught.value) == (
        f"new: {kind}: must be texts or truth values as in training, as '007'"
    )


def test_numbers_that_are_texts_of_training_rows_are_taken_for_them(tmp_path):
    path = tmp_path / "t.csv"
    coded(["7", "12", "A"]).to_csv(path, index=False)
    columns = loaded(table_of(path, "y", ())).columns
    points = columns.points(pa.table({"code": [12, 3], "x": [0.0, 0.0]}), "new")
    assert points[:, :3].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_texts_of_a_test_file_that_are_not_utf_8_are_one_line(train):
    path = train.with_name("test.csv")
    path.write_bytes("code,x,y\nö,1,u\n007,2,v\n".encode("latin-1"))
    said = "test.csv: has texts that are not UTF-8; save it as UTF-8$"
    with pytest.raises(ValueError, match=said):
        loaded(table_of(train, "y", (), test=str(path)))
