"""The layers of Flax NNX that have an optical form; one entry of `LAYERS` each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flax import nnx

from .. import nnx as optical
from .._variables import value_of
from ..nnx._layer import OpticalLayer
from ._arithmetic import not_float32

_ANY = ("dtype", "param_dtype", "precision")
"""Arguments that ask for nothing that a device has not: types of numbers are looked at apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NnxLayer:
    """A layer of Flax and the one that takes its place, with the same parameters."""

    flax: type[nnx.Module]
    """The class that models are written with."""
    optical: type[OpticalLayer]
    """The class that takes its place."""
    arguments: tuple[str, ...]
    """Arguments of both constructors that are attributes."""
    shape: Callable[[Any], tuple[int, ...]]
    """Shape of the first parameter of one layer; a stack of layers has more axes before."""
    parameters: tuple[str, ...] = ("kernel", "bias")
    """Names of its parameters."""

    @cached_property
    def _plain(self) -> dict[str, Any]:
        """Other arguments, which change what is computed, and their values in an ordinary layer."""
        others = inspect.signature(self.flax.__init__).parameters
        return {
            name: parameter.default
            for name, parameter in others.items()
            if name not in (*self.arguments, *_ANY)
        }

    def convert(
        self, module: Any, options: dict[str, Any], noise: nnx.RngStream | None
    ) -> tuple[OpticalLayer | None, str]:
        """The optical layer with the parameters of `module`, or why there is none."""
        attributes = vars(module)
        own = [n for n, plain in self._plain.items() if attributes.get(n, plain) is not plain]
        if own:
            return None, f"has a `{own[0]}` of its own"
        matrix = value_of(getattr(module, self.parameters[0]))
        fault = not_float32(attributes.get("dtype") or matrix.dtype)
        shape = self.shape(module)
        stack = matrix.shape[: len(matrix.shape) - len(shape)]
        if not fault and matrix.shape != (*stack, *shape):
            fault = f"its kernel has shape {matrix.shape}, expected [..., {shape}]"
        if fault:
            return None, fault
        arguments = {name: getattr(module, name) for name in self.arguments}
        arguments[f"{self.parameters[0]}_init"] = nnx.initializers.zeros_init()
        try:
            layer = self.optical(**arguments, **options, rngs=nnx.Rngs(params=0))
        except ValueError as reason:
            return None, str(reason).removeprefix(f"{self.optical.__name__}: ")
        for name in self.parameters:
            setattr(layer, name, getattr(module, name))
        layer.takes_integers = True
        layer.stack(stack, noise)
        return layer, ""


LAYERS = (
    NnxLayer(
        flax=nnx.Linear,
        optical=optical.OpticalDense,
        arguments=("in_features", "out_features", "use_bias"),
        shape=lambda m: (m.in_features, m.out_features),
    ),
    NnxLayer(
        flax=nnx.LinearGeneral,
        optical=optical.OpticalDenseGeneral,
        arguments=("in_features", "out_features", "axis", "batch_axis", "use_bias"),
        shape=lambda m: (*m.batch_axis.values(), *m.in_features, *m.out_features),
    ),
    NnxLayer(
        flax=nnx.Conv,
        optical=optical.OpticalConv,
        arguments=(
            "in_features",
            "out_features",
            "kernel_size",
            "strides",
            "padding",
            "input_dilation",
            "kernel_dilation",
            "feature_group_count",
            "mask",
            "use_bias",
        ),
        shape=lambda m: tuple(m.kernel_shape),
    ),
    NnxLayer(
        flax=nnx.Einsum,
        optical=optical.OpticalEinsum,
        arguments=("einsum_str", "kernel_shape", "bias_shape"),
        shape=lambda m: tuple(m.kernel_shape),
    ),
    NnxLayer(
        flax=nnx.Embed,
        optical=optical.OpticalEmbed,
        arguments=("num_embeddings", "features"),
        shape=lambda m: (m.num_embeddings, m.features),
        parameters=("embedding",),
    ),
)

DIGITAL: dict[type[nnx.Module], str] = {
    nnx.ConvTranspose: "there is no optical transposed convolution",
}
"""Layers of Flax that have products and no optical form, and why."""
