"""How many points the spectrum is estimated from where nobody says: s by the least total time.

A larger subsample gives directions that are nearer to those of the data, more of them, and larger batches, so
fewer epochs lead to the same loss; and it costs a larger set-up. Both are counted in multiplications of a matrix
product, n^2 d of which are an epoch that computes K. What else takes time enters by fixed ratios, measured once
(``docs/theory.md``), not by a clock: a busy machine must not change the digits of a run.
"""

from __future__ import annotations

from kernelexp.engine.batch import BATCH, KEPT_ENTRY
from kernelexp.engine.plan import Sizes

# With fewer than 2,000 points it costs a tenth of a point of accuracy after four epochs, and saves a third of a
# second.
_CANDIDATES = (2000, 4000, 8000, 12_000)
# The number of epochs to a given loss goes with s^-0.15: a tenth less where s is doubled.
_EPOCHS_EXPONENT = 0.15
# Of the largest s: q of a preconditioner that asks for all directions it can resolve, and its batch m* / 8.
_DIRECTIONS_SHARE, _BATCH_SHARE = 0.075, 0.1
# In multiplications: the eigenpairs, of s^3; what follows the product in an entry of K.
_EIGENPAIRS, _ENTRY = 1.7, 40
# Up to here all of K, 16 GB in float32, is taken to be kept, whatever is free: what a run gives must not
# depend on that.
_KEPT_POINTS = 64_000


def least_time_subsample(sizes: Sizes, epochs: int) -> int:
    """The size s for a training of so many epochs."""
    candidates = {min(s, sizes.n) for s in _CANDIDATES}
    return min(sorted(candidates), key=lambda s: _cost(s, sizes, epochs))


def _cost(s: int, sizes: Sizes, epochs: int) -> float:
    """Of set-up, and of the epochs that lead to the loss of ``epochs`` epochs with s = 2,000."""
    n, d = sizes.n, sizes.d
    setup = _EIGENPAIRS * s**3 + s * s * d / 2 + n * s * (d + _ENTRY + _DIRECTIONS_SHARE * s)
    entry = KEPT_ENTRY if n <= _KEPT_POINTS else d + _ENTRY
    epoch = n * n * entry + BATCH * n / (_BATCH_SHARE * s)
    return float(setup + epochs * epoch * (s / 2000) ** -_EPOCHS_EXPONENT)
