"""The benchmark of the start of `lumina run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _options, _peers  # noqa: E402
from benchmarks.suites import start  # noqa: E402


def test_the_file_is_an_mlp_that_runs_either_way(
    lumina: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUMINA_BIN", str(lumina))
    model = start.path((5, 2))
    outputs = []
    for flags in start.FLAGS.values():
        command = [start.program(), "run", model, "--input", model.with_suffix(".npy")]
        command += ["--output", tmp_path / "y.npy", *flags]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        outputs.append(np.load(tmp_path / "y.npy"))
    assert outputs[0].shape == (1, 5)
    assert 0 < np.abs(outputs[0]).max() <= 1
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0], strict=True)


def test_without_a_program_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINA_BIN", "/no/such/program")
    with pytest.raises(_peers.Unsupported, match="there is no program at /no/such/program"):
        start.program()


def test_the_choice_of_cases() -> None:
    for quick, shapes in ((True, start.QUICK), (False, start.FULL)):
        cases = start.cases(_options.Options(suites=("start",), quick=quick))
        assert [(case.shape, case.workload) for case in cases] == [
            (shape, workload) for shape in shapes for workload in start.FLAGS
        ]
