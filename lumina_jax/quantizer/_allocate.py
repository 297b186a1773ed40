"""Bits for each layer under one budget: the multiple-choice knapsack, solved exactly.

    minimize Σ_l loss_l(b_l)    subject to    Σ_l cost_l(b_l) <= budget

Written down, one tries every combination. What is done instead keeps, layer by layer, the partial
combinations that can still win: of two, one that is neither cheaper nor better falls, and so does
one whose lower bound, with a price λ on the cost of the layers to come,

    loss + Σ_later min_b (loss_l(b) + λ·cost_l(b)) - λ·(budget - cost)

exceeds what greedy steps by marginal gain already reach. The price is the one that makes the bound
tightest; there it is the reverse water-filling of rate-distortion theory (Cover and Thomas,
"Elements of Information Theory", section 10.3), and few combinations lie in the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _html
from .._arguments import instance, integer, number, positive
from .._floating_point import numpy_defaults
from ._rule import MAX_BITS

Unit: TypeAlias = Literal["bits", "energy"]

GAUSSIAN_DISTORTION = (
    *(3.6338e-1, 1.1885e-1, 3.7440e-2, 1.1543e-2, 3.4952e-3, 1.0400e-3, 3.0433e-4, 8.7686e-5),
    *(2.4919e-5, 6.9970e-6, 1.9444e-6, 5.3554e-7, 1.4637e-7, 3.9739e-8, 1.0727e-8, 2.8809e-9),
)
"""Error of the best uniform quantizer of 1 to 16 bits on a unit Gaussian (Max 1960)."""

_OP = "allocate_bits"
_KEPT = 1 << 18
_LARGEST = 1e100
"""Of losses and costs, whose sums and ratios are numbers of f64."""
_SLACK = 1e-9
"""Relative rounding that sums in different orders may differ by."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What quantizing one layer costs: `gain · variance · max(D(b), floor)` at b bits.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    name: str
    """Of the layer."""
    size: int
    """Weights in it, positive."""
    gain: float
    """Rise of the loss per unit of mean squared error of the weights; not negative."""
    variance: float = 1.0
    """Mean square of the weights; not negative."""
    distortion: tuple[float, ...] = GAUSSIAN_DISTORTION
    """D(b), mean squared error over `variance`, for b = 1, 2, …; not negative."""
    floor: float = 0.0
    """Error that the noise of the hardware makes anyway, over `variance`."""

    def __post_init__(self) -> None:
        op = f"LayerSensitivity {self.name!r}"
        instance(op, "name", self.name, str, "a str")
        kept: dict[str, Any] = {
            name: number(op, name, getattr(self, name), at_least=0.0)
            for name in ("gain", "variance", "floor")
        }
        kept["size"] = integer(op, "size", self.size, at_least=1, at_most=2**62)
        given = self.distortion
        if isinstance(given, str | bytes) or not (
            isinstance(given, Sequence) or np.ndim(given) == 1
        ):
            raise TypeError(
                f"{op}: `distortion` is of type {type(given).__name__}, expected a tuple of numbers"
            )
        if not 1 <= len(self.distortion) <= MAX_BITS:
            raise ValueError(
                f"{op}: `distortion` has {len(self.distortion)} entries, expected 1 to {MAX_BITS}"
            )
        kept["distortion"] = tuple(number(op, "distortion", d, at_least=0.0) for d in given)
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def loss(self, bits: int) -> float:
        """Rise of the loss at that many bits, of which `distortion` has an entry."""
        bits = integer(
            "LayerSensitivity.loss", "bits", bits, at_least=1, at_most=len(self.distortion)
        )
        return self.gain * self.variance * max(self.distortion[bits - 1], self.floor)


@dataclass(frozen=True, kw_only=True)
class BitAllocation:
    """Bits of each layer."""

    bits: dict[str, int]
    """By the name of the layer."""
    loss: float
    """Expected rise of the loss."""
    cost: float
    """What of the budget is used, in its unit."""
    budget: float
    """What may be used: bits, or J."""

    def __str__(self) -> str:
        width = max(map(len, self.bits))
        return "\n".join([self._summary, *(f"{n:<{width}}  {b:>2}" for n, b in self.bits.items())])

    def _repr_html_(self) -> str:
        rows = [(name, str(bits)) for name, bits in self.bits.items()]
        return _html.table(self._summary, ("layer", "bits"), rows)

    @property
    def _summary(self) -> str:
        return (
            f"{len(self.bits)} layers: {self.cost:g} of {self.budget:g} used, "
            f"expected rise of the loss {self.loss:.4g}"
        )


@numpy_defaults
def allocate(
    layers: Sequence[LayerSensitivity],
    *,
    budget: float,
    unit: Unit,
    min_bits: int,
    max_bits: int,
    energy_per_step_fj: float,
) -> BitAllocation:
    """The allocation of least loss; see `allocate_bits`."""
    names = [layer.name for layer in layers]
    if not names:
        raise ValueError(f"{_OP}: `model` has no layers, expected at least one")
    if len(set(names)) < len(names):
        raise ValueError(f"{_OP}: `model` has layers of the same name, got {names}")
    _arguments.choice(_OP, "unit", unit, Unit)
    energy_per_step_fj = positive(_OP, "energy_per_step_fj", energy_per_step_fj)
    budget = number(_OP, "budget", budget, at_least=0.0)
    most = min([max_bits, *(len(layer.distortion) for layer in layers)])
    if min_bits > most:
        raise ValueError(f"{_OP}: `min_bits` is {min_bits}, expected at most {most}")

    bits = np.arange(min_bits, most + 1)
    each = bits if unit == "bits" else energy_per_step_fj * 1e-15 * 2.0**bits
    cost = np.asarray([layer.size * each for layer in layers], np.float64)
    loss = np.asarray([[layer.loss(int(b)) for b in bits] for layer in layers])
    if not np.isfinite(loss).all() or loss.max() > _LARGEST:
        raise ValueError(f"{_OP}: `model` must have losses up to {_LARGEST:g}, got {loss.max():g}")
    if not 1 / _LARGEST < cost.min() <= cost.max() < _LARGEST:
        raise ValueError(
            f"{_OP}: `energy_per_step_fj` must give costs from {1 / _LARGEST:g} to {_LARGEST:g} J, "
            f"got {cost.min():g} to {cost.max():g}"
        )
    if cost[:, 0].sum() > budget * (1 + _SLACK):
        raise ValueError(
            f"{_OP}: `budget` is {budget:g}, expected at least {cost[:, 0].sum():g} "
            f"for {min_bits} bits in every layer"
        )
    choice = solve(loss, cost, budget * (1 + _SLACK))
    rows = np.arange(len(layers))
    return BitAllocation(
        bits={name: int(bits[c]) for name, c in zip(names, choice, strict=True)},
        loss=float(loss[rows, choice].sum()),
        cost=float(cost[rows, choice].sum()),
        budget=budget,
    )


def solve(loss: _Floats, cost: _Floats, budget: float) -> NDArray[np.intp]:
    """The option of each layer: least total loss, and of those the least cost.

    Args:
        loss: f64[layers, options].
        cost: f64[layers, options], ascending along the options; the first options fit.
        budget: in units of the cost.

    Exact, unless more than 2^18 partial combinations lie within the bound.
    """
    rows = np.arange(len(loss))
    choice = _raised(np.zeros(len(loss), np.intp), loss, cost, budget)
    reached = loss[rows, choice].sum()
    price = _price(loss, cost, budget)
    later = np.cumsum((loss + price * cost).min(axis=1)[::-1])[::-1]
    later = np.append(later[1:], 0.0)
    least = np.append(np.cumsum(cost[::-1, 0])[::-1][1:], 0.0)

    spent, lost = np.zeros(1), np.zeros(1)
    history: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for row in rows:
        spent_now = (spent[:, None] + cost[row]).ravel()
        lost_now = (lost[:, None] + loss[row]).ravel()
        bound = lost_now + later[row] - price * (budget - spent_now)
        alive = np.flatnonzero(
            (spent_now + least[row] <= budget) & (bound <= reached * (1 + _SLACK))
        )
        alive = alive[np.lexsort((lost_now[alive], spent_now[alive]))]
        before = np.minimum.accumulate(np.append(np.inf, lost_now[alive]))[:-1]
        alive = alive[lost_now[alive] < before]
        if len(alive) > _KEPT:
            alive = np.sort(alive[np.argsort(bound[alive], kind="stable")[:_KEPT]])
        spent, lost = spent_now[alive], lost_now[alive]
        history.append((alive // cost.shape[1], alive % cost.shape[1]))
    if not len(lost) or lost.min() > reached:
        return choice
    state = int(np.argmin(lost))
    for row in rows[::-1]:
        parents, options = history[row]
        choice[row] = options[state]
        state = int(parents[state])
    # Beside a layer of huge loss the sums do not show what is left to gain in the others.
    return _raised(choice, loss, cost, budget)


def _raised(
    choice: NDArray[np.intp], loss: _Floats, cost: _Floats, budget: float
) -> NDArray[np.intp]:
    """Raise one layer at a time, by the largest gain per cost, as long as the budget lasts."""
    rows = np.arange(len(loss))
    choice = choice.copy()
    while True:
        gain = loss[rows, choice][:, None] - loss
        extra = cost - cost[rows, choice][:, None]
        fits = (extra > 0) & (gain > 0) & (extra <= budget - cost[rows, choice].sum())
        if not fits.any():
            return choice
        rate = np.where(fits, gain / np.where(extra > 0, extra, 1.0), -1.0)
        row, option = np.unravel_index(int(np.argmax(rate)), rate.shape)
        choice[row] = option


def _price(loss: _Floats, cost: _Floats, budget: float) -> float:
    """Loss per unit of cost at which each layer's own choice just meets the budget."""

    def spent(price: float) -> float:
        chosen = np.argmin(loss + price * cost, axis=1)
        return float(cost[np.arange(len(cost)), chosen].sum())

    if spent(0.0) <= budget:
        return 0.0
    low, high = 0.0, float(loss.max() / np.diff(cost, axis=1).min())
    # Gains span the squares of the levels, so that the search goes by orders of magnitude.
    for _ in range(200):
        middle = float(np.sqrt(low * high)) if low > 0 else 1e-3 * high
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
        if high <= low * (1 + 1e-12) or high < 1e-300:
            break
    return high
