"""Test vectors: what JAX computes for the example arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import ClosedJaxpr, Interpreter, Site, evaluate, sites

from ._arguments import Argument, test_inputs
from ._graph import DType, TestVector
from ._tolerance import scale
from ._tracing import check_constants, refused
from ._types import is_key

# Primitives that say on which devices an array lies.
_PLACES = {"device_put", "sharding_constraint"}


def test_vectors(
    flat: Callable[..., Any],
    weights: Sequence[Any],
    found: Sequence[Argument],
    atol: float | None,
    rtol: float,
    title: str,
) -> tuple[TestVector, ...]:
    """What JAX computes on the CPU with the whole of `flat(*weights, *inputs)` under one jit.

    `title` is the name of the function, for messages. Without `atol` the absolute tolerance is the
    relative one of numbers as large as the outputs.
    """
    tests = []
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        for inputs in test_inputs(found):
            arguments = jax.device_put((*weights, *inputs), cpu)
            try:
                outputs = _compute(flat, arguments, cpu)
            except Exception as fault:
                # It has been traced, but with symbols, which are no number that it may look at.
                is_other = any(argument.is_symbolic for argument in found)
                shapes = [array.shape for array in inputs] if is_other else None
                told = refused(title, fault, shapes)
                if told is None:
                    raise
                raise told from fault
            stored = tuple(_stored(array) for array in outputs)
            tests.append(
                TestVector(
                    inputs=tuple(_stored(array) for array in inputs),
                    outputs=stored,
                    absolute_tolerance=rtol * scale(stored) if atol is None else atol,
                    relative_tolerance=rtol,
                )
            )
    return tuple(tests)


def _compute(flat: Callable[..., Any], arguments: Sequence[Any], cpu: Any) -> list[Any]:
    """The results of `flat`, flat.

    Arrays that it closes over are arguments of the compiled program: as constants, XLA would fold
    them, copy them and print them, which takes minutes for a large network.
    """
    jaxpr = jax.make_jaxpr(flat)(*arguments)
    constants = _constants(jaxpr)
    check_constants(constants)
    places = {id(constant): place for place, constant in enumerate(constants)}

    @jax.jit
    def run(constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        return _Replaced(places, constants).run(jaxpr, arguments)

    return run(jax.device_put(constants, cpu), arguments)


def _constants(jaxpr: ClosedJaxpr) -> list[Any]:
    """The arrays in `jaxpr` and in those inside it, each once."""
    bodies = [jaxpr, *(body for site in sites(jaxpr) for body in site.bodies)]
    return list({id(array): array for body in bodies for array in body.consts}.values())


class _Replaced(Interpreter[Any]):
    """Runs a jaxpr on arrays, with other arrays in place of its constants, on one device."""

    def __init__(self, places: dict[int, int], arrays: Sequence[Any]) -> None:
        self.places, self.arrays = places, arrays

    def constant(self, array: Any) -> Any:
        place = self.places.get(id(array))
        return array if place is None else self.arrays[place]

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        return operands if site.name in _PLACES else evaluate(site.eqn, operands)


def _stored(array: Any) -> np.ndarray:
    data = np.asarray(jax.random.key_data(array) if is_key(array.dtype) else array)
    dtype = DType.of(data.dtype)
    assert dtype is not None, f"lowering accepted {data.dtype}"
    return np.ascontiguousarray(data, dtype.numpy).reshape(data.shape)
