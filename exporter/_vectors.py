"""Test vectors: what JAX computes for the example arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import Interpreter, Place, Site, evaluate
from lumina_jax._progress import Bar

from ._arguments import test_inputs
from ._by_slot import BySlot
from ._entry import Entry
from ._graph import DType, TestVector
from ._tolerance import absolute_tolerance, tolerance
from ._tracing import check_constants, constants_of_jaxpr, refused
from ._types import is_key

# Primitives that say on which devices an array lies.
_PLACES = {"device_put", "sharding_constraint"}


Tap = tuple[Place, int]
"""A value that an equation reads: where the equation is, and the number of the operand."""


@dataclass(frozen=True)
class Run:
    """What JAX computes in one run of an entry point."""

    entry: int
    """Number of the entry point."""
    continues: bool
    """Whether it begins with the states that the run before it has left."""
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    tapped: tuple[np.ndarray | None, ...]
    """The value of each tap; None where JAX has no such equation for these inputs."""


class Reference:
    """What JAX computes on the CPU with the whole of an entry point under one jit.

    Arrays that the function closes over are arguments of the compiled program: as constants, XLA
    would fold them, copy them and print them, which takes minutes for a large network.
    """

    def __init__(self, entry: Entry, taps: Sequence[Tap] = ()) -> None:
        self.entry, self.taps = entry, taps
        self.cpu = jax.devices("cpu")[0]
        self._compiled: dict[Any, tuple[Any, list[Any]]] = {}

    def run(
        self, states: Sequence[Any], inputs: Sequence[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The outputs, the states after the run, and the values of the taps, all flat."""
        arguments = jax.device_put((*self.entry.weights, *states, *inputs), self.cpu)
        key = tuple((array.shape, array.dtype) for array in arguments)
        with jax.default_device(self.cpu):
            try:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(arguments)
                run, constants = self._compiled[key]
                results, tapped = run(constants, arguments)
            except Exception as fault:
                # It has been traced, but with symbols, which are no number that it may look at.
                is_other = any(argument.is_symbolic for argument in self.entry.found)
                shapes = [array.shape for array in inputs] if is_other else None
                told = refused(self.entry.title, fault, shapes)
                if told is None:
                    raise
                raise told from fault
        split = len(results) - len(states)
        return results[:split], results[split:], tapped

    def _compile(self, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
        jaxpr = self.entry.jaxpr or jax.make_jaxpr(self.entry.flat)(*arguments)
        constants = constants_of_jaxpr(jaxpr)
        check_constants(constants)
        places = {id(constant): place for place, constant in enumerate(constants)}
        constants = [self.entry.rounded.get(id(constant), constant) for constant in constants]

        @jax.jit
        def run(constants: Sequence[Any], arguments: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            replaced = _Replaced(places, constants, self.entry.by_slot, self.taps)
            results = replaced.run(jaxpr, arguments)
            return results, [replaced.tapped.get(tap) for tap in self.taps]

        return run, jax.device_put(constants, self.cpu)


def test_vectors(
    entries: Sequence[Entry],
    states: Sequence[Any],
    atol: float | None,
    rtol: float | None,
    bar: Bar,
) -> tuple[TestVector, ...]:
    """Vectors of all entry points.

    Each begins with the states that are given, but for some at first, by which the states that an
    entry point leaves are seen by the next.

    Without `rtol` the relative tolerance is that of the graph, and without `atol` the absolute one
    is the relative one of numbers as large as the outputs.
    """
    tests = []
    for run in runs([Reference(entry) for entry in entries], states, bar):
        relative = tolerance(entries[run.entry].graph) if rtol is None else rtol
        tests.append(
            TestVector(
                inputs=run.inputs,
                outputs=run.outputs,
                absolute_tolerance=absolute_tolerance(run.outputs, relative, atol),
                relative_tolerance=relative,
                entry=run.entry,
                continues=run.continues,
            )
        )
    return tuple(tests)


def runs(references: Sequence[Reference], states: Sequence[Any], bar: Bar) -> Iterator[Run]:
    """The runs of all entry points, in the order of the test vectors."""
    with jax.default_device(jax.devices("cpu")[0]):
        inputs = [test_inputs(reference.entry.found) for reference in references]
    plan = [(number, one, False) for number, all_ in enumerate(inputs) for one in all_]
    if states:
        followers = [*range(1, len(references)), len(references) - 1]
        plan[1:1] = [(number, inputs[number][0], True) for number in followers]
    now = states
    with bar("export: test vectors", "vector", len(plan)) as advance:
        for number, given, continues in plan:
            outputs, now, tapped = references[number].run(now if continues else states, given)
            yield Run(
                entry=number,
                continues=continues,
                inputs=tuple(map(_stored, given)),
                outputs=tuple(map(_stored, outputs)),
                tapped=tuple(None if array is None else _stored(array) for array in tapped),
            )
            advance(1)


class _Replaced(Interpreter[Any]):
    """Runs a jaxpr on arrays, with other arrays in place of its constants, on one device."""

    def __init__(
        self,
        places: dict[int, int],
        arrays: Sequence[Any],
        by_slot: BySlot | None,
        taps: Sequence[Tap],
    ) -> None:
        self.places, self.arrays, self.by_slot, self.taps = places, arrays, by_slot, taps
        self.tapped: dict[Tap, Any] = {}

    def constant(self, array: Any) -> Any:
        place = self.places.get(id(array))
        return array if place is None else self.arrays[place]

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        if self.by_slot is not None:
            operands = self.by_slot.moved(site, operands, self.run)
        place = site.place
        if place is not None and site.name == "cond":
            inside = (tap for tap, _ in self.taps if tap[: len(place)] == place)
            branch = next((tap[len(place)] for tap in inside), None)
            if branch is not None:  # the one that is taken, as there is a tap in it
                taken = site.params["branches"][branch]
                return self.run(taken, operands[1:], replace(site, branch=branch))
        elif place is not None:
            self.tapped.update({(place, n): operand for n, operand in enumerate(operands)})
        return operands if site.name in _PLACES else evaluate(site.eqn, operands)


def _stored(array: Any) -> np.ndarray:
    data = np.asarray(jax.random.key_data(array) if is_key(array.dtype) else array)
    dtype = DType.of(data.dtype)
    assert dtype is not None, f"lowering accepted {data.dtype}"
    return np.ascontiguousarray(data, dtype.numpy).reshape(data.shape)
