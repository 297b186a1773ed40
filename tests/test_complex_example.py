"""The example of a coherent network: its files, and what it must show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "complex_mlp.py"


def test_the_phase_tells_what_magnitudes_do_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--out", tmp_path, "--quick"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    accuracy = json.loads((tmp_path / "complex.json").read_text())["accuracy"]
    # Chance is 3 %.
    assert accuracy["coherent"]["0.0"] > accuracy["magnitudes"]["0.0"] + 10 > 20
    assert (tmp_path / "complex.png").stat().st_size > 10_000
