"""The function as an ONNX file, which `lumina convert` writes of ours, in ONNX Runtime."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]

from .._peers import Program
from ._models_networks import Network
from ._models_ours import model
from .start import program as lumina


def program(network: Network, threads: int) -> Program:
    """A call on NumPy arrays; what is kept goes from call to call as arrays."""
    with tempfile.TemporaryDirectory(prefix="lumina-onnx-") as folder:
        ours, theirs = (Path(folder) / f"network.{kind}" for kind in ("lmn", "onnx"))
        exported = model(network)
        exported.save(ours)
        subprocess.run([lumina(), "convert", ours, "-o", theirs], check=True, capture_output=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # that constants are left out is no news
        session = onnxruntime.InferenceSession(theirs, options)
    graph = exported.graph
    given = dict(zip((port.name for port in graph.inputs), network.inputs, strict=True))
    states = [state.name for state in graph.states]
    kept = dict(zip(states, jax.tree.leaves(network.state), strict=True))
    results = [port.name for port in graph.outputs] + [f"{name}.next" for name in states]

    def call() -> Any:
        out, *following = session.run(results, {**given, **kept})
        kept.update(zip(states, following, strict=True))
        return out

    return Program(lambda _: call, lambda result: (np.asarray(result),))
