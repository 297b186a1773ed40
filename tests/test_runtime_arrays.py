"""`lumina run` and NumPy read each other's files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import exporter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Doubles `x` f32[2, 3], and passes on `half` bf16[2]."""
    x, half = jnp.zeros((2, 3), jnp.float32), jnp.zeros(2, jnp.bfloat16)
    exported = exporter.export(lambda x, half: {"ä/y": 2 * x, "half": half}, x, half)
    return exported.save(tmp_path_factory.mktemp("arrays") / "m.lmn")


def run(lumina: Path, *args: object, **options) -> subprocess.CompletedProcess[bytes]:
    command = [lumina, "run", "--cast", *args]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done


X = np.arange(6, dtype=np.float32).reshape(2, 3)
HALF = np.array([1.5, -3.0], ml_dtypes.bfloat16)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("from_pipe", [False, True])
def test_archives(save, from_pipe: bool, lumina: Path, model: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.npz", tmp_path / "out.npz"
    save(source, x=np.asfortranarray(X.astype(">f8")), half=HALF, labels=np.array(["a"]))
    if from_pipe:
        run(lumina, model, "--input", "-", "--output", target, input=source.read_bytes())
    else:
        run(lumina, model, "--input", source, "--output", target)
    with np.load(target) as found:
        assert sorted(found) == ["output['half']", "output['ä/y']"]
        np.testing.assert_array_equal(found["output['ä/y']"], 2 * X, strict=True)
        # The advice of docs/lmn.md on bfloat16.
        half = found["output['half']"].view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(half, HALF, strict=True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_and_types(version, lumina: Path, model: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.npy"
    np.save(half, HALF)
    for dtype in (">f4", "<f8", ">f2", ">c16", "?", "i1", ">u2", "<u8"):
        for order in "CF":
            x = (X > 2 if dtype == "?" else X).astype(dtype, order=order)
            with (tmp_path / "x.npy").open("wb") as file:
                np.lib.format.write_array(file, x, version=version)
            inputs = ("--input", f"x={tmp_path / 'x.npy'}", "--input", f"half={half}")
            run(lumina, model, *inputs, "--output", f"output['ä/y']={tmp_path / 'y.npy'}")
            want = 2 * np.real(x).astype(np.float32)
            np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), want, strict=True)
