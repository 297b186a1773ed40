"""A conversation goes from `lumina run` to Python and back, by the states in a .npz file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter


@pytest.fixture(scope="module")
def model() -> exporter.Model:
    """Lines x f32[time, 3] that are added up with all lines before."""

    def read(weight, cache, x):
        start = (cache["position"], 0)
        lines = jax.lax.dynamic_update_slice(cache["lines"], x @ weight, start)
        return lines.sum(0), {"lines": lines, "position": start[0] + x.shape[0]}

    (time,) = jax.export.symbolic_shape("time", constraints=["time <= 8"])
    entries: dict[str, Any] = {
        "prefill": (read, jax.ShapeDtypeStruct((time, 3), jnp.float32)),
        "decode": (read, jnp.ones((1, 3))),
    }
    cache = {"lines": jnp.zeros((8, 3)), "position": jnp.int32(0)}
    return exporter.export(entries, params=jnp.arange(9.0).reshape(3, 3), state=cache)


def test_states_go_from_one_to_the_other(
    lumina: Path, model: exporter.Model, tmp_path: Path
) -> None:
    path = model.save(tmp_path / "m.lmn")
    lines = np.random.default_rng(0).standard_normal((6, 3), dtype=np.float32)
    np.save(tmp_path / "prompt.npy", lines[:3])
    np.save(tmp_path / "line.npy", lines[3:5, None])
    prompt = ["--entry", "prefill", "--input", "prompt.npy", "--save-state", "s.npz"]
    decode = ["--entry", "decode", "--input", "line.npy", "--steps", "--output", "y.npy"]
    for options in (prompt, [*decode, "--state", "s.npz", "--save-state", "s.npz"]):
        command = [lumina, "run", path, *options]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=60)
    session = model.session()
    session.run("prefill", lines[:3])
    expected = [session.run("decode", line[None]) for line in lines[3:5]]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.stack(expected), strict=True)
    other = model.session()
    with np.load(tmp_path / "s.npz") as saved:
        other.set_states(**saved)
    np.testing.assert_array_equal(
        other.run("decode", lines[5:]), session.run("decode", lines[5:]), strict=True
    )
    # And back.
    states: dict[str, Any] = dict(session.states)
    np.savez(tmp_path / "s.npz", **states)
    command = [lumina, "run", path, *decode, "--state", "s.npz", "--quiet"]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.stderr == b""
    expected = [session.run("decode", line[None]) for line in lines[3:5]]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.stack(expected), strict=True)
