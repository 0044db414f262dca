"""KernelModel: prediction, norm, save and load; and the engine on its own."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import r2_score

from kernelexp.engine import KERNELS, SOLVERS, FunctionKernel, KernelModel, Problem, prepare
from kernelexp.engine.model import predicted_labels, r2, side_by_side
from kernelexp.engine.points import Points


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(700, 5, generator=generator)
    weights = torch.randn(700, 3, generator=generator)
    return KernelModel(KERNELS["matern"](bandwidth=2.0, nu=2.5), centers, weights)


def test_predict_and_norm_are_the_dense_formulas(model):
    X = torch.randn(600, 5)
    dense = KernelModel(model.kernel, model.centers.double(), model.weights.double())
    K = model.kernel(dense.centers, dense.centers)
    expected = model.kernel(X.double(), dense.centers) @ dense.weights
    torch.testing.assert_close(model.predict(X).double(), expected, rtol=1e-4, atol=1e-3)
    norms = (dense.weights * (K @ dense.weights)).sum(0).sqrt()
    torch.testing.assert_close(dense.rkhs_norm().per_output, norms)
    torch.testing.assert_close(model.rkhs_norm().per_output, norms, rtol=1e-3, atol=0.0)


def test_it_is_printed_in_a_line(model):
    assert repr(model) == "KernelModel(Matern(bandwidth=2.0, nu=2.5), p=700, d=5, c=3, float32)"
    thin = replace(model, transform=torch.ones(9, 5))
    assert "p=700, d=9, c=3" in str(thin)


def test_predict_refuses_other_shapes(model):
    with pytest.raises(ValueError, match=r"X of shape \(3, 4\): must be \(n, 5\)"):
        model.predict(torch.zeros(3, 4))


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m"])
def test_save_and_load_are_bit_equal(model, tmp_path, name):
    model.save(tmp_path / name)
    loaded = KernelModel.load(tmp_path / name)
    X = torch.randn(50, 5)
    assert loaded.kernel == model.kernel
    assert torch.equal(loaded.predict(X), model.predict(X))


def test_what_cannot_be_saved_or_is_not_known_is_one_line(model, tmp_path):
    own = FunctionKernel(lambda X, Z: X @ Z.mT, lambda X: X.square().sum(1))
    for kernel in (own, KERNELS["sum"]([own])):
        with pytest.raises(
            ValueError, match="^FunctionKernel: only kernels of kernelexp can be saved"
        ):
            replace(model, kernel=kernel).save(tmp_path / "m.pt")
    model.save(tmp_path / "m.pt")
    stored = torch.load(tmp_path / "m.pt")
    torch.save(
        {**stored, "header": stored["header"].replace("matern", "mattern")}, tmp_path / "m.pt"
    )
    with pytest.raises(ValueError, match=r"m.pt: kernel=mattern: must be one of arc_cosine, "):
        KernelModel.load(tmp_path / "m.pt")


def test_a_slice_is_saved_without_the_rest(tmp_path):
    everything = torch.randn(20_000, 20)
    for centers in (everything[:10], everything[::2000], everything.T[:10]):
        few = KernelModel(KERNELS["laplacian"](), centers, torch.randn(20, 10).T[:, :2])
        few.save(tmp_path / "m.pt")
        assert (tmp_path / "m.pt").stat().st_size < 10_000 + 4 * centers.numel()
        assert torch.equal(KernelModel.load(tmp_path / "m.pt").centers, centers)


def test_a_model_does_not_change_with_the_next_epoch():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 4, generator=generator)
    for name, solver in SOLVERS.items():
        own = solver(epochs=3)
        training = prepare(own, Problem(KERNELS["laplacian"](bandwidth=3.0), X, X[:, :1]))
        kept = []
        for _ in training.run():
            kept.append((training.model(), training.model().weights.clone()))
        assert all(torch.equal(made.weights, weights) for made, weights in kept), name


def test_load_refuses_what_is_no_model(tmp_path, model):
    model.save(tmp_path / "m.pt")
    whole = (tmp_path / "m.pt").read_bytes()
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("hello")
    for name in ("other.pt", "cut.pt", "text.pt"):
        with pytest.raises(ValueError, match=f"{name}: not a model that kernelexp saved"):
            KernelModel.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        KernelModel.load(tmp_path / "none.pt")


def test_predicted_labels():
    assert predicted_labels(torch.tensor([[0.1, 0.9], [0.7, 0.2]])).tolist() == [1, 0]
    assert predicted_labels(torch.tensor([[0.1], [0.7]])).tolist() == [0, 1]


def test_r2_is_scikit_learns():
    Y, f = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1, 1e3, 1, 1]
    )
    Y[:, 2] = f[:, 2] = 0.1
    Y[:, 3] = 0.3  # the same everywhere, and not met
    for some in ([0, 1, 2, 3], [1], [2], [3]):
        got = r2((f - Y)[:, some].square().mean(0).double(), Y[:, some])
        assert got.item() == pytest.approx(r2_score(Y[:, some].double(), f[:, some].double()))
    mse = torch.stack([(g - Y).square().mean(0).double() for g in (f, Y + 1)])
    assert r2(mse, Y)[0].item() == pytest.approx(r2_score(Y.double(), f.double()))  # a row each


def test_engine_needs_torch_and_numpy_alone():
    script = """
import sys
blocked = {"hydra", "omegaconf", "mlflow", "torchvision", "seaborn", "sklearn", "scipy", "pandas",
           "rich", "platformdirs"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
import torch
from kernelexp.engine import KERNELS, SOLVERS, Problem, fit
X = torch.randn(100, 3); Y = X[:, :1]
model = fit(SOLVERS["eigenpro2"](epochs=2), Problem(KERNELS["gaussian"](bandwidth=1.0), X, Y))
print(model.predict(X).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[100, 1]" in done.stdout


def test_centers_are_encoded_once(monkeypatch):
    """Not at each prediction; and what is kept of it is not saved."""
    X, weights = torch.rand(50, 4), torch.rand(50, 2)
    model = KernelModel(KERNELS["gaussian"](), X, weights)
    encoded = []
    of = Points.of
    monkeypatch.setattr(Points, "of", lambda X, *a, **k: encoded.append(len(X)) or of(X, *a, **k))
    answers = [model.predict(X[:3]) for _ in range(3)]
    assert encoded == [3, 50, 3, 3]
    assert all(answer.equal(answers[0]) for answer in answers)
    again = pickle.loads(pickle.dumps(model))
    assert "_points" not in vars(again)
    assert again.predict(X[:3]).equal(answers[0])


def test_models_side_by_side_have_the_outputs_of_each(model):
    """Of other centers too: some of their own, some of the first."""
    generator = torch.Generator().manual_seed(1)
    centers = torch.cat([model.centers[300:], torch.randn(60, 5, generator=generator)])
    other = KernelModel(model.kernel, centers, torch.randn(460, 2, generator=generator))
    X = torch.randn(50, 5, generator=generator)
    joined = side_by_side([model, other, model])
    assert len(joined.centers) == 760
    outputs = [m.predict(X) for m in (model, other, model)]
    torch.testing.assert_close(joined.predict(X), torch.cat(outputs, 1), rtol=1e-4, atol=1e-3)
    same = side_by_side([model, replace(model, centers=model.centers.clone())])
    assert torch.equal(same.centers, model.centers)
    assert torch.equal(same.weights, torch.cat([model.weights, model.weights], 1))
    with pytest.raises(ValueError, match="models of different transforms"):
        side_by_side([model, replace(model, transform=torch.ones(5))])


def test_a_full_disk_leaves_the_model_that_was_there(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model.pt")

    def full(stored, path):
        path = Path(path)
        path.write_bytes(b"a part")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        replace(model, weights=2 * model.weights).save(tmp_path / "model.pt")
    assert torch.equal(KernelModel.load(tmp_path / "model.pt").weights, model.weights)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
