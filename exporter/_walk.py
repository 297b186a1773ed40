"""Walks a jaxpr: inlines calls, folds what is constant, and drops what nothing needs.

The order matters. Inlining and folding go together, because a folded predicate decides which
branch is inlined, and both come before dead code is dropped, because a folded predicate kills the
branch not taken. Only what survives has to have a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import ClosedJaxpr, Interpreter, Site, array_type, evaluate, sites

from ._program import Constant, Equation, Operand, Program, Source, Variable
from ._widen import widened

# Primitives that return their operands, one by one.
_IDENTITIES = {
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "pvary",
    "sharding_constraint",
    "stop_gradient",
}

# Primitives that move or repeat elements but keep their order: a parameter keeps its name.
_RENAMINGS = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim"}


def walk(jaxpr: ClosedJaxpr, known: Mapping[int, Constant], names: Mapping[int, str]) -> Program:
    """The flat program of `jaxpr`, whose argument number i has the constant value `known[i]`.

    `names` has the paths of arrays that are constants of the jaxpr, by the id of the array.
    Equations are evaluated on the CPU, with the JAX configuration that is in force.
    """
    arguments = [
        known.get(i) or Variable(*array_type(var)) for i, var in enumerate(jaxpr.jaxpr.invars)
    ]
    walker = _Walker(names)
    with jax.default_device(jax.devices("cpu")[0]):
        outputs = walker.run(jaxpr, arguments)
    program = Program(
        inputs=tuple(arg for arg in arguments if isinstance(arg, Variable)),
        equations=tuple(walker.equations),
        outputs=tuple(outputs),
    )
    return widened(program).without_dead()


class _Walker(Interpreter[Operand]):
    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self.equations: list[Equation] = []

    def constant(self, array: Any) -> Constant:
        return Constant.of(array, self.names.get(id(array), ""))

    def equation(self, site: Site, operands: list[Operand]) -> Sequence[Operand]:
        if site.name in _IDENTITIES:
            return operands
        first = operands[0] if operands else None
        if site.name == "cond" and isinstance(first, Constant):
            branches = site.params["branches"]
            index = min(max(int(first.data), 0), len(branches) - 1)
            return self.run(branches[index], operands[1:], site)
        if site.name == "select_n" and isinstance(first, Constant):
            case = _uniform(first)
            if case is not None:
                return [operands[1 + case]]
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        if len(constants) == len(operands) and _foldable(site):
            return _fold(site, constants)
        bodies, inputs = self._bodies(site, operands)
        outputs = tuple(Variable(*array_type(var)) for var in site.eqn.outvars)
        source = Source(*site.frame, scope=site.scope) if site.frame else None
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
        walker = _Walker(self.names)
        outputs = walker.run(jaxpr, [*known, *given], site)
        return Program(given, tuple(walker.equations), tuple(outputs)).without_dead()


def _foldable(site: Site) -> bool:
    """Whether its results are arrays: there is no effect, and no symbolic extent in it."""
    inner = (inside for body in site.bodies for inside in sites(body, caller=site))
    return not site.eqn.effects and not any(map(_mentions_symbol, (site, *inner)))


def _mentions_symbol(site: Site) -> bool:
    shapes = [array_type(var)[0] for var in site.eqn.outvars]
    return _symbolic(shapes) or _symbolic(tuple(site.params.values()))


def _symbolic(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_symbolic(item) for item in value)
    return jax.export.is_symbolic_dim(value)


def _fold(site: Site, operands: Sequence[Constant]) -> list[Constant]:
    results = [Constant.of(r) for r in evaluate(site.eqn, [c.data for c in operands])]
    if site.name in _RENAMINGS and results[0].data.size == operands[0].data.size:
        return [replace(results[0], name=operands[0].name)]
    return results


def _uniform(predicate: Constant) -> int | None:
    """The case that a `select_n` takes everywhere, or None."""
    values = np.unique(predicate.data)
    return int(values[0]) if values.size == 1 else None
