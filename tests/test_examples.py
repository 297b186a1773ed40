"""Examples run, small, and write what they say."""

from __future__ import annotations

import json
import os
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


def test_chip_to_file(tmp_path: Path, lumina: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "chip_to_file.py", "--out", tmp_path, "--quick"],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "LUMINA_BIN": str(lumina)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "Mlp/layer0                       64 x 64 x 32               4 x 2" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    bits = {f"params['{layer}']['kernel']": b for layer, b in report["allocation"].items()}
    assert report["weights"] == bits
    accuracy = report["accuracy"]
    assert accuracy["before"] < accuracy["after"]
    assert accuracy["file"] > 70


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
