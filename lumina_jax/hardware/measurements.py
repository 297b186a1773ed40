"""The noise of a device from measurements of it: σ² = a0 + a1·|y| + a2·y²."""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from .._arguments import file_path, instance, integer, number, positive, reals
from .._floating_point import numpy_defaults

_NAME = "fit_noise"
_MOST = 1e30
"""Of signals and noise in parts of the full scale: sums of fourth powers are numbers of f64."""


@dataclass(frozen=True, kw_only=True)
class NoiseFit:
    """Coefficients of σ² = a0 + a1·|y| + a2·y², and how well they describe the data."""

    a0: float
    """Additive variance, thermal² (unit of y squared)."""
    a1: float
    """Shot variance, shot² (unit of y)."""
    a2: float
    """Multiplicative variance, relative² (no unit)."""
    standard_errors: tuple[float, float, float]
    """Of a0, a1, a2, from the weighted fit; 0 for a coefficient that is held at 0."""
    points: int
    """Signals that were fitted."""
    skipped: tuple[int, ...]
    """Lines of the file that were left out."""
    r_squared: float
    """1 - Σw(σ² - fit)²/Σw(σ² - mean)², weighted; nan where the noise is the same everywhere."""
    reduced_chi_squared: float
    """Σ(n-1)/2·(σ²/fit - 1)² per degree of freedom, about 1 for Gaussian noise of this form; nan
    where the number of readings behind each σ is not known, or no degree of freedom is left."""
    worst: float
    """Largest |σ/fit - 1| (no unit)."""

    def __post_init__(self) -> None:
        """A fit in a file may be written by hand."""
        op = "NoiseFit"
        for name in ("a0", "a1", "a2"):
            object.__setattr__(self, name, number(op, name, getattr(self, name), at_least=0))
        errors = reals(op, "standard_errors", self.standard_errors)
        if errors.shape != (3,):
            raise ValueError(f"{op}: `standard_errors` must be three, got shape {errors.shape}")
        object.__setattr__(self, "standard_errors", tuple(errors.tolist()))
        integer(op, "points", self.points, at_least=1)
        instance(op, "skipped", self.skipped, tuple, "a tuple of ints")
        for line in self.skipped:
            integer(op, "skipped", line, at_least=1)
        for name in ("r_squared", "reduced_chi_squared", "worst"):
            value, least = getattr(self, name), 0.0 if name == "worst" else None
            # What is not known is NaN, and what a fit of 0 is off by is infinite.
            unknown = math.inf if name == "worst" else math.nan
            if not isinstance(value, float) or repr(value) != repr(unknown):
                object.__setattr__(self, name, number(op, name, value, at_least=least))

    def __str__(self) -> str:
        thermal, shot, relative = (math.sqrt(a) for a in (self.a0, self.a1, self.a2))
        lines = [f"σ² = {self.a0:.4g} + {self.a1:.4g}·|y| + {self.a2:.4g}·y²"]
        for name, error in zip(("a0", "a1", "a2"), self.standard_errors, strict=True):
            value = getattr(self, name)
            lines.append(f"  {name} = {value:.4g} ± {error:.2g}")
        lines.append(f"thermal {thermal:.4g}, shot {shot:.4g}, relative {relative:.4g}")
        lines.append(
            f"{self.points} signals, {len(self.skipped)} lines skipped, R² {self.r_squared:.4f}, "
            f"χ²/ν {self.reduced_chi_squared:.2f}, worst σ off by {100 * self.worst:.1f} %"
        )
        return "\n".join(lines)


@numpy_defaults
def fit_noise(
    source: str | os.PathLike[str] | TextIO, *, full_scale: float = 1.0, skip_bad_rows: bool = False
) -> NoiseFit:
    """Fits the noise of an optical matmul to a table of measurements.

    Weighted least squares with a0, a1, a2 ≥ 0. The variance of n readings scatters by
    σ²·√(2/(n-1)), so a point has the weight (n-1)/(2·fit²), and the fit is repeated until the
    weights hold still: maximum likelihood for Gaussian noise.

    Args:
        source: path or open text file of a CSV with a header. Column `signal`, and either `noise`,
            the standard deviation there, with the number of readings behind it in `count` if that
            is known; or columns whose names start with `reading`, two readings or more for each
            signal, in one row or in several rows of the same signal. Other columns are ignored, as
            are empty lines and lines that start with #.
        full_scale: what `signal`, `noise` and readings are where y is 1; above 0.
        skip_bad_rows: leave out rows with cells that are not finite numbers, with a negative noise
            or a count below 2, and name them in the result, instead of an error.

    Raises:
        ValueError: columns are missing, a row is bad, or there are less than three different
            magnitudes of the signal.
        FileNotFoundError: there is no such file.
    """
    full_scale = positive(_NAME, "full_scale", full_scale)
    instance(_NAME, "skip_bad_rows", skip_bad_rows, bool, "a bool")
    try:
        if not isinstance(source, str | os.PathLike) and hasattr(source, "read"):
            points, skipped = _points(source, skip_bad_rows)
        else:
            with file_path(_NAME, "source", source).open(newline="", encoding="utf-8-sig") as lines:
                points, skipped = _points(lines, skip_bad_rows)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{_NAME}: `source` is no CSV in UTF-8: {error}") from None
    signal, noise, counts = (np.array(column, np.float64) for column in zip(*points, strict=True))
    # In parts of the full scale both must have squares, whose sums are taken.
    for name, column in (("signal", signal), ("noise", noise)):
        with np.errstate(over="ignore"):
            largest = np.abs(column / full_scale).max()
        if not largest < _MOST or (largest < 1 / _MOST and np.any(column)):
            raise ValueError(
                f"{_NAME}: `{name}` in `source` is up to {np.abs(column).max():.3g}, expected "
                f"between {1 / _MOST:g} and {_MOST:g} of `full_scale`={full_scale:g}"
            )
    magnitudes = np.unique(np.abs(signal))
    if len(magnitudes) < 3:
        raise ValueError(
            f"{_NAME}: `source` has {len(magnitudes)} different magnitudes of `signal`, "
            f"expected 3 or more, as there are three coefficients"
        )
    return _fit(np.abs(signal) / full_scale, (noise / full_scale) ** 2, counts, skipped)


def _points(
    lines: Iterable[str], skip_bad_rows: bool
) -> tuple[list[tuple[float, float, float]], tuple[int, ...]]:
    """(signal, noise, count or nan) of each point, and the lines left out."""
    numbered = [
        (line, row)
        for line, row in enumerate(csv.reader(lines), start=1)
        if row and any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
    ]
    if not numbered:
        raise ValueError(f"{_NAME}: `source` is empty, expected a header and rows")
    header = [cell.strip().lower() for cell in numbered[0][1]]
    readings = [i for i, column in enumerate(header) if column.startswith("reading")]
    if "signal" not in header or ("noise" not in header and not readings):
        raise ValueError(
            f"{_NAME}: `source` has the columns {', '.join(header)}, "
            f"expected signal and either noise or reading"
        )
    if "noise" in header:
        readings = []
    points: list[tuple[float, float, float]] = []
    groups: dict[float, list[float]] = {}
    skipped = []
    for line, row in numbered[1:]:
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} cells, expected {len(header)}")
            signal = _number(header, row, header.index("signal"))
            if readings:
                # An empty cell is a reading that was not taken.
                taken = [_number(header, row, i) for i in readings if row[i].strip()]
                groups.setdefault(signal, []).extend(taken)
                continue
            noise = _number(header, row, header.index("noise"))
            if noise < 0:
                raise ValueError(f"`noise` is {noise:g}, expected 0 or more")
            known = "count" in header and row[header.index("count")].strip()
            counted = _number(header, row, header.index("count")) if known else math.nan
            if counted < 2:
                raise ValueError(f"`count` is {counted:g}, expected 2 or more")
            points.append((signal, noise, counted))
        except ValueError as error:
            if not skip_bad_rows:
                raise ValueError(f"{_NAME}: line {line} of `source`: {error}") from None
            skipped.append(line)
    for signal, taken in groups.items():
        if len(taken) >= 2:
            with np.errstate(over="ignore", invalid="ignore"):
                points.append((signal, float(np.std(taken, ddof=1)), float(len(taken))))
        elif not skip_bad_rows:
            raise ValueError(
                f"{_NAME}: `source` has {len(taken)} readings at signal {signal:g}, "
                f"expected 2 or more"
            )
    if not points:
        raise ValueError(f"{_NAME}: `source` has no rows that can be used, expected 3 or more")
    return points, tuple(skipped)


def _number(header: list[str], row: list[str], column: int) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        message = f"`{header[column]}` is {row[column].strip()!r}, expected a finite number"
        raise ValueError(message)
    return value


def _fit(
    y: np.ndarray, variance: np.ndarray, counts: np.ndarray, skipped: tuple[int, ...]
) -> NoiseFit:
    degrees = np.where(np.isnan(counts), 1.0, counts - 1)
    # Columns of the same size, so that the normal equations are well scaled.
    scale = np.array([1.0, y.max(), y.max() ** 2])
    design = np.stack([np.ones_like(y), y, y**2], axis=1) / scale
    # A floor keeps a point of no noise from taking all the weight.
    floor = 1e-6 * variance.mean()
    weights = degrees / 2
    solution = np.zeros(3)
    for _ in range(100 if floor > 0 else 0):
        previous, solution = solution, _non_negative(design, variance, weights)
        weights = degrees / (2 * np.maximum(design @ solution, floor) ** 2)
        if np.allclose(solution, previous, rtol=1e-10, atol=0):
            break
    fitted = design @ solution
    residual = variance - fitted
    free = solution > 0
    errors = np.zeros(3)
    freedom = len(y) - int(free.sum())
    spread = float(np.sum(weights * residual**2))
    counted = not np.isnan(counts).any()
    if free.any():
        inverse = np.linalg.pinv(design[:, free].T @ (weights[:, None] * design[:, free]))
        # Without counts the scatter about the fit says how much a point weighs.
        unit = 1.0 if counted or freedom == 0 else spread / freedom
        errors[free] = np.sqrt(np.diag(inverse) * unit)
    total = float(np.sum(weights * (variance - np.average(variance, weights=weights)) ** 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(variance == fitted, 0.0, np.abs(np.sqrt(variance / fitted) - 1))
    a0, a1, a2 = (float(v) for v in solution / scale)
    e0, e1, e2 = (float(v) for v in errors / scale)
    return NoiseFit(
        a0=a0,
        a1=a1,
        a2=a2,
        standard_errors=(e0, e1, e2),
        points=len(y),
        skipped=skipped,
        r_squared=1 - spread / total if total > 1e-12 * len(y) else math.nan,
        reduced_chi_squared=spread / freedom if counted and freedom > 0 else math.nan,
        worst=float(off.max()),
    )


def _non_negative(design: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least squares with x ≥ 0, exact: the best of all sets of positive coefficients."""
    root = np.sqrt(weights / weights.max())
    a, b = design * root[:, None], target * root
    best, least = np.zeros(3), float(b @ b)
    for size in (1, 2, 3):
        for chosen in itertools.combinations(range(3), size):
            x = np.zeros(3)
            x[list(chosen)] = np.linalg.lstsq(a[:, chosen], b, rcond=None)[0]
            error = float(np.sum((a @ x - b) ** 2))
            if (x >= 0).all() and error < least:
                best, least = x, error
    return best
