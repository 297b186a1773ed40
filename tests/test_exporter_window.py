"""Reductions of windows: the runtime computes what JAX computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.pooling import min_pool
from jax import lax

import exporter
from exported import Program
from exporter import ExportError

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
X = RNG.standard_normal((4, 7, 6, 3)).astype(np.float32)
N = np.where(X > 1.5, np.float32(np.nan), X)
N[0, 2:4, 2:4] = -np.inf
I = RNG.integers(-99, 100, (4, 6, 5))  # noqa: E741 - the integers beside X
B = X > 0.5
WHOLE = ((0, 0), (1, 1), (2, 0), (0, 0))
PADDINGS: tuple[Any, ...] = ("SAME", "VALID", ((1, 0), (0, 2)))
TYPES = ("int32", "uint32", "int8")


def window(
    body: Any, initial: Any, size: Any, strides: Any = None, padding: Any = "VALID", **options: Any
) -> Callable:
    return lambda x: lax.reduce_window(
        x, jnp.asarray(initial, x.dtype), body, size, strides or (1,) * x.ndim, padding, **options
    )


FUNCTIONS: dict[str, tuple[Callable[..., Any], Any]] = {
    "pool": (
        lambda x: [
            pool(x, (2, 3), (2, 1), padding)
            for pool in (nn.max_pool, nn.avg_pool, min_pool)
            for padding in PADDINGS
        ], X,
    ),
    "pool without padding": (
        lambda x: nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False), X
    ),
    "pool channels first": (
        lambda x: (
            window(lax.max, -np.inf, (1, 1, 2, 2), (1, 1, 2, 1))(x.transpose(0, 3, 1, 2)),
            window(lax.add, 0, (1, 1, 3, 2))(x.transpose(0, 3, 1, 2)),
        ), X,
    ),
    "pool a line": (lambda x: nn.max_pool(x[:, 0], (2,), (2,), "SAME"), X),
    "whole": (lambda x: nn.avg_pool(x, x.shape[1:3]), X),
    "every axis": (
        window(lax.add, 0, (1, 2, 3, 2), (1, 3, 2, 1), ((0, 0), (1, 1), (0, 2), (1, 1))), X
    ),
    "window dilation": (
        window(lax.max, -np.inf, (1, 2, 3, 1), window_dilation=(1, 3, 2, 1)), X
    ),
    "base dilation": (
        lambda x: [
            window(body, initial, (1, 2, 3, 1), (1, 2, 1, 1), WHOLE, base_dilation=(1, 2, 3, 1),
                   window_dilation=(1, 2, 2, 1))(x)
            for body, initial in ((lax.add, 0), (lax.max, -np.inf), (lax.mul, 1))
        ], X,
    ),
    "negative padding": (
        window(lax.add, 0, (1, 2, 2, 1), None, ((0, 0), (-1, 1), (-2, -1), (0, 0))), X
    ),
    "no place": (window(lax.add, 0, (1, 9, 1, 1)), X),
    "nothing but padding": (
        window(lax.max, -np.inf, (1, 2, 1, 1), None, ((0, 0), (3, 3), (0, 0), (0, 0))), X
    ),
    "NaN": (lambda x: (nn.max_pool(x, (2, 2)), min_pool(x, (2, 2))), N),
    "bodies": (
        lambda x: [
            window(body, initial, (1, 2, 3, 1), (1, 2, 1, 1), WHOLE)(x)
            for body in (lax.add, lax.mul, lax.max, lax.min)
            for initial in (0, 1, 0.25, -np.inf, np.inf)
            if not (body is lax.mul and np.isinf(initial))
        ], np.abs(X) + np.float32(0.1),
    ),
    "initial value with gaps": (
        lambda x: [
            window(body, 0.75, (1, 2, 2, 1), (1, 1, 2, 1), ((0, 0), (-1, 1), (2, 0), (0, 0)),
                   base_dilation=(1, 3, 2, 1), window_dilation=(1, 2, 1, 1))(x)
            for body in (lax.add, lax.mul, lax.max)
        ], X,
    ),
    "initial value from an argument": (
        lambda x: lax.reduce_window(x, x[0, 0, 0, 0], lax.max, (1, 2, 2, 1), (1,) * 4, "SAME"), X
    ),
    "integers": (
        lambda i: [
            window(body, initial, (1, 2, 2), (1, 1, 2), "SAME")(i.astype(dtype))
            for dtype in TYPES
            for body, initial in (
                (lax.add, 0), (lax.mul, 1), (lax.max, jnp.iinfo(dtype).min), (lax.max, 3),
                (lax.min, jnp.iinfo(dtype).max), (lax.bitwise_and, 5), (lax.bitwise_or, 0),
                (lax.bitwise_or, 8),
            )
        ], I,
    ),
    "truth": (
        lambda b: [
            window(body, initial, (1, 2, 3, 1), None, "SAME")(b)
            for body in (lax.bitwise_and, lax.bitwise_or, lax.max, lax.min)
            for initial in (False, True)
        ], B,
    ),
    "precision": (
        lambda x: [
            lax.reduce_precision(x * scale, *bits)
            for scale in (1, 1e-5, 1e5, 1e38)
            for bits in ((5, 10), (8, 7), (4, 3), (5, 2), (8, 1), (1, 23), (11, 52), (8, 23))
        ], N,
    ),
    # Without a mantissa, what NaN becomes depends on how much XLA optimizes.
    "precision of powers of 2": (lambda x: lax.reduce_precision(x, 8, 0), X),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("batch", [None, "batch"])
def test_windows_are_right(program: Program, batch: str | None) -> None:
    def fn(arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: FUNCTIONS[name][0](*args) for name, args in arguments.items()}

    arguments = {name: args for name, (_, *args) in FUNCTIONS.items()}
    model = program.export(fn, arguments, batch=batch)
    reductions = {op for op in model.ops if op.startswith("reduce_window")}
    assert reductions == {
        f"reduce_window_{of}" for of in ("sum", "prod", "max", "min", "and", "or")
    }


def test_pooling_is_one_node() -> None:
    model = exporter.export(lambda x: nn.max_pool(x, (2, 2), (2, 2)), X, batch="batch")
    assert model.ops == {"reduce_window_max": 1}
    assert model.outputs == {"output": "f32[batch, 3, 3, 3]"}


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            window(lambda a, b: a + 2 * b, 0, (1, 2, 2, 1)),
            "`reduce_window` .*reduced by a function, expected add, mul, max, min, and, or of one",
        ),
        (
            window(lambda a, b: a + a, 0, (1, 2, 2, 1)), "reduced by a function",
        ),
        (
            window(lax.sub, 0, (1, 2, 2, 1)), "reduced by sub, expected",
        ),
        (
            lambda x: lax.reduce_window(
                (x, x), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] * b[1]), (1, 2, 2, 1),
                (1, 1, 1, 1), "VALID",
            ), "reduced by 2 arrays at once, expected",
        ),
        (
            lambda x: window(lax.add, 0, (1, 2, 2, 1))(x * 1j),
            "`reduce_window` .*operand 0 is c64; of complex numbers",
        ),
    ],
)  # fmt: skip
def test_neighbors_are_refused(fn: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, X)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "int32", "float16"])
def test_windows_and_reductions_of_nothing(program: Program, dtype: str) -> None:
    """What lies in padding alone is the least or the largest number of the type."""
    x = np.arange(-6, 6).reshape(3, 4).astype(dtype)

    def fn(x: Any) -> Any:
        geometry = {"window_dimensions": (2, 1), "window_strides": (1, 1)}
        padding = ((3, 2), (0, 0))
        bounds = (jnp.iinfo if x.dtype != jnp.float16 else jnp.finfo)(x.dtype)
        extremes = (-jnp.inf, jnp.inf) if x.dtype == jnp.float16 else (bounds.min, bounds.max)
        least, largest = (np.asarray(number, dtype) for number in extremes)
        return (
            lax.reduce_window(x, least, lax.max, **geometry, padding=padding),
            lax.reduce_window(x, largest, lax.min, **geometry, padding=padding),
            lax.reduce(x[:0], least, lax.max, (0,)),
            lax.reduce(x[:0], largest, lax.min, (0,)),
        )

    program.export(fn, x)
