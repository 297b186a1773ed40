"""The signal chain: formulas that its forward and backward ops share.

    x_q = DAC(x)        w_q = DAC(w)        y = x_q · w_q + bias
    σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²        out = ADC(y + σ·ε)

Where both DACs have at most 8 bits and 32 bits hold the sum, the products are summed as integers,
and so exactly.

Arrays of `array_rows` inputs each do so on their own, and their outputs are added (`_tiles.py`).

The forward ops find the full scales of x and w that they are not given: max |x|, and max |w| of
each column, over what is finite. No derivative flows through them.

A noise parameter that is negative or NaN makes all outputs NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from .._signal_chain import ChainAttrs as ChainAttrs
from .._signal_chain import DeviceAttrs as DeviceAttrs
from .._signal_chain import Operands as Operands
from . import _tiles, optical_noise, quantize
from ._op import Factors
from ._partition import Axes
from ._signature import Tensor, tensor


def operand_types(attrs: ChainAttrs, *, draws: bool, number: str = "f32") -> Operands[Tensor]:
    """Types of the operands; an op that draws no random numbers does not look at the ids.

    `number` is the type of x, w and bias.
    """
    return Operands(
        x=tensor(number, "m", "k"),
        w=tensor(number, *("nk" if attrs.transpose_weight else "kn")),
        bias=tensor(number, "n?"),
        x_full_scale=tensor("f32", "m*"),
        w_full_scale=tensor("f32", "n*"),
        y_full_scale=tensor("f32", "n?"),
        noise=tensor("f32", "m?", 4),
        seed=tensor("u32", "m?", 2),
        rows=tensor("u32", "m" if draws else "m?"),
        columns=tensor("u32", "n" if draws else "n?"),
    )


def found_in_rows(attrs: ChainAttrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    """The full scale of x, if it is left to the op."""
    del attrs
    if operands.x_full_scale.shape[0] != 0:
        return {}
    return {"x_full_scale": quantize.absmax(operands.x).reshape(1)}


def _found(attrs: ChainAttrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    """The full scales that are left to the op."""
    found = found_in_rows(attrs, operands)
    if operands.w_full_scale.shape[0] == 0:
        found["w_full_scale"] = w_peak(attrs, operands.w)
    return found


def with_full_scales_of_shards(
    axes: Axes, attrs: ChainAttrs, operands: Operands[jax.Array]
) -> Operands[jax.Array]:
    """The operands of a shard with the full scales given that it cannot find alone."""
    depth = axes.get("k", ())
    split = {"x_full_scale": (*axes.get("m", ()), *depth), "w_full_scale": depth}
    found = _found(attrs, operands)
    given = {name: jax.lax.pmax(found[name], split[name]) for name in found if split[name]}
    return operands._replace(**given)


def w_peak(attrs: ChainAttrs, w: jax.Array) -> jax.Array:
    """The largest finite |w| of each column, f32[n]."""
    return quantize.absmax(w, axis=1 if attrs.transpose_weight else 0)


def factors(attrs: ChainAttrs, operands: Operands[jax.Array]) -> tuple[Factors, ...]:
    """The one product of the chain."""
    return (Factors(operands.x, operands.w.T if attrs.transpose_weight else operands.w),)


class Signal(NamedTuple):
    """What arrives at the ADC: y + σ·ε."""

    y: jax.Array
    """f32[m, n]"""
    sigma: jax.Array | None = None
    """f32[m, n]; None without noise."""
    eps: jax.Array | None = None
    """f32[m, n]; None without noise."""

    def before_adc(self) -> jax.Array:
        """`y + σ·ε`, NaN where that is not finite."""
        noisy = self.y
        if self.sigma is not None and self.eps is not None:
            noisy = self.y + self.sigma * self.eps
        return jnp.where(jnp.isfinite(noisy), noisy, np.float32(np.nan))

    def converted(self, adc_bits: int, y_full_scale: jax.Array) -> jax.Array:
        """The output, `ADC(y + σ·ε)`."""
        return quantize.quantized(self.before_adc(), y_full_scale[None, :], adc_bits)


Sigma = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""σ f32[m, n] of y f32[m, n], ‖x_q‖ f32[m, 1] and noise f32[1|m, 4]."""


def signals(
    attrs: ChainAttrs, operands: Operands[jax.Array], sigma_of: Sigma | None = None
) -> list[Signal]:
    """The signal of each array, in plain jnp; None is the σ of real numbers."""
    operands = operands._replace(**_found(attrs, operands))
    depth = operands.x.shape[1]
    is_integer = _is_integer(min(depth, attrs.array_rows or depth), attrs)
    of_tiles = _tiles.tiles(attrs, operands)
    return [_signal(attrs, tile, is_integer, sigma_of or sigma) for tile in of_tiles]


def converted(attrs: ChainAttrs, operands: Operands[jax.Array], signals: list[Signal]) -> jax.Array:
    """The outputs of all arrays, `Σ ADC(y + σ·ε)`."""
    outputs = [s.converted(attrs.adc_bits, operands.y_full_scale) for s in signals]
    return functools.reduce(jnp.add, outputs)


def _signal(
    attrs: ChainAttrs, operands: Operands[jax.Array], is_integer: bool, sigma_of: Sigma
) -> Signal:
    x, w = operands.x, operands.w.T if attrs.transpose_weight else operands.w
    x_range, w_range = operands.x_full_scale[:, None], operands.w_full_scale[None, :]
    if is_integer:
        product = _integer_product(attrs, x, w, x_range, w_range)
    else:
        product = _float_product(attrs, x, w, x_range, w_range)
    y = product + operands.bias[None, :]
    if not attrs.noisy:
        return Signal(y)
    x_q = quantize.quantized(x, x_range, attrs.dac_bits)
    std = (sigma_of or sigma)(y, x_norm(x_q), operands.noise)
    return Signal(y, std, optical_noise.normals(operands.seed, operands.rows, operands.columns))


def signal_of_shards(
    axes: Axes,
    attrs: ChainAttrs,
    operands: Operands[jax.Array],
    product: Callable[[Operands[jax.Array]], jax.Array],
    sigma_of: Sigma | None = None,
) -> Signal:
    """The signal where the depth is sharded: all after the sums waits for the share of each shard.

    `product` is x_q · w_q + bias of a shard.
    """
    share = product(operands._replace(bias=jnp.zeros_like(operands.bias)))
    y = jax.lax.psum(share, axes["k"]) + operands.bias[None, :]
    if not attrs.noisy:
        return Signal(y)
    converter = quantize.Attrs(bits=attrs.dac_bits)
    x_range = operands.x_full_scale[:, None]
    (x_q,) = quantize.op(converter, quantize.Operands(operands.x, x_range))
    std = (sigma_of or sigma)(y, x_norm(x_q, axes["k"]), operands.noise)
    ids = optical_noise.Operands(operands.seed, operands.rows, operands.columns)
    (eps,) = optical_noise.op(Attributes(), ids)
    return Signal(y, std, eps)


def converted_shard(attrs: ChainAttrs, operands: Operands[jax.Array], signal: Signal) -> jax.Array:
    """`ADC(y + σ·ε)` of a shard, by the kernel of the converter."""
    adc = quantize.Operands(signal.before_adc(), operands.y_full_scale[None, :])
    return quantize.op(quantize.Attrs(bits=attrs.adc_bits), adc)[0]


def parameters(noise: jax.Array) -> tuple[jax.Array, ...]:
    """thermal, shot, relative and weight, f32[1|m, 1] each, of noise f32[1|m, 4]."""
    noise = jnp.where(noise >= 0, noise, np.float32(np.nan))
    return tuple(noise[:, i : i + 1] for i in range(4))


def sigma(y: jax.Array, x_norm: jax.Array, noise: jax.Array) -> jax.Array:
    """σ f32[m, n] of y f32[m, n], ‖x_q‖ f32[m, 1] and noise f32[1|m, 4]."""
    thermal, shot, relative, weight = parameters(noise)
    parts = (thermal, shot * root(y), relative * jnp.abs(y), weight * x_norm)
    return norm(functools.reduce(jnp.maximum, parts), parts)


def root(y: jax.Array) -> jax.Array:
    """√|y|, with the derivative 0 at 0."""
    is_zero = y == 0
    magnitude = jnp.where(is_zero, np.float32(1), jnp.abs(y))
    return jnp.where(is_zero, np.float32(0), jnp.sqrt(magnitude))


def x_norm(x_q: jax.Array, axes: tuple[str, ...] = ()) -> jax.Array:
    """‖x_q‖ f32[m, 1] of x_q f32[m, k], whose depth is sharded over the mesh `axes`."""
    largest = jnp.max(jnp.abs(x_q), axis=1, keepdims=True, initial=np.float32(0))
    if not axes:
        return norm(largest, (x_q,), lambda squares: jnp.sum(squares, axis=1, keepdims=True))

    def over_shards(squares: jax.Array) -> jax.Array:
        return jax.lax.psum(jnp.sum(squares, axis=1, keepdims=True), axes)

    return norm(jax.lax.pmax(largest, axes), (x_q,), over_shards)


def norm(
    largest: jax.Array,
    parts: tuple[jax.Array, ...],
    total: Callable[[jax.Array], jax.Array] = lambda squares: squares,
) -> jax.Array:
    """The root of the sum of the squares of `parts`, `total` of them where they are many.

    f32 cannot hold the squares of all its numbers; it can once they are divided by the largest.
    """
    largest = jax.lax.stop_gradient(largest)
    is_zero = largest == 0
    divisor = jnp.where(is_zero, np.float32(1), largest)
    squares = total(
        sum((jnp.square(part / divisor) for part in parts[1:]), jnp.square(parts[0] / divisor))
    )
    return largest * jnp.sqrt(jnp.where(is_zero, np.float32(1), squares))


def _is_integer(depth: int, attrs: ChainAttrs) -> bool:
    bits = (attrs.dac_bits, attrs.weight_bits)
    largest = quantize.largest_code(bits[0]) * quantize.largest_code(bits[1])
    return all(1 <= b <= 8 for b in bits) and depth * largest < 2**31


def _float_product(
    attrs: ChainAttrs, x: jax.Array, w: jax.Array, x_range: jax.Array, w_range: jax.Array
) -> jax.Array:
    x_q = quantize.quantized(x, x_range, attrs.dac_bits)
    w_q = quantize.quantized(w, w_range, attrs.weight_bits)
    return jnp.matmul(x_q, w_q, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _integer_product(
    attrs: ChainAttrs, x: jax.Array, w: jax.Array, x_range: jax.Array, w_range: jax.Array
) -> jax.Array:
    def codes(v: jax.Array, full_scale: jax.Array, bits: int, axis: int) -> tuple[jax.Array, ...]:
        valid = jnp.isfinite(v) & (full_scale >= 0)
        code = jnp.where(valid, quantize.code(v, full_scale, bits), np.float32(0))
        return code.astype(np.int8), jnp.all(valid, axis=axis, keepdims=True)

    x_code, x_valid = codes(x, x_range, attrs.dac_bits, 1)
    w_code, w_valid = codes(w, w_range, attrs.weight_bits, 0)
    total = jnp.matmul(x_code, w_code, preferred_element_type=np.dtype(np.int32))
    scale = quantize.step(x_range, attrs.dac_bits) * quantize.step(w_range, attrs.weight_bits)
    return jnp.where(x_valid & w_valid, total.astype(np.float32) * scale, np.float32(np.nan))


@_integer_product.defjvp
def _follow_levels(
    attrs: ChainAttrs, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    # Integers have no derivative; the levels that they stand for do.
    product = functools.partial(_float_product, attrs)
    return _integer_product(attrs, *primals), jax.jvp(product, primals, tangents)[1]
