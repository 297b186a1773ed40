"""Examples run, small, and write what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        ("cnn_digits", ["--epochs=1", "--seeds=1"], "Conv_0   Conv   OpticalConv"),
        (
            "gpt_nat",
            ["--steps=2", "--tuning=2", "--width=16", "--depth=1"],
            "blocks_0/attention        MultiHeadDotProductAttention  optical_attention",
        ),
    ],
)
def test_examples_run(tmp_path: Path, name: str, arguments: list[str], printed: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--out", tmp_path, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout, done.stdout
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(report["noise"]) == 7
    assert {"clean", "nat"} <= report.keys()


def test_scikit_learn_on_a_chip(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sklearn_on_a_chip.py", "--out", tmp_path, "--draws=1",
         "--components", "8"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 bit, 1 % noise" in done.stdout, done.stdout
    assert (tmp_path / "sklearn_on_a_chip.png").stat().st_size > 10_000
    report = json.loads((tmp_path / "sklearn_on_a_chip.json").read_text())
    ideal, fine, coarse = (report[name] for name in report if name != "components")
    for field in ("variance", "accuracy"):
        assert abs(ideal[field][0][0] - fine[field][0][0]) < 5
        assert 20 < coarse[field][0][0] < fine[field][0][0]
