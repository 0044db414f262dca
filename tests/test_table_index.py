"""What pandas writes as the index of a table is not predicted from."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather
from small_table import N, loaded, table_of

from kernelexp.data import arrow_files
from kernelexp.data.columns import Column, Columns
from kernelexp.data.table_file import read_table


def shuffled():
    """Noise and three classes, sorted by class before it is shuffled: the index is the label."""
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(150, 2)), columns=["a", "b"])
    made["y"] = np.repeat(["u", "v", "w"], 50)
    return made.sample(frac=1, random_state=1)


def written(frame, path, times=1, **options):
    """By pandas; read and written again, which gives a CSV file one more column each time."""
    for _ in range(times):
        if path.suffix == ".feather":  # pandas itself writes no index there
            feather.write_feather(
                pa.Table.from_pandas(frame, preserve_index=options.get("index")), path
            )
        else:
            getattr(frame, f"to_{path.suffix[1:]}")(path, **options)
        frame = pd.read_csv(path) if times > 1 else frame
    return path


def told(source):
    """The data and the warnings about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = loaded(source)
    return data, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("ending", "times", "names"),
    [
        ("parquet", 1, "__index_level_0__"), ("feather", 1, "__index_level_0__"), ("csv", 1, "''"), ("csv", 2, "'', Unnamed: 0"),
        ("csv", 3, "'', Unnamed: 0.1, Unnamed: 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("large", [False, True])
def test_an_index_is_left_out_and_said_to_be(ending, times, names, large, tmp_path, monkeypatch):
    if large:  # by way of a file of Arrow's own format
        monkeypatch.setattr(arrow_files, "LARGE", 100)
    frame = shuffled()
    path = written(frame, tmp_path / f"t.{ending}", times)
    data, [line] = told(table_of(path, "y", ()))
    assert line == (
        f"{path}: not predicted from, since pandas writes it to number or name the rows: {names}; if it is an input, "
        "make a named column of it (reset_index) and save with index=False"
    )
    clean = loaded(table_of(written(frame, path, index=False), "y", ()))
    assert data.columns.names == ["a", "b"]
    assert data.digest == clean.digest


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_drawn_with_repeats_have_an_index_too(ending, tmp_path):
    frame = shuffled().sample(frac=0.5, replace=True, random_state=0)
    data, [_, *_] = told(table_of(written(frame, tmp_path / f"t.{ending}"), "y", ()))
    assert data.columns.names == ["a", "b"]


def test_an_index_that_only_counts_is_no_column(frame, tmp_path):
    path = written(frame, tmp_path / "t.parquet")
    assert told(table_of(path))[1] == []


@pytest.mark.parametrize(
    ("index", "options"),
    [
        ("patient", {"group": "patient", "drop": ["when"]}),
        ("when", {"time": "when", "drop": []}),
        ("member", {"drop": ["when", "member"]}),
    ],
)
def test_an_index_may_be_named_for_what_it_is(index, options, frame, tmp_path):
    path = written(frame.set_index(index), tmp_path / "t.parquet")
    data, lines = told(table_of(path, **options))
    assert lines == []
    assert index not in data.columns.names
    assert len(data.train.X) + len(data.test.X) == N


def test_an_index_of_several_columns_is_left_out(frame, tmp_path):
    path = written(frame.set_index(["patient", "city"]), tmp_path / "t.parquet")
    data, [line] = told(table_of(path))
    assert data.columns.names == ["age", "member=false", "member=true", "income"]
    assert ": patient, city; if it is" in line


def test_other_columns_without_a_name_stay(tmp_path):
    frame = shuffled().reset_index(drop=True)
    for odd in (frame.a, np.where(frame.a > 0, "p", "q")):
        first = pd.DataFrame({"": odd}).join(frame[["b", "y"]])
        data, lines = told(table_of(written(first, tmp_path / "t.csv", index=False), "y", ()))
        assert lines == []
        assert data.columns.names[0] in ("", "=p")
    later = frame[["b"]].assign(**{"": range(150)}).join(frame.y)
    data, lines = told(table_of(written(later, tmp_path / "t.csv", index=False), "y", ()))
    assert (data.columns.names, lines) == (["b", ""], [])


@pytest.mark.parametrize(("ending", "name"), [("parquet", "__index_level_0__"), ("csv", "")])
def test_a_model_of_before_that_predicts_from_an_index_still_does(ending, name, tmp_path):
    frame = shuffled()
    path = written(frame, tmp_path / f"t.{ending}")
    columns = Columns((Column("a"), Column(name)), "y", ("u", "v", "w"))
    points = columns.points(read_table(path), "new")
    assert (points == np.column_stack([frame.a, frame.index])).all()
