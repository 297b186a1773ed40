"""Good orders of many streams: 2-swap descent from many starts, kicked out of local optima.

The slow form, for one order π of S streams on S slots, silent streams standing for empty slots:

    repeat: for each pair (i, k): Δ_ik = J(π with the slots of i and k exchanged) - J(π)
            exchange the pair of least Δ, until none is below 0

Departures: all Δ come from one product. With B_ij = X(π_i, π_j), zero on the diagonal as A is,

    M = A·Bᵀ + Aᵀ·B        Δ_ik = M_ik + M_ki - M_ii - M_kk + (A_ik + A_ki)·(B_ik + B_ki)

which is 2(R_ik + R_ki - R_ii - R_kk + 2·A_ik·B_ik), R = A·B, where both are symmetric (E. Taillard,
"Robust taboo search for the quadratic assignment problem", Parallel Computing 17, 443 (1991)). All
starts descend together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._values import Floats
from ._objectives import Order

_STARTS = 16
_KICKS = 40
# Decreases below this part of the cost are rounding.
_SAME = 1e-12

_Descent = Callable[[Floats, Floats, Order], tuple[Order, Floats]]


def improve(
    weights: Floats, coupling: Floats, starts: Order, *, worst: bool, seed: int, kicks: int = _KICKS
) -> Order:
    """The best order that descent finds from `starts` i64[m, n] and from random orders."""
    n, slots = len(weights), len(coupling)
    a = np.zeros((slots, slots))
    a[:n, :n] = weights
    random = np.random.default_rng(seed)
    # Each descent takes about S steps of S³ operations.
    count = int(np.clip(_STARTS * (64 / slots) ** 2, 2, _STARTS // 4 if worst else _STARTS))
    orders = np.stack(
        [_filled(start, slots) for start in starts]
        + [random.permutation(slots) for _ in range(count)]
    )
    descent: _Descent = _descend_worst if worst else _descend_sum
    orders, costs = descent(a, coupling, orders)
    kept = np.argsort(costs, kind="stable")[:count]
    orders, costs = orders[kept], costs[kept]
    for _ in range(int(np.clip(kicks * (64 / slots) ** 2, 1, kicks))):
        kicked, found = descent(a, coupling, _kicked(orders, n, random))
        better = found < costs
        orders[better], costs[better] = kicked[better], found[better]
        # The worst chain goes on from the best order.
        orders[np.argmax(costs)], costs[np.argmax(costs)] = orders[np.argmin(costs)], costs.min()
    return orders[np.argmin(costs)][:n]


def _filled(start: Order, slots: int) -> Order:
    return np.concatenate((start, np.setdiff1d(np.arange(slots), start)))


def _kicked(orders: Order, streams: int, random: np.random.Generator) -> Order:
    """Each order with three to five of its entries, one of them a stream, moved in a cycle."""
    kicked = orders.copy()
    for row in kicked:
        size = min(int(random.integers(3, 6)), len(row))
        moved = random.permutation(len(row))[:size]
        if moved.min() >= streams:
            moved[0] = random.integers(streams)
        row[moved] = row[np.roll(moved, 1)]
    return kicked


def _descend_sum(a: Floats, x: Floats, orders: Order) -> tuple[Order, Floats]:
    orders = orders.copy()
    both = np.concatenate((a, a.T), axis=1)
    pair = a + a.T
    n = len(a)
    active = np.arange(len(orders))
    costs = np.empty(len(orders))
    while active.size:
        now = orders[active]
        b = x[now[:, :, None], now[:, None, :]]
        back = b.transpose(0, 2, 1)
        costs[active] = np.einsum("ij,rij->r", a, b)
        m = both @ np.concatenate((back, b), axis=1)
        own = np.diagonal(m, axis1=1, axis2=2)
        delta = m + m.transpose(0, 2, 1) + pair * (b + back)
        delta -= own[:, :, None]
        delta -= own[:, None, :]
        flat = delta.reshape(len(active), -1)
        chosen = np.argmin(flat, axis=1)
        rows = np.arange(len(active))
        falls = flat[rows, chosen] < -_SAME * costs[active]
        i, k = np.divmod(chosen[falls], n)
        rows, active = rows[falls], active[falls]
        orders[active, i], orders[active, k] = now[rows, k], now[rows, i]
    return orders, costs


def _descend_worst(a: Floats, x: Floats, orders: Order) -> tuple[Order, Floats]:
    descended = [_descend_one(a, x, order.copy()) for order in orders]
    return np.stack([order for order, _ in descended]), np.array([cost for _, cost in descended])


def _descend_one(a: Floats, x: Floats, order: Order) -> tuple[Order, float]:
    """As the sum, but J is the largest of what the streams receive, r.

    Exchanging i and k changes r_i to M_ik + A_ik·B_ki with M = A·Bᵀ, r_k alike, and r_l of another
    stream by (A_li - A_lk)·(B_lk - B_li). Only pairs that relieve the worst stream are looked at.
    """
    while True:
        b = x[np.ix_(order, order)]
        r = np.sum(a * b, axis=1)
        worst = int(np.argmax(r))
        limit = r[worst] * (1 - _SAME)
        moved = a @ b.T + a * b.T
        relief = r[worst] + np.subtract.outer(a[worst], a[worst]) * -np.subtract.outer(
            b[worst], b[worst]
        )
        relief[worst], relief[:, worst] = -np.inf, -np.inf
        promise = np.maximum(np.maximum(moved, moved.T), relief)
        i, k = np.nonzero(np.triu(promise < limit, 1))
        if not i.size:
            return order, float(r[worst])
        others = r + ((a[:, i] - a[:, k]) * (b[:, k] - b[:, i])).T
        pairs = np.arange(len(i))
        others[pairs, i], others[pairs, k] = moved[i, k], moved[k, i]
        heights = others.max(axis=1)
        chosen = int(np.argmin(heights))
        if heights[chosen] >= limit:
            return order, float(r[worst])
        order[[i[chosen], k[chosen]]] = order[[k[chosen], i[chosen]]]
