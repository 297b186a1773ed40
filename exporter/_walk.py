"""Walks a jaxpr: inlines calls, folds what is constant, and drops what nothing needs.

The order matters. Inlining and folding go together, because a folded predicate decides which
branch is inlined, and both come before dead code is dropped, because a folded predicate kills the
branch not taken. Only what survives has to have a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import numpy as np

from . import _compat
from ._compat import ClosedJaxpr, JaxprEqn, Literal, Var
from ._program import Constant, Equation, Operand, Program, Source, Variable

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
        known.get(i) or Variable(*_compat.array_type(var))
        for i, var in enumerate(jaxpr.jaxpr.invars)
    ]
    walker = _Walker(names)
    with jax.default_device(jax.devices("cpu")[0]):
        outputs = walker.inline(jaxpr, arguments, None)
    program = Program(
        inputs=tuple(arg for arg in arguments if isinstance(arg, Variable)),
        equations=tuple(walker.equations),
        outputs=tuple(outputs),
    )
    return program.without_dead()


class _Walker:
    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self.equations: list[Equation] = []

    def inline(
        self, jaxpr: ClosedJaxpr, arguments: Sequence[Operand], caller: Source | None
    ) -> list[Operand]:
        """Walks the equations of `jaxpr` applied to `arguments`; returns its results."""
        known: dict[Var, Operand] = {}

        def read(atom: Var | Literal) -> Operand:
            if isinstance(atom, Literal):
                return Constant(np.asarray(atom.val, _compat.array_type(atom)[1]))
            return known[atom]

        constants = [Constant.of(value, self.names.get(id(value), "")) for value in jaxpr.consts]
        known.update(zip(jaxpr.jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))
        for eqn in jaxpr.jaxpr.eqns:
            results = self._equation(eqn, [read(atom) for atom in eqn.invars], caller)
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.jaxpr.outvars]

    def _equation(
        self, eqn: JaxprEqn, operands: list[Operand], caller: Source | None
    ) -> list[Operand]:
        name = eqn.primitive.name
        if name in _IDENTITIES:
            return operands
        source = _source(eqn, caller)
        called = _compat.called_jaxpr(eqn)
        if called is not None:
            return self.inline(called, operands, source)
        constants = [operand for operand in operands if isinstance(operand, Constant)]
        if name == "cond" and isinstance(operands[0], Constant):
            branches = eqn.params["branches"]
            index = min(max(int(operands[0].data), 0), len(branches) - 1)
            return self.inline(_compat.closed(branches[index]), operands[1:], source)
        if name == "select_n" and isinstance(operands[0], Constant):
            case = _uniform(operands[0])
            if case is not None:
                return [operands[1 + case]]
        if len(constants) == len(operands) and _foldable(eqn):
            return list(_fold(eqn, constants))
        outputs = tuple(Variable(*_compat.array_type(var)) for var in eqn.outvars)
        self.equations.append(Equation(name, dict(eqn.params), tuple(operands), outputs, source))
        return list(outputs)


def _foldable(eqn: JaxprEqn) -> bool:
    return not eqn.effects and not _compat.mentions_symbol(eqn)


def _fold(eqn: JaxprEqn, operands: Sequence[Constant]) -> list[Constant]:
    results = [Constant.of(r) for r in _compat.evaluate(eqn, [c.data for c in operands])]
    if eqn.primitive.name in _RENAMINGS and results[0].data.size == operands[0].data.size:
        return [replace(results[0], name=operands[0].name)]
    return results


def _uniform(predicate: Constant) -> int | None:
    """The case that a `select_n` takes everywhere, or None."""
    values = np.unique(predicate.data)
    return int(values[0]) if values.size == 1 else None


def _source(eqn: JaxprEqn, caller: Source | None) -> Source | None:
    outer = caller.scope if caller else ""
    scope = "/".join(filter(None, (outer, _compat.scope(eqn))))
    frame = _compat.user_frame(eqn)
    if frame is None and caller is not None:
        return replace(caller, scope=scope)
    frame = frame or _compat.user_frame(eqn, libraries=True)
    return Source(*frame, scope=scope) if frame else None
