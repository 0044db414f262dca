"""Nothing of a table is fitted to rows that are held out: levels and medians neither."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small_table import loaded, table_of

from kernelexp.data import large, points_digest
from kernelexp.data.held_out import Fold

N = 100

pytestmark = pytest.mark.filterwarnings("ignore:.* texts that are not in training rows")


@pytest.fixture
def holes():
    """A number and a text that grow with time, both with missing values."""
    time = np.arange(N)
    made = pd.DataFrame({
        "x": time.astype(float), "city": [f"city {t // 10}" for t in time], "t": time,
        "y": np.random.default_rng(0).normal(size=N),
    })  # fmt: skip
    made.loc[[5, 17, 30, 55, 75, 90], "x"] = np.nan
    made.loc[[8, 44, 62, 95], "city"] = None
    return made.sample(frac=1, random_state=0, ignore_index=True)


def written(frame, path):
    frame.to_csv(path, index=False)
    return path


def test_medians_are_of_the_rows_trained_on(tmp_path):
    made = pd.DataFrame({"x": np.arange(100.0), "t": range(100), "y": np.arange(100) / 7})
    made = pd.concat([made, made.tail(1).assign(x=np.nan, t=200)])  # a test row
    source = table_of(written(made, tmp_path / "t.csv"), "y", (), time="t", test=21, missing="impute")  # fmt: skip
    assert loaded(source).columns.features[0].fill == 39.5
    assert loaded(source, validation=0.5).columns.features[0].fill == 19.5


@pytest.mark.parametrize("in_files", [False, True])
def test_it_is_as_if_there_were_the_rows_trained_on_alone(holes, in_files, tmp_path, monkeypatch):
    if in_files:
        monkeypatch.setattr(large, "LARGE", 1000)
    path = written(holes, tmp_path / "t.csv")
    data = loaded(table_of(path, "y", (), time="t", test=20, missing="impute"), validation=30)
    alone = written(holes[holes.t < 50], tmp_path / "alone.csv")
    for first, last, part in ((50, 80, data.valid), (80, 100, data.test)):
        others = written(holes[(first <= holes.t) & (holes.t < last)], tmp_path / "others.csv")
        there = loaded(table_of(alone, "y", (), time="t", test=str(others), missing="impute"))
        assert data.columns == there.columns
        assert torch.equal(data.train.X, there.train.X)
        assert torch.equal(part.X, there.test.X)
        assert torch.equal(part.Y, there.test.Y)
    assert "city=city 5" not in data.columns.names
    assert data.preprocessing.shape == (len(data.columns.names),)


@pytest.mark.parametrize("options", [{}, {"n_train": 50, "n_test": 9}, {"group": "t"}])
@pytest.mark.parametrize("held", [None, 0.3, Fold(0, 3), Fold(2, 3)])
def test_levels_and_medians_have_their_rows_however_they_are_drawn(held, options, holes, tmp_path):
    drop = () if options.get("group") else ("t",)
    source = table_of(written(holes, tmp_path / "t.csv"), "y", drop, missing="impute", scale="none", **options)  # fmt: skip
    data = loaded(source, validation=held)
    X, names = data.train.X.numpy(), data.columns.names
    assert (X[:, 1:].sum(0) > 0).all()
    assert data.columns.features[0].fill == np.median(X[:, 0])
    for part in filter(None, (data.train, data.valid, data.test)):
        for row, target in zip(part.X.numpy(), part.Y[:, 0].numpy(), strict=True):
            [there] = np.flatnonzero(np.isclose(holes.y, target, rtol=1e-12, atol=0))
            x, city = holes.x[there], holes.city[there]
            assert row[0] == (data.columns.features[0].fill if np.isnan(x) else x)
            level = f"city={'(missing)' if pd.isna(city) else city}"
            expected = [float(name == level) for name in names[1:]]
            assert row[1:].tolist() == expected


def test_labels_and_what_the_data_are_known_by_stay(frame, tmp_path):
    frame["left"] = np.where(np.arange(len(frame)) < 6, "perhaps", frame.left)
    source = table_of(written(frame, tmp_path / "t.csv"), missing="impute")
    whole, folds = loaded(source), [loaded(source, validation=Fold(i, 5)) for i in range(5)]
    for data in folds:
        assert data.digest == whole.digest == points_digest(source, tmp_path, 0)
        assert data.columns.classes == whole.columns.classes
        assert data.train.Y.shape[1] == 3


def test_a_column_that_only_held_out_rows_have_is_refused(holes, tmp_path):
    holes["late"] = holes.t.where((holes.t >= 60) & (holes.t < 80))
    source = table_of(written(holes, tmp_path / "t.csv"), "y", (), time="t", missing="impute")
    loaded(source)
    with pytest.raises(ValueError, match="late: has no value at all") as caught:
        loaded(source, validation=30)
    assert "\n" not in str(caught.value)


def test_new_rows_go_by_the_columns_that_a_machine_was_trained_with(holes, tmp_path):
    source = table_of(written(holes, tmp_path / "t.csv"), "y", (), time="t", missing="impute", scale="none")  # fmt: skip
    data = loaded(source, validation=30)
    new = pa.table({"x": pa.array([None], pa.float64()), "city": ["city 7"]})
    [point] = data.columns.points(new, "new")
    assert point.tolist() == [data.columns.features[0].fill] + [0] * (len(point) - 1)
