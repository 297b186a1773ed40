"""The layers of Flax Linen that have an optical form; one entry of `LAYERS` each."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.recurrent import DenseParams

from .. import linen
from .._contraction import of_equation
from .._convolution import convolution
from ._arithmetic import not_float32

_ANY = ("dtype", "precision", "parent", "name")
"""Fields that ask for nothing that a device has not: the type of numbers is looked at by itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinenLayer:
    """A layer of Flax and the one that runs in its place, on the same variables."""

    flax: type[nn.Module]
    """The class that models are written with."""
    optical: type[nn.Module]
    """The class that runs in its place."""
    fields: tuple[str, ...]
    """Fields that are those of the optical layer as well."""
    method: str = "__call__"
    """The method that is a product."""
    fault: Callable[[Any, jax.Array, tuple[Any, ...]], str] | None = None
    """Why a layer of this class, its input and its other arguments have no optical form, or ""."""

    @property
    def function(self) -> Callable[..., Any]:
        """The method as it is written, which a subclass may call but not have."""
        return inspect.unwrap(getattr(self.flax, self.method))

    @cached_property
    def _plain(self) -> dict[str, Any]:
        """Other fields, which change what is computed, and their values in an ordinary layer."""
        others = [f for f in dataclasses.fields(self.flax) if f.name not in (*self.fields, *_ANY)]
        return {f.name: f.default for f in others}

    def reason(self, module: nn.Module, x: Any, arguments: tuple[Any, ...]) -> str:
        """Why a call stays digital; "" where it has an optical form."""
        own = [name for name, plain in self._plain.items() if getattr(module, name) is not plain]
        if own:
            return f"has a `{own[0]}` of its own"
        param_dtype: Any = getattr(module, "param_dtype")  # noqa: B009
        dtype: Any = getattr(module, "dtype")  # noqa: B009
        fault = not_float32(dtype or jnp.result_type(x, param_dtype))
        if not fault and self.fault is not None:
            fault = self.fault(module, x, arguments)
        return fault

    def layer(self, module: nn.Module, scope: Any, options: dict[str, Any]) -> nn.Module:
        """The optical layer with the variables of `scope`."""
        fields = {name: getattr(module, name) for name in self.fields}
        return self.optical(**fields, **options, parent=scope)


def _einsum_fault(module: nn.Einsum, x: jax.Array, arguments: tuple[Any, ...]) -> str:
    equation = module.einsum_str if module.einsum_str is not None else arguments[0]
    try:
        of_equation("Einsum", equation, x, tuple(module.shape))
    except ValueError as fault:
        return str(fault).removeprefix("Einsum: ")
    return ""


def _conv_fault(module: nn.Conv, x: jax.Array, arguments: tuple[Any, ...]) -> str:
    if not module.shared_weights:
        return "each place has a kernel of its own"
    sizes = {name: getattr(module, name) for name in _GEOMETRY}
    try:
        convolution("Conv", in_features=x.shape[-1], features=module.features, **sizes)
    except ValueError as fault:
        return str(fault).removeprefix("Conv: ")
    return ""


_GEOMETRY = (
    "kernel_size",
    "strides",
    "padding",
    "input_dilation",
    "kernel_dilation",
    "feature_group_count",
)
_DENSE = ("features", "use_bias", "param_dtype", "kernel_init", "bias_init")

LAYERS = (
    LinenLayer(flax=nn.Dense, optical=linen.OpticalDense, fields=_DENSE),
    LinenLayer(
        flax=nn.DenseGeneral,
        optical=linen.OpticalDenseGeneral,
        fields=(*_DENSE, "axis", "batch_dims"),
    ),
    LinenLayer(
        flax=nn.Conv,
        optical=linen.OpticalConv,
        fields=(*_DENSE, *_GEOMETRY, "mask"),
        fault=_conv_fault,
    ),
    LinenLayer(
        flax=nn.Einsum,
        optical=linen.OpticalEinsum,
        fields=("shape", "einsum_str", "use_bias", "param_dtype", "kernel_init", "bias_init"),
        fault=_einsum_fault,
    ),
    LinenLayer(
        flax=nn.Embed,
        optical=linen.OpticalEmbed,
        fields=("num_embeddings", "features", "param_dtype", "embedding_init"),
        method="attend",
    ),
)

DIGITAL: dict[type[nn.Module], str] = {
    nn.ConvTranspose: "there is no optical transposed convolution",
    DenseParams: "OptimizedLSTMCell joins it with others; LSTMCell has the same parameters",
}
"""Layers of Flax that have products and no optical form, and why."""
