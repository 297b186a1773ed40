"""The table of ops in docs/lmn.md lists what the runtime has."""

import importlib.util
import re
from pathlib import Path

from exporter._ops import TYPES
from lumina_jax import _lumina
from lumina_jax.ops import OPS

ROOT = Path(__file__).parents[1]


def test_the_exporter_knows_every_op_of_the_runtime() -> None:
    assert sorted(_lumina.file_op_names()) == sorted({*TYPES, *OPS})


def test_the_table_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("op_table", ROOT / "tools" / "op_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "lmn.md").read_text(encoding="utf-8")
    written = text.split(module.BEGIN)[1].split(module.END)[0]
    assert written == module.table(), "run `make generate`"
    rows = [line.split("|")[1] for line in written.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`(.*?)`", "".join(rows))) == sorted(_lumina.file_op_names())
