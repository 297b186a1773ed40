"""Writes the table of ops in docs/lmn.md: python tools/op_table.py.

Names come from the runtime; operands and attributes from the types that the exporter infers, and
from the signatures of the kernels.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path

from exporter import rules  # noqa: F401 - registers the types of the ops
from exporter._ops import TYPES
from lumina_jax._native import _lumina
from lumina_jax.ops import OPS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "lmn.md"
BEGIN = "<!-- Written by tools/op_table.py; do not edit. -->\n"
END = "<!-- End of what is written. -->\n"

# How an attribute is stored, by the type that the code knows it as.
KINDS = {
    "bool": "flag",
    "int": "integer",
    "float": "number",
    "str": "text",
    "tuple[int, ...]": "integers",
    "Sequence[int | Dim]": "shape",
    "Region": "region",
}


def main() -> int:
    """Writes the table into the document."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    return 0


def table() -> str:
    """The ops that the runtime has, those with the same operands and attributes on one line."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name in sorted(_lumina.file_op_names()):
        operands, attrs = kernel(name) if name in OPS else graph_op(name)
        listed = ", ".join(f"`{attr}` {kind}" for attr, kind in attrs.items())
        rows.setdefault((operands, listed), []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {' | '.join(row)} |\n" for row, names in rows.items()]
    return "\n| op | operands | attributes |\n|---|---|---|\n" + "".join(lines) + "\n"


def graph_op(name: str) -> tuple[str, dict[str, str]]:
    """Operands and attributes of a graph op."""
    operands, attrs = [], {}
    for parameter in inspect.signature(TYPES[name]).parameters.values():
        if parameter.annotation == "Value":
            rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
            operands.append(f"{parameter.name}, …" if rest else parameter.name)
        elif parameter.annotation == "Any":
            # Those of the op that it is named for.
            attrs |= graph_op(parameter.name.removeprefix("of_"))[1]
        else:
            numbered = parameter.kind is inspect.Parameter.VAR_KEYWORD
            attrs[f"{parameter.name}_000" if numbered else parameter.name] = KINDS[
                parameter.annotation
            ]
    return ", ".join(operands), attrs


def kernel(name: str) -> tuple[str, dict[str, str]]:
    """Operands and attributes of a kernel."""
    attrs = {field.name: KINDS[str(field.type)] for field in dataclasses.fields(OPS[name].attrs)}
    return ", ".join(inspect.signature(OPS[name].operands).parameters), attrs


if __name__ == "__main__":
    sys.exit(main())
