"""Loops and branches: regions of a graph that the runtime repeats or chooses."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
from exported import Program, rebuilt, refused

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 4)).astype(np.float32)
W = RNG.normal(size=(4, 4)).astype(np.float32)


def nested(x: jax.Array) -> Any:
    """A branch and a loop in a loop, which read what is around both."""

    def line(carry: jax.Array, row: jax.Array) -> Any:
        carry = lax.cond(row[0] > 0, lambda c: c + row, lambda c: c - x[0], carry)
        return carry, lax.scan(lambda d, q: (d + q * carry[0], d), 0.0, row)

    return lax.scan(line, x[0], x)


FUNCTIONS: dict[str, Any] = {
    "scan": lambda x: lax.scan(lambda c, row: (jnp.tanh(c @ W + row), c.sum()), x[0], x),
    "scan from the end": lambda x: lax.scan(lambda c, r: (c + r, c * r), x[0], x, reverse=True),
    "scan of one line": lambda x: lax.scan(lambda c, r: (c + r, c * r), x[0], x[:1]),
    "scan of no line": lambda x: lax.scan(lambda c, r: (c + r, c * r), x[0], x[:0]),
    "scan that keeps": lambda x: lax.scan(lambda c, _: (c, x), x[0], None, length=2),
    "scan of columns": lambda x: lax.scan(lambda c, r: (c + r, c * r), x[:, 0], x[:, 1:].T),
    "map": lambda x: lax.map(lambda row: row * 2, x),
    "fori": lambda x: lax.fori_loop(0, 6, lambda i, c: c * 1.1 + i, x),
    "while": lambda x: [
        lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * 0.5), (n, x))
        for n in (0, 1, 4, 7)
    ],
    "cond": lambda x: [
        lax.cond(p, lambda: x * 2, lambda: x - 1) for p in (x[0, 0] > 0, x[0, 0] <= 0)
    ],
    "switch": lambda x: [
        lax.switch(jnp.argmax(x[0]) + i, [jnp.sin, jnp.cos, jnp.abs, lambda x: x @ W], x)
        for i in (-5, -1, 0, 1, 9)
    ],
    "nested": nested,
    "associative": lambda x: lax.associative_scan(jnp.multiply, x, axis=1),
}


@pytest.mark.parametrize("batch", [None, "batch"])
def test_loops_and_branches_are_those_of_jax(program: Program, batch: str | None) -> None:
    def fn(x: jax.Array) -> Any:
        return {name: function(x) for name, function in FUNCTIONS.items()}

    model = program.export(fn, X, batch=batch)
    assert {"scan", "while", "cond"} <= set(model.ops)


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Bidirectional(nn.RNN(nn.LSTMCell(3)), nn.RNN(nn.GRUCell(3)))(x)
        return nn.Dense(2)(nn.RNN(nn.SimpleCell(4))(x)[:, -1])


def test_recurrent_networks(program: Program) -> None:
    """Weights stay outside of the loop, once; the batch and the number of steps are symbols."""
    x = RNG.normal(size=(3, 5, 6)).astype(np.float32)
    net = Recurrent()
    variables = net.init(jax.random.key(0), x)
    batch, time = jax.export.symbolic_shape("batch, time")
    struct = jax.ShapeDtypeStruct((batch, time, 6), np.float32)
    model = exporter.export(net.apply, struct, params=variables)
    assert set(model.weights) == {
        "params" + "".join(f"['{key.key}']" for key in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(variables["params"])[0]
    }
    path = program.verified(model)
    for size in ((1, 1), (2, 9)):
        other = RNG.normal(size=(*size, 6)).astype(np.float32)
        # Sums of a few products in another order.
        got = program.run(path, other)
        np.testing.assert_allclose(got, net.apply(variables, other), rtol=1e-5, atol=1e-6)


def test_a_loop_that_does_not_end(program: Program) -> None:
    def fn(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda c: c.sum() < 100, lambda c: c + 0.1, x)

    ones = np.ones(4, np.float32)
    path = program.verified(exporter.export(fn, ones, while_limit=250))
    np.testing.assert_allclose(program.run(path, ones), fn(ones), rtol=1e-6)
    with pytest.raises(AssertionError, match="not ended after 250 trips, its `limit`; export it"):
        program.run(path, -ones)
    for limit in (-1, 2**31 + 1):
        with pytest.raises(ValueError, match="`while_limit` must be"):
            exporter.export(fn, ones, while_limit=limit)


def test_a_fault_within_a_loop_is_told(program: Program) -> None:
    def line(carry: jax.Array, row: jax.Array) -> Any:
        return carry, jax.pure_callback(np.sin, jax.typeof(row), row)

    with pytest.raises(exporter.ExportError, match=r"`pure_callback` \(once\)[^\0]*line\)"):
        exporter.export(lambda x: lax.scan(line, x[0], x), X)


@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("scan", lambda n: n.attrs["carries"].__setattr__("integer", 9), "expected a carry of 9"),
        (
            "scan",
            lambda n: n.attrs["length"].integers.values.__setitem__(0, 4),
            "must have 4 lines",
        ),
        ("scan", lambda n: n.attrs["length"].integers.values.append(4), "`length` must be one"),
        ("scan", lambda n: n.attrs["body"].region.ClearField("outputs"), "`body` must give"),
        ("scan", lambda n: n.attrs.pop("body"), "`body` is missing, expected a region"),
        ("while", lambda n: n.attrs["limit"].__setattr__("integer", -1), "`limit` must be from 0"),
        ("while", lambda n: n.attrs["cond"].region.outputs.append(0), "`cond` must give"),
        ("cond", lambda n: n.attrs.pop("branch_000"), "`branch_000` is missing, expected a reg"),
        ("cond", lambda n: n.inputs.append(0), "expected one operand, i32[]"),
        ("cond", lambda n: n.attrs["branch_001"].region.outputs.append(0), "must give"),
    ],
)
def test_broken_regions(
    program: Program, op: str, change: Any, message: str, tmp_path: Any
) -> None:
    def fn(x: jax.Array) -> Any:
        return [FUNCTIONS[name](x) for name in ("scan of columns", "while", "cond")]

    model = exporter.export(fn, X)

    def changed(graph: Any) -> None:
        change(next(node for node in graph.nodes if node.op == op))

    assert message in refused(rebuilt(model.to_bytes(), changed), tmp_path)
