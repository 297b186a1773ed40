"""The scripts of examples/reproduce run, write their files, and find what they claim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent.parent / "examples" / "reproduce"
NAMES = ("channels_vs_finesse", "compensation_sqnr", "enob_vs_power", "hwaq_lloyd_max")


def report(name: str, out: Path, *arguments: str) -> dict[str, Any]:
    """What a run that succeeds has written."""
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPTS / f"{name}.py",
         "--out", out, "--json", out / "report.json", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((out / "report.json").read_text())


def test_every_script_is_tested() -> None:
    scripts = {path.stem for path in SCRIPTS.glob("*.py")} - {"reporting"}
    assert scripts == {*NAMES, "nat_table"}


@pytest.mark.parametrize("name", NAMES)
def test_figures_agree_with_their_source(name: str, tmp_path: Path) -> None:
    figures = report(name, tmp_path, "--quick")
    assert len(figures) >= 4
    for figure in figures.values():
        assert figure["agrees"]
        assert figure["difference"] == pytest.approx(figure["ours"] - figure["source"])


@pytest.mark.slow
def test_a_quick_table_has_every_cell(tmp_path: Path) -> None:
    found = report("nat_table", tmp_path, "--quick")
    for kind, levels in found["levels"].items():
        assert set(found["source"][kind]) < set(found["mean"][kind])
        for row in found["mean"][kind].values():
            assert len(row) == len(levels)
            # Two epochs are far beyond chance, 10 %, without noise.
            assert row[0] > 50
    assert len(found["claims"]) == 5
