"""Models for the tests of `lumina_runtime`, which are skipped where it is not built."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter

rt = pytest.importorskip(
    "lumina_runtime", reason="lumina_runtime is not built: it takes a C++ compiler"
)

W = jax.random.normal(jax.random.key(0), (6, 4))
X = np.asarray(jax.random.normal(jax.random.key(1), (5, 6)))


def dense(x: Any) -> Any:
    return jnp.tanh(x @ W)


def exported(*args: Any, **options: Any) -> tuple[exporter.Model, Any]:
    """A model as the exporter runs it, and as this package does."""
    model = exporter.export(*args, **options)
    return model, rt.Model(model.to_bytes())


def looped(x: Any) -> Any:
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ x), None), x, length=LONG)[0]


LONG = 100_000
SQUARE = np.eye(32, dtype=np.float32)
