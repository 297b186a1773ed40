"""The function itself, compiled; what it keeps is donated, so that it is written in place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from ._models_networks import Network


def program(network: Network, threads: int) -> Program:
    """A call on weights and inputs that are on the device."""
    del threads  # those of the process
    params, inputs = jax.tree.map(jnp.asarray, (network.params, network.inputs))
    if network.state is None:
        compiled = jax.jit(network.function)
        return Program(lambda _: lambda: jax.block_until_ready(compiled(params, *inputs)), _array)
    compiled = jax.jit(network.function, donate_argnums=1)
    kept = [jax.tree.map(jnp.array, network.state)]

    def step() -> Any:
        out, kept[0] = jax.block_until_ready(compiled(params, kept[0], *inputs))
        return out

    return Program(lambda _: step, _array)


def _array(result: Any) -> tuple[np.ndarray, ...]:
    return (np.asarray(result),)
