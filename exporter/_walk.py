"""Walks a jaxpr: inlines calls, folds what is constant, and drops what nothing needs.

The order matters. Inlining and folding go together, because a folded predicate decides which
branch is inlined, and both come before dead code is dropped, because a folded predicate kills the
branch not taken. Only what survives has to have a rule, and to be computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lumina_jax._jaxpr import ClosedJaxpr, Interpreter, Site, array_type, evaluate
from lumina_jax.quantizer._params import DEQUANTIZE

from ._by_slot import BySlot
from ._folding import Folding, foldable, settle, uniform
from ._levels import Levels, of_call
from ._program import Constant, Equation, Operand, Program, Source, Variable
from ._stablehlo import jaxpr_of
from ._widen import widened
from .rules import can_be_left

# Primitives that return their operands, one by one.
_IDENTITIES = {
    "copy",
    "copy_p",
    "device_put",
    "name",
    "optimization_barrier",
    "pvary",
    "sharding_constraint",
    "stop_gradient",
}


@dataclass(frozen=True)
class Held:
    """Weights that the program reads without folding what follows from them."""

    arguments: Mapping[int, Operand] = field(default_factory=dict)
    """By the number of an argument, those and other known ones."""
    arrays: Mapping[int, Operand] = field(default_factory=dict)
    """By the id of an array in the jaxpr."""
    calls: dict[Variable, tuple[Levels, str]] = field(default_factory=dict)
    """What `lumina_dequantize` makes of constants, with the name of the codes: found on the way."""
    by_slot: BySlot | None = None
    """What puts the inputs of products in the order of their wavelengths."""


def walk(jaxpr: ClosedJaxpr, held: Held, names: Mapping[int, str]) -> Program:
    """The flat program of `jaxpr`.

    `names` has the paths of arrays that are constants of the jaxpr, by the id of the array.
    Equations are evaluated on the CPU, with the JAX configuration that is in force.
    """
    given = held.arguments
    arguments = [
        given[i] if i in given else Variable(*array_type(var))
        for i, var in enumerate(jaxpr.jaxpr.invars)
    ]
    walker = _Walker(Folding(names), held)
    outputs = walker.run(jaxpr, arguments)
    inputs = (arg for i, arg in enumerate(arguments) if i not in given)
    program = Program(
        inputs=tuple(arg for arg in inputs if isinstance(arg, Variable)),
        equations=tuple(walker.equations),
        outputs=tuple(outputs),
    )
    program = widened(program).without_dead()
    settle(program, can_be_left)
    return program


class _Walker(Interpreter[Operand]):
    def __init__(self, folding: Folding, held: Held, is_body: bool = False) -> None:
        self.folding, self.held, self.is_body = folding, held, is_body
        self.equations: list[Equation] = []

    def constant(self, array: Any) -> Operand:
        held = self.held.arrays.get(id(array))
        return self.folding.given(array) if held is None else held

    def enters(self, site: Site) -> bool:
        return site.params.get("name") != DEQUANTIZE

    def equation(self, site: Site, operands: list[Operand]) -> Sequence[Operand]:
        if site.name in _IDENTITIES:
            return operands
        if site.name == "call_exported":
            types = [array_type(atom) for atom in site.eqn.invars]
            return self.run(jaxpr_of(site.params["exported"], types), operands, site)
        first = operands[0] if operands else None
        if site.name == "cond" and isinstance(first, Constant):
            branches = site.params["branches"]
            index = min(max(int(first.data), 0), len(branches) - 1)
            return self.run(branches[index], operands[1:], replace(site, branch=index))
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        if not self.enters(site):
            coded = self._coded(site, constants) if len(constants) == len(operands) else None
            return [coded] if coded else self.run(site.params["jaxpr"], operands, site)
        is_folded = len(constants) == len(operands) and foldable(site)
        if site.name == "select_n" and isinstance(first, Constant):
            # What decides between constants alone may wait.
            case = uniform(first) if first.is_known or not is_folded else None
            if case is not None:
                return [operands[1 + int(case)]]
        if is_folded:
            return self.folding.folded(site, constants)
        if self.held.by_slot is not None and not self.is_body:
            operands = self.held.by_slot.moved(site, operands, self._moved)
        bodies, inputs = self._bodies(site, operands)
        outputs = tuple(Variable(*array_type(var)) for var in site.eqn.outvars)
        source = Source.of(site)
        self.equations.append(
            Equation(
                site.name, dict(site.params), tuple(inputs), outputs, source, bodies, site.place
            )
        )
        return outputs

    def _moved(self, taken: ClosedJaxpr, operands: list[Operand], site: Site) -> list[Operand]:
        """Lines in another order: parameters keep their names."""
        (moved,) = self.run(taken, operands, site)
        if isinstance(moved, Constant) and isinstance(operands[0], Constant):
            moved.name = operands[0].name
        return [moved]

    def _coded(self, site: Site, operands: Sequence[Constant]) -> Variable | None:
        """The weight that a call makes of codes, None where a file has no such codes."""
        arrays = [operand.array() for operand in operands]
        levels = of_call(arrays)
        if levels is None:
            return None
        (expected,) = evaluate(site.eqn, arrays)
        weight = levels.codes_for(None).weight()
        # The call may be that of something else, as of what `vmap` has made of it.
        if weight.shape != expected.shape or not np.array_equal(weight, expected, equal_nan=True):
            return None
        variable = Variable(*array_type(site.eqn.outvars[0]))
        self.held.calls[variable] = levels, operands[0].name
        return variable

    def _bodies(
        self, site: Site, operands: list[Operand]
    ) -> tuple[tuple[Program, ...], list[Operand]]:
        """What a loop repeats or a branch chooses, and the operands that are left to it.

        Operands that are the same in each trip are read where they are defined.
        """
        params = site.params
        match site.name:
            case "scan":
                count = params["num_consts"]
                body = self._body(site, params["jaxpr"], operands[:count])
                return (body,), operands[count:]
            case "while":
                split = params["cond_nconsts"]
                count = split + params["body_nconsts"]
                body = self._body(site, params["body_jaxpr"], operands[split:count])
                cond = self._body(site, params["cond_jaxpr"], operands[:split])
                return (body, cond), operands[count:]
            case "cond":
                branches = (self._body(site, body, operands[1:]) for body in params["branches"])
                return tuple(branches), operands[:1]
        return (), operands

    def _body(self, site: Site, jaxpr: ClosedJaxpr, known: Sequence[Operand]) -> Program:
        """The program of `jaxpr`, whose first arguments are `known`."""
        variables = jaxpr.jaxpr.invars[len(known) :]
        given = tuple(Variable(*array_type(var)) for var in variables)
        walker = _Walker(self.folding, self.held, is_body=True)
        outputs = walker.run(jaxpr, [*known, *given], site)
        return Program(given, tuple(walker.equations), tuple(outputs)).without_dead()
