"""What follows from constants alone: computed together, and left to the runtime where large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
from exported import Program
from exporter import _folding

pytestmark = pytest.mark.usefixtures("numpy_promotion")

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
W = jnp.asarray(np.random.default_rng(3).standard_normal((4, 5)), jnp.float32)
LONG = 3000
MIB = 1 << 20


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The bytes of all results, of each time that something is computed."""
    calls: list[list[int]] = []
    compute = _folding.compute

    def spy(constants: Any) -> None:
        compute(constants)
        if constants:
            calls.append([constant.array().nbytes for constant in constants])

    monkeypatch.setattr(_folding, "compute", spy)
    return calls


def test_all_is_computed_by_one_program(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    params = {f"layer {i}": (W * i, jnp.full(5, i + 1.0)) for i in range(20)}

    def fn(params: Any, x: Any) -> Any:
        return [
            x @ (w * lax.rsqrt(variance + 1e-3)) - jnp.log(variance)
            for w, variance in params.values()
        ]

    x = jnp.asarray(X)
    with jax.log_compiles():
        caplog.clear()
        model = exporter.export(fn, x, params=params)
    program.verified(model)
    # One for what is folded, one for the test vectors.
    said = [record.getMessage() for record in caplog.records]
    assert sum("Finished XLA compilation" in text for text in said) == 2
    assert len(model.graph.tensors) == 40


def test_a_function_is_traced_once_for_each_size() -> None:
    sizes: list[Any] = []

    def fn(x: Any) -> Any:
        sizes.append(x.shape[0])
        return x + 1

    exporter.export(fn, X)
    assert sizes == [3]
    exporter.export(fn, X, batch="n")
    assert list(map(str, sizes[1:])) == ["n", "3", "1"]


def test_numbers_are_those_of_jit(program: Program) -> None:
    params = {"w": W, "scale": jnp.float32(3), "key": jax.random.key(1)}

    def folded(params: Any) -> Any:
        w, scale = params["w"], params["scale"]
        noise = jax.random.normal(params["key"], (5,))
        moved = jnp.concatenate([w.T, w.T[::-1]])[::2]
        return [
            jnp.tanh(w) * scale + w, noise, moved, jnp.argsort(w, axis=1),
            jax.lax.scan(lambda c, row: (c + row, c), jnp.zeros(5), w),
            jax.lax.cond(scale > 2, jnp.sin, jnp.cos, w), w.astype(jnp.bfloat16).sum(),
        ]  # fmt: skip

    del params["key"]
    key = jax.random.key(1)

    def fn(params: Any, x: Any) -> Any:
        return folded({**params, "key": key}), x

    model = exporter.export(fn, X, params=params)
    program.verified(model)
    expected = jax.tree.leaves(jax.jit(folded)({**params, "key": key}))
    got = jax.tree.leaves(model(X))[:-1]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert np.asarray(one).dtype == other.dtype
        # XLA may join the product and the sum.
        of = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(*of, rtol=2.0**-23, atol=1e-7)


MASKS: dict[str, Callable[[], Any]] = {
    "causal": lambda: jnp.tril(jnp.ones((LONG, LONG), bool)),
    "iota": lambda: jnp.arange(LONG)[:, None] >= jnp.arange(LONG),
    "additive": lambda: jnp.where(jnp.arange(LONG)[:, None] >= jnp.arange(LONG), 0, -1e9),
    "outer": lambda: jnp.outer(jnp.arange(LONG) / 7.0, 1 / jnp.arange(1.0, LONG + 1)),
    "one hot": lambda: jax.nn.one_hot(jnp.arange(LONG) * 5 % LONG, LONG),
    "half": lambda: jnp.sin(jnp.outer(jnp.arange(LONG) / 7.0, jnp.ones(LONG))).astype(jnp.float16),
}


@pytest.mark.parametrize("name", MASKS)
def test_what_is_far_larger_than_its_operands_is_left(
    program: Program, computed: list[list[int]], name: str
) -> None:
    def fn(x: Any) -> Any:
        mask = MASKS[name]()
        kept = jnp.where(mask, x, 0) if mask.dtype == bool else x + mask.astype(jnp.float32)
        return kept.sum(axis=1)

    model = exporter.export(fn, np.ones((LONG, LONG), np.float32), atol=1e-2)
    assert model.weight_bytes < 64 << 10
    assert all(size < 64 << 10 for call in computed for size in call)
    program.verified(model)


def test_a_mask_of_many_layers_is_computed_once_and_outside_of_loops(program: Program) -> None:
    def fn(x: Any) -> Any:
        def layer(x: Any, _: Any) -> Any:
            mask = jnp.arange(LONG)[:, None] >= jnp.arange(LONG)
            return jnp.where(mask, x + 1, 0), None

        return lax.scan(layer, layer(layer(x, 0)[0], 0)[0], length=3)[0][-1]

    model = exporter.export(fn, np.ones((LONG, LONG), np.float32))
    program.verified(model)
    assert model.ops["ge"] == 1
    assert "ge" in [node.op for node in model.graph.nodes]


def test_a_tied_embedding_is_stored_once(program: Program) -> None:
    params = {"embedding": jax.random.normal(jax.random.key(0), (8192, 40))}

    def fn(params: Any, tokens: Any) -> Any:
        table = params["embedding"]
        return table[tokens] @ table.T

    model = program.export(fn, np.array([[1, 5, 8000]], np.int32), params=params)
    assert list(model.weights) == ["embedding"]
    assert model.weight_bytes < 8192 * 40 * 4 + 100
    assert model.ops["transpose"] == 1
    alone = program.export(
        lambda p, x: x @ p["embedding"].T, np.ones((1, 40), np.float32), params=params
    )
    assert alone.ops == {"dot_general": 1}


def test_a_transposed_parameter_keeps_its_name(program: Program) -> None:
    params = {"w": jnp.asarray(X[:, :3]), "v": W}

    def fn(params: Any, x: Any) -> Any:
        square, v = params["w"], params["v"]
        return x @ v, x[:, :3] @ square, x[:, :3] @ square.T, v.T @ x.T

    model = program.export(fn, X, params=params)
    assert [tensor.name for tensor in model.graph.tensors] == ["v", "w", "w", "v"]
    assert "transpose" in model.ops  # of x


def test_what_no_rule_computes_is_folded_at_any_size(program: Program) -> None:
    def fn(x: Any) -> Any:
        line = jnp.linspace(2, 3, LONG)
        zeta = lax.zeta(line[:, None] + jnp.zeros(LONG), line + jnp.zeros((LONG, 1)))
        # There is a rule, but not for this type.
        half = jnp.ones((LONG, 1), jnp.bfloat16) + jnp.zeros(LONG, jnp.bfloat16)
        next_ = lax.nextafter(half, 2 * half)
        return (
            x * zeta.sum(),
            x * next_[:4, 0].astype(jnp.float32),
            next_ * x[0, 0].astype(jnp.bfloat16),
        )

    model = exporter.export(fn, X)
    assert "zeta" not in model.ops
    assert "nextafter" not in model.ops
    program.verified(model)


def test_up_to_a_mebibyte_is_folded(program: Program) -> None:
    def fn(x: Any) -> Any:
        return jnp.where(jnp.arange(1024)[:, None] >= jnp.arange(1024), x, 0)

    model = program.export(fn, np.ones((1024, 1024), np.float32))
    assert "ge" not in model.ops
    assert MIB <= model.weight_bytes < MIB + 100


def test_a_predicate_decides_though_it_is_large(
    program: Program, computed: list[list[int]]
) -> None:
    def fn(x: Any) -> Any:
        never = jnp.broadcast_to(jnp.zeros((1, 1), bool), x.shape)
        return jnp.where(never, lax.zeta(x, x), x + 1)

    model = program.export(fn, np.ones((LONG, LONG), np.float32))
    assert set(model.ops) <= {"add", "broadcast_in_dim"}
    assert all(size < 100 for call in computed for size in call)


def test_a_slice_of_a_mask_decides(program: Program) -> None:
    def fn(x: Any) -> Any:
        mask = jnp.arange(4)[:, None] >= jnp.arange(4)
        return jnp.where(mask[3], x, lax.zeta(x, x)), jnp.where(mask[3:], x, lax.zeta(x, x))

    assert program.export(fn, X).ops == {}


def test_a_parameter_that_is_chosen_keeps_its_name(program: Program) -> None:
    params = {"w": jnp.ones((4, 70)), "training": jnp.zeros((), bool)}
    model = program.export(lambda p, x: x @ jnp.where(p["training"], 0, p["w"]), X, params=params)
    assert list(model.weights) == ["w"]


def test_a_long_chain(program: Program) -> None:
    def fn(x: Any) -> Any:
        count, total, w = jnp.int32(0), [], W
        for _ in range(1500):
            count = count + 1
            w = w.T
        for i in range(300):
            w = w * (1 + jnp.float32(i) / 1e6)
            total.append(x @ w)
        return total[::50], count * x.astype(jnp.int32)

    model = program.export(fn, X, rtol=1e-4)
    assert model.ops["dot_general"] == 6


def test_equal_expressions_are_computed_once(computed: list[list[int]]) -> None:
    def fn(x: Any) -> Any:
        return [x @ jnp.sin(W) + jnp.exp(jnp.float32(2)) for _ in range(5)]

    exporter.export(fn, X)
    assert [len(call) for call in computed] == [2]


def test_parameters_that_are_equal_in_python_are_others(program: Program) -> None:
    """A cache by the values of parameters would take 1 for 1.0 or True."""

    def fn(x: Any) -> Any:
        ones = [lax.convert_element_type(W, t) for t in (jnp.float32, jnp.int32, jnp.float16)]
        peaks = [lax.reduce_precision(W, 8, bits) for bits in (1, 2)]
        return [x.sum() * one.astype(jnp.float32) for one in (*ones, *peaks)]

    program.export(fn, X)
