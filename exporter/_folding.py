"""What follows from constants alone: known by what computes it, and computed when it is needed.

While a jaxpr is walked nothing is computed but what decides a branch. What the program reads in the
end is computed by one compiled call, on the CPU, with all arrays as its arguments: as constants XLA
would fold them once more. So the numbers are those of a function that is jitted; within one bit, as
XLA may join a product with a sum in one program and not in another. Of an expression that is
needed twice there is one.

What is far larger than all that it follows from, such as a mask, is left to the runtime, and so is
another order of a parameter that is stored in its own, too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import Site, array_type, evaluate, sites

from ._program import Constant, Equation, Program, Source, Variable
from ._types import is_key

# A result of more bytes, and of so many times those that it follows from, is left to the runtime.
_LARGE = 1 << 20
_TIMES = 8

# Arrays of at most so many elements are the same constant where they are equal.
_SMALL = 64

# Primitives that move or repeat elements but keep their order: a parameter keeps its name.
_RENAMINGS = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim"}

# Primitives whose result is the same everywhere if their first operand is.
_MOVES = {*_RENAMINGS, "copy", "rev", "slice", "tile", "transpose"}


class Step:
    """An equation of constants."""

    def __init__(self, site: Site, operands: Sequence[Constant]) -> None:
        self.site = site
        self.operands = tuple(operands)
        self.results = [Folded(self, array_type(var)) for var in site.eqn.outvars]

    @property
    def source(self) -> Source | None:
        """Where the equation comes from."""
        return Source.of(self.site)


class Folded(Constant):
    """A result of a step, which is computed when its data are asked for."""

    def __init__(self, step: Step, of: tuple[tuple[int, ...], Any]) -> None:
        super().__init__(None)
        self.step = step
        self.is_left = False
        """Whether the runtime computes it."""
        self._of = of

    @property
    def is_known(self) -> bool:
        return self._data is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._of[0]

    @property
    def dtype(self) -> Any:
        return self._of[1]

    @property
    def data(self) -> Any:
        if self._data is None:
            compute([self])
        return self._data

    def put(self, data: Any) -> None:
        """Sets what has been computed."""
        self._data = data if is_key(self.dtype) else np.asarray(data)

    def equation(self) -> Equation:
        """What computes it at run time."""
        site = self.step.site
        variables = tuple(Variable(r.shape, r.dtype) for r in self.step.results)
        return Equation(
            site.name, dict(site.params), self.step.operands, variables, self.step.source
        )


class Folding:
    """The constants of one export, each once."""

    def __init__(self, names: Mapping[int, str]) -> None:
        """`names` has the paths of arrays by the id of the array."""
        self._names = names
        # With the array, so that no other one has its id.
        self._given: dict[Hashable, tuple[Any, Constant]] = {}
        self._steps: dict[Hashable, Step] = {}

    def given(self, array: Any) -> Constant:
        """The constant for an array that the function has."""
        key: Hashable = id(array)
        is_small = isinstance(array, np.ndarray | np.generic) and array.size <= _SMALL
        if is_small and key not in self._names:
            key = (array.dtype, array.shape, array.tobytes())
        if key not in self._given:
            self._given[key] = array, Constant.of(array, self._names.get(id(array), ""))
        return self._given[key][1]

    def folded(self, site: Site, operands: Sequence[Constant]) -> Sequence[Constant]:
        """The results of an equation of constants."""
        first = operands[0] if operands else None
        if site.name in _RENAMINGS and first is not None and first.is_known:
            shape = array_type(site.eqn.outvars[0])[0]
            if not is_key(first.dtype) and first.data.size == np.prod(shape, dtype=np.int64):
                return [Constant(first.array().reshape(shape), first.name)]
        key = (site.name, tuple(map(id, operands)), *map(_key, sorted(site.params.items())))
        try:
            known = self._steps.get(key)
        except TypeError:  # a parameter has no hash
            return Step(site, operands).results
        if known is None:
            known = self._steps[key] = Step(site, operands)
        if site.name == "transpose" and first is not None:
            known.results[0].name = first.name
        return known.results


def foldable(site: Site) -> bool:
    """Whether its results are arrays: there is no effect, and no symbolic extent in it."""
    inner = (inside for body in site.bodies for inside in sites(body, caller=site))
    return not site.eqn.effects and not any(map(_mentions_symbol, (site, *inner)))


def uniform(constant: Constant) -> Any:
    """The number that a constant is everywhere; None where it has several, or is large."""
    base = constant
    while isinstance(base, Folded) and not base.is_known and base.step.site.name in _MOVES:
        base = base.step.operands[0]
    for candidate in dict.fromkeys((base, constant)):
        if candidate.is_known or _bytes(candidate) <= _LARGE:
            values = candidate.array().reshape(-1)
            if values.size and (values == values[0]).all():
                return values[0]
    return None


def settle(program: Program, has_rule: Callable[[str], bool]) -> None:
    """Computes the constants that `program` reads, but for those that are left to the runtime.

    Args:
      has_rule: whether a primitive can be left to it.
    """
    open_ = list(dict.fromkeys(_constants(program)))
    seen, wanted = set(open_), []
    _decide(_steps(open_), seen, has_rule)
    while open_:
        constant = open_.pop()
        if not isinstance(constant, Folded) or constant.is_known:
            continue
        if constant.is_left:
            inner = [operand for operand in constant.step.operands if operand not in seen]
            seen.update(inner)
            open_ += inner
        else:
            wanted.append(constant)
    compute(wanted)


def compute(constants: Sequence[Folded]) -> None:
    """Computes them, in one compiled call or, where there is little to compile, step by step."""
    steps = _steps(constants)
    if not steps:
        return
    operands = (operand for step in steps for operand in step.operands if operand.is_known)
    given = list(dict.fromkeys(operands))

    def run(arrays: Sequence[Any]) -> list[Any]:
        values = dict(zip(given, arrays, strict=True))
        for step in steps:
            inputs = [values[operand] for operand in step.operands]
            values.update(zip(step.results, evaluate(step.site.eqn, inputs), strict=True))
        return [values[constant] for constant in constants]

    with jax.default_device(_cpu()):
        arrays = [jax.device_put(constant.data, _cpu()) for constant in given]
        results = run(arrays) if all(map(_is_exact, steps)) else jax.jit(run)(arrays)
    for constant, data in zip(constants, results, strict=True):
        constant.put(data)


def _steps(constants: Iterable[Constant]) -> list[Step]:
    """The steps that lead to the constants, each behind those that it follows from."""
    found: dict[Step, None] = {}
    open_: list[tuple[Constant, bool]] = [(constant, False) for constant in constants]
    while open_:
        constant, is_ready = open_.pop()
        if not isinstance(constant, Folded) or constant.is_known or constant.step in found:
            continue
        if is_ready:
            found[constant.step] = None
        else:
            open_.append((constant, True))
            open_ += [(operand, False) for operand in constant.step.operands]
    return list(found)


def _is_exact(step: Step) -> bool:
    """Whether it computes with integers and bools alone, by an operation that JAX has compiled."""
    values = (*step.operands, *step.results)
    return not step.site.bodies and all(
        is_key(value.dtype) or np.dtype(value.dtype).kind in "biu" for value in values
    )


def _decide(
    steps: Sequence[Step], read: Container[Constant], has_rule: Callable[[str], bool]
) -> None:
    """Which of their results are left: by what they and their operands take in a file.

    A parameter that the program also has as it is, such as a tied embedding, is not stored once
    more in another order.
    """
    stored: dict[Constant, int] = {}
    for step in steps:
        is_there = step.site.name == "transpose" and step.operands[0] in read
        operands = dict.fromkeys(step.operands)
        before = sum(stored.get(operand, _bytes(operand)) for operand in operands)
        for result in step.results:
            size = _bytes(result)
            is_large = size > _LARGE and (size > _TIMES * before or is_there)
            result.is_left = is_large and has_rule(step.site.name)
            stored[result] = before if result.is_left else size


def _bytes(constant: Constant) -> int:
    if is_key(constant.dtype):
        return 8 * int(np.prod(constant.shape, dtype=np.int64))
    return int(np.prod(constant.shape, dtype=np.int64)) * np.dtype(constant.dtype).itemsize


def _constants(program: Program) -> Iterator[Constant]:
    """Those that it reads, and those that are results, of its bodies, too."""
    for operand in program.outputs:
        if isinstance(operand, Constant):
            yield operand
    for equation in program.equations:
        yield from (operand for operand in equation.inputs if isinstance(operand, Constant))
        for body in equation.bodies:
            yield from _constants(body)


def _key(param: tuple[str, Any]) -> Hashable:
    """A parameter, where 1, 1.0 and True are others, and 0.0 and -0.0 are."""
    name, value = param
    return name, type(value), repr(value) if isinstance(value, float) else value


def _mentions_symbol(site: Site) -> bool:
    shapes = [array_type(var)[0] for var in site.eqn.outvars]
    return _symbolic(shapes) or _symbolic(tuple(site.params.values()))


def _symbolic(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_symbolic(item) for item in value)
    return jax.export.is_symbolic_dim(value)


def _cpu() -> Any:
    return jax.devices("cpu")[0]
