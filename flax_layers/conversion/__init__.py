"""Models of Flax that know nothing of optics, made optical in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import flax.linen as nn
from flax import nnx

from lumina_jax._arguments import instance

from ._linen import convert_linen
from ._nnx import convert_nnx
from ._report import ConversionReport, ConvertedLayer
from ._rules import ConversionRule, check_rules

__all__ = ["ConversionReport", "ConversionRule", "ConvertedLayer", "convert"]

M = TypeVar("M", bound="nn.Module | nnx.Module")


def convert(
    module: M,
    rules: ConversionRule | Sequence[ConversionRule] = (ConversionRule(),),
    *,
    rngs: nnx.Rngs | None = None,
) -> M:
    r"""A model of Flax whose layers run on photonic devices; its parameters stay as they are.

    ```python
    model = convert(Net(), [
        ConversionRule("head", digital=True),
        ConversionRule(r"blocks_\d+/.*", profile="lumina_micro_v1"),
        ConversionRule(profile="lumina_nano_v1", spec=OpticalSpec(dac_bits=8, adc_bits=8)),
    ])
    print(model.report)
    ```

    The first rule whose `module_path` matches the whole path of a layer decides on it, and a layer
    that none matches stays digital. `Dense`, `DenseGeneral`, `Conv`, `Einsum` and `Embed.attend`
    become optical, so do `Linear` and `LinearGeneral` of NNX, and the products of attention layers
    by the rule for these. What computes in another type than float32, or with a product of its own,
    stays digital; `report` says why.

    Linen: the result is a model of the same class and fields, used as before: `init`, `apply`,
    `tabulate`, as a submodule. Variables of the original fit; the converted one adds the collection
    "ranges", and "params" of learned ranges. Noise is drawn where there is a stream "noise":

        model.apply(variables, x)                                          no noise
        model.apply(variables, x, rngs={"noise": key})                     noise
        model.apply(variables, x, rngs={"noise": key}, mutable=["ranges"]) and ranges that follow

    Submodules that are taken out of a bound model are those of the original. Lifted modules have to
    pass on what is to reach the layers in them: `nn.scan(..., variable_axes={"params": 0, "ranges":
    0}, split_rngs={"params": True, "noise": True})`.

    NNX: layers are replaced in the graph of `module`, which is changed and returned; parameters are
    the same objects, shared ones stay shared. A `module` that is itself a layer is left, and what
    takes its place is returned. Modes are those of the layers: `train()` draws noise and lets
    ranges follow, `eval()` does neither.

    Args:
        module: an unbound Linen model, or an NNX model.
        rules: in order of precedence; by default all layers run on the preset "lumina_nano_v1".
        rngs: NNX only: where layers get streams of noise from, "noise" or the default one.

    Returns:
        The converted model. Its `report` is a `ConversionReport`; that of a Linen model fills as
        layers are traced.

    Raises:
        TypeError: `module` is no instance of a Flax module, or `rules` are no rules.
        ValueError: `module` is bound, or `rngs` has no stream of noise.

    Warns:
        UserWarning: a rule is the first for no layer; for Linen, at the end of `init`.
    """
    kinds = "a flax.linen.Module or a flax.nnx.Module"
    if isinstance(module, type):
        raise TypeError(
            f"convert: `module` is the class {module.__name__}, expected {kinds} made from it"
        )
    instance("convert", "module", module, nn.Module | nnx.Module, kinds)
    checked = check_rules("convert", rules)
    if isinstance(module, nn.Module):
        if rngs is not None:
            raise ValueError(
                "convert: `rngs` is for NNX, expected None with a Linen model; its noise comes "
                'from rngs={"noise": key} of `apply`'
            )
        return cast(M, convert_linen(module, checked))
    noise: Any = None
    if rngs is not None:
        instance("convert", "rngs", rngs, nnx.Rngs, "an nnx.Rngs")
        if not ("noise" in rngs or "default" in rngs):
            raise ValueError("convert: `rngs` has no stream `noise`, expected nnx.Rngs(noise=seed)")
        noise = rngs.noise
    return cast(M, convert_nnx(module, checked, noise, stacklevel=2))
