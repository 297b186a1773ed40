"""What NNX layers share: ranges, gains, modes, and where the key of a call comes from."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import Calibrated, Context, RangeMode, check_input, check_options, observes
from .._device import device
from .._variables import set_value
from ..ranges import AttentionRanges, AxisName, Ranges

_V = TypeVar("_V", bound=nnx.Variable)


class FullScale(nnx.Variable[jax.Array]):
    """Running full scale of a converter, f32[]; 0 until calibrated."""


class OpticalLayer(nnx.Module):
    """Base of the layers, for their state but for their parameters.

    State:
        x_full_scale, y_full_scale f32[]: `FullScale` of DAC and ADC, None where that is off.
        x_log_gain, y_log_gain f32[]: `nnx.Param`, only with `ranges="learn"`.
        rngs: the stream "noise", forked; None where `rngs` has none.
    """

    _ranges: ClassVar[type[Ranges | AttentionRanges]] = Ranges
    """What converters have full scales, x and y unless the layer says otherwise."""
    x_full_scale: FullScale | None
    y_full_scale: FullScale | None
    x_log_gain: nnx.Param[jax.Array] | None
    y_log_gain: nnx.Param[jax.Array] | None
    takes_integers: bool = False
    """Whether integers at the input are made float32, as layers of Flax make them: in the place of
    one of these."""

    def __init__(
        self,
        *,
        profile: HardwareProfile | str | None,
        spec: OpticalSpec | None,
        noise: NoiseModel | None,
        ranges: RangeMode,
        momentum: float,
        deterministic: bool,
        use_running_average: bool,
        axis_name: AxisName | None,
        rngs: nnx.Rngs,
    ) -> None:
        layer = type(self).__name__
        check_options(layer, ranges, momentum)
        self.hardware = device(layer, profile, spec, noise)
        on = self.hardware.signals(self._ranges)
        for signal in self._ranges._fields:
            kept = _scalar(FullScale) if signal in on else None
            learned = _scalar(nnx.Param) if signal in on and ranges == "learn" else None
            setattr(self, f"{signal}_full_scale", nnx.data(kept))
            setattr(self, f"{signal}_log_gain", nnx.data(learned))
        has_noise_stream = "noise" in rngs or "default" in rngs
        self.rngs = nnx.data(rngs.noise.fork() if has_noise_stream else None)
        self.ranges = ranges
        self.momentum = momentum
        self.deterministic = deterministic
        self.use_running_average = use_running_average
        self.axis_name = axis_name

    def stack(self, shape: tuple[int, ...], noise: nnx.RngStream | None) -> None:
        """Makes the state that of as many layers as `shape` counts, along first axes.

        Each draws from a stream of its own, forked from `noise`.
        """
        for variable in (*self._kept("full_scale"), *self._kept("log_gain")):
            if variable is not None and shape:
                set_value(variable, jnp.broadcast_to(variable[...], shape))
        stream = None if noise is None else noise.split(shape) if shape else noise.fork()
        self.rngs = nnx.data(stream)

    def _input(self, value: Any, in_features: int | None = None) -> jax.Array:
        """The input of a call, as `check_input` has it."""
        if self.takes_integers and jnp.result_type(value).kind in "biu":
            value = jnp.asarray(value, jnp.float32)
        return check_input(type(self).__name__, value, in_features)

    def _run(
        self,
        op: Calibrated,
        x: jax.Array,
        kernel: Any,
        bias: Any,
        *,
        deterministic: bool | None,
        use_running_average: bool | None,
        noise: NoiseModel | None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None,
        out_sharding: None = None,
    ) -> jax.Array:
        """The output of the op; the ranges follow. Arguments take precedence over attributes."""
        layer = type(self).__name__
        if out_sharding is not None:
            raise ValueError(
                f"{layer}: `out_sharding` is {out_sharding!r}, expected None: the output is "
                "sharded as the input"
            )
        if deterministic is None:
            deterministic = self.deterministic
        if use_running_average is None:
            use_running_average = self.use_running_average
        observing = observes(use_running_average)
        hardware = self.hardware
        if noise is not None:
            hardware = dataclasses.replace(hardware, noise=noise)
        context = Context(
            layer=layer,
            device=hardware,
            deterministic=deterministic,
            has_stream=rngs is not None or self.rngs is not None,
            draw=lambda: self._key(rngs),
            running=self._ranges(*map(_value, self._kept("full_scale"))),
            gain=self._ranges(*map(_value, self._kept("log_gain"))),
            momentum=self.momentum if observing else None,
            axis_name=self.axis_name,
        )
        y, updated = context.run(op, x, kernel, bias)
        if observing:
            for variable, value in zip(self._kept("full_scale"), updated, strict=True):
                if variable is not None and value is not None:
                    set_value(variable, value)
        return y

    def _kept(self, kind: str) -> list[nnx.Variable[jax.Array] | None]:
        return [getattr(self, f"{signal}_{kind}") for signal in self._ranges._fields]

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        if rngs is None:
            rngs = self.rngs
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs.noise
        if rngs is None:
            raise ValueError(
                f"{type(self).__name__}: noise is to be drawn and there is no stream `noise`, "
                "expected rngs=nnx.Rngs(..., noise=seed) in the constructor or `rngs` in the call; "
                "deterministic=True draws none"
            )
        return rngs() if isinstance(rngs, nnx.RngStream) else rngs

    def set_view(
        self, deterministic: bool | None = None, use_running_average: bool | None = None
    ) -> None:
        """Called by `nnx.view`.

        Args:
            deterministic: no noise.
            use_running_average: full scales stay as they are.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        if use_running_average is not None:
            self.use_running_average = use_running_average


def _scalar(kind: type[_V]) -> _V:
    return kind(jnp.zeros((), jnp.float32))


def _value(variable: nnx.Variable[jax.Array] | None) -> jax.Array | None:
    return None if variable is None else variable[...]
