"""Walks a jaxpr: inlines calls, folds what is constant, and drops what nothing needs.

The order matters. Inlining and folding go together, because a folded predicate decides which
branch is inlined, and both come before dead code is dropped, because a folded predicate kills the
branch not taken. Only what survives has to have a rule, and to be computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lumina_jax._jaxpr import ClosedJaxpr, Interpreter, Site, array_type

from ._folding import Folding, foldable, settle, uniform
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


def walk(jaxpr: ClosedJaxpr, known: Mapping[int, Constant], names: Mapping[int, str]) -> Program:
    """The flat program of `jaxpr`, whose argument number i has the constant value `known[i]`.

    `names` has the paths of arrays that are constants of the jaxpr, by the id of the array.
    Equations are evaluated on the CPU, with the JAX configuration that is in force.
    """
    arguments = [
        known.get(i) or Variable(*array_type(var)) for i, var in enumerate(jaxpr.jaxpr.invars)
    ]
    walker = _Walker(Folding(names))
    outputs = walker.run(jaxpr, arguments)
    program = Program(
        inputs=tuple(arg for arg in arguments if isinstance(arg, Variable)),
        equations=tuple(walker.equations),
        outputs=tuple(outputs),
    )
    program = widened(program).without_dead()
    settle(program, can_be_left)
    return program


class _Walker(Interpreter[Operand]):
    def __init__(self, folding: Folding) -> None:
        self.folding = folding
        self.equations: list[Equation] = []

    def constant(self, array: Any) -> Constant:
        return self.folding.given(array)

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
            return self.run(branches[index], operands[1:], site)
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        is_folded = len(constants) == len(operands) and foldable(site)
        if site.name == "select_n" and isinstance(first, Constant):
            # What decides between constants alone may wait.
            case = uniform(first) if first.is_known or not is_folded else None
            if case is not None:
                return [operands[1 + int(case)]]
        if is_folded:
            return self.folding.folded(site, constants)
        bodies, inputs = self._bodies(site, operands)
        outputs = tuple(Variable(*array_type(var)) for var in site.eqn.outvars)
        source = Source.of(site)
        self.equations.append(
            Equation(site.name, dict(site.params), tuple(inputs), outputs, source, bodies)
        )
        return outputs

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
        walker = _Walker(self.folding)
        outputs = walker.run(jaxpr, [*known, *given], site)
        return Program(given, tuple(walker.equations), tuple(outputs)).without_dead()
