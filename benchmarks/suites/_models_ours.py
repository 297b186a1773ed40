"""The function as a `.lmn` file that the runtime runs in this process."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from lumina_jax import export

from .._peers import Program
from ._models_networks import Network


def program(network: Network) -> Program:
    """A call on NumPy arrays, of a session that has its own weights and what is kept."""
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in network.inputs]
    model = export.export(network.function, *shapes, params=network.params, state=network.state)
    # Without test vectors, which nobody recomputes here.
    session = dataclasses.replace(model, tests=()).session()

    def call() -> Any:
        return session(*network.inputs)

    return Program(lambda _: call, lambda result: (result,))
