"""What is to be learned: a kernel, points and targets, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from kernelexp.engine.devices import usual_block
from kernelexp.engine.kernels import Kernel
from kernelexp.engine.plan import Limits, ResourceLimits
from kernelexp.engine.points import Points, check_precision, check_range
from kernelexp.engine.ranks import ALONE, Ranks
from kernelexp.engine.singular import DistinctRows

_DTYPES = (torch.float32, torch.float64)
# Points on which the kernel is tried: so many of the largest norm, of the smallest, and others.
_TRIED = 8
# What squares of distances that small may do to the kernel, as a share of its largest value.
_ROUNDED = 0.01


@dataclass(frozen=True)
class Problem:
    """What is to be learned.

    Attributes:
        kernel: k.
        X: (n, d) training points; they may stay on the host, or lie in a mapped file.
        Y: (n, c) targets; for classes one-hot {0, 1}.
        labels: (n,) class of each point, or None for regression.
        seed: every draw of the solver comes from it.
        limits: what the run may take.
        block_size: rows of the kernel matrix computed together (``measure_block_size``); None: what is usual on
            the device.
        precision: of inner products, one of ``points.PRECISIONS``.
        ranks: the processes that solve it together.
        point_weights: (n,) above 0, or None for 1 each: how much each point counts. Their mean is taken for 1, so
            that a point of weight 2 among others is the same as two of them.
    """

    kernel: Kernel
    X: Tensor = field(repr=False)
    Y: Tensor = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    seed: int = 0
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    block_size: int | None = None
    precision: str = "auto"
    ranks: Ranks = ALONE
    point_weights: Tensor | None = None

    def __post_init__(self) -> None:
        X, Y, labels = self.X, self.Y, self.labels
        if not isinstance(self.kernel, Kernel):
            raise ValueError(f"kernel {self.kernel!r}: must be one, as KERNELS['laplacian']()")
        for name, values in (("X", X), ("Y", Y), ("labels", labels)):
            if not isinstance(values, Tensor) and (values is not None or name != "labels"):
                kind = type(values).__name__
                raise ValueError(f"{name} is a {kind}: must be a tensor, as torch.from_numpy makes")
        if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or 0 in (*X.shape, *Y.shape):
            raise ValueError(
                f"X {tuple(X.shape)} and Y {tuple(Y.shape)}: must be (n, d) and (n, c), with n, d, c > 0"
            )
        for name, values in (("X", X), ("Y", Y)):
            if values.dtype not in _DTYPES:
                raise ValueError(f"{name} of {values.dtype}: must be float32 or float64")
        if X.dtype != Y.dtype:
            raise ValueError(f"X of {X.dtype} and Y of {Y.dtype}: must be of one type")
        if labels is not None and (labels.shape != (len(X),) or labels.is_floating_point()):
            raise ValueError(
                f"labels {tuple(labels.shape)} of {labels.dtype}: must be ({len(X)},) whole numbers"
            )
        check_precision(self.precision, X.dtype, self.device)
        largest, info = Y.abs().max().item(), torch.finfo(Y.dtype)
        check_range("Y", Y, largest, Y.numel())
        if 0 < largest < (least := math.sqrt(info.tiny / info.eps)):
            raise ValueError(
                f"Y has numbers up to {largest:.2g}, whose squares {Y.dtype} cannot hold: must have some of {least:.0e} "
                "or more; rescale Y"
            )
        w = self.point_weights
        if w is not None:
            if w.shape != (len(X),) or not (w > 0).all() or not w.isfinite().all():
                raise ValueError(
                    f"point_weights {tuple(w.shape)}: must be ({len(X)},) numbers above 0"
                )
            mean_one = w.to(self.device, torch.float64)
            object.__setattr__(self, "point_weights", mean_one / mean_one.mean())

    @property
    def weights(self) -> Tensor:
        """``point_weights`` (n, 1) in float64, 1 each where there are none."""
        if self.point_weights is None:
            return self.Y.new_ones(len(self.Y), 1, dtype=torch.float64)
        return self.point_weights[:, None]

    @property
    def device(self) -> torch.device:
        """Where it is computed: that of Y, also where X stays on the host."""
        return self.Y.device

    @cached_property
    def distinct(self) -> DistinctRows:
        """Which of the training points differ."""
        return DistinctRows.of(self.X)

    def distinct_rows(self, Z: Tensor) -> DistinctRows:
        """Which rows of Z (p, d) differ; the training points are sorted once."""
        return self.distinct if Z is self.X else DistinctRows.of(Z)

    def measured_limits(self) -> Limits:
        """What the run may take, with the memory there is; of several ranks, what each of them may."""
        ranks = self.ranks
        limits = self.limits.measured(
            self.device, self.block_size or usual_block(self.device), ranks.beside
        )
        if ranks.alone:
            return limits
        held = int(ranks.max(limits.held))
        room = -int(ranks.max(limits.held - limits.allowed))
        return replace(limits, held=held, allowed=held + room)

    @cached_property
    def points(self) -> Points:
        """X as kernels take it.

        Raises:
            ValueError: where X has NaN, or numbers whose squares overflow, or squares that the kernel makes of them
                overflow or vanish in their type.
        """
        points = Points.of(self.X, self.precision, self.device)
        check_range("X", self.X, points.norms.max().item(), 1)
        order = points.norms.argsort()
        others = order[:: -(-len(order) // _TRIED)]
        _check_kernel(self.kernel, points[torch.cat([order[:_TRIED], others, order[-_TRIED:]])])
        return points

    def points_of(self, Z: Tensor) -> Points:
        """Centers Z (p, d) as kernels take them."""
        return self.points if Z is self.X else Points.of(Z, self.precision, self.device)

    def generator(self) -> torch.Generator:
        """A new source of draws, the same at every call."""
        return torch.Generator().manual_seed(self.seed)


def _check_kernel(kernel: Kernel, some: Points) -> None:
    """Refuse a kernel that is not finite at some points (m, d), or wrong since squares of their distances vanish."""
    X, info = some.values, torch.finfo(some.values.dtype)
    ways = "rescale X (dataset.scale=standard) or take dtype=float64"
    K = kernel(some, some)
    values = torch.cat([K.flatten(), kernel.diag(X)])
    wild = values[~values.isfinite()]
    spread = (X - X.double().mean(0)).norm(dim=1).max().item()
    least = math.sqrt(info.tiny / info.eps)
    if 0 < spread < least:
        double = some.to(torch.float64, some.device)
        exact = kernel(double, double)
        if not (K - exact).abs().max() <= _ROUNDED * exact.abs().max():
            raise ValueError(
                f"X has points {spread:.2g} apart, whose squares {X.dtype} cannot hold: must be {least:.0e} or more; {ways}"
            )
    if len(wild):
        raise ValueError(
            f"kernel {kernel} is {wild[0].item()} at training points of norms up to {some.norms.max().item():.2g} in "
            f"{X.dtype}: the kernel must be positive semidefinite and finite on the data; {ways}"
        )
