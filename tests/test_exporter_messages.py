"""What an export says of functions that cannot be traced, and of operations without a counterpart.

Where there is advice, it is followed, and gives what JAX gives.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import exporter
from exported import Program
from exporter import ExportError

pytestmark = pytest.mark.usefixtures("numpy_promotion")

X = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
I = np.array([2, 0, 1, 3], np.int32)  # noqa: E741 - the integers beside X
HERE = r"at tests/test_exporter_messages.py:\d+ \(.*\)"
KEPT: list[Any] = []


def repeated(x: Any) -> Any:
    while x.sum() < 100:
        x = x * 2 + 1
    return x


def repeated_in_jax(x: Any) -> Any:
    return lax.while_loop(lambda x: x.sum() < 100, lambda x: x * 2 + 1, x)


def kept(x: Any) -> Any:
    KEPT.append(x * 2)
    return x + KEPT[0]


# What is not traced with arrays of fixed shapes, what is said, and what it advises.
VALUES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str, Callable[..., Any]]] = {
    "if": (
        lambda x: x if x.sum() > 0 else -x, (X,),
        f"decides by the value of an array, .* {HERE}; choose by jnp.where or jax.lax.cond",
        lambda x: jnp.where(x.sum() > 0, x, -x),
    ),
    "cond": (
        lambda x: jnp.sin(x) if x.sum() > 0 else -x, (X,), "or jax.lax.cond",
        lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: -x, x),
    ),
    "while": (repeated, (X,), "repeat by jax.lax.while_loop", repeated_in_jax),
    "argument": (
        lambda x, n: x if n > 1 else -x, (X, np.int32(3)),
        "or bind an argument that is no input of the model with functools.partial",
        functools.partial(lambda x, n: x if n > 1 else -x, n=3),
    ),
    "list": (
        lambda x, i: [1.0, 3.0, 2.0][i[0]] * x, (X, I),
        f"takes the value of an array for a Python integer, .* {HERE}; index a jnp array by it",
        lambda x, i: jnp.array([1.0, 3.0, 2.0])[i[0]] * x,
    ),
    "size": (
        lambda x, n: x[: int(n)], (X, np.int32(3)), r"needs the value of an array in Python .*; .*"
        r"give sizes as Python integers \(// in place of /\)", lambda x, n: x[:3] + 0 * n,
    ),
    "reshape": (
        lambda x, i: x.reshape(i[0], -1), (X, I), "needs the value of an array in Python",
        lambda x, i: x.reshape(2, -1) + 0 * i[0],
    ),
    "float": (
        lambda x: x * float(x[0, 0]), (X,), "x.astype in place of int and float",
        lambda x: x * x[0, 0].astype(float),
    ),
    "numpy": (
        lambda x: np.sin(x) + x, (X,),
        f"hands an array to NumPy, which knows no traced ones {HERE}; use jax.numpy in place of",
        lambda x: jnp.sin(x) + x,
    ),
    "indexed": (
        lambda x, i: np.ones(5, np.float32)[i] * x, (X, I), "and jnp.asarray of what is indexed",
        lambda x, i: jnp.asarray(np.ones(5, np.float32))[i] * x,
    ),
    "mask": (
        lambda x: x[x > 0].sum(), (X,),
        f"indexes with a mask, .* {HERE}; keep the shape: reduce with `where=mask`",
        lambda x: x.sum(where=x > 0),
    ),
    "nonzero": (
        lambda i: i[i > 0], (I,), "or give `size` to jnp.nonzero",
        lambda i: i[jnp.nonzero(i > 0, size=3)[0]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_of_arrays(program: Program, name: str) -> None:
    fn, arguments, message, advised = VALUES[name]
    title = re.escape(fn.__qualname__)
    with pytest.raises(ExportError, match=f"^`{title}` .*{message}"):
        exporter.export(fn, *arguments)
    taken = arguments[:1] if name == "argument" else arguments
    model = program.export(advised, *taken)
    if name not in ("argument", "cond"):
        # What is advised computes the same, where the function runs without tracing.
        want = fn(*map(jnp.asarray, arguments))
        np.testing.assert_allclose(model(*taken), want, rtol=1e-6, atol=1e-6)


def test_arrays_of_another_trace(program: Program) -> None:
    message = (
        "`kept` uses an array that another call of a function has left behind.*; return what is "
        "needed later instead of keeping it"
    )
    KEPT.clear()
    exporter.export(kept, X)
    with pytest.raises(ExportError, match=message):
        exporter.export(kept, X)
    program.export(lambda x: (x + x * 2, x * 2), X)


# What is not traced with a symbolic batch, what is said, and what it advises.
EXTENTS: dict[str, tuple[Callable[..., Any], str, Callable[..., Any]]] = {
    "comparison": (
        lambda x: x * (2 if x.shape[0] > 2 else 3),
        f"decides by the value of a symbolic extent: .*'n' > '2' is inconclusive {HERE}; write it "
        "so that it holds for every size, with jnp.where",
        lambda x: x * jnp.where(jnp.asarray(x.shape[0]) > 2, 2, 3),
    ),
    "loop": (
        lambda x: sum(x[i] for i in range(x.shape[0])),
        f"takes a symbolic extent for a Python number: .* {HERE}; .*jax.lax.scan in place of a "
        "Python loop",
        lambda x: lax.scan(lambda c, row: (c + row, None), jnp.zeros(4), x)[0],
    ),
    "rows": (lambda x: sum(row for row in x), "or jax.lax.scan in place of a Python loop",
             lambda x: lax.scan(lambda c, row: (c + row, None), jnp.zeros(4), x)[0]),
    "math": (
        lambda x: x / math.sqrt(x.shape[0]),
        f"takes a symbolic extent for a Python number: .* {HERE}; use jax.numpy in place of numpy "
        r"and math for what is made of an extent \(jnp.asarray\(x.shape\[0\]\)\)",
        lambda x: x / jnp.sqrt(jnp.asarray(x.shape[0]).astype(jnp.float32)),
    ),
    "numpy": (lambda x: x + np.ones(x.shape, np.float32), "use jax.numpy in place of numpy",
              lambda x: x + jnp.ones(x.shape, jnp.float32)),
    "numpy range": (lambda x: x + np.arange(x.shape[0])[:, None], "use jax.numpy in place of numpy",
                    lambda x: x + jnp.arange(x.shape[0])[:, None]),
    "number": (
        lambda x: x + jnp.ones((4, 4)),
        r"does not take symbolic extents, though it takes those of the example: add got "
        rf"incompatible shapes for broadcasting: \(n, 4\), \(4, 4\) {HERE}; take extents from the "
        "arguments, by x.shape, in place of numbers",
        lambda x: x + jnp.ones((x.shape[0], 4)),
    ),
    "carry": (
        lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.concatenate([c, c])[:4], x),
        "must have equal types, but they differ: The input carry .* has type float32.n,4.",
        lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.concatenate([c, c])[: x.shape[0]], x),
    ),
    "reshape": (
        lambda x: x.reshape(4, 4) + 1,
        # JAX finds out when tracing, or only for numbers.
        r"(does not take symbolic extents|for arguments of shapes \[1, 4\] it says cannot reshape)"
        rf".* {HERE}; take extents from the arguments",
        lambda x: x.reshape(x.shape[0], 4) + 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTENTS)
def test_symbolic_extents(program: Program, name: str) -> None:
    fn, message, advised = EXTENTS[name]
    with pytest.raises(ExportError, match=rf"^`<lambda>` .*{message}.* without `batch`"):
        exporter.export(fn, X, batch="n")
    assert program.export(advised, X, batch="n")
    program.export(fn, X)


def test_symbols_of_the_arguments(program: Program) -> None:
    n, m = jax.export.symbolic_shape("n, m")
    a, b = (jax.ShapeDtypeStruct((s, 3), jnp.float32) for s in (n, m))
    with pytest.raises(ExportError, match="give the other array the same symbol"):
        exporter.export(lambda x, y: x + y, a, b)
    program.verified(exporter.export(lambda x, y: x + y, a, a))


def test_a_window_of_symbolic_size(program: Program) -> None:
    def fn(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (x.shape[0], 1), (1, 1), "VALID")

    message = r"its `window_dimensions` is \(n, 1\), expected numbers; export with fixed extents"
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, X, batch="n")
    program.export(fn, X)


def test_errors_of_the_function_itself_are_passed_on() -> None:
    with pytest.raises(TypeError, match="contracting dimensions"):
        exporter.export(lambda x: x @ jnp.ones((3, 3)), X, batch="n")
    with pytest.raises(ZeroDivisionError):
        exporter.export(lambda x: 1 // 0, X)


class Half:
    def __repr__(self) -> str:
        return "Half()"


def test_what_is_no_function(program: Program) -> None:
    jitted = jax.jit(lambda x: x * 2)
    for wrong, message in (
        (3, "the function is 3 of type int, expected a function"),
        (jitted.lower(X), "the function is Lowered, .*; export the function that was lowered"),
        (jitted.lower(X).compile(), "the function is Compiled, .*; export the function that"),
    ):
        with pytest.raises(ExportError, match=message):
            exporter.export(wrong, X)  # type: ignore[arg-type]
    program.export(jitted, X)


def test_results_that_are_no_arrays(program: Program) -> None:
    def fn(x: Any) -> Any:
        return {"y": x, "how": Half()}

    message = (
        r"`.*fn` returns Half\(\) of type Half as `output\['how'\]`, expected arrays in dicts, .*; "
        "register a class of results with jax.tree_util.register_dataclass, and leave out what"
    )
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, X)
    program.export(lambda x: {"y": fn(x)["y"]}, X)


def test_linen(program: Program) -> None:
    net = nn.Dense(3)
    with pytest.raises(ExportError, match=r"`Dense` is a Linen module, .*; export its `apply`"):
        exporter.export(net, X)
    variables = net.init(jax.random.key(0), X)
    program.export(net.apply, X, params=variables, batch="n")


def test_nnx(program: Program) -> None:
    net = nnx.Sequential(nnx.BatchNorm(4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    with pytest.raises(ExportError, match=r"`Sequential` changes a .* `model.eval\(\)` first"):
        exporter.export(net, X, batch="n")
    net.eval()
    program.export(net, X, batch="n")


def test_shardings(program: Program) -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), "rows")
    rows = NamedSharding(mesh, PartitionSpec("rows"))

    def fn(x: Any) -> Any:
        return x * 2

    split = jax.jit(fn, in_shardings=rows, out_shardings=rows)
    with pytest.raises(ExportError, match=r"splits an array over .*; export the function without"):
        exporter.export(split, X, batch="n")
    program.export(fn, X, batch="n")
    program.export(split, X)
    mapped = jax.shard_map(
        fn, mesh=mesh, in_specs=PartitionSpec("rows"), out_specs=PartitionSpec("rows")
    )
    with pytest.raises(ExportError, match=r"`shard_map` .* export the function that it maps"):
        exporter.export(mapped, X)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4)(lax.zeta(x + 2, x))


class Cell(nn.RNNCellBase):
    @nn.compact
    def __call__(self, carry: Any, x: Any) -> Any:
        carry = lax.igamma(carry + 1, x)
        return carry, carry

    def initialize_carry(self, rng: Any, input_shape: Any) -> Any:
        return jnp.zeros(input_shape)

    @property
    def num_feature_axes(self) -> int:
        return 1


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> Any:
        for _ in range(8):
            x = Layer()(x)
        return nn.RNN(Cell())(Layer(name="last")(Layer(name="last" * 2)(x))[None])


def test_faults_of_many_modules() -> None:
    net = Net()
    variables = net.init(jax.random.key(0), X)
    with pytest.raises(ExportError) as caught:
        exporter.export(net.apply, X, params=variables)
    head, zeta, layers, igamma, cell = str(caught.value).splitlines()
    assert head.endswith("`: 2 things have no counterpart in a .lmn file")
    assert zeta.startswith("  `zeta` (10 times): no rule exports it; ")
    listed = ", ".join(f"Net/Layer_{i}" for i in range(6))
    where = r"    tests/test_exporter_messages.py:\d+ \(Layer.__call__\), 10 times in "
    assert re.fullmatch(where + re.escape(f"{listed} and 4 more"), layers)
    assert igamma.startswith("  `igamma` (once): ")
    assert re.search(r"\(Cell.__call__\) in Net/RNN_0/.*Cell_0$", cell)


def test_faults_of_all_bodies() -> None:
    def step(c: Any, _: Any) -> Any:
        chosen = lax.cond(c.sum() > 0, lambda c: lax.zeta(c, c), lambda c: lax.igamma(c, c), c)
        return chosen + lax.igammac(c, c), None

    def fn(x: Any) -> Any:
        def body(c: Any) -> Any:
            return lax.scan(step, c, length=2)[0]

        return lax.while_loop(lambda c: lax.zeta(c, c).sum() < 3, body, x)

    with pytest.raises(ExportError) as caught:
        exporter.export(fn, X)
    said = str(caught.value)
    assert "3 things have" in said
    assert "`zeta` (twice)" in said
    assert "`igamma` (once)" in said
    assert "`igammac` (once)" in said
    assert said.count("test_faults_of_all_bodies.<locals>.") == 5  # with the name of the function


def test_a_condition_for_each_example_and_what_is_in_the_body() -> None:
    def fn(x: Any) -> Any:
        return lax.while_loop(lambda c: c.sum() < 3, lambda c: lax.zeta(c, c), x)

    with pytest.raises(ExportError, match=r"`zeta` (?s:.*)its condition is one for each example"):
        exporter.export(jax.vmap(fn), X)
