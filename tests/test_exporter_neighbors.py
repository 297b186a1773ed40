"""The forms of a primitive that lie next to those that a rule was made for: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.lax import GatherDimensionNumbers, GatherScatterMode

import exporter
from exported import Program
from exporter import ExportError

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
X = RNG.standard_normal((5, 6)).astype(np.float32)
Y = RNG.standard_normal((5, 4, 6, 3)).astype(np.float32)
P = np.abs(X) + np.float32(0.1)
N = np.where(X > 1, np.float32(np.nan), X)
I = RNG.integers(-7, 8, (5, 6)).astype(np.int32)  # noqa: E741 - the integers beside X
U = RNG.integers(0, 99, (5, 6)).astype(np.uint32)
I8, U8 = I.astype(np.int8), U.astype(np.uint8)
B = X > 0
C = (X + 1j * X[::-1]).astype(np.complex64)
H = X.astype(jnp.bfloat16)
S = np.round(X)  # with ties, and what has a place of its own in an order
S[0] = [np.nan, -0.0, 0.0, np.inf, -np.inf, np.copysign(np.float32(np.nan), -1)]


def gather(
    x: Any, indices: Any, offset: Any, collapsed: Any, axes: Any, sizes: Any, mode: Any = None
) -> Any:
    numbers = GatherDimensionNumbers(offset, collapsed, axes)
    return lax.gather(x, jnp.asarray(indices), numbers, sizes, mode=mode)


def dot(x: Any, y: Any, contracting: Any, batch: Any = ((), ())) -> Any:
    return lax.dot_general(x, y, (contracting, batch))


FUNCTIONS: dict[str, tuple[Callable[..., Any], Any]] = {
    # gather: several axes, together and apart, with windows, repeated, empty, out of order
    "axes": (lambda y: (y[:, ::2, ::2], y[:, ::2, 1:5:2, ::2], y[:, 1, ::-1, [0, 2]]), Y),
    "axes apart": (lambda y: (y[:, [0, 3], :, [0, 2]], y[:, 0, ..., None, [1, 2]]), Y),
    "axes together": (lambda y: (y[:, [0, 3], [1, 5]], y[:, np.arange(4), np.arange(4)]), Y),
    "axes outer": (lambda y: y[:, np.array([0, 3])[:, None], np.array([1, 5, 5])], Y),
    "axes outer, swapped": (lambda y: y[:, np.array([0, 3]), np.array([1, 5, 5])[:, None]], Y),
    "axes mixed": (
        lambda y: y[:, np.array([[0, 3], [1, 2]]), np.array([[5], [0]]), np.array([0, 2])], Y
    ),
    "triangle": (lambda y: y[:, *np.tril_indices(4, 0, 6)], Y),
    "diagonal": (lambda y: (jnp.diagonal(y, axis1=1, axis2=2), jnp.trace(y, axis1=1, axis2=2)), Y),
    "nested": (lambda y: (y[:, np.array([[0, 3], [1, 1]])], y[..., np.array([[2, 0]])]), Y),
    "negative": (lambda y: (y[:, [-1, -2, 0]], jnp.flip(y, (1, 3)), jnp.roll(y, 2, 2)), Y),
    "empty": (lambda y: (y[:, np.zeros(0, int)], y[:, np.zeros((0, 2), int)]), Y),
    "mask": (lambda y: y[:, np.array([True, False, True, True])], Y),
    "clip": (lambda y: jnp.take(y, np.array([9, -9, 1]), axis=1, mode="clip"), Y),
    "wrap": (lambda y: jnp.take(y, np.array([9, -9, 1]), axis=2, mode="wrap"), Y),
    "fill": (lambda y: jnp.take(y, np.array([3, -1, 1]), axis=1, mode="fill"), Y),
    "along": (lambda y: jnp.take_along_axis(y, np.array([3, 1])[None, :, None, None], axis=1), Y),
    "mapped": (lambda y: jax.vmap(lambda v: v[:, [0, 2]])(y), Y),
    "mapped indices": (
        lambda y: jax.vmap(lambda v, i: v[i], (1, 0), 1)(y[0], jnp.array([0, 2, 3, 1, 0, 2])), Y
    ),
    "window": (lambda x: gather(x, [[1], [3]], (0, 1), (), (1,), (x.shape[0], 2)), X),
    "windows": (
        lambda y: gather(
            y, [[1, 0], [3, 1], [0, 1]], (0, 1, 2, 3), (), (2, 3), (y.shape[0], 4, 2, 2)
        ), Y,
    ),
    "windows between lines": (
        lambda y: gather(
            y, [[[1, 0], [3, 1]]], (0, 2, 4), (1,), (1, 2), (y.shape[0], 1, 2, 3)
        ), Y,
    ),
    "axes in another order": (
        lambda y: gather(
            y, [[1, 0], [3, 1], [5, 3]], (1, 2), (1, 2), (2, 1), (y.shape[0], 1, 1, 3)
        ), Y,
    ),
    "other axes cut": (
        lambda y: (
            gather(y, [[1], [3]], (0, 2, 3), (1,), (1,), (y.shape[0], 1, 4, 2)),
            gather(y, [[1], [3]], (1, 2, 3), (1,), (1,), (1, 1, 6, 3)),
        ), Y,
    ),
    "clamped": (
        lambda x: gather(
            x, [[7], [-3]], (0,), (1,), (1,), (x.shape[0], 1), GatherScatterMode.CLIP
        ), X,
    ),
    "row 0 again": (lambda x: (x[np.zeros(3, int)], x[np.array([0, 0])], x[0]), X),
    "types": (lambda a: [v[:, [5, 0, 0]] for v in a], [I, B, C, H, U8]),
    # dynamic_slice and slice
    "dynamic": (lambda x: lax.dynamic_slice(x, (0, 4), (x.shape[0], 3)), X),
    "dynamic, negative": (lambda x: lax.dynamic_slice(x, (0, -2), (x.shape[0], 2)), X),
    "dynamic index": (lambda x: lax.dynamic_index_in_dim(x, 4, 1), X),
    "strides": (lambda y: lax.slice(y, (0, 1, 2, 0), (y.shape[0], 4, 6, 2), (1, 2, 3, 1)), Y),
    "rows": (lambda x: (x[1:], x[:-1], jnp.diff(x, axis=0), x[:, 2:2]), X),
    # dot_general: several contracting axes, batch axes that are not first, none at all
    "dot batch": (lambda y: jnp.einsum("bijk,blmk->bijlm", y, y), Y),
    "dot batch in the middle": (lambda y: dot(y, y, ((1,), (1,)), ((2, 0), (2, 0))), Y),
    "dot batch last": (lambda y: dot(y, y, ((1, 2), (1, 2)), ((3,), (3,))), Y),
    "dot of two": (lambda y: dot(y, y, ((2, 1), (2, 1))), Y),
    "dot swapped": (lambda y: dot(y, jnp.ones((6, 4)) + Y[0, 0, :, :1], ((1, 2), (1, 0))), Y),
    "dot outer": (lambda x: dot(x, x, ((), ())), X),
    "dot elementwise": (lambda x: dot(x, x, ((), ()), ((0, 1), (0, 1))), X),
    "dot whole": (lambda x: (dot(x, x, ((0, 1), (0, 1))), x[0] @ x[0]), X),
    "dot scalar": (lambda x: dot(x[0, 0], x, ((), ())), X),
    "dot types": (lambda c, i: (c @ c.T, jnp.einsum("bi,ci->bc", i, i)), C, I),
    "dot precision": (lambda x: jnp.dot(x, x.T, precision="highest"), X),
    # reductions
    "sum": (lambda y: (y.sum((1, 3)), y.sum((3, 1)), y.sum(), jnp.sum(y, axis=())), Y),
    "extrema": (lambda y: (y.max((0, 2)), y.min(2), y.prod((1, 2)), y.max(1, initial=5.0)), Y),
    "extrema of NaN": (lambda x: (x.max(1), x.min(1), jnp.maximum(x, 0), jnp.nanmax(x, 1)), N),
    "reduce types": (
        lambda i, u, b: (
            lax.reduce(i, np.int8(0), lax.add, (1,)), lax.reduce(i, np.int8(-128), lax.max, (1,)),
            u.sum(1), u.max(0), u.min(), u.prod(1), b.sum(1),
        ), I8, U, B,
    ),
    "sum where": (lambda x, b: x.sum(1, where=b), X, B),
    "variance": (lambda y: (y.std((1, 2)), y.var(0, ddof=1)), Y),
    "argmax": (lambda y: (jnp.argmax(y, 1), jnp.argmin(y, 2), jnp.argmax(y), jnp.argmin(y)), Y),
    "argmax of NaN": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1)), N),
    "argmax types": (
        lambda i8, i: (
            lax.argmax(i8, 1, jnp.int32), lax.argmax(i, 1, jnp.uint32),
            jnp.argmax(i // 4, 1), jnp.argmin(i // 4, 0),
        ), I8, I,
    ),
    "cumsum": (
        lambda y, i: (
            lax.cumsum(y, 1, reverse=True), lax.cumsum(y, 3), lax.cumsum(y, 0),
            lax.cumsum(i, 1), lax.cumsum(i, 0, reverse=True),
        ), Y, I,
    ),
    "reduce by bits": (
        lambda i, u, b: [f(v, (1,)) for f in (lax.reduce_and, lax.reduce_or, lax.reduce_xor)
                         for v in (i, u, b, i.astype("i1"))], I, U, B,
    ),
    "reduce by a function": (
        lambda x, i: (
            # XLA may take the initial value several times, and not at all of a single element.
            lax.reduce(i, np.int32(5), lambda a, b: b | a, (1,)),
            lax.reduce(i, np.int32(5), lambda a, b: jnp.maximum(b, a), (0, 1)),
            lax.reduce(x, np.float32(1), lambda a, b: a * b, (1,)),
        ), X, I,
    ),
    "reduce complex": (
        lambda c: (c.sum(1), c.prod(1), c.mean(), lax.cumsum(c, 1), lax.cumprod(c, 1)), C,
    ),
    "argmax small": (
        lambda b, i: (
            jnp.argmax(b, 1), lax.argmin(b, 1, jnp.int8), lax.argmax(i.astype("i2"), 1, jnp.uint8),
            jnp.argmax(i.astype("u1"), 1),
        ), B, I,
    ),
    "cumulative": (
        lambda x, i, u: [
            f(v, axis, reverse=reverse) for f in (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin)
            for v in (x, i, u, i.astype("i1")) for axis, reverse in ((0, False), (1, True))
        ], X, I, U,
    ),
    "cumulative of NaN": (
        lambda x: (
            lax.cummax(x, 1), lax.cummin(x, 0, reverse=True), lax.cumlogsumexp(x, 1),
            lax.cumlogsumexp(jnp.where(x > 0, x * 100, -jnp.inf), 0, reverse=True),
        ), N,
    ),
    # order: zeros of both signs, NaN, ties, along any axis, by several keys
    "sort": (lambda s, y: ([jnp.sort(s, a) for a in (0, 1)], [jnp.sort(y, a) for a in range(4)]),
             S, Y),
    "argsort": (
        lambda s, i: (
            jnp.argsort(s), jnp.argsort(s, 0), jnp.argsort(i, descending=True),
            jnp.sort(s, stable=False),
        ), S, I,
    ),
    "sort by keys": (
        lambda s, i, b: (
            lax.sort((i, s, b), num_keys=3), lax.sort((b, i, s), 0, num_keys=2),
            jnp.lexsort((s, i)),
        ), S, I, B,
    ),
    "sort types": (lambda a: [jnp.sort(v, 1) for v in a], [I8, U8, U, B, C, H]),
    "median": (lambda x: (jnp.median(x, 1), jnp.percentile(x, 30, axis=1)), X),
    "approximate top_k": (
        lambda x: (lax.approx_max_k(x, 2), lax.approx_min_k(x, 3, reduction_dimension=1)), X,
    ),
    "top_k": (
        lambda s, i, b: (
            lax.top_k(s, 6), lax.top_k(i, 3), lax.top_k(b, 2), lax.top_k(i.astype("i1"), 1),
            lax.top_k(s, 0),
        ), S, I, B,
    ),
    # casts, also of what does not fit
    "cast f32": (
        lambda x: [(v * 100).astype(t) for v in (x, x * 1e9, x / 0)
                   for t in ("i4", "u4", "i1", "u1", "i2", "?", "f2", "bfloat16", "c8")], X,
    ),
    "cast i32": (
        lambda i: [(i * 1000).astype(t)
                   for t in ("f4", "u4", "i1", "u1", "i2", "?", "f2", "bfloat16", "c8")], I,
    ),
    "cast others": (
        lambda a: [v.astype(t) for v in a for t in ("f4", "i4", "i1", "?", "c8")], [U, B, H, U8]
    ),
    # select_n and clamp
    "select by a scalar": (lambda x: lax.select_n(x[0, 0] > 0, x, -x), X),
    "select by number": (
        lambda x: lax.select_n(jnp.abs(x).astype(int).clip(0, 2), x, -x, 2 * x), X
    ),
    "select by a scalar number": (
        lambda x: lax.select_n(jnp.abs(x[0, 0]).astype(int).clip(0, 2), x, -x, 2 * x), X
    ),
    "select of one": (lambda x: lax.select_n(x > 0, x) + 1, X),
    "select types": (lambda b, c, h: [jnp.where(b, v, v[:, ::-1]) for v in (b, c, h)], B, C, H),
    "clamp": (
        lambda x, i: (
            lax.clamp(-P[:1] + 0 * x, x, P[:1] + 0 * x), lax.clamp(x[0, 0], x, x[0, 0] + 1),
            lax.clamp(np.float32(np.nan), x, 1.0), lax.clamp(1.0, x, -1.0), lax.clamp(-2, i, 3),
        ), X, I,
    ),
    # pad: negative, inside, to nothing, with what is computed
    "pad": (
        lambda x: [
            lax.pad(x, 0.5, padding) for padding in (
                ((0, 0, 0), (-2, -1, 0)), ((-1, 0, 0), (1, 1, 0)), ((0, 0, 0), (-1, 2, 2)),
                ((0, 0, 1), (0, 0, 0)), ((0, 0, 0), (-3, -3, 0)), ((2, 1, 1), (-4, 3, 3)),
            )
        ], X,
    ),
    "pad with": (lambda x: lax.pad(x, x[0, 0], ((1, 2, 0), (0, 0, 0))), X),
    "pad modes": (
        lambda x: [jnp.pad(x, ((0, 0), (2, 2)), m) for m in ("edge", "reflect", "wrap", "mean")], X
    ),
    "pad types": (lambda i, b: [jnp.pad(v, ((1, 0), (2, 2))) for v in (i, b)], I, B),
    # layout
    "transpose": (lambda y: (y.transpose(3, 0, 2, 1), jnp.moveaxis(y, 0, 2)), Y),
    "reshape": (
        lambda y: (
            y.reshape(-1, 3), y.transpose(2, 0, 1, 3).reshape(6, -1), y.reshape(12, -1),
            lax.reshape(y, (9, y.shape[0], 8), (3, 0, 2, 1)),
        ), Y,
    ),
    "rev": (lambda y: (lax.rev(y, (1, 3)), lax.rev(y, (0,)), lax.rev(y, ())), Y),
    "broadcast": (
        lambda x: (
            lax.broadcast_in_dim(x, (2, x.shape[0], 3, 6), (1, 3)), lax.broadcast(x, (2, 1)),
            lax.broadcast_in_dim(x[:, :1], (x.shape[0], 4), (0, 1)), lax.expand_dims(x, (0, 3)),
        ), X,
    ),
    "squeeze": (lambda x: (x[None, :, None].squeeze((0, 2)), lax.squeeze(x[:, None], (-2,))), X),
    "concatenate": (
        lambda y, i: (
            jnp.concatenate([y, y[:, :1], y[:, 2:]], 1), jnp.concatenate([y, y[:1]], 0),
            jnp.concatenate([y], 1), jnp.concatenate([y[..., 0, 0], i], 1),
        ), Y, I,
    ),
    "split": (lambda y: (jnp.split(y, 2, 1), jnp.split(y, [1, 1, 5], 2)), Y),
    "unstack": (lambda y: jnp.unstack(y, axis=2), Y),
    "repeat": (lambda x: (jnp.tile(x, (2, 1, 3)), jnp.repeat(x, 3, 0), jnp.dstack([x, x])), X),
    "iota": (
        lambda x: (
            lax.broadcasted_iota(jnp.int8, (x.shape[0], 3), 0), lax.iota(jnp.float32, x.shape[0]),
            lax.broadcasted_iota(jnp.uint32, (x.shape[0], 3), 1), jnp.ones(x.shape[0] * 2),
            [lax.iota(t, x.shape[0]) for t in ("u1", "i2", "f2", "bfloat16", "c8")],
        ), X,
    ),
    # arithmetic where types differ in their laws
    "division": (
        lambda i, u: (
            [f(i, d) for f in (jnp.floor_divide, jnp.remainder, lax.div, lax.rem)
             for d in (jnp.int32(3), jnp.int32(-3))],
            lax.div(i, i * 0), lax.rem(i, i * 0), u // 3, u % 3, u - 50, -u,
        ), I, U,
    ),
    "remainder": (lambda x: (x % -0.7, lax.rem(x, 0.3), x // 0.3, jnp.divmod(x, 0.3)), X),
    "overflow": (lambda i: (i * 1000000007, i + 2147483647, abs(i * 0 - 2147483647 - 1), i**11), I),
    "i8": (
        lambda i: (
            i * i, -i, abs(i), jnp.sign(i), i**2, i // np.int8(3), jnp.maximum(i, np.int8(2)),
            i & np.int8(5), i << np.int8(2), i >> np.int8(1),
        ), I8,
    ),
    "power": (
        lambda x: (
            x**2.5, x**-1, x**0, x**17, lax.integer_pow(x, -3), jnp.power(2.0, x),
            lax.pow(x, jnp.int32(3)), lax.pow(x, (x * 3).astype(int)), lax.pow(-x, jnp.int32(3)),
        ), P,
    ),
    "shift": (
        lambda u, i: (
            u << 33, u >> 40, lax.shift_right_arithmetic(u, jnp.uint32(35)), lax.shift_left(u, u),
            i << 33, lax.shift_right_logical(i, jnp.int32(5)),
            lax.shift_right_arithmetic(i, jnp.int32(-1)),
        ), U, I,
    ),
    "round": (
        lambda x: [lax.round(x * 2, m) for m in lax.RoundingMethod] + [jnp.trunc(x), jnp.rint(x)],
        np.round(X * 4) / 4,
    ),
    "compare": (lambda c, x, i: (c == c[:, ::-1], c != 0, x < i, jnp.sign(x * 0)), C, X, I),
    "truth": (lambda b: (b < ~b, jnp.maximum(b, ~b), b + b, b * b, b ^ b), B),
    "attention": (lambda y: jax.nn.dot_product_attention(y, y, y, is_causal=True), Y),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("batch", [None, "batch"])
def test_neighbors_are_right(program: Program, batch: str | None) -> None:
    def fn(arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: FUNCTIONS[name][0](*args) for name, args in arguments.items()}

    program.export(fn, {name: args for name, (_, *args) in FUNCTIONS.items()}, batch=batch)


def test_lines_are_few_slices(program: Program) -> None:
    """Indices with equal steps are one slice of each axis."""
    model = program.export(lambda y: y[:, ::2, ::-2, 1].mean((1, 2)), Y, batch="batch")
    assert model.ops == {"slice": 3, "rev": 1, "squeeze": 1, "reduce_sum": 1, "div": 1}
    model = program.export(lambda x: x[:, np.array([0, 1, 2, 5, 4, 3, 3])], X, batch="batch")
    assert model.ops == {"slice": 3, "rev": 1, "concatenate": 1}


@pytest.mark.parametrize(
    ("fn", "batch", "message"),
    [
        (
            lambda x: lax.nextafter(x.astype(jnp.bfloat16), jnp.bfloat16(0)), None,
            "operand 1 is bf16, expected f32",
        ),
        (lambda x: lax.top_k(x.T, x.shape[0]), "batch", "its `k` is batch, expected a number"),
        (
            lambda x: lax.reduce(
                (x, x), (np.float32(0),) * 2, lambda a, b: (a[0] + b[0], a[1] + b[1]), (0,)
            ), None, "its function is not one operation of its two arguments",
        ),
        (lambda x: lax.zeta(x, x), None, "no rule exports it; .* go on outside of the model"),
    ],
)  # fmt: skip
def test_neighbors_are_refused(fn: Any, batch: str | None, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, X, batch=batch)
