"""Learners of scikit-learn that a run may be compared with, on the same points, scaled in the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelexp.engine import Problem

# Of a support vector machine, chosen by three folds of the training points.
_COSTS = {"C": [1.0, 10.0, 100.0]}
# Of kernel ridge regression, in the same way; gamma over the number of inputs, as SVC has it.
_ALPHAS, _GAMMAS = [1e-3, 1e-2, 1e-1, 1.0], [0.1, 0.3, 1.0]


def svm(problem: Problem, X: Tensor) -> Tensor:
    """A support vector machine with the Gaussian kernel, its C of 1, 10 and 100 chosen by three folds."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC, SVR

    of_numbers = GridSearchCV(SVR(), _COSTS, cv=_folds(problem))
    return _outputs(problem, X, GridSearchCV(SVC(), _COSTS, cv=3), of_numbers)


def kernel_ridge(problem: Problem, X: Tensor) -> Tensor:
    """Kernel ridge regression with the Gaussian kernel, alpha and gamma by three folds; of classes on their 0 and 1."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    def made() -> Tensor:
        points, new, Y = (A.cpu().double().numpy() for A in (problem.X, X, problem.Y))
        grid = {"alpha": _ALPHAS, "gamma": [gamma / points.shape[1] for gamma in _GAMMAS]}
        search = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=_folds(problem))
        found = search.fit(points, Y).predict(new).reshape(len(new), -1)
        return torch.from_numpy(found).to(problem.Y.dtype).to(problem.Y.device)

    return problem.ranks.once(made)


def boosting(problem: Problem, X: Tensor) -> Tensor:
    """Gradient boosting of trees on histograms, with scikit-learn's defaults."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    seed = problem.seed % 2**32  # scikit-learn takes no larger one
    return _outputs(
        problem,
        X,
        HistGradientBoostingClassifier(random_state=seed),
        HistGradientBoostingRegressor(random_state=seed),
    )


def _folds(problem: Problem) -> Any:
    """Three folds of points that may lie sorted, by class or by target: drawn by the seed."""
    from sklearn.model_selection import KFold

    return KFold(3, shuffle=True, random_state=problem.seed % 2**32)


def _outputs(problem: Problem, X: Tensor, classifier: Any, regressor: Any) -> Tensor:
    """What it says of X: predicted labels as one-hot outputs, or numbers, a model for each output."""

    def made() -> Tensor:
        points, new = problem.X.cpu().double().numpy(), X.cpu().double().numpy()
        Y = problem.Y.cpu().double().numpy()
        if problem.labels is None:
            found = np.stack([regressor.fit(points, y).predict(new) for y in Y.T], axis=1)
        else:
            labels = classifier.fit(points, problem.labels.cpu().numpy()).predict(new)
            found = np.eye(max(2, Y.shape[1]))[labels][:, -Y.shape[1] :]
        return torch.from_numpy(found).to(problem.Y.dtype).to(problem.Y.device)

    return problem.ranks.once(made)
