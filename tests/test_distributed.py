"""The data-parallel example: two processes train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "data_parallel.py"
EPOCHS = 2


def losses(*arguments: str, devices: int) -> list[float]:
    """Loss of each epoch, with that many devices in each process."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--epochs", str(EPOCHS), *arguments],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report["loss"]) == EPOCHS
    processes = int(arguments[1]) if arguments else 1
    assert report["devices"] == devices * processes
    return report["loss"]


@pytest.mark.slow
def test_two_processes_train_as_one() -> None:
    two_processes = losses("--processes", "2", devices=1)
    # The same halves of each batch; a sum of two does not depend on which comes first.
    assert two_processes == losses(devices=2)
    # On one device one sum over the batch faces two half sums and their sum: roundings differ,
    # noise and images do not.
    alone = losses(devices=1)
    np.testing.assert_allclose(two_processes, alone, rtol=1e-5)
    assert alone[1] < alone[0]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_run() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--epochs", "-1", "--processes", "2"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode != 0
