"""Noise fitted to measurements, and the profile that comes of it."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_jax import HardwareProfile, NoiseModel, explain
from lumina_jax.hardware import Converters
from lumina_jax.hardware.measurements import fit_noise

SIGNALS = np.linspace(-2, 2, 21)


def _csv(rows: list[tuple[Any, ...]], header: str = "signal,noise") -> io.StringIO:
    return io.StringIO("\n".join([header, *(",".join(map(str, row)) for row in rows)]))


def _std(y: np.ndarray, a0: float, a1: float, a2: float) -> np.ndarray:
    return np.sqrt(a0 + a1 * np.abs(y) + a2 * y**2)


# A coefficient that is not 0 is one that shows in the noise.
COEFFICIENT = st.one_of(st.just(0.0), st.floats(1e-4, 1.0))


@given(COEFFICIENT, COEFFICIENT, COEFFICIENT)
def test_exact_noise_is_found(a0: float, a1: float, a2: float) -> None:
    stds = _std(SIGNALS, a0, a1, a2).tolist()
    fit = fit_noise(_csv(list(zip(SIGNALS.tolist(), stds, strict=True))))
    # One part in 10⁷ of the largest variance, in each of the three.
    tolerance = 1e-7 * (a0 + 2 * a1 + 4 * a2)
    assert fit.a0 == pytest.approx(a0, abs=tolerance)
    assert fit.a1 == pytest.approx(a1, abs=tolerance)
    assert fit.a2 == pytest.approx(a2, abs=tolerance)
    assert fit.points == 21


def test_readings() -> None:
    rng = np.random.default_rng(0)
    a = (1e-4, 4e-3, 2.5e-3)
    rows = [
        (y, *(y + s * rng.normal(size=400)))
        for y, s in zip(SIGNALS.tolist(), _std(SIGNALS, *a), strict=True)
    ]
    header = ",".join(["signal", *(f"reading_{i}" for i in range(400))])
    fit = fit_noise(_csv(rows, header))
    for value, error, expected in zip(
        (fit.a0, fit.a1, fit.a2), fit.standard_errors, a, strict=True
    ):
        assert error > 0
        assert value == pytest.approx(expected, abs=4 * error)
    # 18 degrees of freedom.
    assert 0.4 < fit.reduced_chi_squared < 2.0
    assert fit.r_squared > 0.98
    # The same readings one by one, in a long table.
    long = [(row[0], reading) for row in rows for reading in row[1:]]
    again = fit_noise(_csv(long, "signal,reading"))
    assert again.a1 == pytest.approx(fit.a1, rel=1e-9)
    assert again.points == fit.points


def test_errors_are_those_of_repetition() -> None:
    rng = np.random.default_rng(1)
    a = (1e-3, 4e-3, 2.5e-3)
    fits = []
    for _ in range(200):
        std = _std(SIGNALS, *a) * np.sqrt(rng.chisquare(99, SIGNALS.size) / 99)
        rows = [(y, s, 100) for y, s in zip(SIGNALS.tolist(), std.tolist(), strict=True)]
        fits.append(fit_noise(_csv(rows, "signal,noise,count")))
    for i, name in enumerate(("a0", "a1", "a2")):
        values = np.array([getattr(fit, name) for fit in fits])
        # 200 repetitions: the spread is known to 5 %, the mean to a fourteenth of it.
        assert values.mean() == pytest.approx(a[i], abs=0.3 * values.std())
        errors = np.mean([fit.standard_errors[i] for fit in fits])
        assert errors == pytest.approx(values.std(), rel=0.2)
    assert np.mean([fit.reduced_chi_squared for fit in fits]) == pytest.approx(1, abs=0.1)


def test_the_wrong_form_shows() -> None:
    rows = [(y, 0.1 + 0.3 * abs(math.sin(3 * y)), 1000) for y in SIGNALS.tolist()]
    fit = fit_noise(_csv(rows, "signal,noise,count"))
    assert fit.reduced_chi_squared > 10
    assert fit.worst > 0.2


def test_full_scale() -> None:
    rows = [
        (1e3 * y, 1e3 * s) for y, s in zip(SIGNALS, _std(SIGNALS, 0.01, 0.02, 0.03), strict=True)
    ]
    fit = fit_noise(_csv(rows), full_scale=1e3)
    assert (fit.a0, fit.a1, fit.a2) == pytest.approx((0.01, 0.02, 0.03), rel=1e-6)


def test_no_noise() -> None:
    fit = fit_noise(_csv([(y, 0.0) for y in SIGNALS.tolist()]))
    assert (fit.a0, fit.a1, fit.a2, fit.worst) == (0, 0, 0, 0)
    assert math.isnan(fit.r_squared)


def test_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "noise.csv"
    rows = "\n".join(f"{y},{0.1 * abs(y):.9f},x" for y in SIGNALS)
    path.write_text(f"\ufeff# bench 3, 25 °C\n\nSignal, Noise, Note\n{rows}\n\n", encoding="utf-8")
    profile = HardwareProfile.from_measurements(path, name="bench", converters=Converters.all(6))
    assert profile.name == "bench"
    assert profile.spec.adc_bits == 6
    assert profile.noise.relative == pytest.approx(0.1, rel=1e-6)
    # The square root of what is 1e-7 of the variance.
    assert profile.noise.thermal == pytest.approx(0, abs=1e-3)
    assert profile.fit is not None
    assert profile.fit.points == 21


def test_profile_has_the_noise_of_the_fit() -> None:
    rows = list(zip(SIGNALS.tolist(), _std(SIGNALS, 0.01, 0.04, 0.09).tolist(), strict=True))
    profile = HardwareProfile.from_measurements(_csv(rows))
    noise = profile.noise
    assert isinstance(noise, NoiseModel)
    assert (noise.thermal, noise.shot, noise.relative) == pytest.approx((0.1, 0.2, 0.3), rel=1e-6)
    assert profile == HardwareProfile.from_measurements(_csv(rows))
    assert hash(profile) == hash(HardwareProfile.from_measurements(_csv(rows)))
    assert noise.unit == "full_scale"
    assert "σ 0.3742 at full scale" in explain(profile)
    text = str(profile.fit)
    assert text.startswith("σ² = 0.01 + 0.04·|y| + 0.09·y²")
    assert "thermal 0.1, shot 0.2, relative 0.3" in text
    assert "21 signals, 0 lines skipped, R² 1.0000" in text


BAD = [
    ("x,0.1", "line 3 of `source`: `signal` is 'x', expected a finite number"),
    ("1,nan", "line 3 of `source`: `noise` is 'nan', expected a finite number"),
    ("1,inf", "line 3 of `source`: `noise` is 'inf', expected a finite number"),
    ("1,-0.1", "line 3 of `source`: `noise` is -0.1, expected 0 or more"),
    ("1", "line 3 of `source`: 1 cells, expected 2"),
    ("1,0.1,7", "line 3 of `source`: 3 cells, expected 2"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_bad_rows(row: str, message: str) -> None:
    text = "\n".join(["signal,noise", "0,0.1", row, "1,0.2", "2,0.3", "3,0.4"])
    with pytest.raises(ValueError, match=re.escape(f"fit_noise: {message}")):
        fit_noise(io.StringIO(text))
    fit = fit_noise(io.StringIO(text), skip_bad_rows=True)
    assert fit.skipped == (3,)
    assert fit.points == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`source` is empty, expected a header and rows"),
        ("a,b\n1,2", "`source` has the columns a, b, expected signal and either noise or reading"),
        ("signal,noise", "`source` has no rows that can be used, expected 3 or more"),
        ("signal,noise\n1,1\n-1,1\n2,1",
         "`source` has 2 different magnitudes of `signal`, expected 3 or more"),
        ("signal,noise,count\n1,1,1", "line 2 of `source`: `count` is 1, expected 2 or more"),
        ("signal,reading\n1,1\n1,2\n2,1",
         "`source` has 1 readings at signal 2, expected 2 or more"),
    ],
)  # fmt: skip
def test_bad_tables(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"fit_noise: {message}")):
        fit_noise(io.StringIO(text))


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fit_noise: `full_scale` must be positive, got 0"):
        fit_noise(_csv([]), full_scale=0.0)
    for scale in (None, "1", 1j, True):
        with pytest.raises(TypeError, match="fit_noise: `full_scale` must be a number, got"):
            fit_noise(_csv([]), full_scale=scale)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fit_noise: `source` must be a str, bytes or"):
        fit_noise(None)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        fit_noise(tmp_path / "none.csv")
    with pytest.raises(TypeError, match="`noise` comes from the measurements"):
        HardwareProfile.from_measurements(_csv([]), noise=NoiseModel())


@pytest.mark.parametrize("unit", [1e-300, 1e-200, 1e200, 1e300])
def test_no_square_of_a_measurement_is_lost(unit: float) -> None:
    table = "signal,reading 1,reading 2\n" + "\n".join(
        f"{y * unit:g},{(y + 1) * unit:g},{(y - 1) * unit:g}" for y in range(5)
    )
    with np.errstate(all="raise"):
        with pytest.raises(ValueError, match=r"`signal` in `source` is up to .* of `full_scale`=1"):
            fit_noise(io.StringIO(table))
        if 1e-200 <= unit <= 1e200:
            # At their own scale they are what any others are.
            fit = fit_noise(io.StringIO(table.replace("reading 1,", "noise,")), full_scale=unit)
            assert fit.a0 > 0


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"signal,noise\n" + 200_000 * b"1"])
def test_files_that_are_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="fit_noise: "):
        fit_noise(path)
    with path.open("rb") as binary, pytest.raises(ValueError, match="`source` is no CSV in UTF-8"):
        fit_noise(binary)  # type: ignore[arg-type]
