"""Kernel machines as scikit-learn estimators: ``KernelClassifier`` and ``KernelRegressor``.

from kernelexp.sklearn import KernelClassifier
KernelClassifier(kernel="laplacian", bandwidth=10.0).fit(X, y).score(X_test, y_test)
"""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from kernelexp.engine import (
    KERNELS,
    SOLVERS,
    Kernel,
    KernelModel,
    Problem,
    ResourceLimits,
    SolverOption,
    StopRule,
    prepare,
)
from kernelexp.engine.checks import number, one_of, refuse

# What X may be; of anything else the first is made.
_DTYPES = ["float64", "float32"]


class _KernelMachine(BaseEstimator):  # type: ignore[misc]
    """What the two estimators share: from parameters to a Problem, and predictions by batches."""

    def __init__(
        self,
        kernel: str | Kernel = "laplacian",
        *,
        bandwidth: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        solver: str = "auto",
        solver_params: dict[str, Any] | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        memory_gb: float | None = None,
        predict_batch_size: int = 16384,
    ) -> None:
        """Parameters of both estimators; they are looked at by ``fit``.

        Args:
            kernel: a name of ``kernelexp.engine.KERNELS``, or a Kernel, for instance a
                FunctionKernel (to be pickled, its functions must be importable).
            bandwidth: of a radial kernel, a number or ``"median"`` (of the distances between
                training points); None: the kernel's default.
            kernel_params: other parameters of the kernel by name, as ``{"nu": 2.5}``.
            solver: a name of ``kernelexp.engine.SOLVERS``; ``"auto"`` takes one by the size of the
                problem, a direct solution where that is a matter of seconds.
            solver_params: its parameters by name, as ``{"epochs": 5}``, ``{"ridge": 1e-4}``,
                ``{"stop": {"train_error": 0}}``.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: CUDA if there is any.
            dtype: ``"float32"`` (with eigenpro2 half the time on a CPU) or ``"float64"``; None: that of
                the training points, float64 if they are neither.
            random_state: an int is the seed itself, as on the command line; else one is drawn.
            memory_gb: the most memory (1e9 bytes) that the process may hold in ``fit``; None: what
                is free, too much where several are fitted at once.
            predict_batch_size: points moved to the device and predicted together. Of each batch
                tiles of the kernel matrix are held, never all of it.
        """
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.kernel_params = kernel_params
        self.solver = solver
        self.solver_params = solver_params
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.memory_gb = memory_gb
        self.predict_batch_size = predict_batch_size

    def _validated(self, X: Any, y: Any, **checks: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.dtype is not None:
            one_of("dtype", self.dtype, _DTYPES)
        dtype = _DTYPES if self.dtype is None else self.dtype
        X, y = validate_data(self, _array(X), _array(y), dtype=dtype, order="C", **checks)
        return X, y

    def _train(self, X: np.ndarray, Y: np.ndarray, labels: np.ndarray | None) -> Self:
        """Learn from points (n, d) and targets (n, c); labels (n,) are class numbers."""
        kernel = _kernel(self.kernel, self.bandwidth, self.kernel_params)
        solver = _solver(self.solver, self.solver_params)
        one_of("device", str(self.device), _devices())
        device = _devices()[str(self.device)]
        seed = _seed(self.random_state)
        X_train = torch.tensor(X, device=device)  # a copy, so that the model is the model's alone
        problem = Problem(
            kernel=kernel.fitted_to(X_train, torch.Generator().manual_seed(seed)),
            X=X_train,
            Y=torch.tensor(Y, dtype=X_train.dtype, device=device),
            labels=None if labels is None else torch.tensor(labels, device=device),
            seed=seed,
            limits=ResourceLimits(memory_gb=_plain(self.memory_gb)),
        )
        try:
            training = prepare(solver, problem)
        except ValueError as error:
            raise ValueError(_by_our_names(str(error))) from error
        self.solver_ = training.solver
        self.n_iter_ = sum(1 for _ in training.run())
        self.model_ = training.model()
        self.rkhs_norm_ = training.rkhs_norm().value
        return self

    def _outputs(self, X: Any) -> np.ndarray:
        """f(X): (n, d) -> (n, c)."""
        check_is_fitted(self)
        size = _plain(self.predict_batch_size)
        number("predict_batch_size", size, 1, whole=True)
        dtype = str(self.model_.weights.dtype).removeprefix("torch.")
        X = validate_data(self, _array(X), reset=False, dtype=dtype, order="C")
        batches = (torch.tensor(X[start : start + size]) for start in range(0, len(X), size))
        return np.concatenate([self.model_.predict(batch).cpu().numpy() for batch in batches])

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:  # by way of the CPU, so that it can be read where there is no GPU
            state["model_"] = _moved(self.model_, "cpu"), str(self.model_.weights.device)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            model, device = state["model_"]
            state = {**state, "model_": _moved(model, device if device in _devices() else "cpu")}
        super().__setstate__(state)


class KernelClassifier(ClassifierMixin, _KernelMachine):  # type: ignore[misc]
    """Least squares on one-hot targets {0, 1}, one output a class; the largest output wins.

    Two classes, too, have two outputs, so that training errors, stop rules and norm mean what they
    mean everywhere else; ``decision_function`` is their difference, the solution for targets -1, 1.

    There is no ``predict_proba``: outputs approximate P(class | x) only where they do not
    interpolate, can leave [0, 1], and interpolating models, which this package is for, reproduce the
    labels. Where probabilities are wanted, use ``sklearn.calibration.CalibratedClassifierCV``.

    Parameters: see ``__init__``. A list of labels of any type is fine.

    Attributes:
        classes_: the labels, sorted, (c,).
        model_: the kernel machine (``KernelModel``): kernel, centers, weights (p, c).
        rkhs_norm_: sqrt(tr(alpha^T K alpha)).
        solver_: what trained it (``Solver``), with ``solver="auto"`` the one that was taken.
        n_iter_: epochs, or iterations of the solver.
        n_features_in_: d.
        feature_names_in_: names of the columns, if X had any that are strings.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from X (n, d) and labels y (n,), of NumPy, PyTorch or anything array-like.

        Raises:
            ValueError: for parameters or data that cannot work, or sizes that do not fit.
            DivergenceError: where training grows instead of shrinking.
        """
        X, y = self._validated(X, y)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {classes[0]}: there must be at least two")
        self.classes_ = classes
        return self._train(X, np.eye(len(classes))[labels], labels)

    def decision_function(self, X: Any) -> np.ndarray:
        """X (n, d) -> outputs (n, c); of two classes (n,), above 0 for the second."""
        outputs = self._outputs(X)
        return outputs if outputs.shape[1] > 2 else outputs[:, 1] - outputs[:, 0]

    def predict(self, X: Any) -> np.ndarray:
        """X (n, d) -> labels (n,)."""
        scores = self.decision_function(X)
        labels = scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)
        chosen: np.ndarray = self.classes_[labels]
        return chosen


class KernelRegressor(RegressorMixin, MultiOutputMixin, _KernelMachine):  # type: ignore[misc]
    """Least squares in the RKHS, without an intercept, as in scikit-learn's KernelRidge.

    With ``solver="exact"`` and its ``ridge`` it is KernelRidge of ``alpha = n * ridge``; targets far
    from 0 are better centered first (``sklearn.compose.TransformedTargetRegressor``).

    Parameters: see ``__init__``. Attributes: ``model_``, ``rkhs_norm_``, ``solver_``,
    ``n_iter_``, ``n_features_in_``, ``feature_names_in_``, as in ``KernelClassifier``.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from X (n, d) and y (n,) or (n, c); errors as in ``KernelClassifier.fit``."""
        X, y = self._validated(X, y, multi_output=True, y_numeric=True)
        self._one_dimensional = y.ndim == 1
        return self._train(X, y.reshape(len(y), -1), None)

    def predict(self, X: Any) -> np.ndarray:
        """X (n, d) -> (n,) or (n, c), as y was."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._one_dimensional else outputs


def _kernel(kernel: Any, bandwidth: Any, given: Any) -> Kernel:
    if isinstance(kernel, Kernel):
        if bandwidth is not None or given is not None:
            raise ValueError("bandwidth, kernel_params: must be None with a Kernel, it has its own")
        return kernel
    if kernel not in list(KERNELS):
        raise refuse("kernel", kernel, f"a Kernel, or one of {', '.join(KERNELS)}")
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


def _solver(name: Any, given: Any) -> SolverOption:
    one_of("solver", name, SOLVERS)
    values = _parameters("solver_params", given, SOLVERS[name])
    if not isinstance(values.get("stop", StopRule()), StopRule):
        values["stop"] = StopRule(**_parameters("stop", values["stop"], StopRule))
    return SOLVERS[name](**values)


def _parameters(key: str, given: Any, cls: Any) -> dict[str, Any]:
    """What is given of the parameters of the dataclass ``cls``, as a dict of its own."""
    if given is not None and not isinstance(given, Mapping):
        raise refuse(key, given, "a dict of parameters by name, or None")
    known = [field.name for field in fields(cls)]
    for name in given or {}:
        if name not in known:
            raise ValueError(f"{key}: {cls.__name__} has no {name}, but {', '.join(known)}")
    return {name: _plain(value) for name, value in (given or {}).items()}


def _by_our_names(message: str) -> str:
    """What the engine says of settings, by the names that they have here."""
    message = message.replace("resource.", "").replace(" (dataset.n_train)", "")
    return re.sub(r"\bsolver\.(\w+)", r"solver_params \1", message)


def _plain(value: Any) -> Any:
    """NumPy's numbers, which parameter grids are made of, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _seed(random_state: Any) -> int:
    generator = check_random_state(random_state)
    whole = isinstance(random_state, numbers.Integral)
    return int(random_state if whole else generator.randint(2**31 - 1))


def _devices() -> dict[str, str]:
    """Each name a device may be given by, and its own."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    first = {"auto": cuda[0], "cuda": cuda[0]} if cuda else {"auto": "cpu"}
    return {**first, **{name: name for name in ["cpu", *cuda]}}


def _moved(model: KernelModel, device: str) -> KernelModel:
    return replace(model, centers=model.centers.to(device), weights=model.weights.to(device))


def _array(values: Any) -> Any:
    """A tensor of any device as a NumPy array; anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
