"""Test vectors: what JAX computes for the example arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import Interpreter, Site, evaluate
from lumina_jax._progress import Bar

from ._arguments import test_inputs
from ._by_slot import BySlot
from ._entry import Entry
from ._graph import DType, TestVector
from ._tolerance import scale, tolerance
from ._tracing import check_constants, constants_of_jaxpr, refused
from ._types import is_key

# Primitives that say on which devices an array lies.
_PLACES = {"device_put", "sharding_constraint"}


class Reference:
    """What JAX computes on the CPU with the whole of an entry point under one jit.

    Arrays that the function closes over are arguments of the compiled program: as constants, XLA
    would fold them, copy them and print them, which takes minutes for a large network.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.cpu = jax.devices("cpu")[0]
        self._compiled: dict[Any, tuple[Any, list[Any]]] = {}

    def run(self, states: Sequence[Any], inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The outputs and the states after the run, both flat."""
        arguments = jax.device_put((*self.entry.weights, *states, *inputs), self.cpu)
        key = tuple((array.shape, array.dtype) for array in arguments)
        with jax.default_device(self.cpu):
            try:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(arguments)
                run, constants = self._compiled[key]
                results = run(constants, arguments)
            except Exception as fault:
                # It has been traced, but with symbols, which are no number that it may look at.
                is_other = any(argument.is_symbolic for argument in self.entry.found)
                shapes = [array.shape for array in inputs] if is_other else None
                told = refused(self.entry.title, fault, shapes)
                if told is None:
                    raise
                raise told from fault
        split = len(results) - len(states)
        return results[:split], results[split:]

    def _compile(self, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
        jaxpr = self.entry.jaxpr or jax.make_jaxpr(self.entry.flat)(*arguments)
        constants = constants_of_jaxpr(jaxpr)
        check_constants(constants)
        places = {id(constant): place for place, constant in enumerate(constants)}
        constants = [self.entry.rounded.get(id(constant), constant) for constant in constants]

        @jax.jit
        def run(constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
            return _Replaced(places, constants, self.entry.by_slot).run(jaxpr, arguments)

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
    with jax.default_device(jax.devices("cpu")[0]):
        inputs = [test_inputs(entry.found) for entry in entries]
    plan = [(number, one, False) for number, all_ in enumerate(inputs) for one in all_]
    if states:
        followers = [*range(1, len(entries)), len(entries) - 1]
        plan[1:1] = [(number, inputs[number][0], True) for number in followers]
    references = [Reference(entry) for entry in entries]
    tests, now = [], states
    with bar("export: test vectors", "vector", len(plan)) as advance:
        for number, given, continues in plan:
            outputs, now = references[number].run(now if continues else states, given)
            stored = tuple(_stored(array) for array in outputs)
            relative = tolerance(entries[number].graph) if rtol is None else rtol
            tests.append(
                TestVector(
                    inputs=tuple(_stored(array) for array in given),
                    outputs=stored,
                    absolute_tolerance=relative * scale(stored) if atol is None else atol,
                    relative_tolerance=relative,
                    entry=number,
                    continues=continues,
                )
            )
            advance(1)
    return tuple(tests)


class _Replaced(Interpreter[Any]):
    """Runs a jaxpr on arrays, with other arrays in place of its constants, on one device."""

    def __init__(
        self, places: dict[int, int], arrays: Sequence[Any], by_slot: BySlot | None
    ) -> None:
        self.places, self.arrays, self.by_slot = places, arrays, by_slot

    def constant(self, array: Any) -> Any:
        place = self.places.get(id(array))
        return array if place is None else self.arrays[place]

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        if self.by_slot is not None:
            operands = self.by_slot.moved(site, operands, self.run)
        return operands if site.name in _PLACES else evaluate(site.eqn, operands)


def _stored(array: Any) -> np.ndarray:
    data = np.asarray(jax.random.key_data(array) if is_key(array.dtype) else array)
    dtype = DType.of(data.dtype)
    assert dtype is not None, f"lowering accepted {data.dtype}"
    return np.ascontiguousarray(data, dtype.numpy).reshape(data.shape)
