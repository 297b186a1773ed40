"""What an allocation costs.

Every objective is a sum, or the largest, of what the streams receive,

    J = Σ_i Σ_{j≠i} A_ij · X(π_i, π_j)        or        max_i Σ_{j≠i} A_ij · X(π_i, π_j)

with the weights A of the objective:

    "snr"      A_ij = p_j / p_i     mean penalty of the signal-to-crosstalk ratio
    "max"      A_ij = p_j / p_i     the largest of them: the worst stream
    "product"  A_ij = p_i · p_j     no two strong neighbors
    "total"    A_ij = p_j           all crosstalk power

i is the stream that receives and j the one that leaks; X need not be symmetric.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._values import Floats

Order: TypeAlias = NDArray[np.intp]
Objective: TypeAlias = Literal["snr", "max", "product", "total"]


def influence(op: str, powers: Floats, objective: Objective) -> Floats:
    """A, f64[n, n], with a zero diagonal."""
    if objective in ("snr", "max"):
        if powers.min() <= 0:
            raise ValueError(
                f"{op}: `powers` must be above 0 for objective {objective!r}, got {powers.min():g}"
            )
        with np.errstate(over="ignore"):
            weights = powers[None, :] / powers[:, None]
    elif objective == "product":
        with np.errstate(over="ignore"):
            weights = powers[None, :] * powers[:, None]
    else:
        weights = np.broadcast_to(powers, (len(powers), len(powers))).copy()
    np.fill_diagonal(weights, 0.0)
    return weights


def check_cost(
    op: str, powers: Floats, weights: Floats, coupling: Floats, objective: Objective
) -> None:
    """Raises ValueError where even an upper bound of J is beyond f64."""
    with np.errstate(over="ignore"):
        total = weights.sum()
    if objective in ("snr", "max"):
        check_ratios(op, powers, total)
    elif not np.isfinite(total):
        raise ValueError(
            f"{op}: `powers` must be smaller for objective {objective!r}, whose cost f64 does not "
            f"hold, got {powers.max():g}"
        )
    with np.errstate(over="ignore"):
        bound = total * coupling.max()
    if not np.isfinite(bound):
        raise ValueError(
            f"{op}: `coupling` must be smaller for these `powers`, whose cost f64 does not hold, "
            f"got {coupling.max():g}"
        )


def check_ratios(op: str, powers: Floats, found: Any) -> None:
    """Raises ValueError where what was `found` from ratios of the powers is beyond f64."""
    if not np.isfinite(found).all():
        low, high = int(powers.argmin()), int(powers.argmax())
        raise ValueError(
            f"{op}: `powers` of streams {low} and {high} are too far apart, got "
            f"{powers[low]:g} and {powers[high]:g}, expected ratios that f64 holds"
        )


def received(weights: Floats, coupling: Floats, order: Order) -> Floats:
    """What each stream receives, f64[n]: `Σ_{j≠i} A_ij · X(π_i, π_j)`."""
    return np.sum(weights * coupling[np.ix_(order, order)], axis=1)


def cost_of(weights: Floats, coupling: Floats, order: Order, *, worst: bool) -> float:
    """J of an order; `worst` is the largest in place of the sum."""
    shares = received(weights, coupling, order)
    return float(shares.max() if worst else shares.sum())
