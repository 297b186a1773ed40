"""Reading and writing arrays where indices say that depend on an argument."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
from exported import Program

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
T = RNG.normal(size=(7, 4)).astype(np.float32)
X = RNG.normal(size=(5, 7, 4)).astype(np.float32)
# Within, beyond both ends, and counted from the end.
I = np.array([[0, 5, 2], [9, -3, 1], [-9, 6, 6], [3, 3, -1], [2, 0, 4]], np.int32)  # noqa: E741
F = X[:, 0, :3]

# Functions of these indices, and of what follows.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "embedding": (lambda i: (jnp.asarray(T)[i], jnp.take(T, i, axis=0, mode="clip")),),
    "fill": (
        lambda i: (
            jnp.take(T, i, axis=0), jnp.take(T, i, axis=1, fill_value=3.0),
            jnp.take(np.arange(7, dtype=np.int32), i), jnp.take(np.arange(7, dtype=np.uint32), i),
            jnp.take(T > 0, i, axis=0), jnp.take(T * 1j, i, axis=0),
        ),
    ),
    "column": (lambda i: (jnp.asarray(T)[:, i % 4], jnp.asarray(T)[i % 7, i % 4]),),
    "of a batch": (
        lambda i, x: (
            jnp.take_along_axis(x[..., 0], i % 7, axis=1), x[jnp.arange(x.shape[0]), i[:, 0]],
        ),
        X,
    ),
    "unsigned": (lambda i: jnp.asarray(T)[(i % 7).astype(np.uint32)],),
    "rows": (lambda i, x: (x[::2], jnp.roll(x, 1, 0), x[: x.shape[0] // 2]), X),
    "first row": (lambda i, x: (x[0], x[-1], x[np.array([0, -1])], lax.index_in_dim(x, 0)), X),
    "many": (lambda i, x: x[:, np.array([0, 3, 3, 1, 6, 2, 5, 4, 0, 1, 6, 3])], X),
    "slice": (
        lambda i, x: (
            lax.dynamic_slice(x, (0, i[0, 0], i[0, 1]), (x.shape[0], 3, 2)),
            lax.dynamic_index_in_dim(x, i[0, 1], 1), lax.dynamic_slice_in_dim(x.T, i[0, 1], 2),
            jax.vmap(lambda row, at: lax.dynamic_slice(row, (at[0], at[1]), (2, 4)))(x, i),
        ), X,
    ),
    "update": (
        lambda i, x: (
            lax.dynamic_update_slice(x, 2 * x[:, :2, :1], (0, i[0, 1], i[0, 2])),
            jax.vmap(lambda row, at: lax.dynamic_update_slice(row, row[:2] * 2, (at[0], 0)))(x, i),
        ), X,
    ),
    "set": (
        lambda i, x: (
            x.at[:, i[0]].set(1.0), x.at[:, 3].set(2.0), x.at[:, i[0], 1].set(x[:, :3, 0]),
        ),
        X,
    ),
    "combine": (
        lambda i, f: [
            getattr(jnp.zeros((7, 3)).at[i], name)(f[:, None]) for name in ("add", "min", "max")
        ] + [jnp.ones(7).at[i].multiply(f), jnp.ones(7).at[i].add(-f, mode="clip"),
             jnp.ones(7).at[i].subtract(f), jnp.zeros(7, jnp.int32).at[i].add(i),
             jnp.zeros(7, jnp.uint32).at[i].max((i % 7).astype(np.uint32))],
        F,
    ),
    "of a row": (lambda i, x: jax.vmap(lambda row, at: row.at[at].add(1.0))(x, i), X),
    "one hot": (lambda i: jax.nn.one_hot(i, 8),),
    "empty": (
        lambda i, x: (x[:, i[0, :0]], x.at[:, i[0, :0]].set(2.0), jnp.asarray(T)[i[:, :0]]), X,
    ),
}  # fmt: skip


# JAX asks for int64 where it indexes symbolic extents.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("batch", [None, "batch"])
def test_indexing_is_that_of_jax(program: Program, batch: str | None) -> None:
    def fn(indices: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: FUNCTIONS[name][0](indices, *args) for name, args in arguments.items()}

    arguments = {name: args for name, (_, *args) in FUNCTIONS.items()}
    model = program.export(fn, I, arguments, batch=batch, rtol=0.0, atol=1e-6)
    assert {"gather", "scatter", "dynamic_slice", "dynamic_update_slice"} <= set(model.ops)


def test_what_is_fixed_moves_nothing(program: Program) -> None:
    model = program.export(
        lambda x: (x[:, 2], x[:, ::2], lax.dynamic_slice(x, (0, 9, 0), (5, 2, 4))), X
    )
    assert set(model.ops) == {"slice", "squeeze"}


def test_every_kind_of_key_is_indexed(program: Program) -> None:
    def fn(key: jax.Array, i: jax.Array) -> tuple[jax.Array, ...]:
        keys = jax.random.split(key, 4)
        return jax.random.key_data(keys[i[0, 0]]), jax.random.key_data(keys[i])

    program.export(fn, jax.random.key(1), I % 4)


def test_a_mode_that_is_a_product_is_refused() -> None:
    def fn(i: jax.Array) -> jax.Array:
        return jnp.asarray(T).at[i].get(mode=lax.GatherScatterMode.ONE_HOT)

    with pytest.raises(exporter.ExportError, match="its `mode` is `one_hot`, expected `fill` or"):
        exporter.export(fn, I)
