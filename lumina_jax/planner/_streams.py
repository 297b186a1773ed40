"""Stream powers of a model: what arrives at the detectors on each input channel.

    p_k = ⟨x_k²⟩ · (1/N)·Σ_n w_kn²

the mean square that channel k puts on the N detectors of a layer, averaged over them and over the
calibration batches. In a graph nothing is measured, and inputs of unit mean square are assumed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from .._arguments import Floats
from .._jaxpr import Interpreter, Site, evaluate
from .._siblings import graph_of

_OP = "optimize_allocation"
_NAME = "optical_matmul"


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
    nodes = {}
    for node in graph.nodes:
        if node.op == _NAME:
            # A layer that is not calibrated yet multiplies a second time, to find its range.
            nodes[node.inputs[0].id, node.inputs[1].id] = node
    for index, node in enumerate(nodes.values()):
        name = _scope(node.source) or f"layer {index}"
        weights = constants.get(node.inputs[1].id)
        if weights is None:
            raise ValueError(
                f"{_OP}: the weights of {name!r} in `model_graph` are computed from its inputs, "
                "expected constants"
            )
        if node.attrs["transpose_weight"]:
            weights = weights.T
        yield Layer(name, np.mean(np.square(weights, dtype=np.float64), axis=1))


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
    squares: list[Floats] = []
    counts: list[int] = []
    gains: list[Floats] = []
    names: list[str] = []
    for batch in batches:
        array = jax.numpy.asarray(batch)
        run = _Measured()
        run.run(jax.make_jaxpr(function)(array), [array])
        seen = run.seen
        if not names:
            names = [name or f"layer {index}" for index, (name, _, _) in enumerate(seen)]
            squares = [np.zeros(x.shape[1]) for _, x, _ in seen]
            counts = [0] * len(seen)
            gains = [np.mean(np.square(np.asarray(w, np.float64)), axis=1) for _, _, w in seen]
        for index, (_, x, _) in enumerate(seen):
            squares[index] += np.sum(np.square(np.asarray(x, np.float64)), axis=0)
            counts[index] += len(x)
    for name, total in zip(names, squares, strict=True):
        if not np.isfinite(total).all():
            raise ValueError(f"{_OP}: the inputs of {name!r} have NaN or infinite values")
    return [
        Layer(name, square / count * gain)
        for name, square, count, gain in zip(names, squares, counts, gains, strict=True)
    ]


class _Measured(Interpreter[Any]):
    """Evaluates a jaxpr and notes name, x and w of each optical matmul.

    Branches are not entered: a layer whose ranges are not calibrated yet finds them in one, with a
    matmul of its own.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, Any]] = []

    def constant(self, array: Any) -> Any:
        return array

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        if site.name == _NAME:
            w = operands[1].T if site.params["transpose_weight"] else operands[1]
            self.seen.append((site.scope, operands[0], w))
        return evaluate(site.eqn, operands)
