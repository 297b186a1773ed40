"""`allocate`: which stream goes on which wavelength."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments
from .._arguments import nonnegative
from .._floating_point import numpy_defaults
from .._values import Floats
from . import _exact, _swap
from ._objectives import Objective, Order, check_cost, cost_of, influence

# Orders that are searched in full: P(9, 8) is the most for 8 streams on 9 slots.
_SEARCHED = 400_000
# Sets of slots times their size squared that "total" looks through.
_CHOSEN = 20_000_000


@numpy_defaults
def allocate(
    powers: ArrayLike, coupling: ArrayLike, objective: Objective = "snr", seed: int = 0
) -> tuple[NDArray[np.intp], float]:
    """The slot of every stream that makes crosstalk cost least.

        "snr"      J = Σ_i Σ_{j≠i} (p_j / p_i) · X(π_i, π_j)        mean penalty
        "max"      J = max_i Σ_{j≠i} (p_j / p_i) · X(π_i, π_j)      worst stream
        "product"  J = Σ_i Σ_{j≠i} p_i · p_j · X(π_i, π_j)          no two strong neighbors
        "total"    J = Σ_i Σ_{j≠i} p_j · X(π_i, π_j)                all crosstalk

    Proved optimal where there are at most 400 000 orders, such as 8 streams on 9 slots (branch and
    bound), and for "total" where streams fill all slots, at any size (sorting), or with slots to
    spare where the sets of slots can be looked through. "product" is a quadratic assignment
    problem, NP-hard, and so in general are the others: beyond that, descent by exchanges from many
    starts with random kicks, which finds good orders without a proof.

    Args:
        powers: p f[n], mean optical power of each stream at the detector (any one unit); not
            negative, and above 0 for "snr" and "max".
        coupling: X f[slots, slots], slots ≥ n. X[s, t] is the part of the power at slot t that the
            filter of slot s lets through; not negative. It may be asymmetric; the diagonal is not
            read.
        objective: which J.
        seed: of the starts and kicks; the same arguments give the same order.

    Returns:
        `(order, cost)`: order i64[n] with the slot of stream i, and J of that order.

    Raises:
        TypeError: an array is not of real numbers, or `seed` is no int.
        ValueError: an array is ragged, has another shape, NaN or negative values; there are fewer
            slots than streams; `objective` is unknown; `seed` is negative; powers are so far apart,
            or so large, that f64 does not hold J.
    """
    op = "allocate"
    _arguments.choice(op, "objective", objective, Objective)
    seed = _arguments.seed(op, seed)
    p, x = (
        nonnegative(op, "powers", powers, expected="[n] with n >= 1"),
        nonnegative(op, "coupling", coupling, expected="[slots, slots]"),
    )
    if len(x) < len(p):
        raise ValueError(
            f"{op}: `coupling` has {len(x)} slots, expected at least one for each of the "
            f"{len(p)} streams of `powers`"
        )
    np.fill_diagonal(x, 0.0)
    weights = influence(op, p, objective)
    check_cost(op, p, weights, x, objective)
    order = _order(p, x, weights, objective, seed)
    return order, cost_of(weights, x, order, worst=objective == "max")


def _order(p: Floats, x: Floats, weights: Floats, objective: Objective, seed: int) -> Order:
    n, slots = len(p), len(x)
    if objective == "total":
        if n == slots:
            return _exact.sort_total(p, x)
        if math.comb(slots, n) * n**2 <= _CHOSEN:
            return _exact.choose_total(p, x)
    worst = objective == "max"
    starts = _sorted_starts(p, x)
    if math.perm(slots, n) > _SEARCHED:
        return _swap.improve(weights, x, starts, worst=worst, seed=seed)
    good = _swap.improve(weights, x, starts, worst=worst, seed=seed, kicks=1)
    return _exact.search(weights, x, good, worst=worst)


def _sorted_starts(p: Floats, x: Floats) -> Order:
    """Orders sorted by power, the best known for "snr" on equal slots."""
    n, slots = len(p), len(x)
    rising = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    spread = np.linspace(0, slots - 1, n).round().astype(np.intp)
    quiet = np.sort(np.argsort(x.sum(axis=0) + x.sum(axis=1), kind="stable")[:n])
    leaking = np.argsort(-x.sum(axis=0), kind="stable")[-n:]
    choices = (np.arange(n), spread, quiet, leaking)
    return np.stack([line[rank] for line in choices for rank in (rising, n - 1 - rising)])
