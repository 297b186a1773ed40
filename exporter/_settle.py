"""Test vectors of models in which a code may be one or the other.

XLA sums in an order of its own, joins operations and approximates functions, so what a converter
is given may be a rounding away from what the runtime gives it. At a tie of the converter that
makes another code, and outputs are a step of the converters apart. Neither is wrong, and ties are
no rare chance: means of the few levels of an ADC lie on them.

Outputs as a whole then tell nothing; pieces of the graph do. It is cut before each converter that
something inexact stands before. A piece is given what JAX has where it begins, and is to compute
what JAX has where it ends; there is nothing inexact before a converter of it, so there is no
doubt about a code:

    x ── conv ── mean ──┊── conv ── relu ── y        x ── conv ── mean ── ≈ t?
                        t                            t ── conv ── relu ── ≈ y?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from lumina_jax._native import _lumina
from lumina_jax._progress import Bar
from lumina_jax.ops import OPS

from ._entry import Entry
from ._graph import Graph, Node, Port, TestVector, Value
from ._tolerance import MOVES, absolute_tolerance
from ._vectors import Reference, Run, Tap, runs

if TYPE_CHECKING:
    from ._model import Model

_BITS = ("adc_bits", "bits", "dac_bits", "weight_bits")
"""Attributes of ops with converters, 0 for none."""
_STEPS = {
    *("argmax", "argmin", "ceil", "eq", "floor", "ge", "gt", "le", "lt", "ne", "round", "sign"),
    *("sort", "top_k"),
}
"""Other ops whose results jump where their operands change a little."""
_EXACT = {
    *("abs", "clamp", "cummax", "cummin", "max", "min", "reduce_max", "reduce_min"),
    *("reduce_window_max", "reduce_window_min"),
    *MOVES,
    *OPS,
    *_STEPS,
}
"""Ops that make the same bits in XLA and in the runtime; those of ours are the same kernels."""


@dataclass(frozen=True)
class Cut:
    """A graph in pieces."""

    graph: Graph
    """Its last inputs are what pieces begin with, its last outputs what is computed for these."""
    taps: tuple[Tap, ...]
    """What JAX has there."""


def settled(
    model: Model, entries: Sequence[Entry], states: Sequence[Any], atol: float | None, bar: Bar
) -> Model:
    """The model, with outputs of the runtime in vectors whose codes are in doubt.

    Those are vectors that the runtime computes otherwise than JAX, though it computes each piece of
    the graphs alike. All others stay, also where a piece differs, which `Model.save` then reports.
    """
    cuts = [cut(graph) for graph in model.graphs]
    if not any(one.taps for one in cuts):
        return model
    try:
        wrong = {vector for vector, *_, passed in _lumina.verify([model.to_bytes()]) if not passed}
        if not wrong:
            return model
        references = [Reference(entry, one.taps) for entry, one in zip(entries, cuts, strict=True)]
        in_jax = runs(references, states, bar)
        in_pieces = replace(model, graphs=tuple(one.graph for one in cuts), tests=())
        session = _lumina.Session([in_pieces.to_bytes()])
        for test, run in zip(model.tests, in_jax, strict=True):
            if not _is_alike(session, test, run, atol):
                return model
        session = _lumina.Session([model.to_bytes()])
        tests = []
        for number, test in enumerate(model.tests):
            outputs = _outputs(session, test.entry, test.continues, test.inputs)
            tests.append(replace(test, outputs=tuple(outputs)) if number in wrong else test)
    except ValueError:  # the runtime refuses the model, which `Model.save` says
        return model
    return replace(model, tests=tuple(tests))


def cut(graph: Graph) -> Cut:
    """The graph in pieces; one piece where no code is in doubt.

    Loops and branches are whole, and so is what an op reads whose equation JAX has not as such.
    """
    values = [port.value for port in graph.inputs]
    values += [state.before for state in graph.states]
    values += [tensor.value for tensor in graph.tensors]
    values += [value for node in graph.nodes for value in node.outputs]
    fresh = count(1 + max((value.id for value in values), default=0))
    constant = {tensor.value.id for tensor in graph.tensors}
    inexact = {state.before.id for state in graph.states}
    begins: dict[int, Value] = {}
    ends: list[Value] = []
    taps: list[Tap] = []
    nodes = []
    for node in graph.nodes:
        if node.place is not None and _jumps(node):
            for number, value in enumerate(node.inputs):
                if value.id in inexact and value.id not in begins and _is_cut(value):
                    begins[value.id] = replace(value, id=next(fresh))
                    ends.append(value)
                    taps.append((node.place, number))
        node = node.reading(lambda value: begins.get(value.id, value))
        nodes.append(node)
        reads, made = {value.id for value in node.reads}, {value.id for value in node.outputs}
        if reads <= constant:
            constant |= made
        elif not reads.isdisjoint(inexact) or _rounds(node):
            inexact |= made
    inputs = [Port(value, f"piece {i}") for i, value in enumerate(begins.values())]
    outputs = [Port(value, f"piece {i}") for i, value in enumerate(ends)]
    whole = replace(
        graph,
        inputs=(*graph.inputs, *inputs),
        nodes=tuple(nodes),
        outputs=(*graph.outputs, *outputs),
    )
    return Cut(whole.numbered({}, 0), tuple(taps))


def _jumps(node: Node) -> bool:
    return node.op in _STEPS or any(node.attrs.get(name) for name in _BITS)


def _rounds(node: Node) -> bool:
    return node.op not in _EXACT and any(value.is_float for value in node.outputs)


def _is_cut(value: Value) -> bool:
    """Whether a graph may have an input in place of the value."""
    return value.is_float and not any(list(dim.derived()) for dim in value.shape)


def _is_alike(session: Any, test: TestVector, run: Run, atol: float | None) -> bool:
    """Whether the runtime computes each piece as JAX does, by the tolerance of the vector."""
    tapped = [array for array in run.tapped if array is not None]
    if len(tapped) < len(run.tapped):
        return False
    got = _outputs(session, run.entry, run.continues, (*run.inputs, *tapped))
    relative = test.relative_tolerance
    return all(
        np.allclose(
            one,
            other,
            rtol=relative,
            atol=absolute_tolerance([other], relative, atol),
            equal_nan=True,
        )
        for one, other in zip(got, (*run.outputs, *tapped), strict=True)
    )


def _outputs(
    session: Any, entry: int, continues: bool, inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    if not continues:
        session.reset()
    return session.run(list(inputs), entry=entry)
