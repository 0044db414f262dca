"""Kernel machines as scikit-learn estimators: ``KernelClassifier`` and ``KernelRegressor``.

from kernelexp.sklearn import KernelClassifier
KernelClassifier(kernel="laplacian", bandwidth=10.0).fit(X, y).score(X_test, y_test)
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from kernelexp.engine import (
    AnyTraining,
    Kernel,
    KernelModel,
    Problem,
    ResourceLimits,
    prepare,
)
from kernelexp.engine.checks import number, one_of
from kernelexp.estimator_parameters import (
    by_our_names,
    devices,
    make_kernel,
    make_solver,
    plain,
    seed_of,
)

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
        warm_start: bool = False,
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
            warm_start: ``fit`` again goes on from the last solution, where kernel, centers and outputs
                are the same; else it starts anew and says so. A direct solver gains nothing from it.
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
        self.warm_start = warm_start

    def _validated(self, X: Any, y: Any, **checks: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.dtype is not None:
            one_of("dtype", self.dtype, _DTYPES)
        dtype = _DTYPES if self.dtype is None else self.dtype
        X, y = validate_data(self, _array(X), _array(y), dtype=dtype, order="C", **checks)
        return X, y

    def _train(self, X: np.ndarray, Y: np.ndarray, labels: np.ndarray | None) -> Self:
        """Learn from points (n, d) and targets (n, c); labels (n,) are class numbers."""
        kernel = make_kernel(self.kernel, self.bandwidth, self.kernel_params)
        solver = make_solver(self.solver, self.solver_params)
        one_of("device", str(self.device), devices())
        device = devices()[str(self.device)]
        seed = seed_of(self.random_state)
        X_train = torch.tensor(X, device=device)  # a copy, so that the model is the model's alone
        problem = Problem(
            kernel=kernel.fitted_to(X_train, torch.Generator().manual_seed(seed)),
            X=X_train,
            Y=torch.tensor(Y, dtype=X_train.dtype, device=device),
            labels=None if labels is None else torch.tensor(labels, device=device),
            seed=seed,
            limits=ResourceLimits(memory_gb=plain(self.memory_gb)),
        )
        try:
            training = prepare(solver, problem)
        except ValueError as error:
            raise ValueError(by_our_names(str(error))) from error
        former: KernelModel | None = getattr(self, "model_", None)
        if self.warm_start and former is not None:
            _go_on_from(former, training)
        self.solver_ = training.solver
        self.n_iter_ = sum(1 for _ in training.run())
        self.model_ = training.model()
        self.rkhs_norm_ = training.rkhs_norm().value
        return self

    def _outputs(self, X: Any) -> np.ndarray:
        """f(X): (n, d) -> (n, c)."""
        check_is_fitted(self)
        size = plain(self.predict_batch_size)
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
            state = {**state, "model_": _moved(model, device if device in devices() else "cpu")}
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
        if self.warm_start and not np.array_equal(getattr(self, "classes_", classes), classes):
            _say_anew("classes")
            self.__dict__.pop("model_", None)
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


def _go_on_from(model: KernelModel, training: AnyTraining) -> None:
    """Begin a training with the solution that a model is, where that is one of its own; else say so."""
    system, Y = training.system, training.problem.Y
    same = {
        "kernel": model.kernel == training.problem.kernel,
        "centers": model.centers.dtype == system.centers.dtype
        and torch.equal(model.centers.to(system.centers.device), system.centers),
        "outputs": model.weights.shape[1] == Y.shape[1],
    }
    if all(same.values()):
        weights = model.weights.to(Y.device)
        training.iterate = training.solver.start(system, weights)
        return
    _say_anew(next(name for name, holds in same.items() if not holds))


def _say_anew(other: str) -> None:
    warnings.warn(
        f"warm_start=True: training starts anew; {other}: not as in the last fit",
        UserWarning,
        stacklevel=2,
    )


def _moved(model: KernelModel, device: str) -> KernelModel:
    return replace(model, centers=model.centers.to(device), weights=model.weights.to(device))


def _array(values: Any) -> Any:
    """A tensor of any device as a NumPy array; anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
