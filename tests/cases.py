"""The one table of the ops: what `laws/test_ops.py` puts every op through.

An op needs at least one case. A case gives operands and attributes; where the op has a
differentiable public function, `gradient` gives that function, and the same function in plain jnp
whose gradient JAX derives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from attention_cases import ATTENTION
from case import ROUNDING, Case, Gradient, converter, key_of_tile
from code_cases import CODE_CASES
from complex_cases import COMPLEX_CASES
from conv_cases import CONV_CASES
from lumina_jax import NoiseModel, OpticalSpec
from operands import random_operands, ranges_and_noise
from oracle import Bits, optical_matmul

# --- quantize -----------------------------------------------------------------------------------


def _quantize(label: str, bits: int, rows: int, columns: int) -> Case:
    def values() -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(bits)
        v = rng.normal(0, 1, (7, 33)).astype(np.float32)
        return v, rng.uniform(0.5, 2, (rows, columns)).astype(np.float32)

    def gradient() -> Gradient:
        v, full_scale = values()
        return Gradient(
            function=lambda v, s: lumina_jax.quantize(v, bits=bits or None, full_scale=s),
            model=lambda v, s: converter(v, jnp.broadcast_to(s, v.shape), bits),
            arguments=(v, full_scale[0] if columns > 1 else full_scale[0, 0]),
        )

    return Case(
        op="quantize",
        label=label,
        operands=lambda: list(values()),
        attrs={"bits": bits},
        tolerance=0.0,
        gradient=gradient if rows == 1 else None,
    )


# --- optical_noise ------------------------------------------------------------------------------


def _optical_noise(label: str, rows: int, first: int, columns: int, seeds: int = 1) -> Case:
    def operands() -> list[np.ndarray]:
        seed = np.random.default_rng(0).integers(0, 2**32, (seeds, 2), dtype=np.uint32)
        ids = np.arange(first, first + columns, dtype=np.uint32)
        return [seed, np.arange(3, 3 + rows, dtype=np.uint32), ids]

    return Case(op="optical_noise", label=label, operands=operands)


# --- causal_softmax, causal_softmax_grad --------------------------------------------------------


def _causal_softmax(
    label: str, leading: tuple[int, ...], rows: int, columns: int, *, offset: int, scales: int = 1
) -> list[Case]:
    def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(columns)
        scores = rng.normal(0, 3, (*leading, rows, columns)).astype(np.float32)
        lengths = rng.integers(0, columns + 1, leading, dtype=np.int32)
        return scores, lengths, rng.uniform(0.5, 2, scales).astype(np.float32)

    def by_row() -> list[np.ndarray]:
        scores, lengths, scale = sample()
        seen = np.minimum(np.arange(rows, dtype=np.int32) + 1 + offset, lengths[..., None])
        return [scores.reshape(seen.size, columns), seen.reshape(-1), scale]

    def backward() -> list[np.ndarray]:
        scores, seen, scale = by_row()
        g = np.random.default_rng(1).normal(0, 1, scores.shape).astype(np.float32)
        visible = np.arange(columns) < seen[:, None]
        e = np.where(visible, np.exp(scores), 0)
        total = e.sum(1, keepdims=True)
        return [g, e / np.where(total == 0, 1, total), seen, scale]

    def gradient() -> Gradient:
        scores, lengths, scale = sample()
        return Gradient(
            function=lambda scores, scale: lumina_jax.causal_softmax(
                scores, scale=scale, offset=offset, lengths=lengths
            ),
            model=lambda scores, scale: masked_softmax(scores, scale, offset, lengths),
            arguments=(scores, scale[0]),
        )

    return [
        Case(
            op="causal_softmax",
            label=label,
            operands=by_row,
            gradient=gradient if scales == 1 and columns else None,
        ),
        Case(op="causal_softmax_grad", label=label, operands=backward),
    ]


def masked_softmax(
    scores: jax.Array, scale: jax.Array | float, offset: int, lengths: np.ndarray
) -> jax.Array:
    """The softmax of JAX where row t sees the columns up to t + offset, before the length."""
    rows, columns = (jnp.arange(extent) for extent in scores.shape[-2:])
    visible = jnp.broadcast_to(columns[None, :] <= rows[:, None] + offset, scores.shape)
    columns = columns.reshape((1,) * (scores.ndim - 1) + (-1,))
    visible = visible & (columns < lengths[..., None, None])
    return jnp.where(visible, jax.nn.softmax(jnp.where(visible, scale * scores, -1e30)), 0)


# --- optical_matmul, optical_matmul_grad --------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Chain:
    label: str
    bits: Bits
    shape: tuple[int, int, int] = (5, 9, 35)
    noise: str | None = None
    transpose: bool = False
    compact: bool = False
    residual: str = "pre_noise"
    peak: bool = False
    finds: bool = False
    """Whether the full scales of x and w are left to the op, which returns them with a residual."""
    precision: str = "float32"
    inputs: bool = True
    ranges: bool = True
    array_rows: int = 0

    @property
    def attrs(self) -> dict[str, int | bool]:
        return {
            **self.bits.attrs(),
            "transpose_weight": self.transpose,
            "noisy": self.noise is not None,
            "array_rows": self.array_rows,
        }

    @property
    def tiles(self) -> list[slice]:
        """The inputs of each array."""
        depth = self.shape[1]
        rows = self.array_rows or depth
        return [slice(start, start + rows) for start in range(0, depth, rows)]

    def _sample(
        self, *, ties: bool = True, draws: bool = False
    ) -> tuple[Any, np.ndarray, list[np.ndarray]]:
        op = random_operands(
            np.random.default_rng(self.shape), self.shape, self.bits,
            noise=self.noise, per_channel=not self.compact, ties=ties,
        )  # fmt: skip
        w = np.ascontiguousarray(op.w.T) if self.transpose else op.w
        noisy = self.noise is not None
        return op, w, ranges_and_noise(op, noisy=noisy, compact=self.compact, draws=draws)

    def forward(self) -> Case:
        def operands() -> list[np.ndarray]:
            op, w, others = self._sample()
            if self.finds:
                others[:2] = [np.zeros(0, np.float32)] * 2
            return [op.x, w, op.bias[:1] if self.compact else op.bias, *others]

        exact = self.bits.integer_path(self.shape[1]) and self.noise is None
        returns = self.finds and self.residual != "none"
        training = {
            "residual": self.residual,
            "with_peak": self.peak,
            "with_x_peak": returns,
            "with_w_peak": returns,
        }
        is_plain = self.residual == "none" and not self.peak
        return Case(
            op="optical_matmul" if is_plain else "optical_matmul_fwd",
            label=self.label,
            operands=operands,
            attrs=self.attrs if is_plain else {**self.attrs, **training},
            tolerance=0.0 if exact else ROUNDING,
            # Who differentiates the public function asks for no residual: it follows of the noise.
            gradient=None
            if self.transpose or self.peak or self.finds or self.residual in ("pre_noise", "signs")
            else self._gradient,
        )

    def backward(self) -> Case:
        def operands() -> list[np.ndarray]:
            op, w, others = self._sample(draws=self.precision == "int8")
            saved = optical_matmul(op, self.bits, noisy=self.noise is not None).linear
            rng = np.random.default_rng(1)
            g = rng.normal(0, 1, saved.shape).astype(np.float32)
            if self.array_rows:
                # Any signal that is another one for each array.
                saved = np.stack([saved / (1 + tile) for tile in range(len(self.tiles))], axis=1)
            if self.residual == "signs":
                saved = rng.choice(np.int8([-1, 0, 1, 2]), saved.shape)
            if self.residual == "slope":
                slope = rng.normal(1, 0.2, saved.shape) * (rng.random(saved.shape) < 0.8)
                saved = slope.astype(np.float32)
            return [g, saved, op.x, w, *others]

        # Kernel and reference agree on dz to the bit without noise. With it they are apart by the
        # rounding of ε, which may send one value to the next step, at most 1/127 of the largest.
        rounds = self.noise is not None and self.precision != "float32"
        return Case(
            op="optical_matmul_grad",
            label=self.label,
            operands=operands,
            attrs={
                **self.attrs,
                "residual": self.residual,
                "grad_precision": self.precision,
                "with_inputs": self.inputs,
                "with_ranges": self.ranges,
            },
            tolerance=1 / 127 if rounds else ROUNDING,
        )

    def _gradient(self) -> Gradient:
        # At a tie the model may round to the other side.
        op = self._sample(ties=False)[0]
        bits, noisy = self.bits, self.noise is not None
        spec = OpticalSpec(
            dac_bits=bits.dac or None, weight_bits=bits.weight or None, adc_bits=bits.adc or None,
            array_rows=self.array_rows or None,
        )  # fmt: skip
        key = key_of_tile(0)

        def function(
            x: jax.Array, w: jax.Array, bias: jax.Array, ranges: Any, noise: Any
        ) -> jax.Array:
            x_range, w_range, y_range = ranges
            thermal, shot, relative, weight = noise
            model = NoiseModel(relative=relative, shot=shot, thermal=thermal, weight=weight)
            return lumina_jax.optical_matmul(
                x, w, bias, spec=spec, x_full_scale=x_range, w_full_scale=w_range,
                y_full_scale=y_range, noise=model if noisy else None, key=key if noisy else None,
            )  # fmt: skip

        def model(
            x: jax.Array, w: jax.Array, bias: jax.Array, ranges: Any, noise: Any
        ) -> jax.Array:
            x_range, w_range, y_range = ranges
            x_q = converter(x, jnp.broadcast_to(x_range, x.shape), bits.dac)
            w_q = converter(w, jnp.broadcast_to(w_range, w.shape), bits.weight)
            out = jnp.zeros((x.shape[0], w.shape[1]))
            for tile, inputs in enumerate(self.tiles):
                x_t = x_q[:, inputs]
                y = jnp.matmul(x_t, w_q[inputs], precision="highest")
                y = y + bias[None, :] if tile == 0 else y
                if noisy:
                    thermal, shot, relative, weight = noise
                    power = (x_t**2).sum(1, keepdims=True)
                    variance = thermal**2 + shot**2 * jnp.abs(y) + relative**2 * y**2
                    eps = lumina_jax.optical_noise(key_of_tile(tile), y.shape)
                    y = y + jnp.sqrt(variance + weight**2 * power) * jax.lax.stop_gradient(eps)
                out = out + converter(y, jnp.broadcast_to(y_range, y.shape), bits.adc)
            return out

        # Parameters away from 0, where the derivative of the square root is no number.
        noise = np.float32([0.3, 0.2, 0.15, 0.05])
        ranges = (np.float32(1.7), op.w_full_scale, op.y_full_scale)
        if self.residual in ("slope", "signs"):
            noise[3] = 0
            return Gradient(
                function=lambda x, w, bias: function(x, w, bias, ranges, noise),
                model=lambda x, w, bias: model(x, w, bias, ranges, noise),
                arguments=(op.x, op.w, op.bias),
            )
        return Gradient(
            function=function, model=model, arguments=(op.x, op.w, op.bias, ranges, noise)
        )


_CHAINS = [
    _Chain(label="ideal", bits=Bits()),
    _Chain(label="ideal, noisy", bits=Bits(), noise="all"),
    _Chain(label="integer", bits=Bits(dac=8, weight=8, adc=8)),
    _Chain(label="integer, noisy", bits=Bits(dac=4, weight=6, adc=6), noise="all"),
    _Chain(label="float", bits=Bits(dac=12, weight=9, adc=10), transpose=True),
    _Chain(
        label="float, noisy",
        bits=Bits(dac=12, weight=0, adc=7),
        noise="all",
        transpose=True,
        shape=(5, 9, 300),
    ),
    _Chain(label="one bit", bits=Bits(dac=1, weight=1, adc=1)),
    _Chain(label="scalars", bits=Bits(dac=6, weight=6, adc=6), noise="thermal", compact=True),
    _Chain(label="one column", bits=Bits(dac=8, weight=8), shape=(4, 1, 1), noise="relative"),
    _Chain(label="no rows", bits=Bits(dac=8, weight=8, adc=8), shape=(0, 3, 4), noise="all"),
    _Chain(label="arrays", bits=Bits(dac=8, weight=8, adc=6), array_rows=4),
    _Chain(
        label="arrays, noisy",
        bits=Bits(dac=12, weight=9, adc=7),
        noise="all",
        transpose=True,
        array_rows=5,
    ),
]

_PRECISIONS = [
    replace(chain, label=f"{precision}, {chain.label}", precision=precision)
    for precision in ("bfloat16", "int8")
    for chain in [
        _Chain(label="ideal", bits=Bits()),
        _Chain(label="integer", bits=Bits(dac=8, weight=8, adc=8), shape=(270, 9, 35)),
        _Chain(label="integer, noisy", bits=Bits(dac=4, weight=6, adc=6), noise="all"),
        _Chain(label="codes of w", bits=Bits(dac=12, weight=8), transpose=True),
        _Chain(label="codes of x", bits=Bits(dac=5, adc=6), noise="shot", transpose=True),
        _Chain(label="one bit", bits=Bits(dac=1, weight=1, adc=1)),
        _Chain(label="scalars", bits=Bits(dac=6, weight=6, adc=6), compact=True),
        _Chain(label="no rows", bits=Bits(dac=8, weight=8, adc=8), shape=(0, 3, 4)),
    ]
]

_WANTED = [
    replace(
        chain,
        label=f"{chain.precision}, {chain.label}, {wanted}",
        inputs="dx" in wanted,
        ranges="ranges" in wanted,
    )
    for wanted in ("with dx", "with ranges", "dw alone")
    for chain in [
        _Chain(label="relative noise", bits=Bits(dac=8, weight=8, adc=8), noise="relative"),
        _Chain(label="noisy", bits=Bits(dac=12, weight=6), noise="all", precision="bfloat16"),
        _Chain(label="quiet", bits=Bits(dac=8, adc=6), transpose=True, precision="int8"),
    ]
]

_SLOPES = [
    replace(
        chain,
        label=f"slope, {precision}, {chain.label}",
        residual="slope",
        precision=precision,
        ranges=False,
    )
    for precision in ("float32", "bfloat16", "int8")
    for chain in [
        _Chain(label="ideal", bits=Bits()),
        _Chain(label="integer", bits=Bits(dac=8, weight=8), shape=(270, 9, 35)),
        _Chain(label="float", bits=Bits(dac=12, weight=9), transpose=True),
        _Chain(label="without dx", bits=Bits(dac=4), inputs=False),
        _Chain(label="scalars", bits=Bits(dac=6, weight=6), compact=True),
        _Chain(label="no rows", bits=Bits(dac=8, weight=8), shape=(0, 3, 4)),
    ]
]

_SIGNS = [
    replace(chain, label=f"signs, {chain.label}", residual="signs", ranges=False)
    for chain in [
        _Chain(label="quiet", bits=Bits(dac=12, weight=9), transpose=True),
        _Chain(label="noisy", bits=Bits(), noise="relative"),
        _Chain(label="integer, noisy", bits=Bits(dac=8, weight=8), noise="relative"),
        _Chain(label="int8, noisy", bits=Bits(dac=4), noise="relative", precision="int8"),
        _Chain(label="no rows", bits=Bits(), shape=(0, 3, 4), noise="relative"),
    ]
]

_FOUND = [
    replace(chain, label=f"ranges found, {chain.label}", finds=True)
    for chain in [
        _Chain(label="integer", bits=Bits(dac=8, weight=8, adc=8), residual="slope", peak=True),
        _Chain(label="float, noisy", bits=Bits(dac=12, weight=9), noise="all", transpose=True),
        _Chain(label="weights alone", bits=Bits(weight=4, adc=6), residual="none"),
        _Chain(label="wide", bits=Bits(dac=4, weight=4), shape=(70, 9, 300), residual="none"),
        _Chain(label="no rows", bits=Bits(dac=8, weight=8), shape=(0, 3, 4)),
    ]
]

CASES: list[Case] = [
    *CODE_CASES,
    _quantize("per tensor", 8, 1, 1),
    _quantize("per channel", 4, 1, 33),
    _quantize("per row", 16, 7, 1),
    _quantize("per element", 2, 7, 33),
    _quantize("one bit", 1, 1, 33),
    _quantize("off", 0, 1, 1),
    _optical_noise("one block", 4, 0, 40),
    _optical_noise("across blocks", 5, 250, 300),
    _optical_noise("seed per row", 6, 17, 33, seeds=6),
    *_causal_softmax("square", (3, 2), 9, 9, offset=0),
    *_causal_softmax("cached", (4,), 3, 70, offset=60, scales=12),
    *_causal_softmax("wide", (2,), 5, 700, offset=690),
    *_causal_softmax("no columns", (2,), 3, 0, offset=1),
    *[
        replace(chain, residual=residual).forward()
        for residual in ("none", "pre_noise")
        for chain in _CHAINS
    ],
    *[
        replace(
            chain,
            label=f"{'peak, ' * peak}slope, {chain.label}",
            residual="slope",
            peak=peak,
        ).forward()
        for peak in (False, True)
        for chain in _CHAINS
    ],
    *[
        replace(chain, label=f"signs, {chain.label}", residual="signs").forward()
        for chain in _CHAINS
    ],
    replace(_CHAINS[2], label="peak, integer", residual="none", peak=True).forward(),
    replace(_CHAINS[5], label="peak, pre_noise, float, noisy", peak=True).forward(),
    *[chain.forward() for chain in _FOUND],
    *CONV_CASES,
    *[chain.backward() for chain in (*_CHAINS, *_PRECISIONS, *_WANTED, *_SLOPES, *_SIGNS)],
    *ATTENTION,
    *COMPLEX_CASES,
]
"""Every case of every op."""

_REPRESENTATIVES = """
quantize-per channel
quantize-per row
dequantize-3 bits, by group
dequantize-4 bits, table by column, transposed
optical_noise-across blocks
optical_noise-seed per row
causal_softmax-square
causal_softmax-cached
causal_softmax_grad-square
causal_softmax_grad-cached
optical_matmul-ideal, noisy
optical_matmul-scalars
optical_matmul_fwd-slope, float, noisy
optical_matmul_fwd-peak, slope, integer, noisy
optical_matmul_fwd-signs, no rows
optical_matmul_fwd-slope, arrays, noisy
optical_matmul_grad-arrays, noisy
optical_matmul-ranges found, wide
optical_matmul_fwd-ranges found, integer
optical_conv-noisy, groups
optical_conv_fwd-pre_noise, noisy, integer
optical_conv_grad-pre_noise, noisy, groups
optical_matmul_grad-integer, noisy
optical_matmul_grad-bfloat16, codes of x
optical_matmul_grad-int8, integer, noisy
optical_matmul_grad-slope, float32, float
optical_matmul_grad-signs, int8, noisy
optical_matmul_grad-float32, relative noise, dw alone
optical_attention-exact, by head
optical_attention-integer, by head
optical_attention_grad-exact, by head
optical_attention_grad-integer, noisy
complex_matmul-plain
complex_matmul-transposed
complex_optical_matmul-none, ideal, noisy
complex_optical_matmul-none, scalars
complex_optical_matmul_fwd-pre_noise, found, integer
complex_optical_matmul_grad-float32, integer, noisy
"""

REPRESENTATIVES: list[Case] = [
    next(case for case in CASES if str(case) == label)
    for label in _REPRESENTATIVES.strip().splitlines()
]
"""A few of each op, for laws that hang on its kind and not on its numbers."""
