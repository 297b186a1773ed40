"""The digits example: its parts, its files, and what it must show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import deploy  # noqa: E402
import digits  # noqa: E402
import digits_nat  # noqa: E402


def demo(out: Path, lumina: Path, *arguments: str) -> dict[str, Any]:
    """The report of one run."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "digits_nat.py", "--out", out, *arguments],
        env={**os.environ, "LUMINA_BIN": str(lumina)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for label in digits_nat.ROWS.values():
        assert label in done.stdout
    return json.loads((out / "report.json").read_text())


def test_the_split_is_the_documented_one() -> None:
    train, test = digits.load()
    assert train.images.shape == (1347, 64)
    assert test.images.shape == (450, 64)
    assert train.images.dtype == np.float32
    assert (train.images.min(), train.images.max()) == (0.0, 1.0)
    # Stratified: each digit makes up the same share of both parts, to half an image.
    shares = np.bincount(train.digits) / 1347 - np.bincount(test.digits) / 450
    assert np.abs(shares).max() < 1 / 450


def test_a_missing_binary_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUMINA_BIN", str(tmp_path / "lumina"))
    with pytest.raises(SystemExit, match="does not exist; build it with `cargo build --release"):
        deploy.find()


def test_a_failure_of_the_binary_is_reported(lumina: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.lmn").write_bytes(b"LMN")
    with pytest.raises(SystemExit, match=r"lumina verify .*broken\.lmn failed: .+"):
        deploy.verify(lumina, tmp_path / "broken.lmn")


@pytest.mark.slow
def test_a_run_writes_every_file_and_noise_aware_training_pays(
    lumina: Path, tmp_path: Path
) -> None:
    report = demo(tmp_path, lumina, "--seeds", "3")
    accuracy = report["accuracy"]
    levels = ["0.0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]
    for table in (accuracy, report["accuracy_std"]):
        assert list(table) == ["fp32", "fp32_4bit", "qat", "nat"]
        assert all(list(row) == levels for row in table.values())
    assert accuracy["nat"]["0.3"] >= accuracy["qat"]["0.3"] + 3.0
    assert accuracy["nat"]["0.0"] >= accuracy["fp32"]["0.0"] - 1.0
    assert report["parity"]["images"] == 450
    assert report["parity"]["argmax_agreement"] == 1.0
    assert report["parity"]["max_abs_diff"] <= 1e-5
    assert report["lmn_bytes"] == (tmp_path / "model.lmn").stat().st_size
    assert report["runtime_start_ms"] > 0
    assert report["train_s"] > 0
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
