"""Random operands of the signal chain, and the kernels run on them through the NumPy entry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import numpy as np

from lumina_jax import _lumina
from lumina_jax.ops import OPS
from lumina_jax.ops._signature import Signature
from oracle import Array, Bits, Operands, levels

SIZES = [1, 2, 3, 5, 7, 17, 63, 65, 255, 257, 300]
"""Extents that are no multiple of a vector, a tile, a noise block or a chunk."""

WIDTHS = [0, 1, 2, 4, 8, 16]
"""Bits of a converter that the tests combine; 0 is off."""

SEED = 0x9E3779B97F4A7C15
# Attributes of `optical_matmul_grad` that ask for all of its results.
PEAKS = ("with_peak", "with_x_peak", "with_w_peak")
NO_PEAK, EVERY_PEAK = (dict.fromkeys(PEAKS, wanted) for wanted in (False, True))
EVERY_GRADIENT = {"with_inputs": True, "with_ranges": True}
NOISES = {
    "thermal": [0.3, 0, 0, 0],
    "shot": [0, 0.4, 0, 0],
    "relative": [0, 0, 0.25, 0],
    "weight": [0, 0, 0, 0.2],
    "all": [0.1, 0.2, 0.15, 0.05],
}
"""thermal, shot, relative, weight."""


Attribute = bool | int | float | str | tuple[int, ...]


def call(op: str, *inputs: np.ndarray, **attrs: Attribute) -> list[np.ndarray]:
    """Results of one op through the NumPy entry."""
    return _lumina.call(op, attrs, [np.ascontiguousarray(v) for v in inputs])


def bind(op: str, *operands: jax.Array, **attrs: Attribute) -> list[jax.Array]:
    """Results of the primitive of one op."""
    return OPS[op](OPS[op].attrs(**attrs), OPS[op].operands(*operands))


def reference(op: str, *operands: jax.Array, **attrs: Attribute) -> Sequence[jax.Array]:
    """Results of the reference of one op, in jnp."""
    return OPS[op].reference(OPS[op].attrs(**attrs), OPS[op].operands(*operands))


def types_of(op: str, **attrs: Attribute) -> Signature:
    """Types of operands and results of one op."""
    return OPS[op].signature(OPS[op].attrs(**attrs))


def call_reference(op: str, *inputs: np.ndarray, **attrs: Attribute) -> list[np.ndarray]:
    """The same in NumPy."""
    compiled = _compiled_reference(op, tuple(attrs.items()))
    return [np.asarray(result) for result in compiled(*inputs)]


@functools.cache
def _compiled_reference(op: str, attrs: tuple[tuple[str, Attribute], ...]) -> Callable:
    return jax.jit(functools.partial(reference, op, **dict(attrs)))


def random_operands(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    bits: Bits,
    *,
    bias: bool = True,
    per_channel: bool = True,
    noise: str | None = None,
    ties: bool = True,
) -> Operands:
    """Operands for an (m, k, n) product that clip here and there and, with `ties`, hit them."""
    m, k, n = shape

    def full_scale(extent: int, typical: float) -> Array:
        spread = rng.uniform(0.5, 1.5, extent) if per_channel else np.ones(extent)
        return (typical * spread).astype(np.float32)

    x_full_scale, w_full_scale = full_scale(m, 1.7), full_scale(n, 0.9)
    y_full_scale = full_scale(n, 0.6 * np.sqrt(max(k, 1)))
    x = rng.normal(0, 0.8, (m, k)).astype(np.float32)
    w = rng.normal(0, 0.5, (k, n)).astype(np.float32)
    if ties:
        _put_on_ties(rng, x, x_full_scale[:, None], bits.dac)
        _put_on_ties(rng, w, w_full_scale[None, :], bits.weight)
    coefficients = np.zeros((m, 4)) if noise is None else np.tile(NOISES[noise], (m, 1))
    if noise is not None and per_channel:
        coefficients = coefficients * rng.uniform(0.5, 1.5, (m, 1))
    eps = draw(SEED, np.arange(m), np.arange(n)) if noise is not None else np.zeros((m, n))
    return Operands(
        x=x,
        w=w,
        bias=(rng.normal(0, 0.5, n if per_channel else 1) * np.full(n, bias)).astype(np.float32),
        x_full_scale=x_full_scale,
        w_full_scale=w_full_scale,
        y_full_scale=y_full_scale,
        noise=coefficients.astype(np.float32),
        eps=eps.astype(np.float32),
    )


def _put_on_ties(rng: np.random.Generator, v: Array, full_scale: Array, bits: int) -> None:
    """Replaces a tenth of `v` by halves of steps, and a tenth by levels, both in range."""
    step = full_scale / np.float32(levels(bits) if bits else 8)
    code = rng.integers(-8, 8, v.shape).astype(np.float32) / 2
    np.copyto(v, (code * step).astype(np.float32), where=rng.random(v.shape) < 0.2)


def draw(seed: int, rows: np.ndarray, columns: np.ndarray) -> Array:
    """ε of those global ids."""
    words = np.array([[seed >> 32, seed & 0xFFFFFFFF]], np.uint32)
    (eps,) = call("optical_noise", words, rows.astype(np.uint32), columns.astype(np.uint32))
    return eps


def ranges_and_noise(
    op: Operands, *, noisy: bool, compact: bool = False, draws: bool = False
) -> list[np.ndarray]:
    """The operands from `x_full_scale` on; `compact` gives one row where one stands for all.

    `draws` is for an op that draws numbers even without noise.
    """
    m, n = len(op.x), op.w.shape[1]

    def one(v: np.ndarray) -> np.ndarray:
        return v[:1] if compact and len(v) else v

    seed = np.array([[SEED >> 32, SEED & 0xFFFFFFFF]], np.uint32)
    rows, columns = np.arange(m, dtype=np.uint32), np.arange(n, dtype=np.uint32)
    scales = [one(op.x_full_scale), one(op.w_full_scale), one(op.y_full_scale)]
    if noisy:
        return [*scales, one(op.noise), seed, rows, columns]
    zeros = np.zeros((1, 4), np.float32)
    if draws:
        return [*scales, zeros, seed, rows, columns]
    quiet = [zeros, np.zeros((1, 2), np.uint32)]
    return [*scales, *quiet, np.zeros(1, np.uint32), np.zeros(1, np.uint32)]


def forward(
    op: Operands,
    bits: Bits,
    *,
    noisy: bool,
    transpose: bool = False,
    compact: bool = False,
    residual: str = "pre_noise",
    run: Callable[..., list[np.ndarray]] = call,
) -> tuple[Array, Array]:
    """`(out, linear)`, or `(out, slope)`, or `(out, signs)`."""
    w = np.ascontiguousarray(op.w.T) if transpose else op.w
    bias = op.bias[:1] if compact and op.w.shape[1] else op.bias
    out, saved = run(
        "optical_matmul_fwd", op.x, w, bias, *ranges_and_noise(op, noisy=noisy, compact=compact),
        **bits.attrs(), transpose_weight=transpose, noisy=noisy, residual=residual,
        **NO_PEAK,
    )  # fmt: skip
    return out, saved


def backward(
    g: Array,
    saved: Array,
    op: Operands,
    bits: Bits,
    *,
    noisy: bool,
    transpose: bool = False,
    precision: str = "float32",
    residual: str = "pre_noise",
    run: Callable[..., list[np.ndarray]] = call,
) -> list[Array]:
    """dx, dw f32[k, n], dbias and the gradients of the full scales and of the noise.

    `saved` is the `residual` of the forward op; from slope and signs the last gradients are 0.
    """
    if residual != "pre_noise":
        bits, noisy = replace(bits, adc=0), noisy and residual == "signs"
    w = np.ascontiguousarray(op.w.T) if transpose else op.w
    dx, dw, *rest = run(
        "optical_matmul_grad", g, saved, op.x, w,
        *ranges_and_noise(op, noisy=noisy, draws=precision == "int8"),
        **bits.attrs(), transpose_weight=transpose, noisy=noisy, residual=residual,
        grad_precision=precision, with_inputs=True, with_ranges=residual == "pre_noise",
    )  # fmt: skip
    return [dx, dw.T if transpose else dw, *rest]


def poisoned(op: Operands, where: str, index: tuple[int, ...], value: float) -> Operands:
    """A copy with one element of one operand replaced."""
    changed = getattr(op, where).copy()
    changed[index] = value
    return replace(op, **{where: changed})
