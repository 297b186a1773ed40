"""The optical matmuls that a model runs: from a list, an exported graph, or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from ..physics._arguments import count

_OP = "optical_matmul"


@dataclass(frozen=True, kw_only=True)
class MatmulLayer:
    """One optical matmul, x[rows, k] · w[k, n], which runs `calls` times."""

    rows: int
    """Vectors of x."""
    k: int
    """Inputs."""
    n: int
    """Outputs."""
    calls: int = 1
    """How often it runs, as in a scan."""
    dac_bits: int | None = None
    """Of x; None where the model does not say."""
    weight_bits: int | None = None
    """Of w; None where the model does not say."""
    adc_bits: int | None = None
    """Of y; None where the model does not say."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates: calls·rows·k·n."""
        return self.calls * self.rows * self.k * self.n


def layers_of(
    name: str,
    model: Any,
    *,
    inputs: Sequence[Any] | None = None,
    symbols: Mapping[str, int] | None = None,
) -> tuple[MatmulLayer, ...]:
    """The optical matmuls of a model, in order.

    Args:
        name: of the function that asks, for its errors.
        model: (rows, k, n) tuples or `MatmulLayer`s; an exported graph or model; or a function,
            such as `lambda x: net.apply(variables, x, deterministic=True)`.
        inputs: example arguments, needed for a function; shapes alone matter.
        symbols: extents of the symbolic dimensions of a graph; 1 where they are not given.

    Raises:
        TypeError, ValueError: the model is none of these, has no optical matmul, or an extent is
            not a positive int.
    """
    graph = getattr(model, "graph", model)
    if hasattr(graph, "nodes") and hasattr(graph, "symbols"):
        layers = list(_of_graph(graph, symbols or {}))
    elif isinstance(model, Sequence) and not isinstance(model, str | bytes):
        layers = [_of_entry(name, i, entry) for i, entry in enumerate(model)]
    elif callable(model):
        if inputs is None:
            raise ValueError(f"{name}: `inputs` must be given for a function, got None")
        layers = list(_of_jaxpr(_traced(model, inputs).jaxpr, 1))
    else:
        raise TypeError(
            f"{name}: `model` must be an exported graph, a function, or (rows, k, n) tuples, "
            f"got {type(model).__name__}"
        )
    if not layers:
        raise ValueError(f"{name}: `model` has no optical matmul, expected at least one")
    return tuple(layers)


def _of_entry(name: str, index: int, entry: Any) -> MatmulLayer:
    if isinstance(entry, MatmulLayer):
        return entry
    if not isinstance(entry, Sequence) or len(entry) != 3:
        raise ValueError(f"{name}: `model[{index}]` must be (rows, k, n), got {entry!r}")
    rows, k, n = (count(name, f"model[{index}]", extent) for extent in entry)
    return MatmulLayer(rows=rows, k=k, n=n)


def _of_graph(graph: Any, symbols: Mapping[str, int]) -> Iterator[MatmulLayer]:
    values = {symbol: symbols.get(symbol, 1) for symbol in graph.symbols()}
    for node in graph.nodes:
        if node.op == _OP:
            x, w = (value.shape.evaluate(values) for value in node.inputs[:2])
            yield _layer(x, w, node.attrs, 1)


def _traced(model: Callable[..., Any], inputs: Sequence[Any]) -> ClosedJaxpr:
    return jax.make_jaxpr(model)(*inputs)


def _of_jaxpr(jaxpr: Jaxpr, calls: int) -> Iterator[MatmulLayer]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == _OP:
            x, w = (var.aval.shape for var in eqn.invars[:2])  # type: ignore[attr-defined]
            yield _layer(x, w, eqn.params, calls)
        elif eqn.primitive.name == "cond":
            branches = [list(_of_jaxpr(b.jaxpr, calls)) for b in eqn.params["branches"]]
            yield from min(branches, key=lambda layers: sum(layer.macs for layer in layers))
        else:
            repeated = calls * eqn.params["length"] if eqn.primitive.name == "scan" else calls
            for parameter in eqn.params.values():
                for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                    if isinstance(inner, ClosedJaxpr):
                        yield from _of_jaxpr(inner.jaxpr, repeated)
                    elif isinstance(inner, Jaxpr):
                        yield from _of_jaxpr(inner, repeated)


def _layer(
    x: tuple[int, ...], w: tuple[int, ...], attrs: Mapping[str, Any], calls: int
) -> MatmulLayer:
    bits = {name: attrs[name] or None for name in ("dac_bits", "weight_bits", "adc_bits")}
    return MatmulLayer(
        rows=x[0], k=x[1], n=w[0] if attrs["transpose_weight"] else w[1], calls=calls, **bits
    )
