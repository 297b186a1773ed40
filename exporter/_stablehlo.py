"""Programs of `jax.export`, which hold StableHLO, as jaxprs.

Each operation becomes the function of `jax.lax` that it was lowered from, so that what is known of
jaxprs holds for them. Shapes that a program computes, of symbolic extents, are numbers here: arrays
of integers and of dimension expressions, on which a few operations are done at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from lumina_jax._jaxpr import ClosedJaxpr
from lumina_jax.ops import OPS as OURS
from lumina_jax.ops import OpDef

from ._errors import ExportError
from ._stablehlo_ops import (
    ALIASES,
    OPS,
    TAKE_NUMBERS,
    Numbers,
    extents,
    extremum_of,
    operation_of,
    scatter_of,
)
from ._types import is_key

_CONTROL = {"call", "case", "composite", "custom_call", "if", "reduce", "reduce_window"}
_CONTROL |= {"return", "scatter", "sort", "while"}
# What JAX adds to the names of modules.
_NO_MODULES = {"body", "closed_call", "cond", "while"}
# Calls of what is no computation.
_NOTHING = {"shape_assertion"}
_SAME = {"Sharding", "annotate_device_placement"}


def jaxpr_of(exported: jax.export.Exported, operands: Sequence[tuple[Any, Any]]) -> ClosedJaxpr:
    """The jaxpr of the program, for operands of these shapes and types.

    Raises ExportError where it has operations that are not known here; the message lists them.
    """
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        program = _Program(module)
        unknown = sorted(program.unknown())
        if unknown:
            raise ExportError(
                f"`{exported.fun_name}` is a program of jax.export with {', '.join(unknown)}, "
                "which is not read; export the function that it was made of"
            )
        structs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in operands]

        def run(*arguments: Any) -> list[Any]:
            data = [jax.random.key_data(x) if is_key(x.dtype) else x for x in arguments]
            kept = [data[index] for index in exported.module_kept_var_idx]
            if len(exported.platforms) > 1:
                kept.insert(0, np.int32(exported.platforms.index("cpu")))
            results = map(_array, program.call("main", kept))
            return [
                jax.random.wrap_key_data(result) if is_key(aval.dtype) else result
                for result, aval in zip(results, exported.out_avals, strict=True)
            ]

        return jax.make_jaxpr(run)(*structs)


def argument_names(exported: jax.export.Exported) -> list[str | None]:
    """What the program knows its arguments as, by leaf: "params['w']"; None where it does not."""
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        functions = _Program(module).functions
        inner = functions.get("_wrapped_jax_export_main", functions["main"])
        # Before the arguments come values of symbols.
        count = len(exported.module_kept_var_idx)
        arguments = list(inner.regions[0].blocks[0].arguments)[-count:] if count else []
        names: list[str | None] = [None] * len(exported.in_avals)
        for index, argument in zip(exported.module_kept_var_idx, arguments, strict=False):
            text = str(argument.location).removeprefix('loc("').removesuffix('")')
            names[index] = None if "loc(" in text or "unknown" in text else text
        return names


class _Program:
    """A module, and what is needed to run its functions."""

    def __init__(self, module: Any) -> None:
        self.functions = {
            ir.StringAttr(op.attributes["sym_name"]).value: op
            for op in module.body.operations
            if op.operation.name == "func.func"
        }

    def unknown(self) -> set[str]:
        """Operations that are not known, as they are called in messages."""
        found = set()
        for function in self.functions.values():
            if not _text(function, "sym_name").startswith("chlo."):
                found |= set(self._unknown(function))
        return found

    def _unknown(self, op: Any) -> Iterator[str]:
        for inner in _operations(op):
            name = _name(inner)
            if name == "custom_call":
                target = _text(inner, "call_target_name")
                known = target in _NOTHING | _SAME or _ours(target) or _composite(inner)
                if not known:
                    yield f"the custom call `{target}`"
            elif name == "composite":
                if _composite(inner) is None:
                    yield from self._unknown(self.functions[_text(inner, "decomposition")])
            elif name not in OPS and name not in _CONTROL:
                yield f"`{inner.operation.name}`"
            if name not in ("reduce", "reduce_window", "scatter", "sort"):
                yield from self._unknown(inner)
            elif name in ("reduce", "reduce_window", "scatter") and not _is_known(inner):
                yield f"a `{inner.operation.name}` by a function"

    def call(self, name: str, arguments: Sequence[Any]) -> list[Any]:
        """The results of a function of the module."""
        return self.block(self.functions[name].regions[0].blocks[0], arguments, {})

    def block(self, block: Any, arguments: Sequence[Any], around: dict[Any, Any]) -> list[Any]:
        """What a block returns; it reads the values `around` it."""
        values = {**around, **dict(zip(block.arguments, arguments, strict=True))}
        for op in block.operations:
            operands = [values[operand] for operand in op.operands]
            if _name(op) == "return":
                return operands
            with _scope(op):
                results = self.operation(op, operands, values)
            values.update(zip(op.results, results, strict=True))
        return []

    def operation(self, op: Any, operands: list[Any], values: dict[Any, Any]) -> Sequence[Any]:
        """The results of one operation."""
        name = _name(op)
        match name:
            case "call":
                return self.call(_text(op, "callee"), operands)
            case "composite":
                function = _composite(op)
                if function is None:
                    return self.call(_text(op, "decomposition"), operands)
                return function(op, *map(_array, operands))
            case "custom_call":
                return _custom(op, list(map(_array, operands)))
            case "case" | "if":
                return self._chosen(op, operands, values)
            case "while":
                return self._repeated(op, operands, values)
        if name == "real_dynamic_slice" and not isinstance(operands[1], Numbers | np.ndarray):
            return [_moved(op, operands, values)]
        function = OPS[name]
        arrays = operands if name in TAKE_NUMBERS else list(map(_array, operands))
        results = function(op, *arrays)
        return results if isinstance(results, list | tuple) else [results]

    def _chosen(self, op: Any, operands: list[Any], values: dict[Any, Any]) -> Sequence[Any]:
        blocks = [region.blocks[0] for region in op.regions]
        branches = [
            lambda block=block: list(map(_array, self.block(block, (), values))) for block in blocks
        ]
        which = _array(operands[0])
        if _name(op) == "if":
            return lax.cond(which, *branches)
        return lax.switch(which, branches)

    def _repeated(self, op: Any, operands: list[Any], values: dict[Any, Any]) -> Sequence[Any]:
        cond, body = (region.blocks[0] for region in op.regions)

        def goes_on(carry: list[Any]) -> Any:
            return _array(self.block(cond, carry, values)[0])

        def step(carry: list[Any]) -> list[Any]:
            return list(map(_array, self.block(body, carry, values)))

        return lax.while_loop(goes_on, step, list(map(_array, operands)))


def _custom(op: Any, operands: list[Any]) -> Sequence[Any]:
    target = _text(op, "call_target_name")
    ours, function = _ours(target), _composite(op)
    if function is not None:
        return function(op, *operands)
    if ours is None:
        return operands if target in _SAME else ()
    config = ir.DictAttr(op.attributes["mhlo.backend_config"])
    attrs = {entry.name: _attribute(entry.attr) for entry in config}
    return ours.primitive.bind(*operands, **attrs)


def _ours(target: str) -> OpDef[Any, Any] | None:
    """The op of this package that a custom call is."""
    match = re.fullmatch(r"lumina\.(\w+)\.v1", target)
    return OURS.get(match[1]) if match else None


def _attribute(attr: Any) -> Any:
    for kind in (ir.BoolAttr, ir.IntegerAttr, ir.FloatAttr, ir.StringAttr):
        if isinstance(attr, kind):
            return attr.value
    return tuple(int(number) for number in np.asarray(ir.DenseElementsAttr(attr)).reshape(-1))


def _scope(op: Any) -> contextlib.AbstractContextManager[Any]:
    """The module that an operation was traced in, "Net/Dense_0", where the program knows it."""
    match = re.match(r'loc\("([^"]*)/[^"/]*"', str(op.location))
    parts = match[1].split("/") if match else []
    modules = [part for part in parts if part not in _NO_MODULES and "(" not in part]
    return jax.named_scope("/".join(modules)) if modules else contextlib.nullcontext()


def _moved(op: Any, operands: Sequence[Any], values: dict[Any, Any]) -> Any:
    """A slice of symbolic size, whose start is computed: its end is the sum of start and sizes."""
    x, start = _array(operands[0]), _array(operands[1])
    end = op.operands[2].owner
    if _name(end) != "add" or end.operands[0] != op.operands[1]:
        raise ExportError(
            "a program of jax.export computes the size of a slice; export the function that it was "
            "made of"
        )
    return lax.dynamic_slice(x, list(start), extents(values[end.operands[1]]))


def _is_known(op: Any) -> bool:
    """Whether the region of a reduction is one that a function of JAX has."""
    name = _name(op)
    if name == "scatter":
        return scatter_of(op) is not None
    return operation_of(op) is not None or (name == "reduce" and extremum_of(op) is not None)


def _composite(op: Any) -> Callable[..., Sequence[Any]] | None:
    if _name(op) == "composite":
        return ALIASES.get(_text(op, "name"))
    name = _text(op, "call_target_name").removeprefix("mhlo.")
    return ALIASES.get(f"chlo.{'top_k' if name == 'topk' else name}")


def _operations(op: Any) -> Iterator[Any]:
    for region in op.regions:
        for block in region.blocks:
            yield from block.operations


def _name(op: Any) -> str:
    dialect, _, name = op.operation.name.partition(".")
    return name if dialect in ("func", "stablehlo") else op.operation.name


def _text(op: Any, attribute: str) -> str:
    return str(op.attributes[attribute]).strip('"@').replace('"', "")


def _array(value: Any) -> Any:
    return value.array() if isinstance(value, Numbers) else value
