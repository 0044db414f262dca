"""What is refused before anything is computed: one line with the array's name."""

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, DivergenceError, Problem, fit, prepare

X = torch.arange(30.0).reshape(10, 3)
Y, LABELS = X[:, :1], torch.arange(10) % 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": X.numpy()}, "X is a ndarray: must be a tensor, as torch.from_numpy makes"),
        ({"kernel": "laplacian"}, "kernel 'laplacian': must be one, as KERNELS"),
        ({"Y": Y.double()}, r"X of torch.float32 and Y of torch.float64: must be of one type"),
        ({"Y": LABELS[:, None]}, "Y of torch.int64: must be float32 or float64"),
        ({"X": X.half()}, "X of torch.float16: must be float32 or float64"),
        ({"Y": Y[:9]}, r"X \(10, 3\) and Y \(9, 1\): must be"),
        ({"Y": Y[:, 0]}, r"X \(10, 3\) and Y \(10,\): must be"),
        ({"X": X[:, :0]}, r"X \(10, 0\)"),
        ({"labels": LABELS[:9]}, r"labels \(9,\) of torch.int64: must be \(10,\) whole numbers"),
        ({"labels": LABELS.float()}, r"labels \(10,\) of torch.float32: must be"),
        ({"Y": Y / 0}, "Y has NaN"),
        ({"Y": Y + 3e38}, r"Y has numbers from 3e\+38 to 3e\+38: must be finite, and small enough"),
        ({"Y": torch.where(Y == 3, torch.inf, Y)}, "Y has numbers from 0 to inf"),
        ({"X": X * 1e30}, r"X has numbers from 0 to 2.9e\+31"),
        ({"X": torch.where(X == 3, torch.nan, X)}, "X has NaN"),
        ({"precision": "fast"}, "precision=fast: must be one of auto, ieee"),
        (
            {"X": X.double(), "Y": Y.double(), "precision": "bf16"},
            "precision=bf16: must be auto or ieee",
        ),
        ({"precision": "tf32"}, "precision=tf32: must be .* on a CPU"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        prepare(
            SOLVERS["eigenpro2"](),
            Problem(
                **{"kernel": KERNELS["gaussian"](), "X": X, "Y": Y, "labels": LABELS, **changes}
            ),
        )
    assert "\n" not in str(error.value)


def test_large_numbers_that_do_not_overflow_are_taken():
    scaled = Problem(KERNELS["gaussian"](bandwidth=1e15), X * 1e14, Y * 1e15, LABELS)
    assert torch.isfinite(fit(SOLVERS["exact"](), scaled).weights).all()


def scaled(size, dtype=torch.float32):
    values = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (values * size).to(dtype), values[:, :1].sin().to(dtype)


@pytest.mark.parametrize("solver", ["auto", "falkon", "ridge_path", "cg", "eigenpro2", "askotch"])
def test_a_kernel_that_overflows_is_refused(solver):
    kernel, (points, targets) = KERNELS["polynomial"](degree=4), scaled(1e6)
    message = r"kernel Polynomial\(degree=4.* is inf at training points of norms up to 3.6e\+06 in torch.float32: "
    with pytest.raises(ValueError, match=message) as error:
        prepare(SOLVERS[solver](), Problem(kernel, points, targets))
    assert str(error.value).endswith("rescale X (dataset.scale=standard) or take dtype=float64")
    assert "\n" not in str(error.value)
    prepare(SOLVERS["exact"](), Problem(kernel, points.double(), targets.double()))


@pytest.mark.parametrize(
    ("name", "size"), [("gaussian", 1e-25), ("gaussian", 1e-20), ("laplacian", 1e-25)]
)
@pytest.mark.parametrize("median", [False, True])
def test_points_too_close_for_their_squares_are_refused(name, size, median):
    kernel, (points, targets) = KERNELS[name](bandwidth="median" if median else size), scaled(size)
    fitted = kernel.fitted_to(points, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="apart, whose squares torch.float32 cannot hold") as error:
        prepare(SOLVERS["auto"](), Problem(fitted, points, targets))
    assert "must be 3e-16 or more; rescale X" in str(error.value)
    double, targets = scaled(size, torch.float64)
    fitted = kernel.fitted_to(double, torch.Generator().manual_seed(0))
    model = fit(SOLVERS["exact"](ridge=1e-6), Problem(fitted, double, targets))
    assert (model.predict(double) - targets).square().mean() < 1e-3


@pytest.mark.parametrize("name", ["laplacian_l1", "linear"])
def test_points_close_together_are_taken_by_kernels_without_their_squares(name):
    points, targets = scaled(1e-16 if name == "linear" else 1e-25)
    own = {} if name == "linear" else {"bandwidth": 1e-25}
    model = fit(SOLVERS["exact"](ridge=1e-6), Problem(KERNELS[name](**own), points, targets))
    assert model.predict(points).isfinite().all()


@pytest.mark.filterwarnings("ignore:K.Z, Z. is nearly singular")
def test_a_model_that_is_not_finite_is_an_error():
    """Where single values of the kernel are finite, and sums of its squares are not."""
    points, targets = scaled(1e6)
    with pytest.raises(DivergenceError, match=r"are not finite in torch.float32: rescale X and Y"):
        fit(SOLVERS["falkon"](), Problem(KERNELS["polynomial"](degree=3), points, targets))


def test_targets_too_small_for_their_squares_are_refused():
    X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"Y has numbers up to 1e-2.*, whose squares .* rescale Y"):
        Problem(KERNELS["gaussian"](), X, torch.full((50, 1), 1e-20))
    Problem(KERNELS["gaussian"](), X, torch.zeros(50, 1))
    Problem(KERNELS["gaussian"](), X.double(), torch.full((50, 1), 1e-20, dtype=torch.float64))
