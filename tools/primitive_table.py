"""Writes the table of JAX primitives in docs/primitives.md: python tools/primitive_table.py.

All of it is read from the rules: the nodes that they write, the element types that they require,
and what they refuse.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter._errors import Unsupported
from exporter.rules import primitives, reasons, rule_of
from exporter.rules._operations import BY_OPERATION
from lumina_jax._jaxpr import binary_operation
from lumina_jax._native import _lumina
from lumina_jax.ops import OPS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "primitives.md"
BEGIN = "<!-- Written by tools/primitive_table.py; do not edit. -->\n"
END = "<!-- End of what is written. -->\n"

PACKAGE = "exporter.rules"


def main() -> int:
    """Writes the tables into the document."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(before + BEGIN + tables() + END + after, encoding="utf-8")
    return 0


def tables() -> str:
    """What exports, and what is refused with a reason of its own."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for primitive in primitives():
        found = described(primitive)
        own = found.ops - {"broadcast_in_dim"} == {primitive} or found.ops == {primitive}
        ops = "the same" if own else ", ".join(f"`{op}`" for op in sorted(found.ops) if op)
        ops = ops or "its operand"
        types = "; ".join(dict.fromkeys(found.types))
        notes = "; ".join(dict.fromkeys((*found.how, *found.refusals)))
        rows.setdefault((ops, types, notes), []).append(f"`{primitive}`")
    lines = [f"| {', '.join(names)} | {' | '.join(row)} |\n" for row, names in rows.items()]
    ours = ", ".join(f"`{name}`" for name in sorted(set(OPS) - set(primitives())))
    refused = [f"| `{name}` | {reason} |\n" for name, reason in sorted(reasons().items())]
    return (
        "\n| primitive | op of the file | types of operands | how, and what is not taken |\n"
        "|---|---|---|---|\n" + "".join(lines) + f"\nOps of `lumina_jax`, as they are: {ours}.\n"
        "\n| primitive | why it does not export, and what to do |\n|---|---|\n"
        + "".join(refused)
        + "\n"
    )


@dataclass
class Found:
    """What the source of a rule says."""

    ops: set[str] = field(default_factory=set)
    types: list[str] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def described(primitive: str) -> Found:
    """What the rule for `primitive` does."""
    rule = rule_of(primitive)
    found = Found()
    text = inspect.getdoc(rule)
    if text:
        found.how.append(" ".join(text.split("\n\n")[0].split()).rstrip("."))
    for function in called(rule, {}):
        read(function, primitive, found)
    if not found.ops:  # the op is handed on, or there is none
        found.ops.add(primitive if primitive in _lumina.file_op_names() else "")
    return found


def called(function: Callable[..., Any], seen: dict[Any, None]) -> Iterator[Callable[..., Any]]:
    """The function, and the functions of the package that it calls with its context."""
    if function in seen:
        return
    seen[function] = None
    yield function
    for node in ast.walk(parsed(function)):
        if isinstance(node, ast.Call):
            inner = named(node.func, function)
            if inspect.isfunction(inner) and inner.__module__.startswith(PACKAGE):
                yield from called(inner, seen)


def parsed(function: Callable[..., Any]) -> ast.AST:
    """The source of a function."""
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def named(node: ast.expr, function: Any) -> Any:
    """What a name, or an attribute of a module, stands for in a function; None if it is local."""
    if isinstance(node, ast.Attribute):
        return getattr(named(node.value, function), node.attr, None)
    if isinstance(node, ast.Name):
        return {**function.__globals__, **inspect.getclosurevars(function).nonlocals}.get(node.id)
    return None


def read(function: Callable[..., Any], primitive: str, found: Found) -> None:
    """Adds what one function writes, requires and refuses."""
    for node in ast.walk(parsed(function)):
        if isinstance(node, ast.JoinedStr):
            found.ops |= family(node)
        if isinstance(node, ast.Name) and named(node, function) is binary_operation:
            found.ops |= set(BY_OPERATION)  # the operation itself
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method == "node":
            found.ops |= written(node, primitive)
        elif method in ("require", "require_result"):
            of = node.args if method == "require_result" else node.args[1:]
            listed = list(types(of, function, primitive))
            place = "result: " if method == "require_result" else operand(node.args[0])
            if listed:
                found.types.append(f"{place}{', '.join(listed)}")
        elif method == "removesuffix" and isinstance(node.args[0], ast.Constant):
            found.ops.add(primitive.removesuffix(str(node.args[0].value)))
        elif named(node.func, function) is Unsupported:
            said = refusal(node.args[0], function)
            found.refusals += [f"refused: {said}"] if said else []


def written(call: ast.Call, primitive: str) -> set[str]:
    """The op of a node, where the source says it."""
    match call.args:
        case []:
            return {primitive}
        case [ast.Constant(value=str(op)), *_]:
            return {op}
        case [ast.Attribute(attr="primitive"), *_]:
            return {primitive}
    return set()


def family(text: ast.JoinedStr) -> set[str]:
    """The ops that such a text may name, by what they begin with."""
    match text.values:
        case [ast.Constant(value=str(prefix)), ast.FormattedValue()]:
            if sum(op.startswith(prefix) for op in _lumina.file_op_names()) > 1:
                return {f"{prefix}…"}
    return set()


def operand(index: ast.expr) -> str:
    """Which operand has the types that follow; nothing is said of the first."""
    match index:
        case ast.Constant(value=0) | ast.BinOp():
            return ""
        case ast.Constant(value=int(number)):
            return f"operand {number}: "
    return ""


def types(args: list[ast.expr], function: Any, primitive: str) -> Iterator[str]:
    """Names of element types among the arguments, where they do not depend on others."""
    for arg in args:
        match arg:
            case ast.Constant(value=str(name)):
                yield name
            case ast.Starred(value=ast.Subscript(value=table, slice=ast.Attribute())):
                yield from named(table, function)[primitive]
            case ast.Starred(value=ast.Name() as name):
                yield from named(name, function) or ()


def refusal(text: ast.expr, function: Any) -> str:
    """Why something is refused, without what to do: up to the first semicolon."""
    match text:
        case ast.Constant(value=str(said)):
            pass
        case ast.JoinedStr():
            parts = (v.value if isinstance(v, ast.Constant) else "…" for v in text.values)
            said = "".join(map(str, parts))
        case _:
            said = named(text, function) or ""
    return said.split(";")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
