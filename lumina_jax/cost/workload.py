"""The optical matmuls that a model runs: from a list, an exported graph, or a function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from .._arguments import integer
from .._jaxpr import Site, sites
from .._siblings import graph_of
from ..ops import OPS

_DEVICE = ("dac_bits", "weight_bits", "adc_bits", "array_rows")
_EXTENT = 2**62
"""Of an axis at most; products of some of them are numbers of f64."""


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
    array_rows: int | None = None
    """Inputs of the arrays that it simulates; None where that is one array with all of them."""

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
    graph = graph_of(model)
    if graph is not None:
        layers = list(_of_graph(graph, symbols or {}))
    elif isinstance(model, Sequence) and not isinstance(model, str | bytes):
        layers = [_of_entry(name, i, entry) for i, entry in enumerate(model)]
    elif callable(model):
        if inputs is None:
            raise ValueError(f"{name}: `inputs` must be given for a function, got None")
        layers = list(_of_sites(sites(jax.make_jaxpr(model)(*inputs), _cheapest)))
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
    rows, k, n = (
        integer(name, f"model[{index}]", extent, at_least=1, at_most=_EXTENT) for extent in entry
    )
    return MatmulLayer(rows=rows, k=k, n=n)


def _of_graph(graph: Any, symbols: Mapping[str, int]) -> Iterator[MatmulLayer]:
    values = {symbol: symbols.get(symbol, 1) for symbol in graph.symbols()}
    yield from _of_nodes(graph.nodes, values, 1)


def _of_nodes(nodes: Iterable[Any], values: Mapping[str, int], runs: int) -> Iterator[MatmulLayer]:
    """Of nodes that run so often; a `while` counts once, and a `cond` as its cheapest branch."""
    for node in nodes:
        if node.op in OPS:
            shapes = [value.shape.evaluate(values) for value in node.inputs]
            yield from _layers(node.op, node.attrs, shapes, runs)
        inner = runs
        if node.op == "scan":
            (length,) = node.attrs["length"]
            inner *= length if isinstance(length, int) else length.evaluate(values)
        bodies = [list(_of_nodes(region.nodes, values, inner)) for region in node.regions]
        if node.op == "cond":
            bodies = [min(bodies, key=lambda body: sum(layer.macs for layer in body))]
        for body in bodies:
            yield from body


def _of_sites(walked: Iterable[Site]) -> Iterator[MatmulLayer]:
    for site in walked:
        if site.name in OPS:
            yield from _layers(site.name, site.params, site.shapes, site.runs)


def _cheapest(branches: Sequence[list[Site]]) -> list[Site]:
    return min(branches, key=lambda branch: sum(layer.macs for layer in _of_sites(branch)))


def _layers(
    op: str, attrs: Mapping[str, Any], shapes: Sequence[Sequence[int]], runs: int = 1
) -> Iterator[MatmulLayer]:
    device = {name: attrs.get(name) or None for name in _DEVICE}
    if "weight_bits" not in attrs:
        # Both factors are signals.
        device["weight_bits"] = device["dac_bits"]
    if device["array_rows"] is not None and op.startswith("complex_"):
        # Inputs are floats here, of which a complex number is two.
        device["array_rows"] *= 2
    for batch, rows, depth, columns in OPS[op].matmuls(attrs, shapes):
        yield MatmulLayer(rows=rows, k=depth, n=columns, calls=runs * batch, **device)
