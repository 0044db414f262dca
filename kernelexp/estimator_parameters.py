"""From the parameters of an estimator, as a person gave them, to a kernel, a solver, a device and a seed."""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from kernelexp.engine import KERNELS, SOLVERS, Kernel, SolverOption, StopRule
from kernelexp.engine.checks import one_of, refuse
from kernelexp.engine.points import Points

# Points whose kernel with themselves a function is asked for together.
_DIAGONAL = 256


@dataclass(frozen=True)
class CallableKernel(Kernel):
    """A function of NumPy arrays, X (n, d) and Z (m, d) -> (n, m), as scikit-learn's ``pairwise`` functions are."""

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def matrix(self, X: Points, Z: Points) -> Tensor:
        x, z = (A.values.cpu().numpy() for A in (X, Z))
        K = np.asarray(self.function(x, z))
        if K.shape != (len(x), len(z)):
            raise ValueError(
                f"kernel: the function gave {K.shape} for X {x.shape} and Z {z.shape}; must give "
                f"{(len(x), len(z))}, the kernel of each row of X with each of Z"
            )
        return torch.as_tensor(K, dtype=X.values.dtype, device=X.values.device)

    def diag(self, X: Tensor) -> Tensor:
        parts = (Points(part) for part in torch.split(X, _DIAGONAL))
        return torch.cat([self.matrix(part, part).diagonal() for part in parts])


@dataclass(frozen=True, eq=False)
class Precomputed(Kernel):
    """Entries of a given K (n, n); points are the numbers of its rows and columns, (., 1). No two are the same."""

    K: Tensor

    def matrix(self, X: Points, Z: Points) -> Tensor:
        i, j = (A.values[:, 0].long().to(self.K.device) for A in (X, Z))
        return self.K[i[:, None], j].to(X.values.device, X.values.dtype)

    def diag(self, X: Tensor) -> Tensor:
        return self.K.diagonal()[X[:, 0].long().to(self.K.device)].to(X.device, X.dtype)


def make_kernel(kernel: Any, bandwidth: Any, given: Any) -> Kernel:
    """The kernel of an estimator's ``kernel``, ``bandwidth`` and ``kernel_params``.

    Raises:
        ValueError: for what does not fit together.
    """
    if callable(kernel) and not isinstance(kernel, Kernel | type):
        kernel = CallableKernel(kernel)
    if isinstance(kernel, Kernel):
        if bandwidth is not None or given is not None:
            raise ValueError("bandwidth, kernel_params: must be None with a Kernel, it has its own")
        return kernel
    if kernel not in list(KERNELS):
        raise refuse(
            "kernel", kernel, f"a Kernel, a function, precomputed, or one of {', '.join(KERNELS)}"
        )
    values = _parameters("kernel_params", given, KERNELS[kernel])
    known = [field.name for field in fields(KERNELS[kernel])]  # type: ignore[arg-type]
    if bandwidth is not None and "bandwidth" not in known:
        # In a grid over kernels some have one and some have not.
        warnings.warn(
            f"bandwidth={bandwidth}: kernel={kernel} has none; it is ignored",
            UserWarning,
            stacklevel=4,
        )
    elif bandwidth is not None:
        if "bandwidth" in values:
            raise ValueError("bandwidth: must be None where kernel_params has it")
        values |= _parameters("bandwidth", {"bandwidth": bandwidth}, KERNELS[kernel])
    return KERNELS[kernel](**values)


def make_solver(name: Any, ridge: Any, given: Any) -> SolverOption:
    """The solver of an estimator's ``solver``, ``ridge`` and ``solver_params``.

    Raises:
        ValueError: for names and values that there are not.
    """
    one_of("solver", name, SOLVERS)
    values = _parameters("solver_params", given, SOLVERS[name])
    if ridge is not None:
        if "ridge" not in [field.name for field in fields(SOLVERS[name])]:
            raise refuse("ridge", ridge, f"None with solver={name}, which has none")
        if "ridge" in values:
            raise ValueError("ridge: must be None where solver_params has it")
        values |= {"ridge": plain(ridge)}
    if not isinstance(values.get("stop", StopRule()), StopRule):
        values["stop"] = StopRule(**_parameters("stop", values["stop"], StopRule))
    return SOLVERS[name](**values)


def as_array(values: Any) -> Any:
    """A tensor of any device as a NumPy array; anything else as it is.

    Raises:
        TypeError: for a sparse matrix, with the size that it would have.
    """
    if sparse.issparse(values):
        n, d = values.shape
        raise TypeError(
            f"Sparse data of shape ({n:,}, {d:,}): dense data is required; X.toarray() takes {8 * n * d / 1e9:.2g} GB, "
            "sklearn.decomposition.TruncatedSVD makes fewer columns"
        )
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def weights_of(given: Any, X: np.ndarray, by_class: np.ndarray | None = None) -> np.ndarray | None:
    """The weights (n,) of points, those given times those of their classes; None where they are all the same.

    Raises:
        ValueError: for another shape, for negative ones, NaN, and where all are 0.
    """
    if given is None and by_class is None:
        return None
    weights: np.ndarray = _check_sample_weight(
        as_array(given), X, dtype=np.float64, ensure_non_negative=True
    )
    if by_class is not None:
        weights = weights * by_class
    if not weights.any():
        raise ValueError(
            "sample_weight, class_weight: must be above 0 for some points, and are 0 for all"
        )
    return None if (weights == weights[0]).all() else weights


def _parameters(key: str, given: Any, cls: Any) -> dict[str, Any]:
    """What is given of the parameters of the dataclass ``cls``, as a dict of its own."""
    if given is not None and not isinstance(given, Mapping):
        raise refuse(key, given, "a dict of parameters by name, or None")
    known = [field.name for field in fields(cls)]
    for name in given or {}:
        if name not in known:
            raise ValueError(f"{key}: {cls.__name__} has no {name}, but {', '.join(known)}")
    return {name: plain(value) for name, value in (given or {}).items()}


def by_our_names(message: str) -> str:
    """What the engine says of settings, by the names that they have here."""
    message = message.replace("resource.", "").replace(" (dataset.n_train)", "")
    message = message.replace(" (dataset.scale=standard)", "")
    message = message.replace("point_weights", "sample_weight, class_weight")
    return re.sub(r"\bsolver\.(\w+)", r"solver_params \1", message)


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays, which parameter grids are made of, as Python's."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def seed_of(random_state: Any) -> int:
    """The seed that a ``random_state`` is, or gives."""
    generator = check_random_state(random_state)
    whole = isinstance(random_state, numbers.Integral)
    return int(random_state if whole else generator.randint(2**31 - 1))


def devices() -> dict[str, str]:
    """Each name a device may be given by, and its own."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    first = {"auto": cuda[0], "cuda": cuda[0]} if cuda else {"auto": "cpu"}
    return {**first, **{name: name for name in ["cpu", *cuda]}}
