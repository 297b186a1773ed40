"""`lumina convert` tells what it cannot write."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program


def refusal(program: Program, path: Path, *options: object) -> str:
    target = program.folder / "refused.onnx"
    done = subprocess.run(
        [program.binary, "convert", path, "-o", target, *map(str, options)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not target.exists()
    return done.stderr.removeprefix(f"error: {path}: ").strip()


def test_all_that_cannot_be_converted_is_told(program: Program) -> None:
    def fn(x: jax.Array) -> Any:
        lines = jax.lax.map(lambda line: jnp.fft.rfft(line).real, x)
        return jax.lax.bitcast_convert_type(x, jnp.int32), lines, jnp.sin(x)

    path = exporter.export(fn, np.zeros((2, 4), np.float32)).save(program.folder / "m.lmn")
    text = refusal(program, path)
    assert text.startswith("3 of ")
    assert "`fft`" in text
    assert "region `body`" in text
    assert "ONNX has no ops of complex numbers" in text
    assert "`bitcast_convert_type`" in text
    assert "`sin`" not in text
    assert refusal(program, path, "--entry", "no").startswith("there is no entry point `no`")


def test_targets_that_cannot_be_written(program: Program) -> None:
    path = exporter.export(lambda x: x + 1, np.zeros(2, np.float32)).save(program.folder / "m.lmn")

    def told(target: object) -> str:
        command = [program.binary, "convert", path, "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr

    assert "must end with .onnx, the format that is written" in told(program.folder / "m.tflite")
    assert "there is no directory" in told(program.folder / "no" / "m.onnx")
    onnx = pytest.importorskip("onnx")
    command = [program.binary, "convert", path, "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert onnx.load_from_string(done.stdout).graph.output[0].name == "output"
