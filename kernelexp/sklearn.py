"""Kernel machines as scikit-learn estimators: ``KernelClassifier``, ``KernelRegressor``, and those that choose their ridge.

from kernelexp.sklearn import KernelClassifier
KernelClassifier(kernel="laplacian", bandwidth=10.0).fit(X, y).score(X_test, y_test)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from kernelexp.engine import Kernel, SolverOption
from kernelexp.engine.checks import refuse
from kernelexp.estimator_parameters import make_solver, plain, weights_of
from kernelexp.estimator_refit import say_anew, whole
from kernelexp.kernel_machine import KernelMachine


class KernelClassifier(ClassifierMixin, KernelMachine):  # type: ignore[misc]
    """Least squares on one-hot targets {0, 1}, one output a class; the largest output wins.

    Two classes, too, have two outputs, so that training errors, stop rules and norm mean what they
    mean everywhere else; ``decision_function`` is their difference, the solution for targets -1, 1.

    There is no ``predict_proba``: outputs approximate P(class | x) only where they do not
    interpolate, can leave [0, 1], and interpolating models, which this package is for, reproduce the
    labels. Where probabilities are wanted, use ``sklearn.calibration.CalibratedClassifierCV``.

    Parameters: see ``__init__``. A list of labels of any type is fine.

    ``class_weight``: as of scikit-learn's classifiers, ``"balanced"`` or a dict of weights by label.

    Attributes:
        classes_: the labels, sorted, (c,).
        model_: the kernel machine (``KernelModel``): kernel, centers, weights (p, c).
        rkhs_norm_: sqrt(tr(alpha^T K alpha)).
        solver_: what trained it (``Solver``), with ``solver="auto"`` the one that was taken.
        n_iter_: epochs, or iterations of the solver.
        validation_scores_: with ``validation_fraction`` the score of points held out, by epoch.
        ridge_, path_: with ``solver="ridge_path"`` the ridge that was taken, and for each of the grid ``ridge``,
            ``loo_mse``, ``gcv`` and others by name, (m,).
        n_features_in_: d.
        feature_names_in_: names of the columns, if X had any that are strings.
    """

    def __init__(
        self,
        kernel: str | Kernel = "laplacian",
        *,
        bandwidth: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        solver: str = "auto",
        ridge: float | None = None,
        solver_params: dict[str, Any] | None = None,
        class_weight: str | dict[Any, float] | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        memory_gb: float | None = None,
        predict_batch_size: int = 16384,
        warm_start: bool = False,
        validation_fraction: float | None = None,
        n_iter_no_change: int | None = None,
    ) -> None:
        super().__init__(
            kernel,
            bandwidth=bandwidth,
            kernel_params=kernel_params,
            solver=solver,
            ridge=ridge,
            solver_params=solver_params,
            device=device,
            dtype=dtype,
            random_state=random_state,
            memory_gb=memory_gb,
            predict_batch_size=predict_batch_size,
            warm_start=warm_start,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from X (n, d) and labels y (n,), of NumPy, PyTorch or anything array-like.

        ``sample_weight``: (n,) of at least 0; a point of weight 2 counts as two of them, one of weight 0 as none. Times
        those of ``class_weight``. For ``solver="exact"``, or ``"auto"`` where it takes that, with a ridge: without one
        all targets are met, whatever their weights, and a warning says so.

        An error leaves everything as it was before.

        Raises:
            ValueError: for parameters or data that cannot work, or sizes that do not fit.
            DivergenceError: where training grows instead of shrinking.
        """
        with whole(self) as former:
            X, y = self._validated(X, y)
            check_classification_targets(y)
            given = weights_of(sample_weight, X)
            weights = given if self.class_weight is None else self._by_class(X, y, given)
            classes = np.unique(y if weights is None else y[weights > 0])
            labels = np.searchsorted(classes, y).clip(max=len(classes) - 1)  # of what counts
            if len(classes) < 2:
                raise ValueError(f"y has one class, {classes[0]}: there must be at least two")
            model = former.get("model_")
            if self.warm_start and not np.array_equal(former.get("classes_", classes), classes):
                say_anew("classes")
                model = None
            self.classes_ = classes
            return self._train(X, np.eye(len(classes))[labels], labels, weights, model)

    def _by_class(
        self, X: np.ndarray, y: np.ndarray, given: np.ndarray | None
    ) -> np.ndarray | None:
        """The weights (n,) of points times those of their classes; ``balanced`` counts a point of weight 2 as two."""
        if self.class_weight != "balanced":
            return weights_of(given, X, compute_sample_weight(self.class_weight, y))
        own = np.ones(len(y)) if given is None else given
        classes, places = np.unique(y[own > 0], return_inverse=True)
        each = np.zeros(len(y))
        sums = np.bincount(places, own[own > 0])
        each[own > 0] = (sums.sum() / (len(classes) * sums))[places]
        return weights_of(given, X, each)

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


class KernelRegressor(RegressorMixin, MultiOutputMixin, KernelMachine):  # type: ignore[misc]
    """Least squares in the RKHS, without an intercept, as in scikit-learn's KernelRidge.

    With ``solver="exact"`` and its ``ridge`` it is KernelRidge of ``alpha = n * ridge``; targets far
    from 0 are better centered first (``sklearn.compose.TransformedTargetRegressor``).

    Parameters: see ``__init__``. Attributes: ``model_``, ``rkhs_norm_``, ``solver_``,
    ``n_iter_``, ``n_features_in_``, ``feature_names_in_``, as in ``KernelClassifier``.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from X (n, d) and y (n,) or (n, c); weights and errors as in ``KernelClassifier.fit``."""
        with whole(self) as former:
            X, y = self._validated(X, y, multi_output=True, y_numeric=True)
            if y.dtype.kind not in "biuf":
                raise ValueError(f"y of {y.dtype}: must be numbers; KernelClassifier takes labels")
            self._one_dimensional = y.ndim == 1
            weights = weights_of(sample_weight, X)
            return self._train(X, y.reshape(len(y), -1), None, weights, former.get("model_"))

    def predict(self, X: Any) -> np.ndarray:
        """X (n, d) -> (n,) or (n, c), as y was."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._one_dimensional else outputs


class _ByLeaveOneOut:
    """Parameters of the two estimators that choose their ridge."""

    warm_start = False  # a direct solution gains nothing from a former one

    def __init__(
        self,
        kernel: str | Kernel = "laplacian",
        *,
        bandwidth: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        ridges: Sequence[float] | None = None,
        by: str = "loo",
        n_centers: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        memory_gb: float | None = None,
        predict_batch_size: int = 16384,
    ) -> None:
        """Parameters of both estimators; "there" is ``KernelClassifier``.

        Args:
            kernel: as there.
            bandwidth: as there.
            kernel_params: as there.
            ridges: the grid; None: 50 from 1e-10 of the largest eigenvalue of K / n to it.
            by: ``"loo"``, the leave-one-out mean square error, or ``"gcv"``.
            n_centers: random centers, for many points; None: all points are.
            device: as there.
            dtype: as there.
            random_state: as there.
            memory_gb: as there.
            predict_batch_size: as there.
        """
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.kernel_params = kernel_params
        self.ridges = ridges
        self.by = by
        self.n_centers = n_centers
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.memory_gb = memory_gb
        self.predict_batch_size = predict_batch_size

    ridge = class_weight = validation_fraction = n_iter_no_change = None  # they choose the ridge

    def fit(self, X: Any, y: Any, **others: Any) -> Self:
        """As of ``KernelClassifier`` or ``KernelRegressor``, without weights: to leave out half a point has no meaning.

        So ``sample_weight`` is no parameter by name, which scikit-learn would take for a support of weights.

        Raises:
            ValueError: also for a ``sample_weight``.
        """
        if others.pop("sample_weight", None) is not None:
            name = type(self).__name__
            raise ValueError(
                f"sample_weight: must be None with {name}, where to leave out half a point has no meaning; "
                f"{name.removesuffix('CV')} takes weights, with a ridge"
            )
        return super().fit(X, y, **others)  # type: ignore[misc, no-any-return]

    def _solver(self, ridge: float | None) -> SolverOption:
        if self.ridges is not None and np.ndim(self.ridges) != 1:
            raise refuse("ridges", self.ridges, "a list of numbers, or None")
        ridges = None if self.ridges is None else [plain(ridge) for ridge in self.ridges]
        given = {"ridges": ridges, "by": self.by, "n_centers": plain(self.n_centers)}
        return make_solver("ridge_path", None, given)

    def _by_our_names(self, message: str) -> str:
        return super()._by_our_names(message).replace("solver_params ", "")  # type: ignore[misc, no-any-return]


class KernelClassifierCV(_ByLeaveOneOut, KernelClassifier):  # type: ignore[misc]
    """``KernelClassifier`` with the ridge of the smallest leave-one-out error, from one eigendecomposition.

    As scikit-learn's RidgeClassifierCV; its attributes ``ridge_`` and ``path_`` are as in ``KernelClassifier``.
    """


class KernelRegressorCV(_ByLeaveOneOut, KernelRegressor):  # type: ignore[misc]
    """``KernelRegressor`` with the ridge of the smallest leave-one-out error, from one eigendecomposition.

    As scikit-learn's RidgeCV; its attributes ``ridge_`` and ``path_`` are as in ``KernelClassifier``.
    """
