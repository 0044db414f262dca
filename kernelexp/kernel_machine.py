"""What the scikit-learn estimators share: from parameters to a training, and predictions by batches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from kernelexp.engine import (
    AnyTraining,
    Kernel,
    KernelModel,
    Problem,
    ResourceLimits,
    SolverOption,
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


class KernelMachine(BaseEstimator):  # type: ignore[misc]
    """Parameters, ``_train`` and ``_outputs``; a subclass says what targets are."""

    def __init__(
        self,
        kernel: str | Kernel = "laplacian",
        *,
        bandwidth: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        solver: str = "auto",
        ridge: float | None = None,
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
            ridge: of a solver that has one (auto, exact, falkon), in the units of a mean loss (alpha of
                scikit-learn's KernelRidge is n times this); None: the solver's default.
            solver_params: its other parameters by name, as ``{"epochs": 5}``,
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
        self.ridge = ridge
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

    def _solver(self) -> SolverOption:
        """What trains it."""
        return make_solver(self.solver, self.ridge, self.solver_params)

    def _train(self, X: np.ndarray, Y: np.ndarray, labels: np.ndarray | None) -> Self:
        """Learn from points (n, d) and targets (n, c); labels (n,) are class numbers."""
        kernel = make_kernel(self.kernel, self.bandwidth, self.kernel_params)
        solver = self._solver()
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
        if path := training.path():
            self.ridge_ = training.choice()["ridge"]
            self.path_ = {name: np.array(values) for name, values in path.items()}
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
    say_anew(next(name for name, holds in same.items() if not holds))


def say_anew(other: str) -> None:
    """Warn that the former solution is of no use here, and what is other now."""
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
