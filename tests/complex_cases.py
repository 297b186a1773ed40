"""The cases of the ops on complex numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from case import ROUNDING, Case, Gradient
from lumina_jax import NoiseModel, OpticalSpec
from lumina_jax.ops import quantize as quantize_op
from operands import SEED, random_operands, ranges_and_noise
from oracle import Bits


def random_complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers whose parts are normal, complex64."""
    parts = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    return parts[0] + np.complex64(1j) * parts[1]


def parts_of(z: jax.Array) -> jax.Array:
    """Real and imaginary parts, one behind the other."""
    return jnp.stack([z.real, z.imag])


# --- complex_matmul -----------------------------------------------------------------------------


def _complex_matmul(
    label: str, m: int, k: int, n: int, *, transpose_x: bool = False, transpose_w: bool = False
) -> Case:
    def operands() -> list[np.ndarray]:
        rng = np.random.default_rng(k)
        x, w = random_complex(rng, m, k), random_complex(rng, k, n)
        x = np.ascontiguousarray(x.T) if transpose_x else x
        return [x, np.ascontiguousarray(w.T) if transpose_w else w]

    def gradient() -> Gradient:
        return Gradient(
            function=lambda x, w: parts_of(lumina_jax.complex_matmul(x, w)),
            model=lambda x, w: parts_of(jnp.matmul(x, w, precision="highest")),
            arguments=tuple(operands()),
        )

    return Case(
        op="complex_matmul",
        label=label,
        operands=operands,
        attrs={"dtype": "c64", "transpose_x": transpose_x, "transpose_w": transpose_w},
        gradient=None if transpose_x or transpose_w else gradient,
    )


# --- complex_optical_matmul ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """A chain and its operands; the tests of the real one have more shapes and precisions."""

    label: str
    bits: Bits
    shape: tuple[int, int, int] = (5, 9, 35)
    noise: str | None = None
    transpose: bool = False
    compact: bool = False
    finds: bool = False
    residual: str = "none"
    precision: str = "float32"

    @property
    def attrs(self) -> dict[str, int | bool]:
        noisy = self.noise is not None
        return {**self.bits.attrs(), "transpose_weight": self.transpose, "noisy": noisy}

    def sample(self, *, draws: bool = False, ties: bool = True) -> list[np.ndarray]:
        """Operands of the forward op."""
        n = self.shape[2]
        rng = np.random.default_rng(self.shape)
        channels = not self.compact
        real, imaginary = (
            random_operands(
                rng, self.shape, self.bits, noise=self.noise, per_channel=channels, ties=ties
            )
            for _ in range(2)
        )
        x, w = real.x + np.complex64(1j) * imaginary.x, real.w + np.complex64(1j) * imaginary.w
        # Sums of twice as many products.
        real = replace(real, y_full_scale=real.y_full_scale * np.float32(1.4))
        others = ranges_and_noise(
            real, noisy=self.noise is not None, compact=self.compact, draws=draws
        )
        if self.finds:
            others[:2] = [np.zeros(0, np.float32)] * 2
        bias = random_complex(rng, 1 if self.compact else n)
        return [x, np.ascontiguousarray(w.T) if self.transpose else w, bias, *others]

    def forward(self) -> Case:
        exact = self.bits.integer_path(2 * self.shape[1]) and self.noise is None
        peaks = dict.fromkeys(("with_peak", "with_x_peak", "with_w_peak"), self.finds)
        training = {"residual": self.residual, **peaks}
        is_plain = self.residual == "none" and not self.finds
        return Case(
            op="complex_optical_matmul" if is_plain else "complex_optical_matmul_fwd",
            label=f"{self.residual}, {self.label}",
            operands=self.sample,
            attrs=self.attrs if is_plain else {**self.attrs, **training},
            tolerance=0.0 if exact else ROUNDING,
            gradient=self._gradient if is_plain and not self.transpose else None,
        )

    def backward(self) -> Case:
        def operands() -> list[np.ndarray]:
            x, w, bias, *others = self.sample(draws=self.precision == "int8")
            y = x @ (w.T if self.transpose else w) + bias
            g = random_complex(np.random.default_rng(1), *y.shape)
            return [g, y.astype(np.complex64), x, w, *others]

        rounds = self.noise is not None and self.precision != "float32"
        return Case(
            op="complex_optical_matmul_grad",
            label=f"{self.precision}, {self.label}",
            operands=operands,
            attrs={
                **self.attrs,
                "residual": "pre_noise",
                "grad_precision": self.precision,
                "with_inputs": True,
                "with_ranges": True,
            },
            tolerance=1 / 127 if rounds else ROUNDING,
        )

    def _gradient(self) -> Gradient:
        x, w, bias, x_range, w_range, y_range, *_ = self.sample(ties=False)
        m, n = self.shape[0], self.shape[2]
        bits, noisy = self.bits, self.noise is not None
        spec = OpticalSpec(
            dac_bits=bits.dac or None, weight_bits=bits.weight or None, adc_bits=bits.adc or None
        )
        key = jax.random.wrap_key_data(jnp.array([SEED >> 32, SEED & 0xFFFFFFFF], jnp.uint32))
        bias = np.broadcast_to(bias, (n,)).copy()
        # Of no rows, a full scale for each would be one that is left to the op.
        x_range = x_range if len(x_range) > 1 else np.float32(1.7)
        ranges = [v[0] if v.shape == (1,) else v for v in (x_range, w_range, y_range)]

        def function(x: Any, w: Any, bias: Any, ranges: Any, noise: Any) -> jax.Array:
            thermal, shot, relative, weight = noise
            model = NoiseModel(relative=relative, shot=shot, thermal=thermal, weight=weight)
            out = lumina_jax.complex_optical_matmul(
                x, w, bias, spec=spec, x_full_scale=ranges[0], w_full_scale=ranges[1],
                y_full_scale=ranges[2], noise=model if noisy else None, key=key if noisy else None,
            )  # fmt: skip
            return parts_of(out)

        def of_parts(v: jax.Array, full_scale: Any, bits: int) -> jax.Array:
            full_scale = jnp.broadcast_to(full_scale, v.shape)
            return jax.lax.complex(
                quantize_op.quantized(v.real, full_scale, bits),
                quantize_op.quantized(v.imag, full_scale, bits),
            )

        def model(x: Any, w: Any, bias: Any, ranges: Any, noise: Any) -> jax.Array:
            x_q = of_parts(x, jnp.reshape(ranges[0], (-1, 1)), bits.dac)
            y = jnp.matmul(x_q, of_parts(w, ranges[1], bits.weight), precision="highest")
            y = y + bias[None, :]
            if noisy:
                thermal, shot, relative, weight = noise
                power = jnp.sum(x_q.real**2 + x_q.imag**2, axis=1, keepdims=True)
                square = y.real**2 + y.imag**2
                variance = thermal**2 + shot**2 * jnp.sqrt(square) + relative**2 * square
                sigma = jnp.sqrt(variance + weight**2 * power)
                eps = lumina_jax.optical_noise(key, (m, 2 * n))
                sigma = sigma / np.float32(2**0.5)
                y = y + jax.lax.complex(sigma * eps[:, ::2], sigma * eps[:, 1::2])
            return parts_of(of_parts(y, ranges[2], bits.adc))

        coefficients = np.float32([0.3, 0.2, 0.15, 0.05])
        return Gradient(
            function=function, model=model, arguments=(x, w, bias, ranges, coefficients)
        )


_CHAINS = [
    _Chain(label="ideal", bits=Bits()),
    _Chain(label="ideal, noisy", bits=Bits(), noise="all"),
    _Chain(label="integer", bits=Bits(dac=8, weight=8, adc=8)),
    _Chain(label="integer, noisy", bits=Bits(dac=4, weight=6, adc=6), noise="all"),
    _Chain(label="float", bits=Bits(dac=12, weight=9, adc=10), transpose=True),
    _Chain(label="across blocks", bits=Bits(dac=12, adc=7), noise="all", shape=(5, 9, 300)),
    _Chain(label="one bit", bits=Bits(dac=1, weight=1, adc=1)),
    _Chain(label="scalars", bits=Bits(dac=6, weight=6, adc=6), noise="thermal", compact=True),
    _Chain(label="one column", bits=Bits(dac=8, weight=8), shape=(4, 1, 1), noise="relative"),
    _Chain(label="no rows", bits=Bits(dac=8, weight=8, adc=8), shape=(0, 3, 4), noise="all"),
]
_FOUND = [
    _Chain(label="found, integer", bits=Bits(dac=8, weight=8, adc=8), noise="shot", finds=True),
    _Chain(label="found, float", bits=Bits(dac=12, weight=9), transpose=True, finds=True),
    _Chain(label="found, wide", bits=Bits(dac=4, weight=4), shape=(70, 9, 300), finds=True),
]
_PRECISIONS = [
    replace(chain, precision=precision)
    for precision in ("bfloat16", "int8")
    for chain in (_CHAINS[2], _CHAINS[3], _CHAINS[4])
]

COMPLEX_CASES = [
    _complex_matmul("plain", 5, 9, 35),
    _complex_matmul("transposed", 7, 30, 17, transpose_x=True, transpose_w=True),
    _complex_matmul("w transposed", 9, 12, 100, transpose_w=True),
    _complex_matmul("no depth", 3, 0, 4),
    _complex_matmul("no rows", 0, 3, 4),
    *[chain.forward() for chain in _CHAINS],
    *[replace(chain, residual="pre_noise").forward() for chain in (*_CHAINS, *_FOUND)],
    *[chain.backward() for chain in (*_CHAINS, *_PRECISIONS)],
]
"""Cases of complex64; JAX has no complex128 unless 64-bit types are enabled."""
