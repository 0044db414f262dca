"""Large tables go through files, part by part, and become the same points."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from kernelexp.data import SOURCES, arrow_files, large, load, preprocessing, table_file

N = 3000


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(1e6, 3, N), "size": rng.integers(0, 9, N), "city": rng.choice(["Ulm", "Bonn", "Köln"], N),
            "late": [1] * (N - 1) + [2.5], "ok": rng.random(N) < 0.5, "who": rng.integers(0, 40, N),
            "price": rng.normal(size=N),
        }
    )  # fmt: skip
    frame.to_csv(tmp_path / "my.csv", index=False)
    frame.to_csv(tmp_path / "my.tsv", index=False, sep="\t")
    frame["city"] = frame["city"].astype("category")
    parquet.write_table(pa.Table.from_pandas(frame), tmp_path / "my.parquet", row_group_size=500)
    frame.to_feather(tmp_path / "my.feather", compression="uncompressed")
    return tmp_path


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "feather"])
@pytest.mark.parametrize("split", [{}, {"group": "who"}, {"time": "a"}])
@pytest.mark.filterwarnings("ignore:dataset=table. .* are equal to training rows")
def test_the_same_points(table, ending, split, monkeypatch):
    source = SOURCES["table"](path=str(table / f"my.{ending}"), target="price", **split)
    whole = load(source, table, seed=1, validation=0.2)
    made = []
    real = arrow_files.unnamed

    def counted():
        made.append(1)
        return real()

    monkeypatch.setattr(arrow_files, "unnamed", counted)
    for module, name, value in (
        (large, "LARGE", 1000), (arrow_files, "LARGE", 1000), (arrow_files, "_BLOCK", 4096),
        (large, "_BLOCK", 5000), (table_file, "_TOGETHER", 700), (preprocessing, "_LARGE", 5000),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    parts = load(source, table, seed=1, validation=0.2)
    assert parts.digest == whole.digest
    assert len(made) == (0 if ending == "feather" else 1)
    assert isinstance(large.empty((100, 2)), np.memmap)
    for one, other in (
        (parts.train, whole.train),
        (parts.valid, whole.valid),
        (parts.test, whole.test),
    ):
        assert (one.Y == other.Y).all()
        assert one.X.numpy() == pytest.approx(other.X.numpy(), rel=1e-5, abs=1e-5)
    assert not list(large.cache_dir().glob("*.tmp"))  # they have no names any more


def test_a_large_file_that_is_broken_is_one_line(table, monkeypatch):
    monkeypatch.setattr(arrow_files, "LARGE", 1000)
    path = table / "my.csv"
    path.write_text(path.read_text("utf-8") + "1,2\n", "utf-8")
    source = SOURCES["table"](path=str(path), target="price")
    with pytest.raises(
        ValueError, match="not a readable csv file .*Expected 7 columns, got 2"
    ) as error:
        load(source, table)
    assert "\n" not in str(error.value)


def test_where_no_file_can_be_written_it_goes_through_memory(table, monkeypatch):
    source = SOURCES["table"](path=str(table / "my.csv"), target="price")
    whole = load(source, table, validation=0.2)

    def refused():
        raise PermissionError("read-only")

    for module in (large, arrow_files):
        monkeypatch.setattr(module, "LARGE", 1000)
        monkeypatch.setattr(module, "unnamed", refused)
    assert load(source, table, validation=0.2).digest == whole.digest


def test_arrays_of_other_types_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(large, "LARGE", 100)
    x, marks = np.arange(600, dtype=np.uint8).reshape(100, 6), np.arange(100) % 3 == 0
    taken = large.take(x, marks)
    assert taken.dtype == np.uint8
    assert (taken == x[marks]).all()
