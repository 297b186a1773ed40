"""Exact k-means in one dimension: the look-up table of least mean squared error.

The clusters of sorted data are runs, so with c(i, j) the squared error of values i … j - 1 around
their mean, the slow version is

    D_1(j) = c(0, j)        D_q(j) = min_i D_{q-1}(i) + c(i, j)        the answer is D_k(n)

Prefix sums give c at once, and c has the quadrangle inequality, so the best i does not fall as j
grows. That makes both versions below fast, and neither gives up exactness:

* few clusters: each D_q by divide and conquer over j, all j of one depth at a time;
* many clusters: a price λ for each cluster instead of their number,

      F(j) = min_i F(i) + c(i, j) + λ

  in one pass, with i from the best one of j - 1 on. D_k(n) is convex in k, so some price leads to
  exactly k clusters; at high resolution their number goes as λ^(-1/3), which finds it in a few
  passes. Where a whole range of k has one price (evenly spaced values), no price singles out k, and
  the first version takes over.

A. Grønlund, K. G. Larsen, A. Mathiasen, J. S. Nielsen, S. Schneider, M. Song, "Fast exact k-means,
k-medians and Bregman divergence clustering in 1D", arXiv:1701.07204 (2017); X. Wu, "Optimal
quantization by matrix searching", J. Algorithms 12 (1991).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_FEW = 16
"""Clusters up to which divide and conquer is the faster version."""
_COARSE = (16, 4)
"""Neighbors merged in the data that give a first price, and a better one."""
_MOST = 1 << 16
"""Points at most: of more distinct values neighbors are merged."""
_PASSES = 60


class _Points(NamedTuple):
    """Sums over the 0 … m smallest distinct values: weights, values, squares."""

    w: _Floats
    s: _Floats
    ss: _Floats


def kmeans_1d(values: NDArray[np.floating], k: int) -> _Floats:
    """The k centers, ascending, of least Σ_x min_c (x - c)².

    Args:
        values: at least one value, all finite; any shape.
        k: number of centers, positive. With fewer distinct values the last one is repeated.

    Exact up to 65536 distinct values; of more, equally many neighbors are merged into one point
    each, which moves a boundary by at most one such group.
    """
    x, counts = np.unique(np.asarray(values, np.float64).ravel(), return_counts=True)
    if len(x) <= k:
        return np.concatenate([x, np.full(k - len(x), x[-1])])
    origin = float(np.average(x, weights=counts))
    reach = float(np.max(np.abs(x - origin)))
    points = _merged(_prefix((x - origin) / reach, counts.astype(np.float64)), -(-len(x) // _MOST))
    ends = None if k <= _FEW else _by_price(points, k)
    if ends is None:
        ends = _by_layers(points, k)
    return np.diff(points.s[ends]) / np.diff(points.w[ends]) * reach + origin


def _prefix(x: _Floats, weight: _Floats) -> _Points:
    return _Points(
        *(np.concatenate([[0.0], np.cumsum(v)]) for v in (weight, weight * x, weight * x * x))
    )


def _merged(p: _Points, neighbors: int) -> _Points:
    return _Points(*(np.append(v[:-1:neighbors], v[-1]) for v in p))


def _cost(p: _Points, i: _Ints, j: _Ints) -> _Floats:
    s = p.s[j] - p.s[i]
    return p.ss[j] - p.ss[i] - s * s / (p.w[j] - p.w[i])


def _by_layers(p: _Points, k: int) -> _Ints:
    """Where the clusters end, with a leading 0: k + 1 indices."""
    m = len(p.w) - 1
    every = np.arange(1, m + 1)
    best = np.full(m + 1, np.inf)
    best[1:] = _cost(p, np.zeros_like(every), every)
    before = np.zeros((k + 1, m + 1), np.int32)
    for q in range(2, k):
        best, before[q] = _layer(p, best, q)
    last = np.arange(k - 1, m)
    before[k, m] = last[np.argmin(best[last] + _cost(p, last, np.full_like(last, m)))]
    ends = [m]
    for q in range(k, 0, -1):
        ends.append(int(before[q, ends[-1]]) if q > 1 else 0)
    return np.asarray(ends[::-1])


def _layer(p: _Points, best: _Floats, q: int) -> tuple[_Floats, NDArray[np.int32]]:
    """D_q and the best i for each j, from D_{q-1}; j from q on."""
    m = len(best) - 1
    value = np.full(m + 1, np.inf)
    # Where j lies outside of the array, the bounds of i itself.
    arg = np.full(m + 2, m - 1, np.int64)
    arg[:q] = q - 1
    gap = 1 << int(m - q + 1).bit_length()
    while gap > 1:
        half = gap // 2
        j = np.arange(q - 1 + half, m + 1, gap)
        low = np.maximum(arg[j - half], q - 1)
        high = np.minimum(arg[np.minimum(j + half, m + 1)], j - 1)
        length = high - low + 1
        start = np.cumsum(length) - length
        segment = np.repeat(np.arange(len(j)), length)
        i = np.arange(len(segment)) - start[segment] + low[segment]
        total = best[i] + _cost(p, i, j[segment])
        value[j] = np.minimum.reduceat(total, start)
        hits = np.flatnonzero(total == value[j][segment])[::-1]
        arg[j[segment[hits]]] = i[hits]
        gap = half
    return value, arg[:-1].astype(np.int32)


def _by_price(p: _Points, k: int) -> _Ints | None:
    """As `_by_layers`; None where no price leads to k clusters."""
    m = len(p.w) - 1
    price = 5.4 * p.ss[-1] / k**3
    for merged in _COARSE:
        if m > 4 * merged * k:
            price = _price(_merged(p, merged), k, price)[0]
    return _price(p, k, price)[1]


def _price(p: _Points, k: int, price: float) -> tuple[float, _Ints | None]:
    """A price for k clusters and where they end; the latter None where there is no such price."""
    low, high = 0.0, np.inf
    for _ in range(_PASSES):
        ends = _at_price(p, price)
        found = len(ends) - 1
        if found == k:
            return price, ends
        low, high = (price, high) if found > k else (low, price)
        guess = price * (found / k) ** 3
        if np.isfinite(high):
            if high - low <= 1e-13 * high:
                break
            margin = 0.02 * (high - low)
            guess = guess if low + margin < guess < high - margin else 0.5 * (low + high)
        price = guess
    return price, None


def _at_price(p: _Points, price: float) -> _Ints:
    """Where the clusters end that are best when each of them costs `price`."""
    w, s = p.w, p.s
    m = len(w) - 1
    # F(i) - p.ss[i]: what of the candidate i does not depend on j.
    rest = np.zeros(m + 1)
    before = [0] * (m + 1)
    start = 0
    for j in range(1, m + 1):
        gap = s[j] - s[start:j]
        gap *= gap
        gap /= w[j] - w[start:j]
        total = rest[start:j] - gap
        i = int(total.argmin())
        rest[j] = total[i] + price
        start += i
        before[j] = start
    ends = [m]
    while ends[-1]:
        ends.append(before[ends[-1]])
    return np.asarray(ends[::-1])
