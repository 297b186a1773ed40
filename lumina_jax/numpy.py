"""The optical linear layer on NumPy arrays: the kernels of training, without JAX arrays.

A call computes, for ``input`` x, ``weight`` W and ``bias`` b,

    y   = x Wᵀ + b
    y'  = y + σ·ε        σ² = thermal² + shot²·|y| + noise_std²·y²
                         ε ~ N(0, 1), drawn from (seed, row, column)
    out = ADC(y'; bits, full_scale)

ADC is a signed mid-tread converter: Q = 2^(bits-1) - 1, code = clamp(rint(Q·y'/full_scale), -Q, Q),
out = code·full_scale/Q, with ties to even; 1 bit is the sign, ±full_scale. 24 bits and more convert
nothing and clip nothing. A NaN or an infinity in a row gives NaN in that row.

All values are in the unit of y, and so are ``thermal`` and ``shot``; with
``noise_unit="full_scale"`` these two are in parts of the full scale, as receivers have them. The
same arguments give the same bits for any number of threads (``RAYON_NUM_THREADS``) and any number
of rows in the call. C-contiguous arrays are not copied, and the GIL is released. Nothing here needs
JAX, and importing this module does not import it.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._arguments import array_of, choice, integer, kind_of, number_f32
from ._floating_point import numpy_defaults
from ._native import __version__, _lumina
from ._signal_chain import ChainAttrs, Operands
from .spec import check_array_rows, check_bits, op_array_rows, op_bits

Unit: TypeAlias = Literal["signal", "full_scale"]
"""What `thermal` and `shot` are counted in."""

_F32 = np.finfo(np.float32)
_QUIET = (0.0, 0.0, 0.0, "signal")


def optical_linear_fused(
    input: NDArray[np.float32],  # noqa: A002
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    noise_std: float,
    bits: int | None,
    seed: int,
    *,
    full_scale: float | NDArray[np.float32] = 10.0,
    thermal: float = 0.0,
    shot: float = 0.0,
    noise_unit: Unit = "signal",
    array_rows: int | None = None,
) -> NDArray[np.float32]:
    """``ADC(y + σ·ε)`` with ``y = input · weightᵀ + bias``.

    Args:
        input: ``f32[B, in]``.
        weight: ``f32[out, in]``.
        bias: ``f32[out]`` or None.
        noise_std: standard deviation of the noise relative to the magnitude of y, 0 to 1: 0.1 is
            10 %.
        bits: resolution of the ADC, 1 to 32 or None; None turns it off, and so do 24 and more.
        seed: 0 to 2^64 - 1. The same seed draws the same noise, also in JAX with
            ``jax.random.key(seed)``.
        full_scale: largest magnitude that the ADC represents, a positive number or ``f32[out]``.
            The default, 10, fits no layer in particular: what is larger is clipped, and of what is
            much smaller few codes are left. Give the largest magnitude that y takes on data.
        thermal: standard deviation of additive noise, not negative.
        shot: standard deviation of shot noise at |y| = 1, not negative.
        noise_unit: "signal": thermal and shot are in the unit of y. "full_scale": in parts of the
            full scale F, so σ² = (thermal·F)² + shot²·F·|y| + noise_std²·y².
        array_rows: inputs of an array, each with noise and an ADC of its own, whose outputs are
            added; None: one array has all inputs.

    Returns:
        ``f32[B, out]``.

    Raises:
        TypeError: an argument is of the wrong type. Arrays must be float32 of NumPy, or of a
            library that lends their memory as such, as JAX does, and PyTorch on the CPU.
        ValueError: a shape does not fit or a number is out of its range.
        RuntimeError: an internal fault.
    """
    noise = (noise_std, thermal, shot, noise_unit)
    return _linear(
        "optical_linear_fused", input, weight, bias, noise, bits, seed, full_scale, array_rows
    )


def optical_linear_infer(
    input: NDArray[np.float32],  # noqa: A002
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    bits: int | None,
    *,
    full_scale: float | NDArray[np.float32] = 10.0,
    array_rows: int | None = None,
) -> NDArray[np.float32]:
    """``ADC(input · weightᵀ + bias)``, without noise.

    Arguments, result and errors are those of `optical_linear_fused`.
    """
    return _linear(
        "optical_linear_infer", input, weight, bias, _QUIET, bits, 0, full_scale, array_rows
    )


def optical_linear_forward(
    input: NDArray[np.float32],  # noqa: A002
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    noise_std: float,
    bits: int | None,
    seed: int = 0,
    *,
    full_scale: float | NDArray[np.float32] = 10.0,
    thermal: float = 0.0,
    shot: float = 0.0,
    noise_unit: Unit = "signal",
    array_rows: int | None = None,
) -> NDArray[np.float32]:
    """`optical_linear_fused` with a default seed: every such call draws the same noise."""
    noise = (noise_std, thermal, shot, noise_unit)
    return _linear(
        "optical_linear_forward", input, weight, bias, noise, bits, seed, full_scale, array_rows
    )


def complex_matmul(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
    """``x @ w`` of complex matrices, by three real products instead of four.

    The error of both parts is a few roundings of Σ |x|·|w|; see `lumina_jax.complex_matmul`. A NaN
    or an infinity makes both parts of what depends on it NaN or infinite.

    Args:
        x: ``c64[M, K]`` or ``c128[M, K]``.
        w: ``c64[K, N]`` or ``c128[K, N]``, as x.

    Returns:
        ``c64[M, N]`` or ``c128[M, N]``.

    Raises:
        TypeError: an argument is not complex64 or complex128, or they are of different types.
        ValueError: a shape does not fit.
        RuntimeError: an internal fault.
    """
    op = "complex_matmul"
    types = (np.complex64, np.complex128)
    x = array_of(op, "x", x, types, "a matrix [M, K]", 2)
    w = array_of(op, "w", w, types, "a matrix [K, N]", 2)
    if x.dtype != w.dtype:
        raise TypeError(f"{op}: `w` must be {x.dtype} as `x` is, got {w.dtype}")
    if w.shape[0] != x.shape[1]:
        raise ValueError(
            f"{op}: `w` must have shape ({x.shape[1]}, N) to fit `x` {x.shape}, got {w.shape}"
        )
    dtype = "c64" if x.dtype == np.complex64 else "c128"
    attrs = {"dtype": dtype, "transpose_x": False, "transpose_w": False}
    return _lumina.call(op, attrs, (x, w))[0]


def complex_optical_linear(
    input: NDArray[np.complex64],  # noqa: A002
    weight: NDArray[np.complex64],
    bias: NDArray[np.complex64] | None,
    noise_std: float = 0.0,
    bits: int | None = None,
    seed: int = 0,
    *,
    full_scale: float | NDArray[np.float32] = 10.0,
    thermal: float = 0.0,
    shot: float = 0.0,
    noise_unit: Unit = "signal",
    array_rows: int | None = None,
) -> NDArray[np.complex64]:
    """`optical_linear_fused` of complex numbers, as a coherent device computes it.

        y' = y + σ·(ε_re + i·ε_im)/√2        σ² = thermal² + shot²·|y| + noise_std²·|y|²

    The ADC converts both parts, with one full scale. Arguments, result and errors are otherwise
    those of `optical_linear_fused`; ``input``, ``weight`` and ``bias`` must be complex64.
    """
    noise = (noise_std, thermal, shot, noise_unit)
    op = "complex_optical_linear"
    return _linear(op, input, weight, bias, noise, bits, seed, full_scale, array_rows, np.complex64)


def version() -> str:
    """The version of the Rust module."""
    return __version__


def hello_lumina() -> str:
    """A greeting that comes from the Rust module, to see that it is there."""
    return f"Hello from Lumina-JAX {version()}"


@numpy_defaults
def _linear(
    op: str,
    x: Any,
    weight: Any,
    bias: Any,
    noise: tuple[Any, Any, Any, Any],
    bits: Any,
    seed: Any,
    full_scale: Any,
    array_rows: Any,
    number: type[Any] = np.float32,
) -> NDArray[Any]:
    x = array_of(op, "input", x, (number,), "a matrix [B, in]", 2)
    weight = array_of(op, "weight", weight, (number,), "a matrix [out, in]", 2)
    rows, depth = x.shape
    columns = weight.shape[0]
    if weight.shape[1] != depth:
        raise ValueError(
            f"{op}: `weight` must have shape (out, {depth}) to fit `input` {x.shape}, "
            f"got {weight.shape}"
        )
    if bias is None:
        bias = np.zeros(1, number)
    else:
        bias = _per_column(op, "bias", bias, columns, number)
    noise_std, thermal, shot, unit = noise
    noise_std = number_f32(
        op, "noise_std", noise_std, 0.0, "from 0 to 1, a fraction of |y|,", at_most=1.0
    )
    thermal = number_f32(op, "thermal", thermal, 0.0, "0 or more")
    shot = number_f32(op, "shot", shot, 0.0, "0 or more")
    choice(op, "noise_unit", unit, Unit)
    bits = check_bits(op, "bits", bits)
    array_rows = check_array_rows(op, array_rows)
    seed = integer(op, "seed", seed, at_least=0, at_most=2**64 - 1, got=kind_of)
    if isinstance(full_scale, np.ndarray):
        full_scale = _per_column(op, "full_scale", full_scale, columns)
        bad = ~((full_scale >= _F32.tiny) & (full_scale <= _F32.max))
        if bad.any():
            index = int(bad.argmax())
            raise ValueError(
                f"{op}: `full_scale` must be positive and finite in float32, "
                f"got {full_scale[index]} at index {index}"
            )
    else:
        full_scale = number_f32(op, "full_scale", full_scale, float(_F32.tiny), "positive")
        full_scale = np.full(1, full_scale, np.float32)
    share = None
    if unit == "full_scale":
        largest = full_scale.max(initial=0.0)
        if full_scale.size > 1 and (thermal or shot):
            # The coefficients are those of all columns, once each is counted in parts of its own.
            share = full_scale / largest
            weight, bias = weight / share[:, None], bias / share
            full_scale = np.full(1, largest, np.float32)
        thermal, shot = thermal * largest, shot * np.sqrt(largest)
    noisy = noise_std > 0.0 or thermal > 0.0 or shot > 0.0
    attrs = ChainAttrs(
        dac_bits=0,
        weight_bits=0,
        adc_bits=op_bits(bits),
        transpose_weight=True,
        noisy=noisy,
        array_rows=op_array_rows(array_rows, depth),
    )
    off = np.zeros(1, np.float32)
    operands = Operands(
        x=x,
        w=weight,
        bias=bias,
        x_full_scale=off,
        w_full_scale=off,
        y_full_scale=full_scale,
        noise=np.array([[thermal, shot, noise_std, 0.0]], np.float32),
        seed=np.array([[seed >> 32, seed & 0xFFFFFFFF]], np.uint32),
        rows=np.arange(rows if noisy else 1, dtype=np.uint32),
        columns=np.arange(columns if noisy else 1, dtype=np.uint32),
    )
    kernel = "optical_matmul" if number is np.float32 else "complex_optical_matmul"
    (out,) = _lumina.call(kernel, vars(attrs), operands)
    return out if share is None else out * share


def _per_column(
    op: str, name: str, value: Any, columns: int, number: type[Any] = np.float32
) -> NDArray[Any]:
    value = array_of(op, name, value, (number,), f"a vector ({columns},)", 1)
    if value.shape != (columns,):
        raise ValueError(f"{op}: `{name}` must have shape ({columns},), got {value.shape}")
    return value
