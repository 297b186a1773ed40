"""The cases of `optical_conv` and of the ops of its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from case import ROUNDING, Case, Gradient, converter
from lumina_jax import OpticalSpec
from operands import NO_PEAK, NOISES, call
from oracle import Bits


@dataclass(frozen=True, kw_only=True)
class _Conv:
    label: str
    bits: Bits
    x: tuple[int, int, int, int] = (3, 5, 4, 4)
    kernel: tuple[int, int] = (3, 2)
    columns: int = 6
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 0, 1)
    input_dilation: tuple[int, int] = (1, 1)
    kernel_dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    noise: str | None = None
    residual: str = "none"
    finds: bool = False
    """Whether the full scales of x and w are left to the op, which returns all peaks."""
    precision: str = "float32"
    array_rows: int = 0

    @property
    def attrs(self) -> dict[str, Any]:
        return {
            **self.bits.attrs(),
            "noisy": self.noise is not None,
            "array_rows": self.array_rows,
            "window_strides": self.strides,
            "padding": self.padding,
            "input_dilation": self.input_dilation,
            "kernel_dilation": self.kernel_dilation,
            "feature_group_count": self.groups,
        }

    def _sample(self) -> list[np.ndarray]:
        images, n = self.x[0], self.columns
        rng = np.random.default_rng(self.x)

        def positive(*shape: int) -> np.ndarray:
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)

        x, kernel = (
            rng.normal(0, 0.8, self.x),
            rng.normal(0, 0.5, (*self.kernel, self.x[3] // self.groups, n)),
        )
        noise = np.tile(np.float32(NOISES[self.noise or "all"]), (images, 1))
        return [
            *(v.astype(np.float32) for v in (x, kernel, rng.normal(0, 0.5, n))),
            2 * positive(images), positive(n), 3 * positive(n), noise * positive(images, 1),
            rng.integers(0, 2**32, (images, 2), dtype=np.uint32),
            1000 * np.arange(images, dtype=np.uint32), np.arange(n, dtype=np.uint32),
        ]  # fmt: skip

    def forward(self) -> Case:
        def operands() -> list[np.ndarray]:
            found = [np.zeros(0, np.float32)] * 2 if self.finds else self._sample()[3:5]
            return [*self._sample()[:3], *found, *self._sample()[5:]]

        is_plain = self.residual == "none" and not self.finds
        peaks = dict.fromkeys(("with_peak", "with_x_peak", "with_w_peak"), self.finds)
        return Case(
            op="optical_conv" if is_plain else "optical_conv_fwd",
            label=self.label,
            operands=operands,
            attrs=self.attrs if is_plain else {**self.attrs, "residual": self.residual, **peaks},
            gradient=self._gradient if is_plain and self.x[0] and not self.array_rows else None,
        )

    def backward(self) -> Case:
        def operands() -> list[np.ndarray]:
            x, kernel, _, *others = self._sample()
            forward = self.forward().operands()
            attrs = {**self.attrs, "residual": self.residual, **NO_PEAK}
            out, saved, *_ = call("optical_conv_fwd", *forward, **attrs)
            g = np.random.default_rng(1).normal(0, 1, out.shape).astype(np.float32)
            return [g, saved, x, kernel, *others]

        of_y = self.residual == "pre_noise"
        rounds = self.noise is not None and self.precision != "float32"
        return Case(
            op="optical_conv_grad",
            label=self.label,
            operands=operands,
            attrs={
                **self.attrs,
                "adc_bits": self.bits.adc if of_y else 0,
                "noisy": self.noise is not None and self.residual != "slope",
                "residual": self.residual,
                "grad_precision": self.precision,
                "with_inputs": True,
                "with_ranges": of_y,
            },
            tolerance=1 / 127 if rounds else ROUNDING,
        )

    def _gradient(self) -> Gradient:
        x, kernel, bias, _, w_range, y_range, *_ = self._sample()
        bits, pads = self.bits, self.padding
        spec = OpticalSpec(
            dac_bits=bits.dac or None, weight_bits=bits.weight or None, adc_bits=bits.adc or None
        )
        geometry = {
            "padding": ((pads[0], pads[1]), (pads[2], pads[3])),
            "feature_group_count": self.groups,
        }

        def function(x: jax.Array, kernel: jax.Array, bias: jax.Array, ranges: Any) -> jax.Array:
            x_range, w_range, y_range = ranges
            return lumina_jax.optical_conv(
                x, kernel, bias, spec=spec, x_full_scale=x_range, w_full_scale=w_range,
                y_full_scale=y_range, strides=self.strides, input_dilation=self.input_dilation,
                kernel_dilation=self.kernel_dilation, **geometry,
            )  # fmt: skip

        def model(x: jax.Array, kernel: jax.Array, bias: jax.Array, ranges: Any) -> jax.Array:
            x_range, w_range, y_range = ranges
            y = jax.lax.conv_general_dilated(
                converter(x, jnp.broadcast_to(x_range, x.shape), bits.dac),
                converter(kernel, jnp.broadcast_to(w_range, kernel.shape), bits.weight),
                self.strides, lhs_dilation=self.input_dilation, rhs_dilation=self.kernel_dilation,
                dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest", **geometry,
            )  # fmt: skip
            y = y + bias.reshape(1, 1, 1, -1)
            return converter(y, jnp.broadcast_to(y_range, y.shape), bits.adc)

        ranges = (np.float32(1.7), w_range, y_range)
        return Gradient(function=function, model=model, arguments=(x, kernel, bias, ranges))


_CONVS = [
    _Conv(label="ideal", bits=Bits()),
    _Conv(label="integer", bits=Bits(dac=8, weight=8, adc=8), strides=(2, 1)),
    _Conv(
        label="groups",
        bits=Bits(dac=6, weight=6, adc=6),
        groups=2,
        strides=(1, 2),
        kernel_dilation=(2, 1),
        input_dilation=(1, 2),
    ),
    _Conv(label="depthwise", bits=Bits(dac=12, adc=8), groups=4, columns=8, padding=(0, 0, 0, 0)),
    _Conv(
        label="no images", bits=Bits(dac=8), x=(0, 5, 4, 4), strides=(1, 3), padding=(0, 0, 0, 0)
    ),
]
_NOISY_CONVS = [
    replace(conv, label=f"noisy, {conv.label}", noise="relative" if conv.groups == 4 else "all")
    for conv in _CONVS[1:4]
]

CONV_CASES = [
    *[conv.forward() for conv in (*_CONVS, _NOISY_CONVS[1])],
    *[
        replace(conv, label=f"{residual}, {conv.label}", residual=residual, finds=True).forward()
        for residual, conv in zip(("pre_noise", "slope", "signs"), _NOISY_CONVS, strict=True)
    ],
    *[
        replace(conv, label=f"{residual}, {conv.label}", residual=residual).backward()
        for residual, conv in (
            *zip(("slope", "pre_noise", "signs"), _NOISY_CONVS, strict=True),
            ("pre_noise", _CONVS[4]),
        )
    ],
    replace(_NOISY_CONVS[1], label="int8, groups", residual="signs", precision="int8").backward(),
    *[
        case
        for conv in (_CONVS[1], _NOISY_CONVS[1])
        for of_arrays in [replace(conv, label=f"arrays, {conv.label}", array_rows=5)]
        for case in (
            of_arrays.forward(),
            replace(of_arrays, residual="pre_noise", finds=True).forward(),
            replace(of_arrays, residual="slope").backward(),
        )
    ],
]
