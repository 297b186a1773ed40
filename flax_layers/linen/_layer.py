"""What Linen layers share: where ranges, gains and keys of a call come from."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumina_jax import NoiseModel

from .._context import Calibrated, Context, check_options, observes
from .._device import device
from ..ranges import AttentionRanges, Ranges


def run(
    layer: Any,
    op: Calibrated,
    x: jax.Array,
    kernel: Any,
    bias: Any,
    *,
    deterministic: bool | None,
    noise: NoiseModel | None,
    ranges: type[Ranges | AttentionRanges] = Ranges,
) -> jax.Array:
    """The output of the op in a compact method of `layer`, whose ranges follow.

    `deterministic` and `noise` take precedence over the fields of `layer`, which has those of
    `OpticalDense` from `profile` on.

    Declares x_full_scale and y_full_scale, or those of `ranges`, in the collection "ranges" for the
    converters that are on, x_log_gain and y_log_gain in "params" where they are learned, and draws
    from the stream "noise". Parameters of the layer come first, for their initial values depend on
    the order.
    """
    name = type(layer).__name__
    check_options(name, layer.ranges, layer.momentum)
    noise = layer.noise if noise is None else noise
    hardware = device(name, layer.profile, layer.spec, noise)
    quiet: bool = layer.deterministic if deterministic is None else deterministic
    names = {signal: f"{signal}_full_scale" for signal in hardware.signals(ranges)}
    # A lifted module may pass on no ranges, and those of a checkpoint may not be there yet.
    mutable = layer.is_mutable_collection("ranges")
    kept = {s: name for s, name in names.items() if mutable or layer.has_variable("ranges", name)}
    full_scales = {
        signal: layer.variable("ranges", name, jnp.zeros, (), jnp.float32)
        for signal, name in kept.items()
    }
    running = {s: full_scales[s].value if s in kept else jnp.float32(0) for s in names}
    gains = {
        signal: layer.param(f"{signal}_log_gain", nn.initializers.zeros_init(), (), jnp.float32)
        for signal in hardware.signals(ranges)
        if layer.ranges == "learn"
    }
    observing = observes(quiet) and mutable and not layer.is_initializing()
    context = Context(
        layer=name,
        device=hardware,
        deterministic=quiet,
        has_stream=layer.has_rng("noise"),
        draw=lambda: layer.make_rng("noise"),
        running=ranges(**running),
        gain=ranges(**gains),
        momentum=layer.momentum if observing else None,
        initializing=layer.is_initializing(),
        axis_name=layer.axis_name,
    )
    y, updated = context.run(op, x, kernel, bias)
    if observing:
        for signal, variable in full_scales.items():
            variable.value = getattr(updated, signal)
    return y
