"""One entry point of a model: from a function and example arguments to a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import ClosedJaxpr
from lumina_jax._progress import Bar

from ._arguments import Argument, BatchAxes, arguments, as_jax, traced
from ._by_slot import BySlot
from ._calibration import uncalibrated
from ._callables import examples_of, function_of, title_of
from ._errors import ExportError, faults_error, quoted
from ._graph import Graph, Role
from ._lower import Shared, lower
from ._names import closure_names, path_name, signature_names
from ._program import Constant, Equation, Operand, Program, Variable
from ._storage import Storage, of_levels
from ._tracing import constants_of_jaxpr, trace
from ._types import is_key
from ._uses import contracted, converters
from ._walk import Held, walk
from .rules import rule_of


@dataclass(frozen=True)
class Options:
    """What entry points have in common."""

    weights: Mapping[str, Any]
    """The arrays in `params`, by their paths."""
    states: Mapping[str, Any]
    """The arrays in `state`, by their paths."""
    params: Any
    state: Any
    batch: str | None
    batch_axes: BatchAxes
    while_limit: int
    storage: Storage
    by_slot: BySlot | None
    bar: Bar


@dataclass(frozen=True)
class Entry:
    """One entry point."""

    title: str
    """The name of the function."""
    graph: Graph
    flat: Callable[..., Any]
    """The function of all weights, states and inputs, each an argument."""
    jaxpr: ClosedJaxpr | None
    """That of `flat`, where no extent is symbolic."""
    weights: Sequence[Any]
    """As the file has them, too."""
    rounded: Mapping[int, Any]
    """What arrays of the function are in the file, by the id of the array, where that is other."""
    by_slot: BySlot | None
    found: Sequence[Argument]
    """The inputs."""
    uncalibrated: Sequence[str]
    """Layers that take the range of each batch."""


def entry(
    name: str,
    fn: Any,
    example_args: Sequence[Any],
    options: Options,
    shared: Shared,
) -> Entry:
    """The entry point of that name; raises ExportError as `export` does."""
    given = [tree for tree in (options.params, options.state) if tree is not None]
    example_args = example_args or examples_of(fn)[len(given) :]
    fn = function_of(fn)
    title = title_of(fn)
    names = signature_names(fn, len(given) + len(example_args))[len(given) :]
    found = arguments(names, example_args, options.batch, options.batch_axes)
    weights, states = options.weights, options.states
    structs = [
        jax.ShapeDtypeStruct(w.shape, w.dtype) for w in (*weights.values(), *states.values())
    ]
    structs += traced(found, options.batch)
    treedef = jax.tree_util.tree_structure((*given, *example_args))
    bound = {
        place: leaf
        for place, leaf in enumerate(jax.tree_util.tree_leaves(options.params))
        if _is_bound(leaf)
    }

    def flat(*arrays: Any) -> Any:
        leaves = list(arrays)
        for place, leaf in bound.items():
            leaves.insert(place, leaf)
        return fn(*jax.tree_util.tree_unflatten(treedef, leaves))

    jaxpr, results = trace(flat, structs, title, options.batch is not None)
    if options.state is not None:
        results = _outputs(results, states, title)
    closed = closure_names(fn)
    program, rounded = _program(jaxpr, weights, closed, options)
    paths = jax.tree_util.tree_flatten_with_path(results)[0]
    result_names = [path_name("output", path) for path, _ in paths]
    for path, (_, result) in zip(result_names, paths, strict=True):
        if is_key(result.dtype):
            raise ExportError(f"`{title}` returns a PRNG key as `{path}`, expected an array")
    initial = {path: Constant.of(array) for path, array in states.items()}
    input_names = [argument.name for argument in found]
    graph, faults = lower(
        program, input_names, result_names, rule_of, options.while_limit, initial, shared
    )
    if faults:
        raise faults_error(title, faults)
    seeds = [port.name for port in graph.inputs if port.role is Role.NOISE_SEED]
    if len(seeds) > 1:
        raise ExportError(
            f"`{title}` takes {len(seeds)} PRNG keys, {quoted(seeds)}, expected at most one; "
            "derive them from one key with jax.random.split"
        )
    graph = replace(graph, name=name)
    graph.validate()
    is_fixed = not any(argument.is_symbolic for argument in found)
    return Entry(
        title=title,
        graph=graph,
        flat=flat,
        jaxpr=jaxpr if is_fixed else None,
        weights=[rounded.get(path, array) for path, array in weights.items()],
        rounded={
            id_: rounded[path]
            for id_, path in closed.items()
            if path in rounded and path not in weights
        },
        by_slot=options.by_slot,
        found=found,
        uncalibrated=uncalibrated(program),
    )


def _program(
    jaxpr: ClosedJaxpr, weights: Mapping[str, Any], names: Mapping[int, str], options: Options
) -> tuple[Program, dict[str, Any]]:
    """The program, with weights as `storage` has them, and these by name where they are others.

    What only enters converters is stored as they make it of the weight that `storage` has: then
    what the function makes of that is folded as ever.
    """
    storage = options.storage
    inside = {names[id(a)]: a for a in constants_of_jaxpr(jaxpr) if id(a) in names}
    inside = {name: array for name, array in inside.items() if name not in weights}
    storage.see(weights)
    storage.see(inside)
    arrays = {name: a for name, a in {**inside, **weights}.items() if storage.changes(name)}
    held: dict[str, Operand] = {name: Variable(a.shape, a.dtype) for name, a in arrays.items()}

    def walked() -> tuple[Program, Held]:
        arguments = {
            i: held[path] if path in held else Constant.of(array, path)
            for i, (path, array) in enumerate(weights.items())
        }
        closed = {id(a): held[name] for name, a in inside.items() if name in held}
        found = Held(arguments, closed, by_slot=options.by_slot)
        return walk(jaxpr, found, names), found

    program, found = walked()
    reads, rounded = set(program.free()), dict[str, Any]()

    def decide(name: str, array: Any) -> None:
        """Makes a constant of what only enters converters, or stays as it is."""
        variable = held[name]
        assert isinstance(variable, Variable)
        if variable not in reads:
            return
        entering, axes = converters(program, variable), contracted(program, variable)
        if entering is None:
            if storage.leaves(name, has_product=axes is not None):
                held[name] = Constant.of(array, name)
            return
        bits = storage.bits(name)
        if not storage.is_narrow(name):
            if entering.is_direct and bits is not None and bits < entering.bits:
                return  # fewer than the codes of the converter
            rounded[name] = storage.stored(name, array, axes).array
        held[name] = Constant.of(rounded.get(name, array), name)

    with options.bar("export: weights", "weight", len(arrays)) as advance:
        for name, array in arrays.items():
            decide(name, array)
            advance(isinstance(held[name], Constant))
        if not all(isinstance(operand, Variable) for operand in held.values()):
            program, found = walked()
        reads, made = set(program.free()), list[Equation]()
        for name, variable in held.items():
            if not isinstance(variable, Variable):
                continue
            if variable in reads:
                stored = storage.stored(name, arrays[name], contracted(program, variable))
                rounded[name] = stored.array
                made += stored.equations(variable)
            advance(1)
    for variable, (levels, name) in found.calls.items():
        if variable in reads:
            axes = contracted(program, variable)
            made += of_levels(levels, name, axes, variable.dtype).equations(variable)
    return replace(program, equations=(*made, *program.equations)), rounded


def arrays(root: str, tree: Any) -> dict[str, Any]:
    """The arrays in the argument `root` of `export`, by their paths.

    A shape alone, which only a state has, is zeros. What modules hold beside their arrays, such as
    the activation functions and rates of Equinox, are no constants of the file.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if root == "params" and _is_bound(leaf):
            continue
        name = path_name("", path) or root
        if root == "state" and isinstance(leaf, jax.ShapeDtypeStruct):
            if any(map(jax.export.is_symbolic_dim, leaf.shape)):
                raise ExportError(f"`state` has a symbolic extent at `{name}`, expected numbers")
            leaf = jax.numpy.zeros(leaf.shape, leaf.dtype)
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ExportError(
                f"`{root}` holds {leaf!r} of type {type(leaf).__name__} at `{name}`, "
                "expected arrays alone"
            )
        found[name] = leaf if isinstance(leaf, jax.Array) else as_jax(name, leaf)
    return found


def _is_bound(leaf: Any) -> bool:
    """Whether a leaf of the parameters is handed to the function as it is."""
    is_number = isinstance(leaf, bool | int | float) and not isinstance(leaf, np.generic)
    return callable(leaf) or is_number


def _outputs(results: Any, states: Mapping[str, Any], title: str) -> Any:
    """The results less the next state, which is as the state before."""
    if not isinstance(results, tuple) or len(results) != 2:
        got = f"{len(results)} results" if isinstance(results, tuple) else type(results).__name__
        raise ExportError(
            f"`{title}` returns {got}, expected a tuple of the outputs and the next state, as "
            "`state` is given"
        )
    leaves = jax.tree_util.tree_flatten_with_path(results[1])[0]
    after = {path_name("", path) or "state": leaf for path, leaf in leaves}
    if list(after) != list(states):
        raise ExportError(
            f"`{title}` takes the state {quoted(states) or 'nothing'} and returns "
            f"{quoted(after) or 'nothing'} as the next one, expected the same structure"
        )
    for name, new in after.items():
        old = states[name]
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise ExportError(
                f"`{title}` takes the state `{name}` as {old.dtype}{list(old.shape)} and returns "
                f"{new.dtype}{list(new.shape)}; keep its type and its shape"
            )
    return results[0]
