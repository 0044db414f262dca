"""A user's own tables: read, cut, made numbers, trained on, predicted for; what is wrong is one line."""

import json
import shutil
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from pyarrow import feather, parquet

import kernelexp
from kernelexp.data import SOURCES, load, table_file
from kernelexp.data.columns import Column, Columns
from kernelexp.data.table_file import read_table

N = 120


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    made = pd.DataFrame({
        "age": rng.integers(18, 90, N),
        "city": rng.choice(["Oslo", "Rome", "Ulm"], N),
        "member": rng.random(N) < 0.3,
        "income": rng.lognormal(10, 1, N),
        "patient": rng.integers(0, 25, N),
        "when": pd.date_range("2020-01-01", periods=N),
    })  # fmt: skip
    made["left"] = np.where((made.age > 50) ^ (made.city == "Rome"), "yes", "no")
    return made.sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def table(frame, tmp_path):
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)

    def of(target="left", drop=("when",), **options):
        return SOURCES["table"](path=str(path), target=target, drop=list(drop), **options)

    return of


def loaded(source, **options):
    return load(source, None, dtype=torch.float64, **options)


def test_columns_become_coordinates(frame, table):
    data = loaded(table(scale="none", test=30, drop=["when", "patient"]))
    names = data.columns.names
    assert names == ["age", "city=Oslo", "city=Rome", "city=Ulm",
                     "member=false", "member=true", "income"]  # fmt: skip
    assert data.columns.classes == ("no", "yes")
    assert (len(data.train.X), len(data.test.X)) == (N - 30, 30)
    rows = {tuple(row) for row in np.round(np.vstack([data.train.X, data.test.X]), 6)}
    for person in frame.itertuples():
        one_hot = [float(person.city == c) for c in ("Oslo", "Rome", "Ulm")]
        truth = [float(not person.member), float(person.member)]
        assert tuple(np.round([person.age, *one_hot, *truth, person.income], 6)) in rows


@pytest.mark.parametrize("kind", ["tsv", "parquet", "feather", "arrow"])
def test_every_format_gives_the_same(kind, frame, table, tmp_path):
    path = tmp_path / f"people.{kind}"
    if kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    else:
        feather.write_feather(pa.Table.from_pandas(frame, preserve_index=False), path)
    there = loaded(SOURCES["table"](path=str(path), target="left", drop=["when"]))
    here = loaded(table())
    assert here.train.X.equal(there.train.X)
    assert here.test.labels.equal(there.test.labels)
    assert here.digest == there.digest


@pytest.mark.parametrize("ending", ["parquet", "feather"])
@pytest.mark.parametrize("role", ["target", "group"])
def test_categories_are_labels_and_groups(role, ending, frame, table, tmp_path):
    name = {"target": "left", "group": "city"}[role]
    options = {} if role == "target" else {"group": name}
    made = frame.assign(**{name: frame[name].astype("category")})
    path = tmp_path / f"typed.{ending}"
    getattr(made, f"to_{ending}")(path)
    there = loaded(SOURCES["table"](path=str(path), target="left", drop=["when"], **options))
    assert there.digest == loaded(table(**options)).digest


def test_types_of_other_writers_are_numbers_and_texts(frame, table, tmp_path):
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    cents = rows["patient"].cast(pa.decimal128(21, 2))
    plain = table(target="patient")
    for ending, city in (("parquet", pa.string()), ("arrow", pa.string_view())):
        made = rows.set_column(1, "city", rows["city"].cast(city)).set_column(4, "patient", cents)
        path = tmp_path / f"typed.{ending}"
        writer = parquet.write_table if ending == "parquet" else feather.write_feather
        writer(made, path)
        there = loaded(SOURCES["table"](path=str(path), target="patient", drop=["when"]))
        assert there.classes is None
        here = loaded(SOURCES["table"](**{**plain.__dict__, "task": "regression"}))
        assert here.train.X.equal(there.train.X)
        assert here.train.Y.equal(there.train.Y)


def test_a_path_may_begin_in_ones_own_folder(cli, frame, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    frame.to_csv(tmp_path / "t.csv", index=False)
    own = ("dataset=table", "dataset.path=~/t.csv", "dataset.target=left", "dataset.drop=[when]")
    done = cli(*own, "tracking.enabled=false")
    assert done.code == 0, done.err


def test_other_names_labels_and_groups_are_other_data(frame, tmp_path):
    def digest(made, **options):
        path = tmp_path / "made.csv"
        made.to_csv(path, index=False)
        return loaded(
            SOURCES["table"](path=str(path), target="left", drop=["when"], **options)
        ).digest

    first = digest(frame)
    assert digest(frame) == first
    assert digest(frame.rename(columns={"income": "pay"})) != first
    assert digest(frame.assign(left=frame.left.map({"yes": "gone", "no": "here"}))) != first
    others = frame.assign(patient=frame.patient.sample(frac=1, random_state=1).to_numpy())
    assert digest(frame, group="patient", test=0.5) != digest(others, group="patient", test=0.5)


def test_a_word_among_the_numbers_of_test_targets_is_named(frame, tmp_path):
    frame[:80].to_csv(tmp_path / "train.csv", index=False)
    test = frame[80:].astype({"income": object})
    test.loc[90, "income"] = "unknown"
    test.to_csv(tmp_path / "test.csv", index=False)
    paths = {"path": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    with pytest.raises(ValueError, match=r"test.csv: income=unknown: must be a number"):
        loaded(SOURCES["table"](**paths, target="income", drop=["when"]))


def test_test_rows_have_each_class_by_its_share(table):
    data = loaded(table(test=0.25))
    both = [np.bincount(part.labels, minlength=2) for part in (data.train, data.test)]
    assert abs(both[1] - 0.25 * (both[0] + both[1])).max() <= 1


def test_scaling_levels_and_medians_are_of_training_rows(frame, tmp_path):
    train, test = frame.iloc[:80].copy(), frame.iloc[80:].copy()
    train.loc[train.index[:9], "income"] = np.nan
    test.loc[test.index[0], "city"] = "Bern"
    test.loc[test.index[1:5], "income"] = np.nan
    for name, part in (("train", train), ("test", test)):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    source = SOURCES["table"](
        path=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv", target="left",
        drop=["when", "patient"], missing="impute",
    )  # fmt: skip
    data = loaded(source)
    X = data.train.X.numpy()
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-12)
    income = data.columns.features[-1]
    assert income.fill == pytest.approx(train.income.median())
    assert not (data.test.X[0] > 0).numpy()[1:4].any()  # Bern is none of the three
    held = np.isclose(data.test.X[1:5, -1], data.test.X[1, -1])
    assert held.all()


def test_groups_stay_together_and_the_latest_rows_are_tested_on(frame, table, tmp_path):
    kept = frame.set_index(frame.income.round(6))
    for options in ({"group": "patient"}, {"time": "when", "drop": ["patient"]}):
        drop = options.pop("drop", ["when"])
        source = table(drop=drop, scale="none", **options)
        data = loaded(source, validation=0.2)
        parts = [
            kept.loc[np.round(part.X[:, data.columns.names.index("income")].numpy(), 6)]
            for part in (data.train, data.valid, data.test)
        ]
        assert sum(map(len, parts)) == N
        if "group" in options:
            ids = [set(part.patient) for part in parts]
            assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]
        else:
            assert parts[0].when.max() < parts[1].when.min() <= parts[1].when.max()
            assert parts[1].when.max() < parts[2].when.min()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda frame: frame.when.dt.strftime("%d.%m.%Y"), "texts, as '"),
        (lambda frame: frame.city, "texts, as '"),
        (lambda frame: frame.city.astype("category"), "texts, as '"),
        (lambda frame: frame.member, "truth values, as '"),
        (lambda frame: frame.when.dt.strftime("%Y-%m-%d").where(frame.index != 9, "2020-13-01"),
         "texts, as '2020-13-01'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_texts_are_no_times(spoil, kind, ending, frame, tmp_path):
    frame["when"] = spoil(frame)
    path = tmp_path / f"t.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path, index=False)
    with pytest.raises(ValueError, match=".") as caught:
        loaded(SOURCES["table"](path=str(path), target="left", time="when"))
    said = str(caught.value)
    assert said.startswith("dataset.time=when: must be a column of numbers or dates, in ")
    assert kind in said
    assert said.endswith("'; write dates as YYYY-MM-DD, or give a column of numbers")
    assert "\n" not in said


def test_texts_that_are_dates_need_their_type(frame, tmp_path):
    frame["when"] = frame.when.dt.strftime("%Y-%m-%d")
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    with pytest.raises(ValueError, match="it has texts, as '2020-.*'; make its type that of dates"):
        loaded(SOURCES["table"](path=f"{tmp_path}/t.parquet", target="left", time="when"))


@pytest.mark.parametrize(
    "kind", ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%s", "%s.5"]
)
def test_dates_and_numbers_are_times(kind, frame, tmp_path):
    frame.assign(when=frame.when.dt.strftime(kind)).to_csv(tmp_path / "t.csv", index=False)
    source = SOURCES["table"](path=str(tmp_path / "t.csv"), target="left", time="when", test=20, scale="none")  # fmt: skip
    data = loaded(source)
    latest = frame.sort_values("when").income.tail(20)
    tested = data.test.X[:, data.columns.names.index("income")]
    assert sorted(tested.tolist()) == pytest.approx(sorted(latest))


def test_nothing_that_is_chosen_depends_on_test_labels(cli, frame, tmp_path):
    """Train on tables that differ in the test labels alone."""
    train, test = frame.iloc[:80], frame.iloc[80:]
    train.to_csv(tmp_path / "train.csv", index=False)
    found = []
    for name in ("as they are", "permuted"):
        if name == "permuted":
            test = test.assign(left=np.random.default_rng(1).permutation(test.left))
        test.to_csv(tmp_path / "test.csv", index=False)
        done = cli(
            "--multirun", "kernel.bandwidth=1,3,10", "dataset=table", "dataset.path=train.csv",
            "dataset.test=test.csv", "dataset.target=left", "dataset.drop=[when,patient]", "validation=0.25",
            "solver.stop.patience=2", "solver.epochs=30", f"tracking.experiment={name}",
        )  # fmt: skip
        assert done.code == 0, done.err
        from mlflow import MlflowClient

        client = MlflowClient()
        number = client.get_experiment_by_name(name).experiment_id
        runs = client.search_runs([number], order_by=["attributes.run_name"])
        jobs = [run for run in runs if "sweep.jobs" not in run.data.tags]
        [parent] = [run for run in runs if "sweep.jobs" in run.data.tags]
        assert parent.data.tags["sweep.best_by"] == "valid_accuracy"
        chosen = parent.data.tags["sweep.best"].split(" (")[0]
        measured = [
            {k: v for k, v in run.data.metrics.items()
             if "test" not in k and "seconds" not in k and "memory" not in k}
            for run in jobs
        ]  # fmt: skip
        found.append((chosen, measured, [run.data.metrics["test_accuracy"] for run in jobs]))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def test_new_rows_are_predicted(cli, frame, tmp_path, monkeypatch):
    frame.to_csv("people.csv", index=False)
    done = cli(
        "dataset=table", "dataset.path=people.csv", "dataset.target=left", "dataset.drop=[when]",
        "solver=exact", "solver.ridge=1e-4", "kernel.bandwidth=3", "validation=20",
        "tracking.log_model=true", "tracking.experiment=people",
    )  # fmt: skip
    assert done.code == 0, done.err
    new = frame.drop(columns="left").iloc[::-1]
    new.to_csv("new.csv", index=False)
    done = cli("best:people", "new.csv", "--out", "y.csv", "--outputs", module="kernelexp.predict")
    assert done.code == 0, done.err
    told = pd.read_csv("y.csv")
    assert list(told) == ["left", "output no", "output yes"]
    assert (told.left == frame.left.iloc[::-1].reset_index(drop=True)).mean() > 0.9
    model = kernelexp.load("best:people")
    assert (model.predict(new) == told.left).all()
    assert (model.predict(pa.Table.from_pandas(new)) == told.left).all()
    assert (model.predict(new[sorted(new)]) == told.left).all()  # in any order
    new.assign(city=new.city.where(new.age > 30)).to_csv("cityless.csv", index=False)
    new.assign(income=new.income.where(new.age > 30)).to_csv("poor.csv", index=False)
    rows = new.head(2).assign(city="Bern")
    rows.to_csv("bern.csv", index=False)
    done = cli("best:people", "bern.csv", module="kernelexp.predict")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert "not in training rows: city=Bern" in done.err
    new.drop(columns="age").to_csv("ageless.csv", index=False)
    infinite, large = (new.assign(age=age) for age in (np.inf, 1e100))
    infinite.to_csv("infinite.csv", index=False)
    large.to_csv("large.csv", index=False)
    with pytest.raises(ValueError, match=r"^inputs: age: has infinite values"):
        model.predict(infinite)
    (tmp_path / "a.csv").mkdir()
    for arguments, message in [
        (("best:people", "ageless.csv"), "ageless.csv: has no column age; there are city, member"),
        (("best:people", "cityless.csv"), "cityless.csv: city: "),
        (("best:people", "poor.csv"), "poor.csv: income: "),
        (("best:people", "infinite.csv", "--outputs"), "infinite.csv: age: has infinite values; correct"),
        (("best:people", "large.csv"), "large.csv, as the model takes them in float32: has NaN or infinite numbers"),
        (("best:people", "none.csv"), "none.csv: no such file"),
        (("best:other", "new.csv"), "best:other: no such experiment; there are Default, people"),
        (("zzz", "new.csv"), "run zzz: no such id or name in this store"),
        (("best:people", "new.csv", "--out", "y.doc"), "--out y.doc: must be a file whose name ends in .csv"),
        (("best:people", "new.csv", "--out", "no/y.csv"), "--out no/y.csv: no folder no; make it first, or name"),
        (("best:people", "new.csv", "--out", "a.csv"), "--out a.csv: is a folder; must be a file"),
        (("best:people",), "the following arguments are required: FILE"),
        (("best:people", "new.csv", "--store", "sqlite:///no.db"), "sqlite:///no.db: no such store"),
        (("best:people", "new.csv", "--store", "mlflow.db"), "must be an address, as sqlite:///mlflow.db"),
        (("best:people", "new.csv", "--store", "sqlite:///old.db"), "old.db: must be a store that opens ("),
    ]:  # fmt: skip
        shutil.copy("mlflow.db", "old.db")
        with closing(sqlite3.connect("old.db")) as old, old:
            old.execute("UPDATE alembic_version SET version_num = 'of another program'")
        done = cli(*arguments, module="kernelexp.predict")
        assert done.code == 2
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
    Path("mlruns").rename("elsewhere")
    done = cli("best:people", "new.csv", module="kernelexp.predict")
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert "mlruns" in done.err
    assert "which is not there; move mlruns back to where it was made" in done.err
    assert not (tmp_path / "no.db").exists()


def test_a_label_of_test_rows_alone_is_one_line(frame, tmp_path):
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.head(3).assign(left="perhaps").to_csv(tmp_path / "test.csv", index=False)
    source = SOURCES["table"](
        path=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv", target="left", drop=["when"]
    )
    with pytest.raises(ValueError, match="left=perhaps is not among the labels of training rows"):
        loaded(source)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0.1257", "abc", "0.5"], "new.csv: a=abc: must be a number, as in training"),
        (["0.1257", "1_0", "0.5"], "new.csv: a=1_0: must be a number, as in training"),
        (["0.1257", "0.2", "0.5"], "new.csv: a: texts, as '0.1257': must be numbers, as in training"),
        ([True, False, True], "new.csv: a=true: must be a number, as in training"),
        (["0.1257", None, "abc"], "new.csv: a=abc: must be a number, as in training"),
        ([None, None, None], "new.csv: a: 3 of 3 values are missing; fill them in"),
        (pa.array([1, 2, 3], pa.date32()), "new.csv: a: date32[day]: must be numbers, as in training"),
    ],
)  # fmt: skip
def test_the_value_that_is_no_number_is_named(values, message):
    columns = Columns((Column("a"),), "y", None)
    if isinstance(values, list):
        values = pa.array(values, pa.bool_() if values[0] is True else pa.string())
    with pytest.raises(ValueError, match=".") as caught:
        columns.points(pa.table({"a": values}), "new.csv")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["age", "city", "member"])
@pytest.mark.parametrize("whole", [False, True])
def test_missing_values_of_new_rows_are_as_those_of_training_rows(name, whole, table):
    strict = loaded(table()).columns
    rows = read_table(Path(table().path))
    some = pa.array([whole or row == 3 for row in range(N)])
    rows = rows.set_column(
        rows.column_names.index(name), name, pc.if_else(some, pa.scalar(None), rows[name])
    )
    count = N if whole else 1
    with pytest.raises(ValueError, match=f"new.csv: {name}: {count} of 120 values are missing; fill them in"):  # fmt: skip
        strict.points(rows, "new.csv")
    lenient = loaded(table(missing="impute")).columns
    assert len(lenient.points(rows, "new.csv")) == N


def test_models_of_before_say_by_what_is_filled_in_whether_values_may_be_missing(table):
    for columns in (loaded(table(missing=missing)).columns for missing in ("refuse", "impute")):
        stored = columns.to_dict()
        del stored["impute"]
        assert Columns.from_dict(stored) == columns


def test_one_column_may_have_any_name(tmp_path):
    parquet.write_table(pa.table({"a;b": [1.0]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert read_table(tmp_path / "t.parquet").column_names == ["a;b"]
    assert read_table(tmp_path / "t.csv").column_names == ["a"]


def test_blanks_about_names_of_new_rows_are_seen():
    columns = Columns((Column(" a"),), "y", None)
    with pytest.raises(ValueError, match="new.csv: has no column ' a'; there are a, 'b '"):
        columns.points(pa.table({"a": [1.0], "b ": [1.0]}), "new.csv")


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


def test_columns_come_back_from_json(table):
    columns = loaded(table(missing="impute")).columns
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns


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


def test_a_warning_of_texts_is_one_line_of_the_command(cli, frame):
    frame.assign(name=[f"u{i}" for i in range(N)]).to_csv("t.csv", index=False)
    done = cli("dataset=table", "dataset.path=t.csv", "dataset.target=left", "dataset.drop=[when]",
               "solver=exact", "tracking.experiment=names")  # fmt: skip
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


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "iris", "wine"])
def test_tables_that_scikit_learn_brings(name):
    from sklearn import datasets

    there = getattr(datasets, f"load_{name}")(as_frame=True)
    data = loaded(SOURCES[name](scale="none"))
    assert len(data.train.X) + len(data.test.X) == len(there.frame)
    assert data.columns.names == list(there.data)
    names = None if name == "diabetes" else tuple(sorted(there.target_names))
    assert data.columns.classes == names


@pytest.mark.parametrize(
    "name",
    ["iris", "wine", "breast_cancer", "diabetes", "friedman1", "friedman2", "friedman3", "moons"],
)
def test_sizes_are_known_beforehand(name):
    for options in ({}, {"test": 30, "n_train": 50}):
        source = SOURCES[name](**options)
        data = loaded(source)
        (n, d), (m, c) = data.train.X.shape, data.test.Y.shape
        assert source.shape() == (n, m, d, c)
    assert SOURCES[name](drop=["x"]).shape() is None


@pytest.mark.parametrize("name", ["friedman1", "friedman2", "friedman3", "moons"])
def test_synthetic_tables_are_those_of_scikit_learn(name):
    from sklearn import datasets

    noise = {"friedman1": 1.0, "friedman2": 125.0, "friedman3": 0.1, "moons": 0.3}[name]
    X, y = getattr(datasets, f"make_{name}")(300, noise=noise, random_state=0)
    one, other = (loaded(SOURCES[name](scale="none", rows=300), seed=seed) for seed in (0, 1))
    assert not torch.equal(one.test.X, other.test.X)  # other rows are tested on
    for data in (one, other):
        points = torch.cat([data.train.X, data.test.X])
        targets = torch.cat([data.train.Y, data.test.Y])[:, -1]
        order, theirs = points[:, 0].argsort(), X[:, 0].argsort()
        assert points[order].numpy() == pytest.approx(X[theirs], rel=1e-6)
        assert targets[order].numpy() == pytest.approx(y[theirs].astype(float), rel=1e-5)
    assert one.classes is None or list(one.columns.classes) == ["0", "1"]


def test_openml_is_fetched_once_or_refused_in_one_line(monkeypatch, tmp_path):
    from urllib.error import URLError

    from sklearn import datasets

    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path))
    source = SOURCES["openml"](id=61)

    def fetch(**options):
        raise URLError("no route to host\nat all")

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    with pytest.raises(FileNotFoundError, match="dataset.id=61: could not be fetched") as caught:
        loaded(source)
    assert "\n" not in str(caught.value)
    assert "no route to host at all" in str(caught.value)
    there = datasets.load_iris(as_frame=True)

    def found(data_id, as_frame, data_home):
        assert (data_id, as_frame, data_home) == (61, True, str(tmp_path))
        return there

    monkeypatch.setattr(datasets, "fetch_openml", found)
    assert len(loaded(source).train.X) == 120
    for options, message in (({"id": None}, "id=None: must be the number"), ({"id": 0}, "id=0")):
        with pytest.raises(ValueError, match=message):
            SOURCES["openml"](**options)
    with pytest.raises(ValueError, match="test=x.csv: must be a share"):
        SOURCES["openml"](id=61, test="x.csv")


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
