"""Stream powers of a model: what arrives at the detectors on each input channel.

    p_k = ⟨x_k²⟩ · (1/N)·Σ_n w_kn²

the mean square that channel k puts on the N detectors of a layer, averaged over them and over the
calibration batches. In a graph nothing is measured, and inputs of unit mean square are assumed.
Which products a model runs, each op says itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from .._jaxpr import Interpreter, Site, evaluate
from .._siblings import graph_of
from .._values import Floats
from ..ops import OPS, Factors

_OP = "optimize_allocation"


@dataclass(frozen=True, eq=False)
class Layer:
    """One optical matmul and the powers of its input channels."""

    name: str
    powers: Floats


def of_model(model: Any, batches: Iterable[ArrayLike] | None) -> list[Layer]:
    """Layers of a graph, or of a Flax model that is run on the batches, in the order they run."""
    graph = graph_of(model)
    if graph is not None:
        if batches is not None:
            raise ValueError(
                f"{_OP}: `batches` is given with a graph, expected None; pass the Flax model to "
                "measure stream powers"
            )
        layers = list(_of_graph(graph))
    else:
        if batches is None:
            raise ValueError(
                f"{_OP}: `batches` is None, expected calibration batches for the model that is "
                f"of type {type(model).__name__}"
            )
        layers = _measured(_function(model), batches)
    if not layers:
        raise ValueError(f"{_OP}: `model_graph` has no optical matmul, expected at least one")
    return layers


def _of_graph(graph: Any) -> Iterator[Layer]:
    constants = {tensor.value.id: tensor.data for tensor in graph.tensors}
    symbols = dict.fromkeys(graph.symbols(), 1)

    def operand(value: Any) -> np.ndarray:
        if value.id in constants:
            return constants[value.id]
        # NaN marks what is not known: weights that are computed from it have some, too.
        unknown = np.nan if value.dtype.numpy.kind == "f" else 0
        return np.full(value.shape.evaluate(symbols), unknown, value.dtype.numpy)

    nodes = {}
    for node in graph.nodes:
        if node.op == "dequantize" and all(value.id in constants for value in node.inputs):
            # A weight that is stored as codes.
            op = OPS[node.op]
            operands = op.operands(*(constants[value.id] for value in node.inputs))
            (constants[node.outputs[0].id],) = op.on_numpy(op.attrs(**node.attrs), operands)
        elif node.op in OPS:
            # A layer that is not calibrated yet multiplies a second time, to find its range.
            nodes[tuple(value.id for value in node.inputs[:2])] = node
    found = 0
    for node in nodes.values():
        factors = OPS[node.op].factors(node.attrs, [operand(value) for value in node.inputs])
        for name, (_, w) in _named(_scope(node.source), factors):
            name, found = name or f"layer {found}", found + 1
            gain = _gain(w)
            if np.isnan(gain).any():
                raise ValueError(
                    f"{_OP}: the weights of {name!r} in `model_graph` are computed from its "
                    "inputs, expected constants"
                )
            yield Layer(name, gain.reshape(-1, gain.shape[-1]).mean(0))


def _named(scope: str, factors: Sequence[Factors]) -> Iterator[tuple[str, Factors]]:
    """The products of an op with their names; several of one op are numbered."""
    for index, product in enumerate(factors):
        yield (f"{scope}[{index}]" if scope and len(factors) > 1 else scope), product


def _gain(w: Any) -> Floats:
    """(1/N)·Σ_n w_kn² for w[..., k, n]."""
    return np.mean(np.square(np.asarray(w, np.float64)), axis=-1)


def _scope(source: str) -> str:
    """The scope in a source such as "model.py:12 (MLP/Dense_0)"."""
    return source.partition("(")[2].rstrip(")")


def _function(model: Any) -> Callable[[jax.Array], Any]:
    """A pure function of a batch for a bound Linen module, an NNX module, or a function."""
    if "flax" in sys.modules:
        import flax.linen as nn
        from flax import nnx

        if isinstance(model, nn.Module):
            if model.scope is None:
                raise ValueError(
                    f"{_OP}: `model_graph` is an unbound Linen module, expected "
                    "model.bind(variables)"
                )
            module, variables = model.unbind()
            noise = {"noise": jax.random.key(0)}
            return lambda batch: module.apply(variables, batch, rngs=noise)
        if isinstance(model, nnx.Module):
            definition, state = nnx.split(model)
            return lambda batch: nnx.merge(definition, state, copy=True)(batch)
    if not callable(model):
        raise TypeError(
            f"{_OP}: `model_graph` is of type {type(model).__name__}, expected a graph or model of "
            "the exporter, a bound Linen module, an NNX module, or a function of a batch"
        )
    return model


def _measured(function: Callable[[jax.Array], Any], batches: Iterable[ArrayLike]) -> list[Layer]:
    powers: list[Floats] = []
    counts: list[int] = []
    names: list[str] = []
    for batch in batches:
        array = jax.numpy.asarray(batch)
        run = _Measured()
        run.run(jax.make_jaxpr(function)(array), [array])
        if not names:
            names = [name or f"layer {index}" for index, (name, _) in enumerate(run.seen)]
            powers = [np.zeros(x.shape[-1]) for _, (x, _) in run.seen]
            counts = [0] * len(run.seen)
        for index, (_, (x, w)) in enumerate(run.seen):
            squares = np.sum(np.square(np.asarray(x, np.float64)), axis=-2) * _gain(w)
            powers[index] += squares.reshape(-1, squares.shape[-1]).sum(0)
            counts[index] += math.prod(x.shape[:-1])
    for name, total in zip(names, powers, strict=True):
        if not np.isfinite(total).all():
            raise ValueError(f"{_OP}: the inputs of {name!r} have NaN or infinite values")
    return [
        Layer(name, total / count) for name, total, count in zip(names, powers, counts, strict=True)
    ]


class _Measured(Interpreter[Any]):
    """Evaluates a jaxpr and notes name and factors of each product on the processor.

    Branches are not entered: a layer whose ranges are not calibrated yet finds them in one, with a
    matmul of its own.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Factors]] = []

    def constant(self, array: Any) -> Any:
        return array

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        if site.name in OPS:
            self.seen += _named(site.scope, OPS[site.name].factors(site.params, operands))
        return evaluate(site.eqn, operands)
