"""Tables that scikit-learn brings, makes or fetches."""

import pytest
import torch
from small_table import loaded

from kernelexp.data import SOURCES


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
