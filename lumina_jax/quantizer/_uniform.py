"""The uniform quantizer of least mean squared error, by a global search over its scale.

The levels are consecutive points of a lattice through zero, or half a step beside it:

    level_k = (first + phase + k) · s      k = 0 … levels - 1      phase 0 or ½

In the slow version, for every scale s, every phase and every integer `first`,

    E(s) = Σ_x min_k (x - level_k)²

and the least of all is kept. What is done instead, on sorted data with prefix sums:

* One E is a sum over levels, not over data. With c_k the number of values below the threshold
  between level k and level k + 1, S(c) the sum of the c smallest values and l_k = level_k / s,

      A = Σ x·l = l_last·S(n) - Σ_k S(c_k)         B = Σ l² = l_last²·n - Σ_k c_k·(2·l_k + 1)
      E(s) = Σ x² - 2·s·A + s²·B

  so that it costs levels · log n.
* A scale is judged by Σ x² - A²/B, which E reaches at s' = A/B with the same codes. E at s' is no
  larger still, so s ← A/B descends; it is the polish.
* `first` comes from bisection: moving the window up by one gains at the top what falls with
  `first`, and loses at the bottom what grows with it.
* Scales above the one that covers the data are sampled so densely that a lattice hidden in the data
  gets its right codes; scales below it eight times as densely, until clipping alone costs more than
  the best E so far, which ends the search: clipping only grows from there.

J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960), has the optima for
Gaussian data.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_CHUNK = 64
"""Scales between two looks at the clipping error."""
_THRESHOLDS = 1 << 20
"""Thresholds in one part of the search at most: more than 8 bits get a sparser grid."""
_KEPT = 8
"""Grid points of each phase that are polished."""
_STEPS = 24
"""Steps of the polish at most."""
_PARTS = 24
"""Scales of many rows."""
_TOGETHER = 1 << 16
"""Values whose scales are found at once."""


class Uniform(NamedTuple):
    """A quantizer: codes round(x / scale + offset) within [lowest, highest]."""

    scale: float
    """Distance of two levels, 0 where all values are 0 (unit of the data)."""
    offset: float
    """Multiple of one half."""
    lowest: int
    """Least code."""
    highest: int
    """Largest code."""


class _Data(NamedTuple):
    x: _Floats
    """Sorted."""
    sums: _Floats
    """Sums of the 0 … n smallest values."""
    squares: float
    """Σ x²."""


class _Lattice(NamedTuple):
    levels: int
    phase: float
    first: int | None
    """Index of the lowest level; None where the search may choose."""


def symmetric_codes(bits: int) -> tuple[int, int, float]:
    """(lowest code, highest code, offset) of the signed converter: mid-tread, or the sign."""
    if bits == 1:
        return -1, 0, -0.5
    q = 2 ** (bits - 1) - 1
    return -q, q, 0.0


def codes_of(bits: int, *, affine: bool) -> tuple[int, int]:
    """(lowest code, highest code) of all 2^bits levels, or of those of the signed converter."""
    if affine:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return symmetric_codes(bits)[:2]


def covering(full_scale: float, bits: int) -> Uniform:
    """The signed converter with that full scale: `full_scale / Q`, two levels for one bit."""
    lowest, highest, offset = symmetric_codes(bits)
    return Uniform(full_scale / (highest - offset), offset, lowest, highest)


def best_uniform(values: NDArray[np.floating], bits: int, *, affine: bool) -> Uniform:
    """The uniform quantizer of least squared error.

    Args:
        values: at least one value, all finite; any shape.
        bits: 1 to 16. Up to 8, the error is within 1e-3 of the least possible.
        affine: all 2^bits levels with an offset that is a multiple of one half; otherwise the
            2^bits - 1 levels around zero of the signed converter (both levels for one bit).
    """
    x = np.sort(np.asarray(values, np.float64).ravel())
    reach = max(-x[0], x[-1])
    if reach == 0.0:
        # The codes are those of every other channel, whatever its values.
        lowest, highest = codes_of(bits, affine=affine)
        return covering(0.0, bits)._replace(lowest=lowest, highest=highest)
    # In units of the largest magnitude, so that no square leaves the range of a double.
    x /= reach
    data = _Data(x, np.concatenate([[0.0], np.cumsum(x)]), float(x @ x))
    lowest, highest = codes_of(bits, affine=affine)
    levels = highest - lowest + 1
    if affine:
        lattices = [_Lattice(levels, 0.5, None), _Lattice(levels, 0.0, None)]
    else:
        lattices = [_Lattice(levels, -symmetric_codes(bits)[2], lowest)]

    found = [_search(data, lattice) for lattice in lattices]
    choice = int(np.argmin([error for error, _, _ in found]))
    _, scale, first = found[choice]
    lattice = lattices[choice]
    return Uniform(scale * reach, lowest - first - lattice.phase, lowest, highest)


def near_best_uniform(
    rows: NDArray[np.floating], bits: int, *, affine: bool
) -> tuple[_Floats, _Floats]:
    """(scale, offset) of each of many rows, of little error and found for many at once.

    Scales are fractions of the one that covers a row, with the levels around its middle and around
    zero; each best one takes a step of the polish. No row is worse than with the signed converter.

    Args:
        rows: [rows, values], all finite, at least one value.
        bits, affine: as of `best_uniform`, and the codes are the same.
    """
    # As many as a cache holds.
    together = max(_TOGETHER // rows.shape[1], 1)
    blocks = [rows[first : first + together] for first in range(0, len(rows), together)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda block: _near_best(block, bits, affine=affine), blocks))
    scale, offset = (np.concatenate([part[i] for part in found]) for i in (0, 1))
    return scale, offset


def _near_best(rows: NDArray[np.floating], bits: int, *, affine: bool) -> tuple[_Floats, _Floats]:
    x = np.asarray(rows, np.float64)
    lowest, highest = codes_of(bits, affine=affine)
    reach = np.abs(x).max(axis=1)
    x = x / np.where(reach > 0, reach, 1.0)[:, None]
    signed = covering(1.0, bits)
    scale, offset = np.full(len(x), signed.scale), np.full(len(x), signed.offset)
    error = _error(x, scale, offset, (lowest, highest))

    def take(scales: _Floats, offsets: _Floats) -> None:
        found = _error(x, scales, offsets, (lowest, highest))
        better = found < error
        for kept, new in ((error, found), (scale, scales), (offset, offsets)):
            kept[better] = new[better]

    least, most = x.min(axis=1), x.max(axis=1)
    middle = 0.5 * (least + most) if affine else np.zeros(len(x))
    span = np.maximum(most - least if affine else 2.0 * np.abs(x).max(axis=1), 1e-30)
    for part in np.linspace(1.0, max(0.2, 1.0 - 1.0 / bits), _PARTS):
        scales = part * span / (highest - lowest)
        center = 0.5 * (highest + lowest)
        if affine:
            take(scales, np.rint(2.0 * (center - middle / scales)) / 2.0)
            take(part * 2.0 / (highest - lowest) * np.ones(len(x)), np.full(len(x), center))
        else:
            take(scales, np.full(len(x), signed.offset))
    levels = _codes(x, scale, offset, (lowest, highest)) - offset[:, None]
    products, squares = (x * levels).sum(axis=1), (levels * levels).sum(axis=1)
    take(_ratio(products, squares, scale), offset.copy())
    return scale * reach, offset


def _codes(x: _Floats, scale: _Floats, offset: _Floats, ends: tuple[int, int]) -> _Floats:
    return np.clip(np.rint(x / scale[:, None] + offset[:, None]), *ends)


def _error(x: _Floats, scale: _Floats, offset: _Floats, ends: tuple[int, int]) -> _Floats:
    levels = _codes(x, scale, offset, ends) - offset[:, None]
    return np.square(x - levels * scale[:, None]).sum(axis=1)


def _search(data: _Data, lattice: _Lattice) -> tuple[float, float, int]:
    """(error, scale, first) of the best scale for one lattice."""
    steps = lattice.levels - 1
    fixed = lattice.first is not None
    span = 2.0 if fixed else float(data.x[-1] - data.x[0])
    # A constant needs no more than its own level, at index 1 or ½.
    cover = span / steps if span > 0 else 1.0
    outermost = min(1.0 / cover, float(_THRESHOLDS))
    most = max(_THRESHOLDS // lattice.levels, 2)

    top = 1.1 * cover
    count = int(np.clip(2.0 * outermost, 32, most))
    inverse = np.arange(1, count + 1) * max(1.0 / top, 0.5) / count
    # The scale of the signed converter is among them, so that nothing found is worse.
    signed = covering(1.0, (lattice.levels + 1).bit_length() - 1).scale
    scales = [1.0 / inverse, np.asarray([cover, signed])]
    scores = [_score(data, lattice, s) for s in scales]
    best = min(float(s.min()) for s in scores)

    while top > 1e-9 * cover:
        # A window that may move reaches indices up to 1 / scale.
        density = float(np.clip(8.0 * (outermost if fixed else 1.0 / top), 64, most))
        ratio = np.exp(-np.arange(_CHUNK) / density)
        chunk = top * ratio
        score = _score(data, lattice, chunk)
        scales.append(chunk)
        scores.append(score)
        best = min(best, float(score.min()))
        top = float(chunk[-1] * ratio[1])
        if _clipping(data, lattice, top) > best:
            break

    scale, score = np.concatenate(scales), np.concatenate(scores)
    kept = scale[np.argsort(score, kind="stable")[:_KEPT]]
    around = kept[0] * (1.0 + np.linspace(-0.5, 0.5, 2 * _KEPT + 1) / max(outermost, 8.0))
    kept = np.concatenate([kept, around])
    for _ in range(_STEPS):
        first = _first(data, lattice, kept)
        a, b = _moments(data, lattice, kept, first)
        moved = _ratio(a, b, kept)
        settled = np.allclose(moved, kept, rtol=1e-12, atol=0.0)
        kept = moved
        if settled:
            break
    first = _first(data, lattice, kept)
    a, b = _moments(data, lattice, kept, first)
    error = data.squares - 2.0 * kept * a + kept * kept * b
    i = int(np.argmin(error))
    return float(error[i]), float(kept[i]), int(first[i])


def _score(data: _Data, lattice: _Lattice, scale: _Floats) -> _Floats:
    """Error that each scale leads to in one step of the polish."""
    a, b = _moments(data, lattice, scale, _first(data, lattice, scale))
    return data.squares - a * _ratio(a, b, np.zeros_like(a))


def _ratio(a: _Floats, b: _Floats, otherwise: _Floats) -> _Floats:
    """`a / b` where that is a scale, else `otherwise`: where every value sits at level zero."""
    return np.where((b > 0) & (a > 0), a / np.where(b > 0, b, 1.0), otherwise)


def _moments(
    data: _Data, lattice: _Lattice, scale: _Floats, first: _Ints
) -> tuple[_Floats, _Floats]:
    """A = Σ x·l and B = Σ l² for each scale."""
    lowest = first + lattice.phase
    a, b = np.empty_like(scale), np.empty_like(scale)
    rows = max(_THRESHOLDS // lattice.levels, 1)
    for start in range(0, len(scale), rows):
        part = slice(start, start + rows)
        middle = lowest[part, None] + np.arange(lattice.levels - 1)
        below = np.searchsorted(data.x, (middle + 0.5) * scale[part, None])
        last = lowest[part] + (lattice.levels - 1)
        a[part] = last * data.sums[-1] - data.sums[below].sum(axis=1)
        b[part] = last**2 * len(data.x) - (below * (2.0 * middle + 1.0)).sum(axis=1)
    return a, b


def _first(data: _Data, lattice: _Lattice, scale: _Floats) -> _Ints:
    """The best lowest index for each scale."""
    if lattice.first is not None:
        return np.full(len(scale), lattice.first, np.int64)
    phase, levels = lattice.phase, lattice.levels
    low = np.floor(data.x[0] / scale - phase + 0.5).astype(np.int64)
    high = np.floor(data.x[-1] / scale - phase + 0.5).astype(np.int64) - levels + 1
    # All levels that the data asks for fit: any window that holds them will do.
    fits = np.clip(np.full_like(low, -levels // 2), np.minimum(low, high), low)
    left, right = np.where(high <= low, fits, low), np.where(high <= low, fits, high)
    while np.any(left < right):
        middle = (left + right) // 2
        worse = _moving_up(data, scale, (middle + phase) * scale, levels) >= 0
        open_ = left < right
        right = np.where(open_ & worse, middle, right)
        left = np.where(open_ & ~worse, middle + 1, left)
    return left


def _moving_up(data: _Data, scale: _Floats, bottom: _Floats, levels: int) -> _Floats:
    """Growth of the error when the window that starts at `bottom` moves up by one level."""
    below = np.searchsorted(data.x, bottom + 0.5 * scale)
    lost = below * scale**2 - 2.0 * scale * (data.sums[below] - below * bottom)
    top = bottom + levels * scale
    reached = np.searchsorted(data.x, top - 0.5 * scale)
    above = len(data.x) - reached
    gained = 2.0 * scale * (data.sums[-1] - data.sums[reached] - above * top) + above * scale**2
    return lost - gained


def _clipping(data: _Data, lattice: _Lattice, scale: float) -> float:
    """Squared error of the values beyond the outermost levels."""
    first = int(_first(data, lattice, np.asarray([scale]))[0])
    bottom = (first + lattice.phase) * scale
    top = bottom + (lattice.levels - 1) * scale
    below = data.x[: np.searchsorted(data.x, bottom)] - bottom
    above = data.x[np.searchsorted(data.x, top) :] - top
    return float(below @ below + above @ above)
