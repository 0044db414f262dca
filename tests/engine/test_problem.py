"""What is refused before anything is computed: one line with the array's name."""

import pytest
import torch

from kernelexp.engine import KERNELS, SOLVERS, Problem, fit, prepare

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
