"""The function as a `.lmn` file that the runtime runs in this process."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from lumina_jax import export

from .._peers import Program
from ._models_networks import Network


def model(network: Network) -> export.Model:
    """The function as a file, without test vectors, which nobody recomputes here."""
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in network.inputs]
    made = export.export(network.function, *shapes, params=network.params, state=network.state)
    return dataclasses.replace(made, tests=())


def program(network: Network, threads: int) -> Program:
    """A call on NumPy arrays, of a session that has its own weights and what is kept."""
    del threads  # one for each CPU that the process may use
    session = model(network).session()

    def call() -> Any:
        return session(*network.inputs)

    return Program(lambda _: call, lambda result: (result,))
