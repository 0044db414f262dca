"""A user's own tables: read, cut, and made numbers."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet
from small_table import N, loaded

from kernelexp.data import SOURCES
from kernelexp.data.table_file import read_table


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


def test_test_rows_have_each_class_by_its_share(table):
    data = loaded(table(test=0.25))
    both = [np.bincount(part.labels, minlength=2) for part in (data.train, data.test)]
    assert abs(both[1] - 0.25 * (both[0] + both[1])).max() <= 1


@pytest.mark.filterwarnings("ignore:.* texts that are not in training rows")
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


def test_line_breaks_within_quotes_also_where_arrow_cuts_a_file(tmp_path):
    """It reads a megabyte at a time; a note of some lines is as likely to be cut as not."""
    note = "\n".join(20 * ["some words of a note"])
    rows = pd.DataFrame(
        {"x": np.arange(4000), "note": [f"{i} {note}" for i in range(4000)], "y": 1.0}
    )
    rows.to_csv(tmp_path / "t.csv", index=False)
    found = read_table(tmp_path / "t.csv").to_pandas()
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)


def test_one_column_may_have_any_name(tmp_path):
    parquet.write_table(pa.table({"a;b": [1.0]}), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert read_table(tmp_path / "t.parquet").column_names == ["a;b"]
    assert read_table(tmp_path / "t.csv").column_names == ["a"]
