"""The graph that goes into a `.lmn` file, as plain Python: no tracing and no protobuf in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count

import numpy as np

from lumina_jax._native import _lumina

from ._device import Product
from ._dim import Derived, Dim, Shape


@dataclass(frozen=True)
class DType:
    """An element type of a `.lmn` file: a row of the table in the Rust module."""

    name: str
    """The name in messages: "f32"."""
    number: int
    """The number in files."""
    numpy: np.dtype
    """The NumPy dtype, little endian as in the file."""

    @staticmethod
    def of(dtype: np.dtype) -> DType | None:
        """The element type for a NumPy dtype, or None where the format has none."""
        return next((known for known in DTYPES if known.numpy == dtype), None)

    @staticmethod
    def named(name: str | int) -> DType:
        """The element type of that name, in messages or in NumPy, or of that number."""
        if name not in _BY_NAME:
            raise ValueError(f"there is no element type {name!r}")
        return _BY_NAME[name]

    def __str__(self) -> str:
        return self.name


DTYPES = tuple(
    DType(name, number, np.dtype(numpy).newbyteorder("<"))
    for name, numpy, number in _lumina.dtypes()
)
_BY_NAME = {key: known for known in DTYPES for key in (known.name, known.number, known.numpy.name)}


class Role(Enum):
    """What a graph input means beyond its type."""

    PLAIN = "plain"
    NOISE_SEED = "noise_seed"


@dataclass(frozen=True)
class Value:
    """An SSA value: one graph input, tensor or node output."""

    id: int
    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype}{self.shape}"

    @property
    def is_float(self) -> bool:
        """Whether its elements are real or complex numbers, which arithmetic rounds."""
        return self.dtype.numpy.kind in "fcV"


@dataclass(frozen=True)
class Port:
    """A graph input or output: a value, and the path of the argument or result it is."""

    value: Value
    name: str
    role: Role = Role.PLAIN


@dataclass(frozen=True)
class State:
    """A value that a session keeps from one run to the next."""

    before: Value
    """The value before the run, of a shape without symbols."""
    after: Value
    """The value after it; the same one where no run changes it."""
    name: str
    """Path of the leaf: "cache['layer_0']['key']"; entry points share the states of one name."""
    initial: Value | None = None
    """The tensor with the value in a new session, or with one element that fills it.

    None: zeros."""


@dataclass(frozen=True)
class Tensor:
    """A constant: C-contiguous `data`, and its path in the parameters ("" for a folded one)."""

    value: Value
    name: str
    data: np.ndarray

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from other constants of a file: its name, and which array it has."""
        return self.name, id(self.data)


@dataclass(frozen=True)
class Region:
    """Nodes of their own scope, which an op repeats or chooses.

    The ids of its values are 0, 1, …: first those of `captures`, then `inputs`, then what the nodes
    define.
    """

    captures: tuple[Value, ...]
    """Values of the scope around it that it reads, as that one has them."""
    inputs: tuple[Value, ...]
    """What the op gives it."""
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]

    def __hash__(self) -> int:
        return hash((self.captures, self.inputs, len(self.nodes), self.outputs))


# `Shape` is the kind of attribute whose extents may be symbolic; a plain tuple holds integers.
Attr = bool | int | float | str | tuple[int, ...] | Shape | Region


@dataclass(frozen=True)
class Node:
    """One op applied to values defined before it."""

    op: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attrs: dict[str, Attr] = field(default_factory=dict)
    source: str = ""
    fused: tuple[str, ...] = ()
    """What it was put together from, for people: "exp, div at model.py:12 (Net)"."""
    execution: tuple[Product, ...] = ()
    """How the device of the model runs its products; () without one."""
    place: tuple[int, ...] | None = field(default=None, compare=False)
    """Where JAX has the equation of the same operands; None where it has none, and in files."""

    def reading(self, instead: Callable[[Value], Value]) -> Node:
        """This node with other values in place of those that it reads."""
        attrs = {
            name: replace(attr, captures=tuple(map(instead, attr.captures)))
            if isinstance(attr, Region)
            else attr
            for name, attr in self.attrs.items()
        }
        return replace(self, inputs=tuple(map(instead, self.inputs)), attrs=attrs)

    @property
    def regions(self) -> list[Region]:
        """Those among its attributes."""
        return [attr for attr in self.attrs.values() if isinstance(attr, Region)]

    @property
    def reads(self) -> list[Value]:
        """Its operands, and what its regions capture."""
        return [*self.inputs, *(value for region in self.regions for value in region.captures)]


def every_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes and those in their regions, the outer ones before the inner ones."""
    for node in nodes:
        yield node
        for region in node.regions:
            yield from every_node(region.nodes)


def with_constants(
    nodes: Iterable[Node], constants: Mapping[int, Tensor]
) -> Iterator[tuple[Node, Mapping[int, Tensor]]]:
    """The nodes and those in their regions, with the constants of the scope of each by their ids.

    `constants` are those of the outermost scope.
    """
    for node in nodes:
        yield node, constants
        for region in node.regions:
            captures = enumerate(region.captures)
            inner = {own: constants[v.id] for own, v in captures if v.id in constants}
            yield from with_constants(region.nodes, inner)


def needed(nodes: Sequence[Node], outputs: Iterable[Value]) -> tuple[list[Node], set[int]]:
    """The nodes of a scope that its outputs need, and the ids of all values that they need."""
    live = {value.id for value in outputs}
    kept = []
    for node in reversed(nodes):
        if any(value.id in live for value in node.outputs):
            live.update(value.id for value in node.reads)
            kept.append(node)
    kept.reverse()
    return kept, live


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, and what goes in and out."""

    inputs: tuple[Port, ...]
    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    name: str = ""
    """Of the entry point; may be empty where it is the only one of a file."""

    def symbols(self) -> list[str]:
        """Names of the symbolic dimensions, in the order in which the inputs mention them."""
        seen: dict[str, None] = {}
        for port in self.inputs:
            for dim in port.value.shape:
                seen.update(dict.fromkeys(sorted(dim.symbols())))
        return list(seen)

    def derived(self) -> list[Derived]:
        """Symbols that follow from others, each behind those that it follows from."""
        shapes = [port.value.shape for port in self.outputs]
        attrs = (attr for node in every_node(self.nodes) for attr in node.attrs.values())
        shapes += [attr for attr in attrs if isinstance(attr, Shape)]
        products = (product for node in every_node(self.nodes) for product in node.execution)
        shapes += [Shape((product.inputs, product.outputs)) for product in products]
        return list(dict.fromkeys(d for shape in shapes for dim in shape for d in dim.derived()))

    def without_dead(self) -> Graph:
        """This graph less the nodes and tensors that no output needs, with dense ids.

        Inputs stay, used or not: they are the arguments of the exported function.
        """
        results = [port.value for port in self.outputs]
        results += [state.after for state in self.states]
        results += [state.initial for state in self.states if state.initial is not None]
        nodes, live = needed(self.nodes, results)
        tensors = tuple(tensor for tensor in self.tensors if tensor.value.id in live)
        return replace(self, tensors=tensors, nodes=tuple(nodes)).numbered({}, 0)

    def numbered(self, ids: Mapping[int, int], first: int) -> Graph:
        """This graph with these `ids` of tensors, by the old ones, and others from `first` on."""
        new = {t.value.id: replace(t.value, id=ids[t.value.id]) for t in self.tensors if ids}
        fresh = count(first)

        def defined(value: Value) -> Value:
            return _defined(value, new, fresh)

        inputs = tuple(replace(port, value=defined(port.value)) for port in self.inputs)
        before = [defined(state.before) for state in self.states]
        tensors = tuple(
            replace(t, value=new[t.value.id] if ids else defined(t.value)) for t in self.tensors
        )
        nodes = tuple(_with_values(node, new, fresh) for node in self.nodes)
        states = tuple(
            replace(
                state,
                before=value,
                after=new[state.after.id],
                initial=state.initial and new[state.initial.id],
            )
            for state, value in zip(self.states, before, strict=True)
        )
        outputs = tuple(replace(port, value=new[port.value.id]) for port in self.outputs)
        return Graph(inputs, tensors, nodes, outputs, states, self.name)

    def validate(self) -> None:
        """Raises ValueError where the graph breaks a law of the format.

        Every id is defined once, before it is read, and ids are dense; node and tensor types are
        what their values say; there is at most one noise seed; some extent of an input is linear
        in each symbol and free of the others, so that the extent determines the symbol.
        """
        defined: dict[int, Value] = {}

        def define(value: Value, what: str) -> None:
            if value.id in defined:
                raise ValueError(f"{what} defines value {value.id} a second time")
            defined[value.id] = value

        def read(value: Value, what: str) -> None:
            if defined.get(value.id) != value:
                raise ValueError(f"{what} reads value {value.id} ({value}), which is not defined")

        for port in self.inputs:
            define(port.value, f"input `{port.name}`")
        seeds = [port.name for port in self.inputs if port.role is Role.NOISE_SEED]
        if len(seeds) > 1:
            raise ValueError(f"more than one input is the noise seed: {', '.join(seeds)}")
        for state in self.states:
            define(state.before, f"state `{state.name}`")
        for tensor in self.tensors:
            define(tensor.value, f"tensor `{tensor.name}`")
            want = (tensor.value.dtype.numpy, tensor.value.shape.constant())
            if (tensor.data.dtype, tensor.data.shape) != want:
                raise ValueError(
                    f"tensor `{tensor.name}` holds {tensor.data.dtype}{list(tensor.data.shape)}, "
                    f"expected {tensor.value}"
                )
        for node in self.nodes:
            what = f"node `{node.op}` ({node.source})"
            for value in node.reads:
                read(value, what)
            for value in node.outputs:
                define(value, what)
        for port in self.outputs:
            read(port.value, f"output `{port.name}`")
        for state in self.states:
            read(state.after, f"state `{state.name}`")
            if (state.after.dtype, state.after.shape) != (state.before.dtype, state.before.shape):
                raise ValueError(f"state `{state.name}` is {state.before}, becomes {state.after}")
        if sorted(defined) != list(range(len(defined))):
            raise ValueError(
                f"value ids are not dense: {len(defined)} values, ids {sorted(defined)}"
            )
        self._validate_symbols()

    def _validate_symbols(self) -> None:
        known = set(self.symbols())
        extents = {dim for port in self.inputs for dim in port.value.shape}
        for dim in extents:
            for symbol in dim.derived():
                raise ValueError(f"the shape of an input has `{symbol}`, which is not solved for")
        for name in sorted(known):
            if not any(_determines(dim, name) for dim in extents):
                raise ValueError(f"no input has an extent that determines the symbol `{name}`")
        for node in every_node(self.nodes):
            shapes = [value.shape for value in node.outputs]
            shapes += [attr for attr in node.attrs.values() if isinstance(attr, Shape)]
            for shape in shapes:
                for name in sorted({name for dim in shape for name in dim.symbols()} - known):
                    raise ValueError(
                        f"node `{node.op}` ({node.source}) uses the symbol `{name}`, "
                        "which no input has"
                    )


def _determines(dim: Dim, name: str) -> bool:
    return {monomial for monomial, _ in dim.terms} - {()} == {((name, 1),)}


def region_of(
    captures: Mapping[Value, Value],
    inputs: Sequence[Value],
    nodes: Sequence[Node],
    outputs: Sequence[Value],
) -> Region:
    """The region of these nodes, which read `captures`: by its own values, those around it."""
    new: dict[int, Value] = {}
    fresh = count()
    for own in captures:
        _defined(own, new, fresh)
    return Region(
        captures=tuple(captures.values()),
        inputs=tuple(_defined(value, new, fresh) for value in inputs),
        nodes=tuple(_with_values(node, new, fresh) for node in nodes),
        outputs=tuple(new[value.id] for value in outputs),
    )


def _defined(value: Value, new: dict[int, Value], fresh: Iterator[int]) -> Value:
    """The value with the next id, which `new` has by its old one."""
    new[value.id] = replace(value, id=next(fresh))
    return new[value.id]


def _with_values(node: Node, new: dict[int, Value], fresh: Iterator[int]) -> Node:
    """The node of values that are in `new`, or are defined in it."""
    node = node.reading(lambda value: new[value.id])
    return replace(node, outputs=tuple(_defined(value, new, fresh) for value in node.outputs))


def constants_of(graphs: Iterable[Graph]) -> dict[tuple[str, int], Tensor]:
    """The constants of all entry points, each once, by `Tensor.key`."""
    tensors: dict[tuple[str, int], Tensor] = {}
    for graph in graphs:
        for tensor in graph.tensors:
            tensors.setdefault(tensor.key, tensor)
    return tensors


def states_of(graphs: Iterable[Graph]) -> dict[str, State]:
    """The states of all entry points by name, each once."""
    return {state.name: state for graph in graphs for state in graph.states}


@dataclass(frozen=True)
class TestVector:
    """Inputs, and the outputs that the exported function computed for them with JAX.

    Where codes of converters are in doubt, and all pieces of the graph are as in JAX, the outputs
    are those of the runtime.

    A runtime passes where |got - want| <= absolute_tolerance + relative_tolerance * |want|.
    """

    # Keeps pytest from collecting the class.
    __test__ = False

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    absolute_tolerance: float
    relative_tolerance: float
    entry: int = 0
    """Number of the entry point."""
    continues: bool = False
    """Whether it begins with the states that the vector before it has left."""
