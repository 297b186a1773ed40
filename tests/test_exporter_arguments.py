"""Example arguments: names, batch axes, keys, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program
from exporter import ExportError

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def test_names_come_from_the_signature(program: Program) -> None:
    model = program.export(lambda image, *rest: image["a"] + rest[0][1], {"a": X}, [X, X])
    assert list(model.inputs) == ["image['a']", "rest[0][0]", "rest[0][1]"]


def test_shapes_are_those_of_the_example_by_default(program: Program) -> None:
    assert program.export(lambda x: x + 1, X).inputs == {"x": "f32[3, 4]"}


def test_a_batch_of_any_size(program: Program) -> None:
    model = program.export(
        lambda x, c: (x.mean(0), x * c, x.sum() / x.shape[0]), X, np.float32(2), batch="n"
    )
    assert model.inputs == {"x": "f32[n, 4]", "c": "f32[]"}
    assert model.outputs == {"output[0]": "f32[4]", "output[1]": "f32[n, 4]", "output[2]": "f32[]"}
    assert [test.inputs[0].shape for test in model.tests] == [(3, 4), (1, 4)]


def test_batch_axes_per_argument(program: Program) -> None:
    model = program.export(
        lambda x, table: x.T @ table,
        X.T.copy(),
        np.eye(4, 2, dtype=np.float32),
        batch="n",
        batch_axes=(-1, None),
    )
    assert model.inputs == {"x": "f32[4, n]", "table": "f32[4, 2]"}


def test_an_example_of_one_row_is_repeated_and_a_long_one_cut(program: Program) -> None:
    model = program.export(lambda x: x + 1, X[:1], batch="n")
    assert [test.inputs[0].shape for test in model.tests] == [(1, 4), (3, 4)]
    model = program.export(lambda x: x + 1, np.ones((1000, 2), np.float32), batch="n")
    assert [test.inputs[0].shape for test in model.tests] == [(64, 2), (1, 2)]


def test_shapes_instead_of_arrays() -> None:
    n, k = jax.export.symbolic_shape("n, k")
    struct = jax.ShapeDtypeStruct((n, k), jnp.float32)
    model = exporter.export(lambda x: x.reshape(-1), struct)
    assert model.inputs == {"x": "f32[n, k]"}
    assert model.outputs == {"output": "f32[k*n]"}
    assert [test.inputs[0].shape for test in model.tests] == [(2, 2), (1, 1)]
    static = exporter.export(lambda x: x + 1, jax.ShapeDtypeStruct((3,), jnp.int32))
    assert static.inputs == {"x": "i32[3]"}


def test_float64_examples_are_taken_as_jax_takes_them(program: Program) -> None:
    assert program.export(lambda x: x * 2, X.astype(np.float64)).inputs == {"x": "f32[3, 4]"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: exporter.export(jnp.sin, 1.0), "is 1.0 of type float, expected an array"),
        (lambda: exporter.export(lambda x, t: x, X, True), "`t` is True of type bool"),
        (lambda: exporter.export(lambda x: x, X, batch="a b"), "`batch` is 'a b', expected a name"),
        (
            lambda: exporter.export(lambda x: x, np.float32(1), batch="n"),
            "`batch` is 'n', but no argument has a batch axis",
        ),
        (
            lambda: exporter.export(lambda x, y: x, X, X[:2], batch="n"),
            "the batch axes of the arguments differ: `x` has 3, `y` has 2",
        ),
        (
            lambda: exporter.export(lambda x: x, X, batch="n", batch_axes=2),
            r"`batch_axes` of `x` is 2, expected an axis of \[3, 4\]",
        ),
        (
            lambda: exporter.export(lambda x: x, X, batch="n", batch_axes=(0, 0)),
            "`batch_axes` has 2 entries, expected one for each of the 1 arguments",
        ),
        (
            lambda: exporter.export(lambda p, x: x, X, params={"a": "b"}),
            "`params` holds 'b' of type str at `a`, expected arrays alone",
        ),
        (
            lambda: exporter.export(lambda k: k, jax.random.key(0)),
            "returns a PRNG key as `output`, expected an array",
        ),
        (
            lambda: exporter.export(lambda x: x * (2 if x.shape[0] > 5 else 3), X, batch="n"),
            "decides by the value of a symbolic extent",
        ),
        (
            lambda: exporter.export(lambda x: x, jnp.zeros(3, jnp.float8_e5m2)),
            "dtype float8_e5m2 .*element types are f32, .* or [a-z0-9]+; cast to one",
        ),
    ],
    ids=[
        "scalar",
        "bool",
        "name",
        "no-batch",
        "extents",
        "axis",
        "axes",
        "params",
        "key",
        "branch",
        "float8",
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        make()


def test_mixing_batch_with_symbolic_examples_is_refused() -> None:
    (n,) = jax.export.symbolic_shape("n")
    struct = jax.ShapeDtypeStruct((n, 2), jnp.float32)
    with pytest.raises(ExportError, match="leave out `batch`"):
        exporter.export(lambda x, y: x, struct, X, batch="m", batch_axes=(None, 0))


def test_partials_and_callable_objects_have_a_title() -> None:
    with pytest.raises(ExportError, match="cannot export `zeta`"):
        exporter.export(functools.partial(jax.lax.zeta, q=X), X)


def test_repr_tells_what_the_model_is() -> None:
    def fn(x, key):
        return {"y": x @ jnp.ones((4, 2)) + 1, "words": jax.random.key_data(key)}

    assert repr(
        exporter.export(fn, X, jax.random.key(0), batch="batch", fuse=False)
    ).splitlines() == [
        "Model(2 nodes, 2 constants of 36 B, 2 test vectors)",
        "  input   x: f32[batch, 4]",
        "  input   key: u32[2], the noise seed",
        "  output  output['words']: u32[2]",
        "  output  output['y']: f32[batch, 2]",
        "  ops     dot_general, add",
    ]
