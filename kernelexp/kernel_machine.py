"""What the scikit-learn estimators share: from parameters to a training, and predictions by batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from kernelexp.engine import (
    AnyTraining,
    Ending,
    Kernel,
    KernelModel,
    Problem,
    ResourceLimits,
    SolverOption,
    prepare,
)
from kernelexp.engine.checks import number, one_of, refuse
from kernelexp.engine.model import side_by_side
from kernelexp.engine.singular import SingularMatrixWarning
from kernelexp.estimator_parameters import (
    Precomputed,
    as_array,
    by_our_names,
    devices,
    make_kernel,
    make_solver,
    plain,
    seed_of,
)
from kernelexp.estimator_refit import go_on_from
from kernelexp.estimator_validation import HeldOut, held_out

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
        ridge: float | Sequence[float] | None = None,
        solver_params: dict[str, Any] | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        memory_gb: float | None = None,
        predict_batch_size: int = 16384,
        warm_start: bool = False,
        validation_fraction: float | None = None,
        n_iter_no_change: int | None = None,
    ) -> None:
        """Parameters of both estimators; they are looked at by ``fit``.

        Args:
            kernel: a name of ``kernelexp.engine.KERNELS``, a Kernel, a function of arrays (n, d) and (m, d) that
                gives (n, m) (to be pickled, it must be importable), or ``"precomputed"``: X is then K(X, X) in
                ``fit``, and K of new points with all training points, (m, n), in ``predict``.
            bandwidth: of a kernel of a distance, a number or ``"median"`` (of the distances between
                training points); None: the kernel's default.
            kernel_params: other parameters of the kernel by name, as ``{"nu": 2.5}``.
            solver: a name of ``kernelexp.engine.SOLVERS``; ``"auto"`` takes one by the size of the
                problem, a direct solution where that is a matter of seconds.
            ridge: of a solver that has one (not eigenpro3 and eigenpro4; rfm has that of its ``inner`` solver, ridge_path
                finds its own), in the units of a mean loss (alpha of scikit-learn's KernelRidge is n times this); of a regressor also one for each target, where those of one
                value are trained together; None: the solver's default.
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
            validation_fraction: of the training points, of each class its share, that ``fit`` holds out; their score
                after each epoch is in ``validation_scores_``. None: none are.
            n_iter_no_change: with ``validation_fraction``, epochs without a better one that end training; the model is
                that of the best epoch.
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
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._is_precomputed
        return tags

    @property
    def _is_precomputed(self) -> bool:
        return isinstance(self.kernel, str) and self.kernel == "precomputed"

    def _validated(self, X: Any, y: Any, **checks: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.dtype is not None:
            one_of("dtype", self.dtype, _DTYPES)
        dtype = _DTYPES if self.dtype is None else self.dtype
        X, y = validate_data(self, as_array(X), as_array(y), dtype=dtype, order="C", **checks)
        if self._is_precomputed and X.shape[0] != X.shape[1]:
            raise ValueError(f"X {X.shape}: must be K (n, n) with kernel=precomputed")
        return X, y

    def _solver(self, ridge: float | None) -> SolverOption:
        """What trains it."""
        return make_solver(self.solver, ridge, self.solver_params)

    def _problem(
        self, X: np.ndarray, Y: np.ndarray, labels: np.ndarray | None, weights: np.ndarray | None
    ) -> Problem:
        """What is to be learned; points of weight 0 are left out."""
        one_of("device", str(self.device), devices())
        device = devices()[str(self.device)]
        seed = seed_of(self.random_state)
        X_train = torch.tensor(X, device=device)  # a copy, so that the model is the model's alone
        if self._is_precomputed:
            if self.bandwidth is not None or self.kernel_params is not None:
                raise ValueError("bandwidth, kernel_params: must be None with kernel=precomputed")
            kernel: Kernel = Precomputed(X_train)
            X_train = torch.arange(len(X), device=device, dtype=X_train.dtype)[:, None]
        else:
            kernel = make_kernel(self.kernel, self.bandwidth, self.kernel_params)
        kept = slice(None) if weights is None else torch.tensor(weights > 0, device=device)
        X_train = X_train[kept]
        labelled = None if labels is None else torch.tensor(labels, device=device)[kept]
        if weights is not None and (weights[weights > 0] == weights.max()).all():
            weights = None  # they have said which points count
        return Problem(
            kernel=kernel.fitted_to(X_train, torch.Generator().manual_seed(seed)),
            X=X_train,
            Y=torch.tensor(np.asarray(Y, X.dtype), device=device)[kept],
            labels=labelled,
            seed=seed,
            limits=ResourceLimits(memory_gb=plain(self.memory_gb)),
            point_weights=None if weights is None else torch.tensor(weights, device=device)[kept],
        )

    def _train(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        labels: np.ndarray | None,
        weights: np.ndarray | None,
        former: KernelModel | None,
    ) -> Self:
        """Learn from points (n, d) and targets (n, c).

        Labels (n,) are class numbers, weights (n,) of points; ``former`` is what a warm start may go on from.
        """
        ridges: Any = self.ridge
        shared = self._solver(None if np.ndim(ridges) else ridges)  # refused before data are copied
        whole = self._problem(X, Y, labels, weights)
        problem, held = held_out(whole, self.validation_fraction, plain(self.n_iter_no_change))
        if isinstance(problem.kernel, Precomputed) and getattr(shared, "centers", "") == "kmeans":
            raise ValueError(
                "solver_params centers=kmeans: not with kernel=precomputed, which has no means"
            )
        if np.ndim(ridges):
            return self._train_each(problem, held, np.asarray(ridges, dtype=float))
        if held is not None and self.n_iter_no_change is not None:
            # A patience that was asked for by another way looks at training errors, and stays.
            shared = shared.watched() if shared.stop.patience is None else shared
        training = self._trained(shared, problem, held, former)
        self.model_ = training.model()
        if path := training.path():
            self.ridge_ = training.choice()["ridge"]
            self.path_ = {name: np.array(values) for name, values in path.items()}
        self.rkhs_norm_ = training.rkhs_norm().value
        return self._without_matrix()

    def _train_each(self, problem: Problem, held: HeldOut | None, ridges: np.ndarray) -> Self:
        """Targets (n, c) with ridges (c,): those of one ridge together."""
        c = problem.Y.shape[1]
        if ridges.shape != (c,) or problem.labels is not None or self.warm_start or held:
            allowed = (
                "a number, or for regression without warm_start and validation_fraction one for "
                f"each of the {c} targets"
            )
            raise refuse("ridge", ridges.tolist(), allowed)
        found: list[tuple[KernelModel, float, int]] = []
        order = np.argsort(ridges, kind="stable")
        for ridge in np.unique(ridges):
            columns = torch.tensor(np.flatnonzero(ridges == ridge), device=problem.device)
            own = replace(problem, Y=problem.Y[:, columns])
            training = self._trained(self._solver(float(ridge)), own)
            found.append((training.model(), training.rkhs_norm().value, len(training.records)))
        models, norms, iterations = zip(*found, strict=True)
        joined = side_by_side(models)  # of each ridge falkon may leave out other centers
        self.model_ = replace(joined, weights=joined.weights[:, np.argsort(order)])
        self.rkhs_norm_, self.n_iter_ = math.hypot(*norms), max(iterations)
        return self._without_matrix()

    def _trained(
        self,
        solver: SolverOption,
        problem: Problem,
        held: HeldOut | None = None,
        former: KernelModel | None = None,
    ) -> AnyTraining:
        try:
            training = prepare(solver, problem)
        except ValueError as error:
            raise ValueError(self._by_our_names(str(error))) from error
        if self.warm_start and former is not None:
            go_on_from(former, training)
        self.solver_ = training.solver
        picked = training.reason is not None and not getattr(solver, "restricted", True)
        rule = getattr(training.solver, "center_rule", None)
        if picked and rule is not None and not rule.takes_all(len(problem.X)):
            self._warn(training.reason, UserWarning)
        if held is not None:
            self.validation_scores_ = held.train(training, plain(self.n_iter_no_change))
        else:
            for _ in training.run():
                pass
        self.n_iter_ = len(training.records)
        # Where a rule ended it, it was to end so.
        if training.stopped_by == Ending.EPOCHS and training.warning is None:
            self._warn(training.left_over, SingularMatrixWarning)
        return training

    def _by_our_names(self, message: str) -> str:
        return by_our_names(message)

    def _warn(self, message: str | None, category: type[Warning]) -> None:
        if message is not None:
            warnings.warn(self._by_our_names(message), category, stacklevel=5)

    def _without_matrix(self) -> Self:
        """A precomputed K is of no use to predictions; not a slice of it, which would keep all of it."""
        kernel = self.model_.kernel
        if isinstance(kernel, Precomputed):
            self.model_ = replace(
                self.model_, kernel=Precomputed(kernel.K.new_empty(0, 0, device="cpu"))
            )
        return self

    def _outputs(self, X: Any) -> np.ndarray:
        """f(X): (n, d) -> (n, c)."""
        check_is_fitted(self)
        size = plain(self.predict_batch_size)
        number("predict_batch_size", size, 1, whole=True)
        dtype = str(self.model_.weights.dtype).removeprefix("torch.")
        X = validate_data(self, as_array(X), reset=False, dtype=dtype, order="C")
        if isinstance(self.model_.kernel, Precomputed):  # as it was fitted, whatever is set since
            numbers = self.model_.centers[:, 0].long().cpu().numpy()
            outputs: np.ndarray = X[:, numbers] @ self.model_.weights.cpu().numpy()
            return outputs
        batches = (torch.tensor(X[start : start + size]) for start in range(0, len(X), size))
        return np.concatenate([self.model_.answers(batch).cpu().numpy() for batch in batches])

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


def _moved(model: KernelModel, device: str) -> KernelModel:
    transform = None if model.transform is None else model.transform.to(device)
    centers, weights = model.centers.to(device), model.weights.to(device)
    return replace(model, centers=centers, weights=weights, transform=transform)
