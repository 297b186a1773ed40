"""NNX models whose layers of Flax are replaced by optical ones, in the graph of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx

from .._variables import value_of
from ._attention import NAME, NnxAttention, attention_fault, device_fault
from ._nnx_layers import DIGITAL, LAYERS
from ._report import ConversionReport
from ._rules import ConversionRule

M = TypeVar("M", bound=nnx.Module)

_BY_CLASS = {layer.flax: layer for layer in LAYERS}


def convert_nnx(
    module: M, rules: Sequence[ConversionRule], noise: nnx.RngStream | None, stacklevel: int
) -> M:
    """`module` with its layers optical where rules say so."""
    walk = _Walk(ConversionReport(rules), noise)
    converted = walk.replaced(module, ())
    converted.report = walk.report
    walk.report.warn_unmatched(stacklevel + 1)
    return converted


class _Walk:
    """Visits every module of a model once, however often it is shared."""

    def __init__(self, report: ConversionReport, noise: nnx.RngStream | None) -> None:
        self.report = report
        self.noise = noise
        # With the original, so that no other object takes its id.
        self.seen: dict[int, tuple[Any, Any]] = {}

    def replaced(self, node: Any, path: tuple[str, ...]) -> Any:
        """What takes the place of `node`: itself, changed inside, or an optical layer."""
        if isinstance(node, tuple):
            items = [self.replaced(v, (*path, str(i))) for i, v in enumerate(node)]
            same = all(new is old for new, old in zip(items, node, strict=True))
            return node if same else _tuple_like(node, items)
        if not isinstance(node, list | dict | nnx.Pytree) or isinstance(node, nnx.Variable):
            return node
        if id(node) not in self.seen:
            # A cycle comes back here before it is through.
            self.seen[id(node)] = (node, node)
            self.seen[id(node)] = (node, self._converted(node, path))
        return self.seen[id(node)][1]

    def _converted(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, nnx.Module):
            layer = self._layer(node, "/".join(path))
            if layer is not node:
                return layer
        if isinstance(node, list | nnx.List):
            children: dict[Any, Any] = dict(enumerate(node))
        else:
            children = dict(node if isinstance(node, dict) else vars(node))
        for key, child in children.items():
            new = self.replaced(child, (*path, str(key)))
            if new is child:
                continue
            if isinstance(node, list | nnx.List | dict):
                node[key] = new
            else:
                setattr(node, key, new)
        return node

    def _layer(self, module: nnx.Module, path: str) -> nnx.Module:
        kind, name = type(module), type(module).__name__
        entry = _BY_CLASS.get(kind)
        if entry is not None:
            rule = self.report.decide(path, name, entry.optical.__name__, "")
            if rule is None:
                return module
            layer, fault = entry.convert(module, rule.options, self.noise)
            if layer is not None:
                return layer
        elif isinstance(module, nnx.MultiHeadAttention):
            return self._attention(module, path)
        else:
            fault = next((DIGITAL[base] for base in kind.__mro__ if base in DIGITAL), "")
            if not fault and (base := next((b for b in kind.__mro__ if b in _BY_CLASS), None)):
                fault = f"is a {base.__name__} that may compute otherwise"
            if not fault and (matrices := _own_matrices(module)):
                fault = f"multiplies by itself, if it does; parameters {', '.join(matrices)}"
        if fault:
            self.report.stays(path, name, fault)
        return module

    def _attention(self, module: nnx.MultiHeadAttention, path: str) -> nnx.Module:
        """An attention layer whose two products are optical where rules say so."""
        kernel = value_of(module.query.kernel)
        fault = attention_fault(module, nnx.dot_product_attention, module.dtype or kernel.dtype)
        rule = self.report.decide(path, type(module).__name__, NAME, fault)
        if rule is not None and (fault := device_fault(rule)):
            self.report.stays(path, type(module).__name__, fault)
        elif rule is not None:
            layer = NnxAttention(rule)
            # A stack of layers has more axes than inputs, heads and features.
            layer.stack(kernel.shape[:-3], self.noise)
            module.attention_fn = nnx.data(layer)
        return module


def _tuple_like(node: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of the kind of `node`, which may have named fields."""
    return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)


def _own_matrices(module: nnx.Module) -> list[str]:
    """Names of the parameters with two axes or more that a module itself has."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, nnx.Param) and len(jnp.shape(value_of(value))) >= 2
    ]
