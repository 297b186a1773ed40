"""Turns a flat program into the graph of a `.lmn` file, one rule per primitive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ._dim import Shape
from ._errors import COMPLEX, Fault, Unsupported
from ._folding import Folded
from ._graph import (
    Attr,
    DType,
    Graph,
    Node,
    Port,
    Region,
    Role,
    State,
    Tensor,
    Value,
    needed,
    region_of,
)
from ._ops import infer
from ._program import Constant, Equation, Operand, Program, Variable
from ._types import fact, is_key, is_raw_key, type_names
from ._widen import widened

# A folded constant of repeated lines is stored without them above this many elements.
_REPEATED = 64

Rule = Callable[["Context"], Sequence[Value]]


class Context:
    """One equation, as a rule sees it: what it reads, and how to write nodes."""

    def __init__(self, builder: _Builder, equation: Equation) -> None:
        self._builder = builder
        self._source = str(equation.source or "")
        self.primitive = equation.primitive
        self.params = equation.params
        self.inputs = equation.inputs
        self.outputs = equation.outputs
        self.bodies = equation.bodies

    @property
    def while_limit(self) -> int:
        """Trips of a loop at most whose number is not known."""
        return self._builder.while_limit

    def region(self, body: Program) -> Region:
        """A body of the equation as a region."""
        return self._builder.region(body)

    def value(self, operand: Operand) -> Value:
        """The graph value of `operand`; a constant becomes a tensor."""
        return self._builder.value(operand)

    def producer(self, value: Value) -> Node | None:
        """The node that `value` is the result of, None for inputs and tensors."""
        return self._builder.producers.get(value.id)

    def require(self, index: int, *dtypes: str) -> Value:
        """The value of input number `index`, which must have one of the `dtypes`."""
        value = self.value(self.inputs[index])
        if value.dtype.name not in dtypes:
            if value.dtype.numpy.kind == "c":
                raise Unsupported(f"operand {index} is {value.dtype}; {COMPLEX}")
            raise Unsupported(
                f"operand {index} is {value.dtype}, expected {type_names(dtypes)}; "
                "cast it before this line"
            )
        return value

    def require_result(self, dtype: str) -> None:
        """Raises unless the first result has the type `dtype`."""
        got, _ = fact((), self.outputs[0].dtype)
        if got.name != dtype:
            raise Unsupported(f"the result is {got}, expected {dtype}; cast it after this line")

    def ints(self, param: str) -> tuple[int, ...]:
        """A parameter that is a tuple of integers; raises Unsupported where one is a symbol."""
        found = self.params[param]
        if any(map(jax.export.is_symbolic_dim, found)):
            raise Unsupported(
                f"its `{param}` is {tuple(found)}, expected numbers; export with fixed extents"
            )
        return tuple(int(item) for item in found)

    def is_used(self, index: int) -> bool:
        """Whether anything reads result number `index`."""
        return self.outputs[index] in self._builder.used

    def stand_in(self, index: int) -> Value:
        """A value for result number `index`, which nothing may read."""
        return self._builder.result(self.outputs[index], self._source)

    def is_key(self) -> bool:
        """Whether the first result is a typed PRNG key, which the graph holds as u32[..., 2]."""
        return is_key(self.outputs[0].dtype)

    def node(
        self,
        op: str = "",
        inputs: Sequence[Operand | Value] | None = None,
        **attrs: Attr,
    ) -> list[Value]:
        """Adds a node and returns its outputs.

        Unless given, `op` is the name of the primitive, and the inputs are those of the equation.
        """
        operands = self.inputs if inputs is None else inputs
        return self._builder.node(op or self.primitive, operands, attrs, self._source)


Shared = dict[tuple[str, DType, tuple[int, ...], bytes], np.ndarray]
"""Constants of several graphs by name, type, shape and a hash of what is in them."""


def lower(
    program: Program,
    names: Sequence[str],
    result_names: Sequence[str],
    rule_of: Callable[[str], Rule],
    while_limit: int,
    states: Mapping[str, Constant],
    shared: Shared,
) -> tuple[Graph, list[Fault]]:
    """The graph of `program`, and what in it cannot be exported.

    Args:
      names: path of each program input that is no state.
      result_names: path of each program output that is no state.
      rule_of: the rule for the name of a primitive; raises Unsupported where there is none.
      while_limit: trips of a loop at most whose number is not known.
      states: names and initial values of the states, which are the first inputs of the program and
        its last outputs.
      shared: constants of other graphs, and then of this one: equal ones are one array.
    """
    builder = _Builder(program, rule_of, while_limit, shared)
    before = [
        builder.result(variable, f"state `{name}`")
        for name, variable in zip(states, program.inputs, strict=False)
    ]
    inputs = []
    for name, variable in zip(names, program.inputs[len(states) :], strict=True):
        value = builder.result(variable, f"argument `{name}`")
        inputs.append(Port(value, name, _role(variable)))
    for equation in program.equations:
        builder.equation(equation)
    results: list[Value] = []
    subjects = [*(f"result `{n}`" for n in result_names), *(f"state `{n}`" for n in states)]
    for subject, operand in zip(subjects, program.outputs, strict=True):
        try:
            results.append(builder.value(operand))
        except Unsupported as fault:
            builder.fault(fault, "constant", subject)
    if builder.faults:
        return Graph((), (), (), ()), builder.faults
    outputs = [Port(value, name) for value, name in zip(results, result_names, strict=False)]
    after = results[len(result_names) :]
    initial = [builder.initial(constant) for constant in states.values()]
    kept = map(State, before, after, states, initial)
    graph = Graph(
        tuple(inputs), tuple(builder.tensors), tuple(builder.nodes), tuple(outputs), tuple(kept)
    )
    return graph.without_dead(), []


def _role(variable: Variable) -> Role:
    typed = is_key(variable.dtype) and variable.shape == ()
    return Role.NOISE_SEED if typed or is_raw_key(variable) else Role.PLAIN


class _Builder:
    """The nodes of one scope: of the graph, or of a region in the scope of `around`."""

    def __init__(
        self,
        program: Program,
        rule_of: Callable[[str], Rule],
        while_limit: int,
        shared: Shared,
        around: _Builder | None = None,
    ) -> None:
        read = (operand for equation in program.equations for operand in equation.reads)
        self.used = {*read, *program.outputs}
        self.while_limit = while_limit
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self.faults: list[Fault] = [] if around is None else around.faults
        self.producers: dict[int, Node] = {}
        self._rule_of, self._around, self._shared = rule_of, around, shared
        self._captures: dict[Value, Value] = {}
        self._values: dict[Operand, Value] = {}
        self._by_content: dict[tuple[str, DType, tuple[int, ...], bytes], Value] = {}
        self._computed: dict[tuple[object, ...], tuple[Value, ...]] = {}
        self._next = 0

    def region(self, body: Program) -> Region:
        """The nodes of `body` in a scope of their own."""
        inner = _Builder(body, self._rule_of, self.while_limit, self._shared, self)
        inputs = [inner.result(variable, "a loop") for variable in body.inputs]
        for equation in body.equations:
            inner.equation(equation)
        outputs = [inner.value(operand) for operand in body.outputs]
        return inner.finished(inputs, outputs)

    def finished(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Region:
        """The region, with the values that it needs in order."""
        if self.faults:  # stand-ins have no order, but types, which are all that is looked at
            return Region((), tuple(inputs), (), tuple(outputs))
        nodes, live = needed(self.nodes, outputs)
        captures = {own: outer for outer, own in self._captures.items() if own.id in live}
        return region_of(captures, inputs, nodes, outputs)

    def fault(self, fault: Unsupported, subject: str, where: str, scope: str = "") -> None:
        self.faults.append(Fault(fault.subject or subject, fault.reason, where, scope))

    def equation(self, equation: Equation) -> None:
        source = equation.source
        where, scope = (source.path(), source.scope) if source else ("no source line", "")
        faults = len(self.faults)
        try:
            self._write(equation)
        except Unsupported as fault:
            self.fault(fault, f"`{equation.primitive}`", where, scope)
        except ValueError:
            if not self.faults:  # else it may have read the stand-in for what has no counterpart
                raise
        # After a fault the walk goes on, to find the others, with values of the right type.
        for variable in equation.outputs:
            if variable not in self._values:
                self.result(variable, where, scope, silent=len(self.faults) > faults)

    def _write(self, equation: Equation) -> None:
        """The nodes of an equation; raises Unsupported where there are none."""
        rule = self._rule_of(equation.primitive)
        expected = [fact(variable.shape, variable.dtype) for variable in equation.outputs]
        first = len(self.nodes)
        results = rule(Context(self, equation))
        self._place(equation, first)
        got = [(value.dtype, value.shape) for value in results]
        if got != expected:
            raise ValueError(f"`{equation.primitive}` gives {expected}, its nodes give {got}")
        self._values.update(zip(equation.outputs, results, strict=True))

    def _place(self, equation: Equation, first: int) -> None:
        """Notes the place of the equation in its nodes, from number `first` on.

        These are nodes that read what it reads, and no more.
        """
        reads = tuple(map(self._values.get, equation.inputs))
        for at in range(first, len(self.nodes)):
            if self.nodes[at].inputs == reads:
                self.nodes[at] = replace(self.nodes[at], place=equation.place)

    def result(
        self, variable: Variable, where: str, scope: str = "", silent: bool = False
    ) -> Value:
        """A new value for `variable`, of a stand-in type where its own has no counterpart."""
        try:
            dtype, extents = fact(variable.shape, variable.dtype)
        except Unsupported as fault:
            if not silent:
                self.fault(fault, "value", where, scope)
            dtype, extents = DType.named("f32"), Shape()
        self._values[variable] = self._new(dtype, extents)
        return self._values[variable]

    def value(self, operand: Operand) -> Value:
        if operand not in self._values:
            if self._around is not None:
                self._values[operand] = self._captured(self._around.value(operand))
            else:
                assert isinstance(operand, Constant), "a variable is read before it is defined"
                self._values[operand] = self._constant(operand)
        return self._values[operand]

    def _captured(self, outer: Value) -> Value:
        if outer not in self._captures:
            self._captures[outer] = self._new(outer.dtype, outer.shape)
        return self._captures[outer]

    def node(
        self,
        op: str,
        inputs: Sequence[Operand | Value],
        attrs: dict[str, Attr],
        source: str,
    ) -> list[Value]:
        """Outputs of the node; the same op of the same values is computed once."""
        attrs = {name: _plain(attr) for name, attr in attrs.items()}
        reads = tuple(x if isinstance(x, Value) else self.value(x) for x in inputs)
        key = (op, reads, tuple(sorted(attrs.items())))
        if key not in self._computed:
            outputs = infer(op, reads, attrs)
            self._computed[key] = tuple(self._new(dtype, extents) for dtype, extents in outputs)
            node = Node(op, reads, self._computed[key], attrs, source)
            self.nodes.append(node)
            self.producers.update((value.id, node) for value in node.outputs)
        return list(self._computed[key])

    def _new(self, dtype: DType, extents: Shape) -> Value:
        self._next += 1
        return Value(self._next - 1, dtype, extents)

    def _constant(self, constant: Constant) -> Value:
        if isinstance(constant, Folded) and constant.is_left:
            try:
                return self._left(constant)
            except Unsupported:  # then it is computed here
                pass
        dtype, extents = fact(constant.shape, constant.dtype)
        data = np.ascontiguousarray(constant.array(), dtype.numpy).reshape(extents.evaluate({}))
        if not constant.name and data.size > _REPEATED:
            once = _once(data)
            if once.size < data.size:
                kept = tuple(axis for axis, extent in enumerate(once.shape) if extent > 1)
                part = self._tensor(dtype, once.squeeze().copy(), "")
                attrs: dict[str, Attr] = {"shape": extents, "broadcast_dimensions": kept}
                return self.node("broadcast_in_dim", [part], attrs, "")[0]
        return self._tensor(dtype, data, constant.name)

    def _left(self, constant: Folded) -> Value:
        """What computes a constant when the model runs; raises Unsupported where nothing does."""
        equation = constant.equation()
        for part in widened(Program((), (equation,), ())).equations:
            self._write(part)
        results = zip(constant.step.results, equation.outputs, strict=True)
        self._values.update((result, self._values[variable]) for result, variable in results)
        return self._values[constant]

    def initial(self, constant: Constant) -> Value | None:
        """The tensor with the initial value of a state; None where all of it is zero."""
        dtype, extents = fact(constant.shape, constant.dtype)
        data = np.ascontiguousarray(constant.array(), dtype.numpy).reshape(extents.evaluate({}))
        if not _bytes(data).any():
            return None
        once = _once(data)
        return self._tensor(dtype, once.reshape(()) if once.size == 1 else data, "")

    def _tensor(self, dtype: DType, data: np.ndarray, name: str) -> Value:
        data = np.asarray(data)
        digest = hashlib.sha256(_bytes(data)).digest()
        keys = [(n, dtype, data.shape, digest) for n in dict.fromkeys((name, ""))]
        # An unnamed constant may be any equal tensor; a parameter is only itself.
        found = self._by_content.get(keys[0])
        if found is None:
            found = self._new(dtype, Shape.of(data.shape))
            data = self._shared.setdefault(keys[0], data)
            self.tensors.append(Tensor(found, name, data))
            for key in keys:
                self._by_content.setdefault(key, found)
        return found


def _once(data: np.ndarray) -> np.ndarray:
    """The array without repetition: an axis of equal lines has the first one alone.

    Lines are compared by their bytes.
    """
    for axis in range(data.ndim):
        first = data[(slice(None),) * axis + (slice(1),)]
        second = data[(slice(None),) * axis + (slice(1, 2),)]
        if second.size and _equal(first, second) and _equal(first, data):
            data = first
    return data


def _equal(one: np.ndarray, all_of_it: np.ndarray) -> bool:
    words = np.dtype(f"V{one.dtype.itemsize}")
    return bool((one.view(words) == all_of_it.view(words)).all())


def _bytes(data: np.ndarray) -> Any:
    """The bytes of a row-major array, which are not copied."""
    return data.reshape(-1).view(np.uint8)


def _plain(attr: Attr) -> Attr:
    """Integers where no extent is symbolic: padding, for one, may be negative, and extents not."""
    known = attr.constant() if isinstance(attr, Shape) else None
    return attr if known is None else known
