"""Data: sources, checks, subsets, noise, scaling and the cache."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from kernelexp.data import SOURCES, DatasetSource, load
from kernelexp.data.base import Arrays
from kernelexp.data.cache import cache_dir
from kernelexp.data.label_noise import KINDS, corrupt
from kernelexp.data.preprocessing import Preprocessing

NOWHERE = Path("/nonexistent")


def arrays(**changes):
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.random((30, 4)),
        "y_train": np.arange(30) % 3,
        "x_test": rng.random((10, 4)),
        "y_test": np.arange(10) % 3,
    }
    return {**good, **changes}


def npz(folder, **changes):
    path = folder / "own.npz"
    np.savez(path, **{k: v for k, v in arrays(**changes).items() if v is not None})
    return path


def own(folder, source=None, seed=0, noise=0.0, **changes):
    path = npz(folder, **changes)
    return load(SOURCES["npz"](path=str(path), **(source or {})), NOWHERE, seed=seed, noise=noise)


def test_digits():
    data = load(SOURCES["digits"](), NOWHERE)
    assert data.train.X.shape == (1437, 64)
    assert data.test.X.shape == (360, 64)
    assert data.n_classes == 10
    assert (data.train.X.min(), data.train.X.max()) == (0, 1)
    assert torch.equal(data.train.Y.argmax(1), data.train.labels)
    assert data.train.Y.sum() == 1437


def test_second_load_comes_from_the_cache():
    first = load(SOURCES["digits"](), NOWHERE)
    kept = cache_dir() / "digits.npz"
    assert kept.is_file()
    script = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sklearn", "torchvision"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from pathlib import Path
from kernelexp.data import SOURCES, load
print(load(SOURCES["digits"](), Path("/nonexistent")).digest)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == first.digest, done.stderr
    kept.write_bytes(b"broken")
    assert load(SOURCES["digits"](), NOWHERE).digest == first.digest


def test_what_depends_on_parameters_and_seeds_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path))

    @dataclass(frozen=True)
    class Own(DatasetSource):
        name: ClassVar[str] = "own"
        turns: int = 1

        def read(self, data_dir, seed):
            x = np.random.default_rng(seed).random((20, 2)) + self.turns
            return Arrays(x, np.arange(20) % 2, x, np.arange(20) % 2)

        def location(self, data_dir):
            return "here"

    seen = [
        load(Own(turns=turns), NOWHERE, seed=seed).digest for turns in (1, 2) for seed in (0, 1)
    ]
    assert len(set(seen)) == 4
    assert not list(tmp_path.iterdir())


def test_named_npz_in_data_dir_comes_first(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "cifar10.npz",
        x_train=rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        y_train=np.arange(20) % 10,
        x_test=rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8),
        y_test=np.arange(5),
    )
    tmp_path.chmod(0o555)  # a data folder may be read-only
    data = load(SOURCES["cifar10"](), tmp_path)
    assert data.train.X.shape == (20, 3072)
    assert data.train.X.max() <= 1
    grey = load(SOURCES["cifar10"](grayscale=True), tmp_path)
    colours = data.train.X.reshape(20, 1024, 3)
    expected = colours @ torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(grey.train.X, expected)
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("name", ["fmnist", "mnist", "kmnist", "cifar10", "svhn"])
def test_missing_files_are_named(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody there: no download
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError) as error:
        load(SOURCES[name](), tmp_path)
    text = str(error.value)
    assert "\n" not in text
    assert f"data_dir={tmp_path}" in text
    assert f"{name}.npz" in text
    assert "dataset=digits" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.full((30, 4), np.nan)}, "x_train: has NaN"),
        ({"x_test": np.full((10, 4), np.inf)}, "x_test: has NaN or infinite"),
        ({"y_train": np.full(30, np.nan), "y_test": np.ones(10)}, "y_train: has NaN"),
        ({"x_test": np.ones((10, 5))}, r"x_test: shape \(10, 5\); must be like x_train"),
        ({"x_train": np.ones(30)}, "x_train: shape"),
        ({"x_train": np.array(["a"] * 30)[:, None]}, "x_train: shape"),
        ({"y_train": np.arange(29) % 3}, "y_train: shape"),
        ({"y_train": np.eye(30, 3, dtype=int), "y_test": np.eye(10, 3, dtype=int)}, "not one-hot"),
        ({"y_train": np.ones(30, dtype=int)}, "y_train: all labels are 1"),
        ({"y_test": np.full(10, 3)}, r"y_test: label 3 is not among the 3 of y_train \(0, 1, 2\)"),
        (
            {"y_test": np.ones(10)},
            "y_train: int64, y_test: float64; dataset.task=classification or",
        ),
        ({"y_test": np.ones((10, 1), int)}, r"y_test: shape \(10, 1\); must be labels or targets"),
        ({"x_train": np.ones((30, 4))}, "x_train: all numbers are 1"),
        ({"x_train": np.ones((0, 4)), "y_train": np.ones(0, dtype=int)}, "x_train: shape"),
        ({"y_test": None}, "has no array y_test"),
        (
            {"y_train": np.array(["a", "b"] * 15)},
            "y_train: shape .* of labels their places, np.uni",
        ),
        ({"x_train": np.ones((30, 4), ">f8")}, "x_train: >f8; must be numbers of up to 64 bits"),
        ({"y_train": np.ones(30, np.longdouble)}, "y_train: .*; must be numbers of up to 64 bits"),
        ({"x_train": np.array([{}] * 30)}, "own.npz: an array is broken, or holds objects"),
    ],
)
def test_refuses_bad_arrays(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        own(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_refuses_what_is_no_npz(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"text.npz: not a readable .npz file"):
        load(SOURCES["npz"](path=str(path)), NOWHERE)
    whole = npz(tmp_path).read_bytes()
    path.write_bytes(whole[:200] + b"?" + whole[201:])
    with pytest.raises(ValueError, match=r"text.npz: an array is broken"):
        load(SOURCES["npz"](path=str(path)), NOWHERE)
    with pytest.raises(ValueError, match="^path=None: must be an .npz file"):
        SOURCES["npz"]()


def test_regression_targets(tmp_path):
    data = own(tmp_path, y_train=np.random.rand(30, 2), y_test=np.random.rand(10, 2))
    assert data.n_classes is None
    assert data.train.labels is None
    assert data.train.Y.shape == (30, 2)


def test_noise_of_targets_is_a_share_of_their_spread(tmp_path):
    y = {"y_train": np.random.rand(30, 2) * [1, 50], "y_test": np.random.rand(10, 2)}
    clean, less, more = (own(tmp_path, noise=noise, **y) for noise in (0.0, 0.1, 0.2))
    added = (less.train.Y - clean.train.Y).numpy()
    spread = clean.train.Y.numpy().std(0)
    assert np.all(abs(added.std(0) / (0.1 * spread) - 1) < 0.5)
    # More of the same.
    np.testing.assert_allclose(
        (more.train.Y - clean.train.Y).numpy(), 2 * added, rtol=1e-3, atol=1e-4
    )
    assert less.test.Y.equal(clean.test.Y)
    most = own(tmp_path, noise=3.0, **y)
    np.testing.assert_allclose(
        (most.train.Y - clean.train.Y).numpy(), 30 * added, rtol=1e-3, atol=2e-3
    )


def test_subsets_are_seeded_and_independent():
    def take(seed, **sizes):
        return load(SOURCES["digits"](**sizes), NOWHERE, seed=seed)

    first, again, other = (take(s, n_train=100, n_test=50) for s in (0, 0, 1))
    assert torch.equal(first.train.X, again.train.X)
    assert not torch.equal(first.train.X, other.train.X)
    assert torch.equal(first.test.X, take(0, n_train=700, n_test=50).test.X)
    assert first.digest == again.digest != other.digest
    assert len(take(0, n_train=1437).train.X) == 1437
    with pytest.raises(ValueError, match="n_train=1438: must be at most 1437 for dataset=digits"):
        SOURCES["digits"](n_train=1438)


def test_npz_smaller_than_asked(tmp_path):
    with pytest.raises(ValueError, match="dataset.n_train=31: must be at most 30"):
        own(tmp_path, {"n_train": 31})


def test_balanced():
    data = load(SOURCES["digits"](n_train=200, balanced=True), NOWHERE)
    assert torch.bincount(data.train.labels).tolist() == [20] * 10
    with pytest.raises(ValueError, match="multiple of 10"):
        load(SOURCES["digits"](n_train=205, balanced=True), NOWHERE)


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        (SOURCES["synthetic1"](balanced=True, n_train=98), [49] * 2),
        (SOURCES["modular"](balanced=True, n_train=21, p=7), [3] * 7),
    ],
    ids=["synthetic1", "modular"],
)
def test_balanced_points_that_are_drawn(source, counts):
    """As many as are asked for are drawn so: of any others the rarer class would have too few."""
    for seed in range(5):
        assert torch.bincount(load(source, NOWHERE, seed=seed).train.labels).tolist() == counts


def test_balanced_pairs_leave_all_others_for_the_test():
    data = load(SOURCES["modular"](balanced=True, n_train=21, p=7), NOWHERE, seed=4)
    assert len({tuple(x.tolist()) for x in torch.cat([data.train.X, data.test.X])}) == 49
    with pytest.raises(ValueError, match="must be a multiple of 7, at most"):
        load(SOURCES["modular"](balanced=True, n_train=24, p=7), NOWHERE)


def test_test_points_do_not_depend_on_how_many_are_trained_on():
    for balanced in (False, True):
        few, many = (
            load(SOURCES["digits"](n_train=n, n_test=50, balanced=balanced), NOWHERE, seed=3)
            for n in (100, 200)
        )
        assert torch.equal(few.test.X, many.test.X)


def test_scales():
    for scale in ("unit", "standard", "unit_norm", "none"):
        X = load(SOURCES["digits"](scale=scale), NOWHERE, dtype=torch.float64).train.X
        if scale == "standard":  # an image without channels: one mean and variance
            assert abs(X.mean()) < 1e-10
            assert X.std() == pytest.approx(1, abs=1e-4)
        if scale == "unit_norm":
            torch.testing.assert_close(X.norm(dim=1), torch.ones(1437, dtype=torch.float64))
        if scale == "none":
            assert X.max() == 16
    with pytest.raises(ValueError, match="scale=max: must be one of unit, standard"):
        SOURCES["digits"](scale="max")
    with pytest.raises(ValueError, match="grayscale=True: must be false for dataset=digits"):
        SOURCES["digits"](grayscale=True)


def test_standard_scale_of_films():
    x = np.random.default_rng(0).normal(3, 2, (20, 2, 5, 6, 3)) * [1, 10, 100]
    X = Preprocessing.fit(x, "standard")(x, torch.float64).reshape(-1, 3)
    assert X.mean(0).numpy() == pytest.approx(0, abs=1e-12)
    assert X.std(0, correction=0).numpy() == pytest.approx(1)


def test_standard_scale_of_tables_and_colours():
    table = np.array([[1.0, 5.0, 7.0], [3.0, 5.0, 1.0]])
    X = Preprocessing.fit(table, "standard")(table, torch.float64)
    torch.testing.assert_close(X, torch.tensor([[-1.0, 0, 1], [1, 0, -1]], dtype=torch.float64))
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    images[..., 2] //= 4
    X = Preprocessing.fit(images, "standard")(images, torch.float64).reshape(50, 16, 3)
    torch.testing.assert_close(
        X.mean((0, 1)), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(X.var((0, 1), correction=0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("large", [1 << 28, 5000])  # as a whole, by parts
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_constant_column_stays_constant_whatever_its_number(dtype, large, monkeypatch):
    monkeypatch.setattr("kernelexp.data.preprocessing._LARGE", large)
    numbers = np.array([0.1, 37.2, 1e5 + 0.1, -1 / 3, 0.0])
    x = np.column_stack([np.tile(numbers, (1000, 1)), np.arange(1000)]).astype(dtype)
    prepared = Preprocessing.fit(x, "standard")
    X = prepared(x, torch.float64)
    assert not X[:, :5].any()
    assert X[:, 5].std(correction=0).item() == pytest.approx(1)
    new = x[:1] + np.array([0.125, 0.1, 0.125, 0.125, 0.125, 0], dtype)
    assert prepared(new, torch.float64)[0, :5].numpy() == pytest.approx(new[0, :5] - x[0, :5])


def test_one_number_computed_in_two_ways_is_constant():
    x = np.column_stack([np.tile([0.3, 0.1 + 0.2], 500), np.tile([5e9, 5e9 + 1], 500)])
    X = Preprocessing.fit(x, "standard")(x, torch.float64)
    assert X[:, 0].abs().max() < 1e-15
    assert X[:, 1].unique().tolist() == [-1, 1]  # small beside their size, but not one


def test_unit_scale_uses_the_training_range(tmp_path):
    data = own(tmp_path, x_train=10 * arrays()["x_train"] - 3, x_test=np.full((10, 4), 100.0))
    assert (data.train.X.min(), data.train.X.max()) == (0, 1)
    assert data.test.X.max() > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_label_noise_rates(kind, noise):
    labels = np.random.default_rng(0).integers(0, 10, 200_000)
    noisy = corrupt(labels, 10, noise, kind, np.random.default_rng(1))
    changed = (noisy != labels).mean()
    expected = noise * 0.9 if kind == "uniform" else noise
    assert changed == pytest.approx(expected, abs=4e-3)
    if kind == "pair":
        wrong = noisy != labels
        assert (noisy[wrong] == (labels[wrong] + 1) % 10).all()
    if kind == "flip" and noise == 1:
        counts = np.bincount((noisy - labels) % 10, minlength=10)
        assert counts[0] == 0
        assert counts[1:].min() > 0.95 * 200_000 / 9


def test_more_noise_keeps_what_less_corrupted():
    labels = np.zeros(1000, dtype=int)
    less, more = (corrupt(labels, 10, p, "flip", np.random.default_rng(1)) for p in (0.1, 0.3))
    assert (more[less != 0] == less[less != 0]).all()


def test_noise_touches_training_labels_only():
    clean, noisy = (load(SOURCES["digits"](), NOWHERE, noise=p) for p in (0.0, 0.5))
    assert torch.equal(clean.test.labels, noisy.test.labels)
    assert (clean.train.labels != noisy.train.labels).double().mean() == pytest.approx(
        0.45, abs=0.05
    )
    assert torch.equal(noisy.train.Y.argmax(1), noisy.train.labels)
    assert clean.digest == noisy.digest


def test_synthetic_sets():
    from scipy.stats import norm

    for name, mean in (("synthetic1", 10), ("synthetic2", 2)):
        data = load(SOURCES[name](n_train=20_000, n_test=20_000), NOWHERE)
        assert data.train.Y.shape == (20_000, 1)
        x, y = data.test.X[:, 0], data.test.labels
        assert x[y == 1].mean() == pytest.approx(0, abs=0.05)
        assert x[y == 0].mean() == pytest.approx(mean, abs=0.05)
        bayes = ((x < mean / 2).long() != y).double().mean().item()
        assert bayes == pytest.approx(norm.cdf(-mean / 2), abs=0.01)
        assert data.train.X[:, 1:].abs().max() <= 1
        other = load(SOURCES[name](n_train=20_000, n_test=20_000), NOWHERE, seed=1)
        assert not torch.equal(data.train.X, other.train.X)


def test_environment_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path / "here"))
    load(SOURCES["digits"](), NOWHERE)
    assert os.listdir(tmp_path / "here") == ["digits.npz"]


def test_the_cache_leaves_what_is_not_its_own(monkeypatch, tmp_path):
    """Data are looked for in the same folder."""
    monkeypatch.setenv("KERNELEXP_CACHE", str(tmp_path))
    for name in ("digits-mine.npz", "digits-0123456789abcdef.npz"):
        (tmp_path / name).touch()
    load(SOURCES["digits"](), NOWHERE)
    assert sorted(os.listdir(tmp_path)) == ["digits-mine.npz", "digits.npz"]


def own_y(folder, task, y_train, y_test=None, **settings):
    """A table with these y; the first of them are those of the test points."""
    y_train = np.asarray(y_train)
    x = np.random.default_rng(0).random((len(y_train), 2))
    y_test = y_train[:3] if y_test is None else np.asarray(y_test)
    changes = {"x_train": x, "y_train": y_train, "x_test": x[: len(y_test)], "y_test": y_test}
    return own(folder, {"task": task, **settings}, **changes)


@pytest.mark.parametrize(
    "labels", [[1, 2, 3], [-1, 1], [7, 2_000_000_000], [0.0, 1.0], [False, True], [5, 6, 2**60]]
)
def test_classes_are_the_labels_there_are(tmp_path, labels):
    data = own_y(tmp_path, "classification", labels * 4, labels[1:])
    assert data.classes.tolist() == labels
    assert data.train.labels.tolist() == list(range(len(labels))) * 4
    assert data.test.labels.tolist() == list(range(1, len(labels)))
    assert torch.equal(data.train.Y[:3].argmax(1), data.train.labels[:3])
    assert data.train.Y.shape == (4 * len(labels), len(labels))
    noisy = own(tmp_path, {"balanced": True}, noise=1.0, y_train=np.arange(30) % 3 + 5,
                y_test=np.full(10, 6))  # fmt: skip
    assert noisy.classes.tolist() == [5, 6, 7]
    assert set(noisy.train.labels.tolist()) == {0, 1, 2}


def test_auto_takes_labels_for_classes_and_refuses_what_may_be_counts(tmp_path):
    rng = np.random.default_rng(0)
    for c, n in ((2, 4), (10, 90), (100, 1000), (1000, 10_000)):
        y = np.concatenate([np.arange(c), rng.integers(0, c, n - c)]) + (c == 100)
        assert own_y(tmp_path, "auto", y).n_classes == c
    for y in (
        rng.poisson(10, 1000),
        rng.integers(18, 90, 10_000),  # ages
        rng.integers(25, 347, 353),  # as the progression of diabetes
        np.arange(40),
        np.arange(8),
    ):
        with pytest.raises(ValueError, match="^y_train: .* distinct whole numbers from") as error:
            own_y(tmp_path, "auto", y)
        assert "dataset.task=classification or dataset.task=regression" in str(error.value)
        data = own_y(tmp_path, "regression", y)
        assert data.classes is None
        assert torch.equal(data.train.Y, torch.from_numpy(y).float()[:, None])
        assert own_y(tmp_path, "classification", y).n_classes == len(np.unique(y))
    assert own_y(tmp_path, "auto", rng.random(30)).task == "regression"
    assert own_y(tmp_path, "regression", rng.integers(0, 9, (30, 2))).train.Y.shape == (30, 2)
    with pytest.raises(ValueError, match="y_train: 0.5 is no label"):
        own_y(tmp_path, "classification", [0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="y_train: 1e.20 is no label"):
        own_y(tmp_path, "classification", [0.0, 1e20, 1.0])
    with pytest.raises(ValueError, match="^task=both: must be one of auto, classification"):
        own_y(tmp_path, "both", [0, 1])


@pytest.mark.parametrize("task", ["auto", "classification", "regression"])
def test_sizes_known_beforehand_follow_the_task(tmp_path, task):
    y = np.array([5, 7, 9, 5, 7, 9])
    data = own_y(tmp_path, task, y)
    shape = SOURCES["npz"](path=str(tmp_path / "own.npz"), task=task).shape()
    assert shape == (6, 3, 2, data.train.Y.shape[1])


@pytest.mark.parametrize("scale", ["none", "unit", "standard", "unit_norm"])
@pytest.mark.parametrize("huge", [1e160, -1e200, 1e300])
def test_numbers_that_overflow_are_refused_by_name(tmp_path, scale, huge):
    for name, rows in (("x_train", 30), ("x_test", 10)):
        x = arrays()[name]
        x[rows - 1, 2] = huge
        with pytest.raises(ValueError, match=f"^{name}: numbers from ") as error:
            own(tmp_path, {"scale": scale}, **{name: x})
        assert f"{huge:g}" in str(error.value)
        assert "\n" not in str(error.value)


def test_numbers_are_looked_at_as_the_run_sees_them(tmp_path, monkeypatch):
    monkeypatch.setattr("kernelexp.data.ranges._PART", 12)  # in many parts
    x = arrays()["x_train"].astype(np.float32)
    x[17, 1] = 1e30
    for task, dtype in (({"scale": "none"}, torch.float32), ({"scale": "unit"}, None)):
        path = npz(tmp_path, **({"x_train": x} if dtype else {"x_test": x[8:18]}))
        with pytest.raises(ValueError, match=r"numbers from .* to 1.*e\+30.* overflow in float32"):
            load(SOURCES["npz"](path=str(path), **task), NOWHERE)
        load(SOURCES["npz"](path=str(path), **task), NOWHERE, dtype=torch.float64)
    for y, dtype in ((1e200, torch.float64), (1e30, torch.float32)):
        targets = {"y_train": np.linspace(0, y, 30), "y_test": np.ones(10)}
        with pytest.raises(ValueError, match="^y_train: numbers from 0 to 1e.* overflow in"):
            load(SOURCES["npz"](path=str(npz(tmp_path, **targets))), NOWHERE, dtype=dtype)


def test_odd_columns_are_scaled(tmp_path):
    x = arrays()["x_train"]
    x[:, 0] = 3.0
    x[4, 1] = 1e100
    x[:, 2] = 1.7e9 + np.arange(30)  # seconds since 1970: float32 has steps of 128
    for scale in ("unit", "standard", "unit_norm"):
        X = own(tmp_path, {"scale": scale}, x_train=x).train.X
        assert X.isfinite().all()
        if scale == "standard":
            assert (X[:, 0] == 0).all()
            assert X[:, 2].unique().numel() == 30
    X = own(tmp_path, x_train=np.outer(1.7e9 + np.arange(30), np.ones(4))).train.X
    torch.testing.assert_close(X[:, 0], torch.linspace(0, 1, 30), atol=1e-6, rtol=0)


def test_pickles_are_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    bomb = np.array([Bomb()] * 30, dtype=object)
    with pytest.raises(ValueError, match="holds objects"):
        own(tmp_path, x_train=bomb)
    (tmp_path / "executed").unlink(missing_ok=True)  # pickling itself does not make it
    for name, array in arrays(x_train=bomb).items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match="x_train.npy: not a readable .npy file of numbers"):
        load(SOURCES["npy"](path=str(tmp_path)), NOWHERE)
    (tmp_path / "text.npz").write_bytes((tmp_path / "x_train.npy").read_bytes())
    with pytest.raises(ValueError, match="not a readable .npz file"):
        load(SOURCES["npz"](path=str(tmp_path / "text.npz")), NOWHERE)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
def test_modular_arithmetic_has_every_pair_once(operation):
    p = 7
    data = load(SOURCES["modular"](p=p, operation=operation), NOWHERE, seed=3)
    X, y = torch.cat([data.train.X, data.test.X]), torch.cat([data.train.labels, data.test.labels])
    a, b = X[:, :p].argmax(1), X[:, p:].argmax(1)
    assert torch.equal(X, torch.eye(2 * p)[a] + torch.eye(2 * p)[p + b])
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    bs = range(operation == "divide", p)
    assert len(X) == len(pairs)
    assert pairs == {(i, j) for i in range(p) for j in bs}
    back = {"add": a + b - y, "subtract": a - b - y, "multiply": a * b - y, "divide": y * b - a}
    assert (back[operation] % p == 0).all()
    assert len(data.train.X) == len(X) // 2
    other = load(SOURCES["modular"](p=p, operation=operation), NOWHERE, seed=4)
    assert not torch.equal(data.train.X, other.train.X)


def test_modular_sizes():
    source = SOURCES["modular"](n_train=100, n_test=11, p=13)
    data = load(source, NOWHERE)
    assert (len(data.train.X), len(data.test.X)) == (100, 11)
    assert source.shape() == (100, 11, 26, 13)
    assert SOURCES["modular"]().shape() == (1860, 1861, 122, 61)
    for values, message in [
        ({"p": 1}, "p=1: must be a whole number >= 2"),
        ({"p": 49}, "p=49: must be a prime"),
        ({"operation": "power"}, "operation=power: must be one of add, subtract, multiply, divide"),
        ({"p": 3, "n_train": 9}, "n_train=9: must be at most 8 of 9 pairs, or null"),
        ({"p": 3, "n_train": 6, "n_test": 4}, "n_test=4: must be at most 3 of 9 pairs, or null"),
        ({"p": 3, "operation": "divide", "n_train": 6}, "n_train=6: must be at most 5 of 6 pairs"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            SOURCES["modular"](**values)
    with pytest.raises(ValueError, match="there must be two classes"):
        load(SOURCES["modular"](p=2, operation="multiply", n_train=2), NOWHERE)


@pytest.mark.parametrize("name", ["multi_index", "low_rank"])
def test_targets_depend_on_a_known_subspace_alone(name):
    data = load(SOURCES[name](n_train=20_000), NOWHERE, seed=2, dtype=torch.float64)
    U = torch.from_numpy(data.subspace)
    r = U.shape[1]
    assert (U.T @ U - torch.eye(r)).abs().max() < 1e-12
    z, y = data.train.X @ U, data.train.Y[:, 0]
    if name == "multi_index":
        expected = (z[:, 0] * z[:, 1] + z[:, 2] * z[:, 3] + z.prod(1)) / 3**0.5
        assert y.var() == pytest.approx(1, abs=0.1)
    else:
        expected = z[:, 0] * z[:, 1] * (z[:, 2] > 0)
    assert (y - expected).abs().max() < 1e-12
    # Scaled points have other directions.
    assert load(SOURCES[name](scale="standard"), NOWHERE).subspace is None
    assert load(SOURCES["digits"](), NOWHERE).subspace is None
    with pytest.raises(ValueError, match="d=3: must be a whole number >= 4"):
        SOURCES["multi_index"](d=3)
