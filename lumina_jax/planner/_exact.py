"""Proved optima: branch and bound, and the cases that sorting solves."""

from __future__ import annotations

import itertools

import numpy as np

from .._values import Floats
from ._objectives import Order, cost_of

# Relative margin within which two costs are the same.
_SAME = 1e-12


def search(weights: Floats, coupling: Floats, best: Order, *, worst: bool) -> Order:
    """The order of least cost, found by branch and bound from the good order `best`.

    Streams are placed one after the other, the most influential first. All partial orders of one
    length are extended together, and those dropped whose lower bound is no better than the best
    order known. The lower bound lets each stream r that is still to be placed choose the best slot
    for itself alone, and all others sit where they harm it least:

        sum      cost of the placed + Σ_r min_s (r at s with the placed + r from the others)
        worst    max(max_k (k with the placed + k from the others), max_r min_s ...)

    Of streams that can be exchanged the former takes the lower slot.
    """
    n = len(weights)
    sequence = np.argsort(-(weights.sum(axis=0) + weights.sum(axis=1)), kind="stable")
    a = weights[np.ix_(sequence, sequence)]
    limit = cost_of(weights, coupling, best, worst=worst) * (1 - _SAME)
    extend = _extend_worst if worst else _extend_sum
    placed = np.zeros((1, 0), np.intp)
    state = np.zeros((1, 0)), np.zeros((1, n, len(coupling)))
    for depth in range(n):
        parents, chosen = _branches(placed, len(coupling))
        if depth and _exchangeable(a, depth):
            ordered = placed[parents, -1] < chosen
            parents, chosen = parents[ordered], chosen[ordered]
        placed, state = extend(a, coupling, placed, state, parents, chosen, limit)
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


def _exchangeable(a: Floats, depth: int) -> bool:
    """Whether stream `depth` and the one before it mean the same to all."""
    order = np.arange(len(a))
    order[[depth - 1, depth]] = depth, depth - 1
    return np.array_equal(a, a[np.ix_(order, order)])


def _extend_sum(
    a: Floats,
    x: Floats,
    placed: Order,
    state: _State,
    parents: Order,
    chosen: Order,
    limit: float,
) -> tuple[Order, _State]:
    depth = placed.shape[1]
    cost, added = state
    total = added[parents, 0, chosen] + (cost[parents, 0] if depth else 0.0)
    later = slice(depth + 1, None)
    others = _least(a[later, later], x)
    kept = total + others.min(axis=1).sum() < limit
    parents, chosen, total = parents[kept], chosen[kept], total[kept]
    placed = np.column_stack((placed[parents], chosen))
    added = (
        added[parents, 1:]
        + a[later, depth][None, :, None] * x.T[chosen][:, None, :]
        + a[depth, later][None, :, None] * x[chosen][:, None, :]
    )
    added[np.arange(len(placed))[:, None], :, placed] = np.inf
    kept = total + (added + others).min(axis=2).sum(axis=1) < limit
    return placed[kept], (total[kept, None], added[kept])


def _extend_worst(
    a: Floats,
    x: Floats,
    placed: Order,
    state: _State,
    parents: Order,
    chosen: Order,
    limit: float,
) -> tuple[Order, _State]:
    depth = placed.shape[1]
    got, added = state
    leaked = a[:depth, depth] * x[placed[parents], chosen[:, None]]
    got = np.column_stack((got[parents] + leaked, added[parents, 0, chosen]))
    kept = got.max(axis=1) < limit
    parents, chosen, got = parents[kept], chosen[kept], got[kept]
    placed = np.column_stack((placed[parents], chosen))
    later = slice(depth + 1, None)
    added = added[parents, 1:] + a[later, depth][None, :, None] * x.T[chosen][:, None, :]
    added[np.arange(len(placed))[:, None], :, placed] = np.inf
    if depth + 1 == len(a):
        return placed, (got, added)
    others = _least(a[later, later], x)
    kept = (added + others).min(axis=2).max(axis=1) < limit
    placed, got, added = placed[kept], got[kept], added[kept]
    reach = x[placed]
    np.put_along_axis(reach, np.repeat(placed[:, None, :], depth + 1, axis=1), np.inf, axis=2)
    reach = np.sort(reach, axis=2)[:, :, : len(a) - depth - 1]
    strongest = -np.sort(-a[: depth + 1, later], axis=1)
    kept = (got + np.sum(strongest * reach, axis=2)).max(axis=1) < limit
    return placed[kept], (got[kept], added[kept])


def _least(a: Floats, x: Floats) -> Floats:
    """The least that each stream r receives at slot s from the others of `a`, f64[r, slots].

    The strongest of them at the slot that leaks least into s, and so on (rearrangement inequality).
    """
    others = max(len(a) - 1, 0)
    strongest = -np.sort(-a, axis=1)[:, :others]
    leaks = np.sort(x + np.diag(np.full(len(x), np.inf)), axis=1)[:, :others]
    return strongest @ leaks.T


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
