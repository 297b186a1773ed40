"""What all layers of both families share: checks of their arguments, and how a call runs its op.

A layer owns its parameters and nothing else. A call checks them, puts a `Context` together from
what its family keeps (ranges, random streams, modes), and has it run the op of the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, TypeAlias

import jax
import jax.numpy as jnp

from ._device import Device
from ._measure import measures
from .ranges import AttentionRanges, AxisName, Ranges

RangeMode: TypeAlias = Literal["calibrate", "learn"]

# JAX knows of it, so that what `jit` or `checkpoint` traced outside of it is traced anew.
_quiet_calls_observe = jax.make_user_context(False)


def quiet_calls_observe() -> AbstractContextManager[None]:
    """Ranges follow in calls without noise, too, where they may."""
    return _quiet_calls_observe(True)


def observes(deterministic: bool) -> bool:
    """Whether the mode of a call lets ranges follow."""
    return _quiet_calls_observe.value or not deterministic


Calibrated: TypeAlias = Callable[
    Concatenate[jax.Array, jax.Array, jax.Array | None, Any, ...], tuple[jax.Array, Any]
]
"""An op at running ranges, `calibrated_matmul` or another with its keyword arguments.

Ranges are `Ranges`, or a NamedTuple of the op's own; `calibrated_attention` takes keys and values
in place of a kernel and a bias."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What one call of a layer runs with."""

    layer: str
    """Name of the layer, for errors."""
    device: Device
    """The hardware; its noise is that of this call."""
    deterministic: bool
    """Nothing is drawn."""
    has_stream: bool
    """Whether there is a stream to draw from; noise asks for one in any case."""
    draw: Callable[[], jax.Array]
    """The key of this call, from that stream."""
    running: Ranges | AttentionRanges
    """Full scales of the converters."""
    gain: Ranges | AttentionRanges
    """Logarithms of learned factors on them."""
    momentum: float | None
    """Share of the old range in the new one; None where this call does not observe."""
    initializing: bool = False
    """Parameters are made, and the output is for no one."""
    axis_name: AxisName | None
    """Mapped axes that hold parts of one batch."""

    def run(self, op: Calibrated, x: jax.Array, kernel: Any, bias: Any) -> tuple[jax.Array, Any]:
        """The output of the op, and the ranges for the next batch."""
        quiet = self.deterministic or measures()
        noise = None if quiet else self.device.noise
        of_device = to_c64 if jnp.iscomplexobj(x) else to_f32
        rounds = self.device.rounds_gradient and not quiet and self.has_stream
        return op(
            x,
            of_device(self.layer, "kernel", kernel),
            None if bias is None else of_device(self.layer, "bias", bias),
            self.running,
            spec=self.device.spec,
            noise=noise,
            key=self.draw() if noise is not None or rounds else None,
            attenuation=self.device.attenuation,
            crosstalk=self.device.crosstalk,
            gain=self.gain,
            momentum=self.momentum,
            axis_name=self.axis_name,
            infers=self.layer if self._infers else "",
        )

    @property
    def _infers(self) -> bool:
        return self.deterministic and self.momentum is None and not self.initializing


def check_size(layer: str, name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a positive int."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{layer}: `{name}` is {value!r}, expected a positive int")


def check_options(layer: str, ranges: RangeMode, momentum: float) -> None:
    """Raises ValueError for an unknown way of keeping ranges, or a momentum outside [0, 1)."""
    if ranges not in ("calibrate", "learn"):
        raise ValueError(f"{layer}: `ranges` is {ranges!r}, expected 'calibrate' or 'learn'")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"{layer}: `momentum` is {momentum!r}, expected 0 <= momentum < 1")


def to_f32(layer: str, name: str, value: Any) -> jax.Array:
    """`value` in float32, which is what the device computes in.

    Raises:
        TypeError: `value` is neither float32 nor a narrower real float.
    """
    dtype = jnp.result_type(value)
    if dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        cure = ""
        if jnp.issubdtype(dtype, jnp.complexfloating):
            cure = f"; pass {name}.real or layers.detect({name}), or use ComplexOpticalDense"
        raise TypeError(
            f"{layer}: `{name}` is {dtype}, expected float32, bfloat16 or float16{cure}"
        )
    return jnp.asarray(value, jnp.float32)


def to_c64(layer: str, name: str, value: Any) -> jax.Array:
    """`value`, which is complex64: what a coherent device computes in.

    Raises:
        TypeError: it is of another type.
    """
    dtype = jnp.result_type(value)
    if dtype != jnp.complex64:
        raise TypeError(
            f"{layer}: `{name}` is {dtype}, expected complex64; pass {name}.astype(jnp.complex64)"
        )
    return jnp.asarray(value)


def check_input(
    layer: str,
    value: Any,
    in_features: int | None = None,
    of_device: Callable[[str, str, Any], jax.Array] = to_f32,
) -> jax.Array:
    """The input of a layer in float32, or as `of_device` has it: f32[..., in_features].

    Raises:
        ValueError: it is a scalar, or its last axis is not `in_features` long.
        TypeError: as in `of_device`.
    """
    x = of_device(layer, "x", value)
    if x.ndim == 0:
        raise ValueError(f"{layer}: `x` is a scalar, expected shape [..., in_features]")
    if in_features is not None and x.shape[-1] != in_features:
        raise ValueError(
            f"{layer}: `x` has shape {x.shape}, expected [..., in_features={in_features}]"
        )
    return x
