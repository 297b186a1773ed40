"""Elementwise functions over a spread of values, special ones included: what JAX gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from exported import Program

RNG = np.random.default_rng(5)
TINY = np.float32(1.2e-38)  # Smaller ones are denormal: JAX takes them for 0 on some devices.
SPECIAL = np.array([
    0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 88, -88, 100, -100,
    TINY, -TINY, 1e-30, 1e-10, -1e-10, 1e-5, 1e10, -1e10, 3e38, -3e38,
], np.float32)  # fmt: skip
SPREAD = np.concatenate(
    [SPECIAL, *(np.linspace(-size, size, 101).astype(np.float32) for size in (1, 5, 60))]
)
I = np.array([0, 1, -1, 2**31 - 1, -(2**31), 12345, -77, 8], np.int32)  # noqa: E741 - integers

EVERYWHERE = (lax.acos, lax.acosh, lax.asin, lax.asinh, lax.atan, lax.atanh, lax.cos, lax.cosh,
              lax.exp, lax.exp2, lax.expm1, lax.log, lax.log1p, lax.logistic, lax.neg, lax.rsqrt,
              lax.sign, lax.sin, lax.sinh, lax.sqrt, lax.square, lax.tan, lax.tanh)  # fmt: skip
REAL = (lax.bessel_i0e, lax.bessel_i1e, lax.cbrt, lax.ceil, lax.digamma, lax.erf, lax.erf_inv,
        lax.erfc, lax.floor, lax.is_finite, lax.lgamma, *EVERYWHERE)  # fmt: skip
COMPLEX = (lax.abs, lax.conj, lax.imag, lax.real, *EVERYWHERE)
BINARY = (lax.add, lax.atan2, lax.div, lax.eq, lax.lt, lax.max, lax.min, lax.mul, lax.ne,
          lax.nextafter, lax.pow, lax.rem, lax.sub)  # fmt: skip


def each(functions: Sequence[Callable[..., Any]], *args: Any) -> dict[str, Any]:
    return {function.__name__: function(*args) for function in functions}


def test_functions(program: Program) -> None:
    # JAX itself is off by so much: its lgamma by some 1e-6 where it is near 0, cosh by 6e-6 of it.
    program.export(lambda x: each(REAL, x), SPREAD, rtol=1e-5, atol=5e-6)


def test_functions_of_two_numbers(program: Program) -> None:
    x, y = (np.ascontiguousarray(v).reshape(-1) for v in np.meshgrid(SPECIAL, SPECIAL))
    # atan2 of JAX is off by some units of the last place.
    program.export(lambda x, y: each(BINARY, x, y), x, y, rtol=1e-6, atol=0.0)


def test_complex_functions(program: Program) -> None:
    # None of them is ±1 or ±i, where inverse functions are infinite.
    parts = np.float32([0, 1e-10, 1e-3, -0.5, 1.5, -3, 7])
    re, im = np.meshgrid(parts, parts)
    z = np.concatenate([(re + 1j * im).reshape(-1), RNG.normal(0, 3, (200, 2)) @ [1, 1j]])
    # Of 0 the reciprocal root and the logarithm are infinite in one part and NaN in the other.
    z = z[z != 0].astype(np.complex64)
    # JAX computes in f32 what the runtime computes in f64.
    program.export(lambda z: each(COMPLEX, z), z, rtol=1e-5, atol=1e-6)


def test_complex_quotients_and_powers(program: Program) -> None:
    z, w = (RNG.normal(0, 2, (2, 300, 2)) @ [1, 1j]).astype(np.complex64)

    def fn(z: Any, w: Any) -> Any:
        powers = [lax.integer_pow(z, y) for y in (-2, 0, 1, 3)]
        return lax.div(z, w), lax.pow(z, w / 4), powers, z**2.5, z == w, z != w

    # The larger part of a power of some hundreds is right to 1e-6 of it, and so is the smaller one.
    program.export(fn, z, w, rtol=1e-4, atol=1e-3)


def test_complex_functions_of_zero_and_infinity(program: Program) -> None:
    parts = np.float32([0, 1, -1, np.inf, -np.inf])
    re, im = np.meshgrid(parts, parts)
    z = re.astype(np.complex64)
    z.imag = im
    program.export(lambda z: each([lax.abs, lax.conj, lax.neg, lax.real], z), z)
    finite = z[np.isfinite(z)]
    functions = (lax.exp, lax.sqrt, lax.tanh, lax.sign, lax.square)
    program.export(lambda z: each(functions, z), finite, rtol=1e-6)


def test_bits(program: Program) -> None:
    def fn(i: Any, x: Any) -> Any:
        integers = [i.astype(t) for t in ("i4", "u4", "i1", "u1", "i2")]
        counts = [f(v) for f in (lax.clz, lax.population_count) for v in integers]
        types = (jnp.uint8, jnp.int16, jnp.uint32, jnp.float32, jnp.float16)
        casts = [lax.bitcast_convert_type(i, t) for t in types]
        joined = lax.bitcast_convert_type(casts[0], jnp.int32)
        return counts, casts, joined, lax.bitcast_convert_type(x, jnp.int32)

    program.export(fn, I, SPREAD, rtol=0.0, atol=0.0)


FOURIER: list[Callable[..., Any]] = [
    lambda z: (jnp.fft.fft(z), jnp.fft.ifft(z, axis=1), jnp.fft.fft2(z)),
    lambda z: (jnp.fft.ifftn(z, axes=(0, 2, 3)), jnp.fft.fft(z, n=9), jnp.fft.fft(z, n=1)),
    lambda z: (jnp.fft.rfft(z.real), jnp.fft.rfft2(z.real), jnp.fft.rfftn(z.real, axes=(3, 1, 2))),
    lambda z: (jnp.fft.irfft(z), jnp.fft.irfft(z, n=7), jnp.fft.irfft(z, n=1), jnp.fft.irfft2(z)),
    lambda z: (jnp.fft.irfftn(z, axes=(1, 2, 3)), jnp.fft.hfft(z), jnp.fft.fftshift(z)),
]


def test_fourier_transforms(program: Program) -> None:
    z = (RNG.normal(0, 1, (3, 4, 5, 6, 2)) @ [1, 1j]).astype(np.complex64)

    def fn(z: Any) -> Any:
        return [f(z) for f in FOURIER]

    # Sums of up to 120 numbers in f32.
    program.export(fn, z, rtol=1e-5, atol=1e-5)
    program.export(lambda z: jnp.fft.rfft2(z.real), z, batch="batch", rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [(1, 2, 3, 7, 16, 97, 128, 210), (1009, 1800, 4096)])
def test_fourier_transforms_of_any_length(program: Program, lengths: tuple[int, ...]) -> None:
    z = [(RNG.normal(0, 1, (2, n, 2)) @ [1, 1j]).astype(np.complex64) for n in lengths]

    def fn(z: Any) -> Any:
        return [
            (jnp.fft.fft(v), jnp.fft.ifft(v), jnp.fft.rfft(v.real), jnp.fft.irfft(v, n=v.shape[1]))
            for v in z
        ]

    # The error of a sum of n numbers of size 1 in f32 grows with their number.
    program.export(fn, z, rtol=1e-5, atol=1e-6 * max(lengths) ** 0.75)
