"""Tables as users have them, and the dense float64 least-squares solutions on them."""

import torch

N, D = 36, 4


def _base(generator):
    X = torch.randn(N, D, dtype=torch.float64, generator=generator)
    return X, torch.sin(X.sum(1, keepdim=True))


def _agree(X, Y):
    X[N // 2 :], Y[N // 2 :] = X[: N // 2], Y[: N // 2]


def _contradict(X, Y):
    X[N // 2 :] = X[: N // 2]


def _zero_row(X, Y):
    X[3], Y[3] = 0, 1


def _low_rank(X, Y):
    X[:, 2:] = X[:, :2] @ torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=X.dtype)


def _heavy_tails(X, Y):
    Y.copy_(torch.exp(3 * X[:, :1]))
    Y[7] = 1000


def _one_positive(X, Y):
    Y.zero_()
    Y[5] = 1


def _constant_column(X, Y):
    X[:, 1] = 7


def _time_stamp(X, Y):
    X[:, 0] = 1.7e9 + 10 * X[:, 0]


def _categories(X, Y):
    X.copy_(X.sign())


KINDS = {
    function.__name__.strip("_"): function
    for function in (
        _agree, _contradict, _zero_row, _low_rank, _heavy_tails, _one_positive, _constant_column,
        _time_stamp, _categories,
    )
}  # fmt: skip


def table(kind, dtype=torch.float64):
    """X (36, 4) and Y (36, 1) of a kind, in ``dtype``."""
    X, Y = _base(torch.Generator().manual_seed(0))
    KINDS[kind](X, Y)
    return X.to(dtype), Y.to(dtype)


def least_squares(K, Y):
    """K alpha at the alpha that minimises |K alpha - Y|, and the smallest singular value that is no rounding,
    as a share of the largest: where it is small, what is zero is a matter of taste."""
    U, sizes, _ = torch.linalg.svd(K, full_matrices=False)
    sizes = sizes / sizes[0]
    kept = U[:, sizes > 1e-10]
    return kept @ (kept.T @ Y), sizes[sizes > 1e-13].min().item()
