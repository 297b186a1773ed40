"""`compress`: how close the channels may be."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from numpy.typing import ArrayLike

from .._arguments import distinct, instance, nonnegative, number
from .._floating_point import numpy_defaults
from .._values import Floats
from ..physics import Receiver
from ..physics.receiver import MAX_POWER_W
from ._objectives import check_ratios
from ._ring import Ring

# The first spacing that suffices is bracketed on this many, evenly spaced in the logarithm, which
# then are halved until f64 has no number between.
_SCAN = 1024
_CLOSEST = 1e-3


class CompressionError(ValueError):
    """No spacing does; `limit` says why."""

    limit: str
    """"FSR", "baud", "drift budget" or "receiver noise"."""

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


@numpy_defaults
def stream_enob(
    powers: ArrayLike, coupling: ArrayLike, order: ArrayLike, receiver: Receiver | None
) -> Floats:
    """Effective bits of each stream, f64[n], with the crosstalk and the noise of the receiver.

        1/SINAD_i = 1/SNR_i + Σ_{j≠i} (p_j/p_i)²·X(π_i, π_j)²        ENOB = (SINAD_dB - 1.76)/6.02

    The full-scale-sine ENOB. Crosstalk of independent signals adds as current squared.

    Args:
        powers: p f[n], mean optical power of each stream at the detector, W; above 0.
        coupling: X f[slots, slots], not negative; the diagonal is not read.
        order: i[n], slot of each stream.
        receiver: whose SNR at p_i counts; None is one without noise.

    Raises:
        TypeError: an array is not of numbers, or `receiver` is no Receiver.
        ValueError: an array is ragged, has another shape, NaN or negative values; a slot is named
            twice or not in `coupling`; powers are so far apart that f64 does not hold the ratio.
    """
    op = "stream_enob"
    p = _positive(op, powers)
    x = nonnegative(op, "coupling", coupling, expected="[slots, slots]")
    slots = distinct(op, "order", order, len(p), below=len(x))
    instance(op, "receiver", receiver, Receiver | None, "a Receiver or None")
    np.fill_diagonal(x, 0.0)
    leaked = _ratios(op, p) * np.square(x[np.ix_(slots, slots)])
    return _enob(_receiver_noise(op, p, receiver) + np.sum(leaked, axis=1))


@numpy_defaults
def compress(
    order: ArrayLike,
    powers: ArrayLike,
    *,
    ring: Ring,
    enob_target: float,
    receiver: Receiver | None,
    baud_hz: float | None = None,
    temperature_swing_k: float = 0.0,
) -> float:
    """The smallest spacing of neighboring slots at which every stream has its effective bits.

        1/SINAD_i = 1/SNR_i + Σ_{j≠i} (p_j/p_i)²·X(|π_i - π_j|·s)²
        min_i (SINAD_i,dB - 1.76)/6.02 ≥ enob_target
        N·s·FWHM ≤ FSR        s·FWHM ≥ 2·baud        |ΔT|·dλ/dT ≤ 2^-(b+1)·FWHM/1.299

    N is the span of the slots that `order` uses, and b the target. It is the least such s, so a
    higher target never gives a smaller one. Channels of equal power far from the edges of a bus
    that is far from filling the FSR follow `physics.lorentzian_comb_rms`.

    Args:
        order: i[n], slot of each stream, from `allocate`.
        powers: p f[n], mean optical power of each stream at the detector, W; above 0.
        ring: the filter.
        enob_target: bits that every stream must have, above 0 and at most 16 (full-scale sine).
        receiver: its SNR at p_i, and its bandwidth; None is a receiver without noise.
        baud_hz: symbols per second; None is twice the bandwidth of the receiver (integrate and
            dump), or no limit without a receiver.
        temperature_swing_k: largest |ΔT| that the rings see, K.

    Returns:
        The spacing in linewidths (times `ring.fwhm_hz` for Hz). 0.0 for a single stream without
        a baud rate.

    Raises:
        CompressionError: a ValueError whose `limit` is "FSR" (not even the widest spacing that fits
            suffices), "baud" (the modulated channels do not fit), "drift budget" or "receiver
            noise" (the target is missed even without crosstalk).
        TypeError, ValueError: an argument is of the wrong type, shape or range.
    """
    op = "compress"
    p = _positive(op, powers)
    slots = distinct(op, "order", order, len(p))
    instance(op, "ring", ring, Ring, "a Ring")
    target = number(op, "enob_target", enob_target, above=0)
    if target > 16:
        raise ValueError(f"{op}: `enob_target` must be at most 16, got {target:g}")
    instance(op, "receiver", receiver, Receiver | None, "a Receiver or None")
    noise = _receiver_noise(op, p, receiver)
    baud = 0.0 if receiver is None else 2 * float(np.asarray(receiver.bandwidth_hz))
    if baud_hz is not None:
        baud = number(op, "baud_hz", baud_hz, at_least=0)
    swing = number(op, "temperature_swing_k", temperature_swing_k, at_least=0)
    if swing > ring.tolerance_k(target):
        raise CompressionError(
            f"{op}: the drift budget limits: {swing:g} K is more than the "
            f"{ring.tolerance_k(target):.3g} K that move a weight by half an LSB at "
            f"{target:g} bits; expected a lower `enob_target`, a wider ring, or better control",
            limit="drift budget",
        )
    alone = _enob(noise)
    if alone.min() < target:
        raise CompressionError(
            f"{op}: receiver noise limits: stream {alone.argmin()} has {alone.min():.2f} bits at "
            f"{p[alone.argmin()]:.3g} W without any crosstalk, expected `enob_target`={target:g}",
            limit="receiver noise",
        )
    span = int(np.ptp(slots)) + 1
    widest, closest = ring.finesse / span, 2 * baud / ring.fwhm_hz
    if closest > widest:
        raise CompressionError(
            f"{op}: the baud rate limits: {span} channels of 2·{baud:.3g} Hz do not fit the FSR "
            f"of {ring.fsr_hz:.3g} Hz",
            limit="baud",
        )
    if len(p) == 1:
        return closest

    # Channels at the same distance leak alike: what each stream has at distance 1, 2, … .
    ratio = _ratios(op, p)
    distance = np.abs(np.subtract.outer(slots, slots))
    leak = np.zeros((len(p), span))
    np.add.at(leak, (np.arange(len(p))[:, None], distance), ratio)
    steps = np.arange(1, span)[:, None]

    def bits(spacings: Floats) -> Floats:
        leaked = leak[:, 1:] @ np.square(ring.transmission(steps * spacings))
        return _enob(noise[:, None] + leaked).min(axis=0)

    return _first(bits, target, max(closest, _CLOSEST), widest, op, span, ring)


def _first(
    bits: Callable[[Floats], Floats],
    target: float,
    closest: float,
    widest: float,
    op: str,
    span: int,
    ring: Ring,
) -> float:
    """The least spacing with enough bits.

    On a bus that almost fills the FSR the outer channels come closer to the next order as the
    spacing grows, so bits are monotone only up to there: hence the scan before the bisection.
    """
    scan = np.geomspace(closest, max(closest, widest), _SCAN)
    found = bits(scan)
    if found.max() < target:
        raise CompressionError(
            f"{op}: the FSR limits: {span} channels in {ring.finesse:.4g} linewidths have "
            f"{found.max():.2f} bits at best, expected `enob_target`={target:g}; expected fewer "
            f"channels or a higher finesse",
            limit="FSR",
        )
    first = int(np.argmax(found >= target))
    low, high = float(scan[max(first - 1, 0)]), float(scan[first])
    while low < (middle := (low + high) / 2) < high:
        enough = bits(np.array([middle]))[0] >= target
        low, high = (low, middle) if enough else (middle, high)
    return high


def _positive(op: str, powers: ArrayLike) -> Floats:
    p = nonnegative(op, "powers", powers, expected="[n] with n >= 1")
    if p.min() <= 0:
        raise ValueError(f"{op}: `powers` must be above 0, got {p.min():g}")
    return p


def _ratios(op: str, powers: Floats) -> Floats:
    """(p_j/p_i)², f64[n, n], finite."""
    with np.errstate(over="ignore"):
        ratios = np.square(powers[None, :] / powers[:, None])
    check_ratios(op, powers, ratios.sum())
    return ratios


def _receiver_noise(op: str, powers: Floats, receiver: Receiver | None) -> Floats:
    """1/SNR of each stream, linear."""
    if receiver is None:
        return np.zeros(len(powers))
    if any(np.ndim(figure) for figure in jax.tree.leaves(receiver)):
        raise ValueError(f"{op}: `receiver` has figures that are arrays, expected numbers")
    least = float(np.finfo(np.float32).tiny)
    if powers.min() < least or powers.max() > MAX_POWER_W:
        raise ValueError(
            f"{op}: `powers` must be from {least:.3g} to {MAX_POWER_W:g} W at a receiver, "
            f"got {powers.min():g} to {powers.max():g}"
        )
    return 10 ** (-np.asarray(receiver.snr_db(powers), np.float64) / 10)


def _enob(noise_to_signal: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return (-10 * np.log10(noise_to_signal) - 1.76) / 6.02
