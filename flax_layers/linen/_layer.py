"""What Linen layers share: where ranges, gains and keys of a call come from."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .._context import Calibrated, Context, RangeMode
from .._device import Device
from ..ranges import AxisName, Ranges


def run(
    layer: nn.Module,
    op: Calibrated,
    x: jax.Array,
    kernel: Any,
    bias: Any,
    *,
    device: Device,
    deterministic: bool,
    ranges: RangeMode,
    momentum: float,
    axis_name: AxisName | None,
) -> jax.Array:
    """The output of the op in a compact method of `layer`, whose ranges follow.

    Declares x_full_scale and y_full_scale in the collection "ranges" for the converters that are
    on, x_log_gain and y_log_gain in "params" where they are learned, and draws from the stream
    "noise". Parameters of the layer come first, for their initial values depend on the order.
    """
    full_scales = {
        name: layer.variable("ranges", f"{name}_full_scale", jnp.zeros, (), jnp.float32)
        for name in device.ranges
    }
    gains = {
        name: layer.param(f"{name}_log_gain", nn.initializers.zeros_init(), (), jnp.float32)
        for name in device.ranges
        if ranges == "learn"
    }
    observes = (
        not deterministic and layer.is_mutable_collection("ranges") and not layer.is_initializing()
    )
    context = Context(
        layer=type(layer).__name__,
        device=device,
        deterministic=deterministic,
        has_stream=layer.has_rng("noise"),
        draw=lambda: layer.make_rng("noise"),
        running=Ranges(**{name: variable.value for name, variable in full_scales.items()}),
        gain=Ranges(**gains),
        momentum=momentum if observes else None,
        initializing=layer.is_initializing(),
        axis_name=axis_name,
    )
    y, updated = context.run(op, x, kernel, bias)
    if observes:
        for name, variable in full_scales.items():
            variable.value = getattr(updated, name)
    return y
