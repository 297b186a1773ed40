"""The function as a `.lmn` file that the runtime runs in this process."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from lumina_jax import export
from lumina_jax._native import _lumina

from .._peers import Program
from ._models_networks import Network


def program(network: Network) -> Program:
    """A call on NumPy arrays, of which a session has its own weights."""
    state = () if network.state is None else (network.state,)
    arguments = (*network.inputs, *state)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    model = export.export(network.function, *shapes, params=network.params)
    # Without test vectors, which nobody recomputes here.
    session = _lumina.Session([dataclasses.replace(model, tests=()).to_bytes()])
    given = [np.asarray(leaf) for leaf in jax.tree.leaves(arguments)]
    kept = len(jax.tree.leaves(network.state))

    def step() -> Any:
        out, *rest = session.run(given)
        if kept:
            given[-kept:] = rest
        return out

    return Program(lambda _: step, lambda result: (result,))
