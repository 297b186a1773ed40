"""`complex_optical_matmul` as training runs it, with what its gradient and a calibration need.

`residual` is "none", or "pre_noise": y, c64[m, n], as a part alone has no slope where noise follows
the magnitude. Peaks are the largest finite parts: of y and x of each row, f32[m], and of each
column of w, f32[n].

The op is not for files: what is exported is `complex_optical_matmul`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from . import _tiles, optical_matmul_fwd
from ._chain import (
    Operands,
    Signal,
    converted,
    converted_shard,
    operand_types,
    signal_of_shards,
    signals,
)
from ._complex import (
    factors,
    floats,
    found_in_rows,
    in_floats,
    numbers,
    sigma_of_parts,
    with_ranges_of_shards,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor
from .optical_matmul_fwd import Attrs


def _signature(attrs: Attrs) -> Signature:
    if attrs.residual not in ("none", "pre_noise"):
        raise ValueError(
            f"complex_optical_matmul_fwd: `residual` must be none or pre_noise, "
            f"got {attrs.residual}"
        )
    out = tensor("c64", "m", "n")
    y = tensor("c64", *_tiles.saved_dims(attrs))
    saved = (y,) if attrs.residual == "pre_noise" else ()
    rows = (tensor("f32", "m"),) * (attrs.with_peak + attrs.with_x_peak)
    columns = (tensor("f32", "n"),) if attrs.with_w_peak else ()
    results = (out, *saved, *rows, *columns)
    return Signature(
        operand_types(attrs, draws=attrs.noisy, number="c64"),
        results,
        whole=_tiles.whole(attrs),
        follows={len(results) - 1: frozenset({"w"})} if columns else {},
        derived=_tiles.derived(attrs) if saved else {},
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    attrs, parts = in_floats(attrs, operands)
    at_adc = signals(attrs, parts, sigma_of_parts)
    return _results(attrs, parts, converted(attrs, parts, at_adc), at_adc)


def _results(
    attrs: Attrs, parts: Operands[jax.Array], out: jax.Array, at_adc: list[Signal]
) -> list[jax.Array]:
    of_arrays = [numbers(signal.y) for signal in at_adc]
    y = jnp.stack(of_arrays, axis=1) if attrs.array_rows else of_arrays[0]
    saved = [y] if attrs.residual == "pre_noise" else []
    peaks = optical_matmul_fwd.peaks(attrs, parts, at_adc)
    if attrs.with_w_peak:
        peaks[-1] = peaks[-1][::2]
    return [numbers(out), *saved, *peaks]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> Sequence[jax.Array]:
    operands = with_ranges_of_shards(axes, attrs, operands)
    if "k" in axes:
        results = _local_along_depth(axes, attrs, operands)
    else:
        results = op(attrs, operands)
    return optical_matmul_fwd.with_peaks_of_shards(axes, attrs, results)


def _local_along_depth(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    def product(parts: Operands[jax.Array]) -> jax.Array:
        del parts
        quiet = replace(
            attrs, adc_bits=0, noisy=False, residual="none",
            with_peak=False, with_x_peak=False, with_w_peak=False,
        )  # fmt: skip
        return floats(op(quiet, operands._replace(bias=jnp.zeros_like(operands.bias)))[0])

    of_floats, parts = in_floats(attrs, operands)
    at_adc = signal_of_shards(axes, of_floats, parts, product, sigma_of_parts)
    return _results(of_floats, parts, converted_shard(attrs, parts, at_adc), [at_adc])


op = define(
    "complex_optical_matmul_fwd",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
