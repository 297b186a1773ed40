"""Proved optima: branch and bound, and the cases that sorting solves."""

from __future__ import annotations

import itertools

import numpy as np

from ._checks import Floats, Order
from ._objectives import cost_of

# Relative margin within which two costs are the same.
_SAME = 1e-12


def search(weights: Floats, coupling: Floats, best: Order, *, worst: bool) -> Order:
    """The order of least cost, found by branch and bound from the good order `best`.

    Streams are placed one after the other, the most influential first. All partial orders of one
    length are extended together, and those dropped whose lower bound is no better than the best
    order known. The lower bound lets each stream that is still to be placed choose the best free
    slot for itself alone:

        sum      cost of the placed + Σ_r min_s (r at s with the placed) + Σ_rr' min X-term
        worst    max(max_k (k has received + A_k,rest · min X to a free slot), max_r min_s ...)
    """
    n = len(weights)
    sequence = np.argsort(-(weights.sum(axis=0) + weights.sum(axis=1)), kind="stable")
    a = weights[np.ix_(sequence, sequence)]
    limit = cost_of(weights, coupling, best, worst=worst) * (1 - _SAME)
    extend = _extend_worst if worst else _extend_sum
    placed = np.zeros((1, 0), np.intp)
    state = np.zeros((1, 0)), np.zeros((1, n, len(coupling)))
    for depth in range(n):
        placed, state = extend(a, coupling, depth, placed, state, limit)
        if not len(placed):
            return best
    costs = state[0].max(axis=1) if worst else state[0][:, 0]
    order = np.empty(n, np.intp)
    order[sequence] = placed[np.argmin(costs)]
    return order


# What partial orders carry: the cost so far (f64[m, 1] the sum, f64[m, depth] what each placed
# stream receives), and f64[m, n - depth, slots]: what placing a stream at a slot would add.
_State = tuple[Floats, Floats]


def _branches(placed: Order, slots: int) -> tuple[Order, Order]:
    free = np.ones((len(placed), slots), bool)
    np.put_along_axis(free, placed, False, axis=1)
    parents, chosen = np.nonzero(free)
    return parents, chosen


def _extend_sum(
    a: Floats, x: Floats, depth: int, placed: Order, state: _State, limit: float
) -> tuple[Order, _State]:
    cost, added = state
    parents, chosen = _branches(placed, len(x))
    total = added[parents, 0, chosen] + (cost[parents, 0] if depth else 0.0)
    later = slice(depth + 1, None)
    rest = _least_pairs(a[later, later], x)
    kept = total + rest < limit
    parents, chosen, total = parents[kept], chosen[kept], total[kept]
    placed = np.column_stack((placed[parents], chosen))
    added = (
        added[parents, 1:]
        + a[later, depth][None, :, None] * x.T[chosen][:, None, :]
        + a[depth, later][None, :, None] * x[chosen][:, None, :]
    )
    added[np.arange(len(placed))[:, None], :, placed] = np.inf
    kept = total + added.min(axis=2).sum(axis=1) + rest < limit
    return placed[kept], (total[kept, None], added[kept])


def _extend_worst(
    a: Floats, x: Floats, depth: int, placed: Order, state: _State, limit: float
) -> tuple[Order, _State]:
    got, added = state
    parents, chosen = _branches(placed, len(x))
    leaked = a[:depth, depth] * x[placed[parents], chosen[:, None]]
    got = np.column_stack((got[parents] + leaked, added[parents, 0, chosen]))
    kept = got.max(axis=1) < limit
    parents, chosen, got = parents[kept], chosen[kept], got[kept]
    placed = np.column_stack((placed[parents], chosen))
    later = slice(depth + 1, None)
    added = added[parents, 1:] + a[later, depth][None, :, None] * x.T[chosen][:, None, :]
    rows = np.arange(len(placed))[:, None]
    added[rows, :, placed] = np.inf
    if depth + 1 == len(a):
        return placed, (got, added)
    reach = x[placed]
    reach[rows[:, :, None], np.arange(depth + 1)[None, :, None], placed[:, None, :]] = np.inf
    least = got + a[: depth + 1, later].sum(axis=1) * reach.min(axis=2)
    kept = np.maximum(least.max(axis=1), added.min(axis=2).max(axis=1)) < limit
    return placed[kept], (got[kept], added[kept])


def _least_pairs(a: Floats, x: Floats) -> float:
    """A lower bound on the cost that streams have among themselves, wherever they are."""
    off = x[~np.eye(len(x), dtype=bool)]
    return float(a.sum() * off.min()) if off.size else 0.0


def sort_total(powers: Floats, coupling: Floats) -> Order:
    """The least `Σ_i Σ_{j≠i} p_j X(π_i, π_j)` where streams fill all slots.

    Stream j at slot s costs p_j·Σ_{t≠s} X(t, s), whoever sits elsewhere, so this is a linear
    assignment problem whose cost matrix is a product: the strongest stream takes the slot that
    leaks least (rearrangement inequality).
    """
    order = np.empty(len(powers), np.intp)
    order[np.argsort(-powers, kind="stable")] = np.argsort(coupling.sum(axis=0), kind="stable")
    return order


def choose_total(powers: Floats, coupling: Floats) -> Order:
    """As `sort_total` with slots to spare: the best of all sets of slots."""
    n = len(powers)
    sets = np.array(list(itertools.combinations(range(len(coupling)), n)), np.intp)
    leaks = np.sort(coupling[sets[:, :, None], sets[:, None, :]].sum(axis=1), axis=1)
    chosen = sets[np.argmin(leaks @ np.sort(powers)[::-1])]
    return chosen[sort_total(powers, coupling[np.ix_(chosen, chosen)])]
