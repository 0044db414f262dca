"""Image files and what is kept of them: other folders, broken ones, a cache that is another user's."""

from pathlib import Path

import numpy as np
import pytest

from kernelexp.data import SOURCES, load
from kernelexp.data.cache import cache_dir
from kernelexp.engine import KERNELS, SOLVERS
from kernelexp.experiment import Config
from kernelexp.forecast import shape_of


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return head + array.tobytes()


def write(folder, value):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 20), ("t10k", 10)):
        x, y = np.full((n, 28, 28), value, np.uint8), np.arange(n, dtype=np.uint8) % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(x))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))
    return folder


def level(folder):
    data = load(SOURCES["mnist"](scale="none"), folder)
    assert data.location == str(folder)
    return int(data.train.X.max())


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path / "cache"))


def test_other_arrays_under_another_data_dir_are_read(tmp_path, monkeypatch):
    write(tmp_path / "one", 1)
    write(tmp_path / "two", 2)
    assert [level(tmp_path / name) for name in ("one", "two", "one", "one")] == [1, 2, 1, 1]
    kept = list(cache_dir().glob("*.npz"))
    assert len(kept) == 1
    with monkeypatch.context() as parsed:
        parsed.setattr(SOURCES["mnist"], "read", lambda *_: 1 / 0)
        assert level(tmp_path / "one") == 1  # from what was parsed
    write(tmp_path / "one", 3)
    assert level(tmp_path / "one") == 3


def test_a_cache_of_another_user(tmp_path, monkeypatch):
    """What is kept for all may be read by all; what is another's stays, and the data are read all the same."""
    level(write(tmp_path / "one", 1))
    [kept] = cache_dir().glob("*.npz")
    (tmp_path / "like any other").touch()
    assert kept.stat().st_mode == (tmp_path / "like any other").stat().st_mode

    def denied(*_, **__):
        raise PermissionError

    with monkeypatch.context() as others:
        others.setattr(Path, "unlink", denied)
        others.setattr("os.replace", denied)
        assert level(write(tmp_path / "two", 2)) == 2
    assert kept.is_file()


def test_a_broken_cache_is_written_anew(tmp_path):
    level(write(tmp_path / "one", 1))
    [kept] = cache_dir().glob("*.npz")
    whole = kept.read_bytes()
    place = whole.rindex(b"PK\x01\x02")  # of the directory of the zip, at its end
    kept.write_bytes(whole[:place] + b"PK\x00\x00" + whole[place + 4 :])
    with pytest.raises(ValueError, match="not a readable .npz file"):
        load(SOURCES["npz"](path=str(kept)), tmp_path)
    assert level(tmp_path / "one") == 1
    assert kept.read_bytes() == whole


@pytest.mark.parametrize("left", [0, 16, 5000])
def test_files_that_are_cut_off(tmp_path, monkeypatch, left):
    """torchvision looks whether they are there, and would never load them again."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    broken = write(tmp_path / "one", 1) / "MNIST/raw/train-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:left])
    with pytest.raises(
        ValueError,
        match="dataset=mnist: files in .*one are broken or missing .*; remove MNIST/raw/",
    ):
        level(tmp_path / "one")


def test_the_size_of_a_users_own_arrays_is_not_that_of_the_set(tmp_path):
    config = Config(
        dataset=SOURCES["mnist"](),
        kernel=KERNELS["gaussian"](),
        solver=SOLVERS["exact"](),
        data_dir=tmp_path,
    )
    assert shape_of(config).n_train == 60_000
    x, y = np.zeros((30, 784)), np.arange(30) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert shape_of(config) is None
