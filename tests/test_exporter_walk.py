"""What the walker does to a function before any rule sees it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import exporter
from exported import Program
from exporter import ExportError
from exporter._graph import DTYPES
from exporter._types import type_names

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


@jax.custom_jvp
def cube(x):
    return x * x * x


@cube.defjvp
def cube_jvp(primals, tangents):
    return cube(primals[0]), 3 * primals[0] ** 2 * tangents[0]


@jax.custom_vjp
def double(x):
    return 2 * x


double.defvjp(lambda x: (double(x), None), lambda _, g: (2 * g,))


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.jit(jax.jit(f)),
        lambda f: lambda x: jax.lax.cond(True, f, lambda x: jax.lax.zeta(x, x), x),
        lambda f: lambda x: jax.lax.switch(7, [lambda x: jax.lax.zeta(x, x), f], x),
        lambda f: lambda x: f(jax.lax.optimization_barrier(x)),
        lambda f: lambda x: jax.lax.stop_gradient(f(x)),
        lambda f: lambda x: checkpoint_name(f(x), "here"),
    ],
    ids=["jit", "remat", "jit-jit", "cond", "switch", "barrier", "stop_gradient", "name"],
)
def test_calls_are_inlined(program: Program, wrap) -> None:
    model = program.export(wrap(lambda x: jnp.exp(x) + 1), X)
    assert model.ops == {"exp": 1, "add": 1}


def test_custom_derivatives_are_inlined(program: Program) -> None:
    assert program.export(lambda x: double(cube(x)), X).ops == {"mul": 3}


def test_dead_code_is_dropped(program: Program) -> None:
    def fn(x):
        jax.lax.zeta(x, x)
        jax.debug.print("{}", x)
        return x + 1

    model = program.export(fn, X)
    assert model.ops == {"add": 1}
    assert len(model.graph.tensors) == 1


def test_unused_arguments_stay(program: Program) -> None:
    model = program.export(lambda x, y: x + 1, X, X)
    assert model.inputs == {"x": "f32[3, 4]", "y": "f32[3, 4]"}


def test_what_depends_on_constants_alone_is_folded(program: Program) -> None:
    w = jnp.arange(8.0).reshape(4, 2)

    def fn(x):
        scale = jnp.max(jnp.abs(w), axis=0)
        total = jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(w), 0.0)
        return x @ (jax.lax.zeta(w + 2, w) / scale[None]) * total

    assert program.export(fn, X).ops == {"dot_general": 1, "mul": 1}


def test_a_known_predicate_selects_now(program: Program) -> None:
    def fn(x, training):
        return jnp.where(training, jax.lax.zeta(x, x), x + 1)

    assert program.export(functools.partial(fn, training=jnp.zeros((), bool)), X).ops == {"add": 1}
    mixed = jnp.array([True, False, True, True])
    assert program.export(lambda x: jnp.where(mixed[None], x, 0.0), X).ops["select_n"] == 1


def test_the_same_op_of_the_same_values_is_computed_once(program: Program) -> None:
    assert program.export(lambda x: jnp.exp(x) + jnp.exp(x) * jnp.tanh(x), X).ops["exp"] == 1


def test_equal_constants_are_one_tensor(program: Program) -> None:
    def fn(x):
        return (x + jnp.arange(6.0)) * jnp.sort(jnp.arange(6.0)) + 3.0 - 3.0

    model = program.export(fn, np.ones(6, np.float32))
    assert len(model.graph.tensors) == 2


def test_a_long_repeated_constant_is_stored_as_one_number(program: Program) -> None:
    model = program.export(lambda x: x + jnp.full((100, 50), 2.5), np.ones((100, 50), np.float32))
    assert model.weight_bytes == 4
    assert model.ops == {"broadcast_in_dim": 1, "add": 1}


def test_a_mask_is_stored_once_for_all_heads(program: Program) -> None:
    mask = np.broadcast_to(np.tril(np.ones((9, 9), bool)), (2, 3, 9, 9))
    negative = np.where(np.arange(8) % 2, -0.0, 0.0).astype(np.float32)
    rows = np.broadcast_to(negative[:, None], (8, 40))

    def fn(x):
        return jnp.where(jnp.logical_not(~mask), x, 0.0), jnp.asarray(rows) * x[0, 0, 0, 0]

    model = program.export(fn, np.ones((2, 3, 9, 9), np.float32))
    assert model.weight_bytes == 81 + 8 * 4 + 4
    assert [tensor.data.shape for tensor in model.graph.tensors] == [(9, 9), (), (8,)]


def test_params_are_named_by_their_path(program: Program) -> None:
    params = {"params": {"Dense_0": {"kernel": jnp.ones((4, 70)), "bias": jnp.zeros(70)}}}

    def fn(variables, x):
        layer = variables["params"]["Dense_0"]
        return x @ layer["kernel"] + layer["bias"].reshape(1, -1)

    model = program.export(fn, X, params=params, batch="batch")
    assert list(model.weights) == ["params['Dense_0']['kernel']", "params['Dense_0']['bias']"]
    assert model.inputs == {"x": "f32[batch, 4]"}
    np.testing.assert_array_equal(model.weights["params['Dense_0']['bias']"], np.zeros((1, 70)))


GLOBAL = jnp.arange(4.0)


def test_constants_in_closures_are_named(program: Program) -> None:
    net = {"a": jnp.ones((4, 4)), "b": [jnp.ones(4)]}
    other = jnp.ones((4, 2))

    @jax.jit
    def inner(x):
        return x @ net["a"] + net["b"][0][None] + GLOBAL[None]

    def outer(x, w, *, scale):
        return inner(x) @ w + inner(x) @ other * scale

    model = program.export(functools.partial(outer, w=other + 1, scale=jnp.float32(3)), X)
    assert list(model.weights) == ["net['a']", "net['b'][0]", "GLOBAL", "w", "other", "scale"]


def test_weights_of_an_nnx_module_are_named(program: Program) -> None:
    net = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    for fn in (net, lambda x: net(x)):
        names = list(program.export(fn, X, batch="batch").weights)
        assert [name.removeprefix("net.") for name in names] == ["kernel.value", "bias.value"]


def test_equal_params_keep_their_names(program: Program) -> None:
    params = {"a": jnp.zeros(4), "b": jnp.zeros(4)}
    model = program.export(lambda p, x: (x[0] + p["a"]) * p["b"], X, params=params)
    assert list(model.weights) == ["a", "b"]


def test_results_that_are_arguments_or_constants(program: Program) -> None:
    model = program.export(lambda x: {"x": x, "one": jnp.ones(3), "twice": (x, x)}, X)
    assert model.ops == {}
    assert list(model.outputs) == [
        "output['one']",
        "output['twice'][0]",
        "output['twice'][1]",
        "output['x']",
    ]


def test_one_error_lists_everything() -> None:
    def fn(x):
        x = jax.pure_callback(np.sin, jax.typeof(x), x)  # line 1
        x = jax.pure_callback(np.sin, jax.typeof(x), x)  # line 2
        x = jax.lax.fori_loop(0, 3, lambda i, c: jax.pure_callback(np.sin, jax.typeof(c), c), x)
        return x.astype(jnp.float8_e5m2)

    first = fn.__code__.co_firstlineno
    here = "tests/test_exporter_walk.py"
    with pytest.raises(ExportError) as caught:
        exporter.export(fn, X)
    name = "test_one_error_lists_everything.<locals>.fn"
    types = type_names(dtype.name for dtype in DTYPES)
    assert str(caught.value).replace(str(here), "HERE").splitlines() == [
        f"cannot export `{name}`: 2 things have no counterpart in a .lmn file",
        "  `pure_callback` (3 times): the file runs without Python; compute this outside of the "
        "exported function",
        f"    HERE:{first + 1} ({name})",
        f"    HERE:{first + 2} ({name})",
        f"    HERE:{first + 3} ({name}.<locals>.<lambda>)",
        f"  dtype float8_e5m2 (once): element types are {types}; cast to one",
        f"    HERE:{first + 4} ({name})",
    ]


@jax.jit
def jitted(x):
    return jnp.tanh(x) * jax.nn.relu(x)


def test_sources_are_those_of_this_call(program: Program) -> None:
    """JAX keeps the jaxpr of a jitted function, with the lines of whoever called it first."""
    jitted(X)
    jax.nn.relu(X)

    def fn(x):
        with jax.named_scope("block"):
            return jitted(x) + jax.nn.relu(-x)

    first = fn.__code__.co_firstlineno
    inside = jitted.__wrapped__.__code__.co_firstlineno + 2
    nodes = program.export(fn, X).graph.nodes
    sources = {node.op: node.source for node in nodes if node.op != "max"}
    assert sources == {
        "tanh": f"test_exporter_walk.py:{inside} (block)",
        "mul": f"test_exporter_walk.py:{inside} (block)",
        "neg": f"test_exporter_walk.py:{first + 2} (block)",
        "add": f"test_exporter_walk.py:{first + 2} (block)",
    }
    lines = [node.source for node in nodes if node.op == "max"]
    assert lines == [
        f"test_exporter_walk.py:{inside} (block)",
        f"test_exporter_walk.py:{first + 2} (block)",
    ]
