"""The tables in docs/primitives.md say what the rules do."""

from __future__ import annotations

import fnmatch
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import exporter
from exporter import _lower, rules
from exporter._errors import Unsupported
from test_exporter_rules import FUNCTIONS

ROOT = Path(__file__).parents[1]


def tool() -> Any:
    spec = importlib.util.spec_from_file_location(
        "primitive_table", ROOT / "tools" / "primitive_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


TOOL = tool()


def test_the_tables_are_fresh() -> None:
    text = (ROOT / "docs" / "primitives.md").read_text(encoding="utf-8")
    written = text.split(TOOL.BEGIN)[1].split(TOOL.END)[0]
    assert written == TOOL.tables(), "run `make generate`"
    for primitive in rules.primitives():
        assert f"`{primitive}`" in written
    for primitive in rules.reasons():
        with pytest.raises(Unsupported):
            rules.rule_of(primitive)


@pytest.mark.usefixtures("numpy_promotion")
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_rules_write_what_the_tables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, set[str]] = {}
    write = _lower._Builder._write

    def spy(builder: Any, equation: Any) -> None:
        before = len(builder.nodes)
        write(builder, equation)
        ops = {node.op for node in builder.nodes[before:]}
        written.setdefault(equation.primitive, set()).update(ops)

    monkeypatch.setattr(_lower._Builder, "_write", spy)

    def fn(arguments: Any) -> Any:
        return {name: FUNCTIONS[name][0](*args) for name, args in arguments.items()}

    exporter.export(fn, {name: args[1:] for name, args in FUNCTIONS.items()}, batch="batch")
    assert len(written) > 80
    for primitive, ops in written.items():
        told = {op.replace("…", "*") for op in TOOL.described(primitive).ops}
        # Constants of repeated lines are stored without repetition.
        untold = {
            op
            for op in ops - {"broadcast_in_dim"}
            if not any(fnmatch.fnmatch(op, of) for of in told)
        }
        assert not untold, primitive
