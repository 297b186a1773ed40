"""What an error of the exporter advises works: each piece of advice is followed here."""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
import lumina_jax
from exported import Program
from exporter import ExportError, VerifyError

pytestmark = pytest.mark.usefixtures("numpy_promotion")

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(4)
X = RNG.standard_normal((3, 4)).astype(np.float32)
I = RNG.integers(0, 4, (3, 4)).astype(np.int32)  # noqa: E741 - the integers beside X
B = X > 0
Y = RNG.standard_normal((3, 4, 6, 2)).astype(np.float32)
H = X.astype(jnp.bfloat16)
W = RNG.standard_normal((4, 5)).astype(np.float32)
U = (W + 1j * RNG.standard_normal((4, 5))).astype(np.complex64)
KEY = jax.random.key(3)

COMPLEX = "take x.real and x.imag, and go on with real arrays"


def pooled(y: Any) -> Any:
    window = (1, 2, 2, 1)
    return lax.reduce_window(y, 0.0, lambda a, b: jnp.maximum(a, 2 * b), window, window, "VALID")


def pooled_of_slices(y: Any) -> Any:
    slices = [y[:, i::2, j::2] for i in range(2) for j in range(2)]
    return functools.reduce(lambda a, b: jnp.maximum(a, 2 * b), slices, 0.0)


def dropout(x: Any, deterministic: bool) -> Any:
    rngs = {"dropout": jax.random.key(0)} if deterministic else {"dropout": jax.random.key(x[0, 0])}
    return nn.Dropout(0.5, deterministic=deterministic).apply({}, x, rngs=rngs)


def field(x: Any) -> Any:
    return x.astype(jnp.complex64) @ U


def detected(x: Any) -> Any:
    return (x @ U.real) ** 2 + (x @ U.imag) ** 2


# A function with its arguments, what is said of it, and what is said to work instead.
REWRITTEN: dict[str, tuple[Callable[..., Any], Any, str, Callable[..., Any]]] = {
    "complex": (
        lambda x: lax.cummax(field(x)), X, f"`cummax` .*operand 0 is c64; .*{COMPLEX}", detected
    ),
    "reduce": (
        lambda x: lax.reduce(x, np.float32(1), lambda a, b: a * b + 1, (1,)), X,
        "`reduce` .*write a Python loop over the lines of jnp.unstack",
        lambda x: functools.reduce(lambda a, b: a * b + 1, jnp.unstack(x, axis=1)),
    ),
    "pool": (pooled, Y, "combine slices of the padded array instead", pooled_of_slices),
    "dropout": (
        lambda x: dropout(x, False), X, "pass deterministic=True to layers",
        lambda x: dropout(x, True),
    ),
    "callback": (
        lambda x: jax.pure_callback(np.sin, jax.typeof(x), x) * 2, X,
        "compute this outside of the exported function", lambda x: x * 2,
    ),
    "precision": (
        lambda x: lax.dot(x, x.T, precision=lax.DotAlgorithmPreset.BF16_BF16_F32), X,
        "`precision` is .*BF16_BF16_F32.*; leave `precision` out", lambda x: lax.dot(x, x.T),
    ),
    "float8": (lambda x: x.astype(jnp.float8_e5m2), X, "dtype float8_e5m2 .*; cast to one",
               lambda x: x.astype(jnp.bfloat16)),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
@pytest.mark.filterwarnings("ignore:A JAX array is being set as static")
def test_it_is_refused(name: str) -> None:
    fn, example, message, _ = REWRITTEN[name]
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, example)


def test_what_is_said_to_work_does(program: Program) -> None:
    examples = {name: example for name, (_, example, _, _) in REWRITTEN.items()}

    def fn(examples: Any) -> Any:
        return {name: REWRITTEN[name][3](example) for name, example in examples.items()}

    program.export(fn, examples)


def test_export_without_batch(program: Program) -> None:
    def fn(x: Any) -> Any:
        return x * (2 if x.shape[0] > 2 else 3)

    with pytest.raises(ExportError, match="export without `batch`"):
        exporter.export(fn, X, batch="batch")
    program.export(fn, X)


def test_of_arguments(program: Program) -> None:
    with pytest.raises(ExportError, match=r"`t` is 2 .*bind .* with functools.partial or a lambda"):
        exporter.export(lambda x, t: x * t, X, 2)
    program.export(functools.partial(lambda x, t: x * t, t=2), X)

    with pytest.raises(ExportError, match="say which axes are the batch with `batch_axes`"):
        exporter.export(lambda x, y: x @ y, X, W, batch="n")
    program.export(lambda x, y: x @ y, X, W, batch="n", batch_axes=(0, None))

    (n,) = jax.export.symbolic_shape("n")
    struct = jax.ShapeDtypeStruct((n, 4), jnp.float32)
    with pytest.raises(ExportError, match="give all of them so, and leave out `batch`"):
        exporter.export(lambda x, y: x + y, struct, X, batch="m", batch_axes=(None, 0))
    program.verified(exporter.export(lambda x, y: x + y, struct, struct))

    masked = np.ma.masked_array(X, B)
    with pytest.raises(ExportError, match=r"`x` is a masked array of float32, .*method `filled`"):
        exporter.export(lambda x: x, masked)
    program.export(lambda x: x, masked.filled(0))

    texts = np.array(["1", "2"])
    with pytest.raises(ExportError, match=r"`w` is an array of <U1, .*method `astype`"):
        exporter.export(lambda p, x: x + p["w"], X[:, :2], params={"w": texts})
    program.export(lambda p, x: x + p["w"], X[:, :2], params={"w": texts.astype(np.float32)})

    large = np.array([2**40, 1])
    with pytest.raises(ExportError, match="`w` is an array of int64 with numbers that do not fit"):
        exporter.export(lambda p, x: x + p["w"], I[:, :2], params={"w": large})
    program.export(lambda p, x: x + p["w"], I[:, :2], params={"w": large % 1000})


def test_of_keys(program: Program) -> None:
    def words(key: Any) -> Any:
        return jax.random.key_data(key)

    with pytest.raises(ExportError, match=r"derive them from one key with jax.random.split"):
        exporter.export(lambda a, b: words(a) + words(b), KEY, KEY)
    program.export(lambda key: words(jax.random.split(key)).sum(0), KEY)

    with pytest.raises(ExportError, match=r"which is what jax.random.key\(seed, impl='threefry2x"):
        exporter.export(
            lambda k: words(jax.random.fold_in(k, 1)), jax.random.key(0, impl="unsafe_rbg")
        )
    program.export(
        lambda k: words(jax.random.fold_in(k, 1)), jax.random.key(0, impl="threefry2x32")
    )

    with pytest.raises(ExportError, match=r"compare their jax.random.key_data"):
        exporter.export(lambda k: k == jax.random.fold_in(k, 1), KEY)
    program.export(lambda k: words(k) == words(jax.random.fold_in(k, 1)), KEY)

    with pytest.raises(ExportError, match="write a loop over the keys instead of vmap"):
        exporter.export(lambda k: words(jax.vmap(jax.random.split)(jax.random.split(k, 3))), KEY)
    program.export(lambda k: [words(jax.random.split(one)) for one in jax.random.split(k, 3)], KEY)

    with pytest.raises(ExportError, match=r"pass the key as an argument, made by jax.random.key"):
        exporter.export(lambda x: words(jax.random.key(x)), np.uint32(3))
    program.export(words, jax.random.key(3))

    with jax.threefry_partitionable(False):
        with pytest.raises(ExportError, match="set that option"):
            exporter.export(lambda k: words(jax.random.split(k)), KEY)
        with jax.threefry_partitionable(True):
            program.export(lambda k: words(jax.random.split(k)), KEY)


def test_of_gradients(program: Program) -> None:
    spec = lumina_jax.OpticalSpec(adc_bits=5)

    def loss(x: Any, scale: Any) -> Any:
        return lumina_jax.optical_matmul(x, W, spec=spec, y_full_scale=scale).sum()

    with pytest.raises(ExportError, match="is for the gradient alone; export the function without"):
        exporter.export(jax.grad(loss), X, np.float32(4))
    program.export(loss, X, np.float32(4))


def test_of_what_the_runtime_computes_otherwise(tmp_path: Path) -> None:
    """A model whose graph is not what its test vectors say: rounding, and worse."""
    model = exporter.export(lambda x: {"y": x + 1, "z": x}, X)
    (test,) = model.tests
    other = dataclasses.replace(test, outputs=(test.outputs[0] + np.float32(1e-3), test.outputs[1]))
    path = tmp_path / "m.lmn"
    message = (
        r"cannot save `m.lmn`: the runtime does not compute what JAX did: output `output\['y'\]` "
        r"of test vector 0 differs by up to 0\.001\d*; .* export with a larger `rtol` or `atol`"
    )
    with pytest.raises(VerifyError, match=message):
        dataclasses.replace(model, tests=(other,)).save(path)
    assert not path.exists()
    wide = dataclasses.replace(other, absolute_tolerance=2e-3)
    assert dataclasses.replace(model, tests=(wide,)).save(path) == path

    (node,) = model.graph.nodes
    wrong = dataclasses.replace(model.graph, nodes=(dataclasses.replace(node, op="sub"),))
    with pytest.raises(VerifyError, match="test vector 0 differs by up to 2"):
        dataclasses.replace(model, graphs=(wrong,)).save(path)
    unknown = dataclasses.replace(model.graph, nodes=(dataclasses.replace(node, op="sud"),))
    with pytest.raises(VerifyError, match=r"the runtime refuses it: .*sud"):
        dataclasses.replace(model, graphs=(unknown,)).save(path)


def test_extras_that_are_named_have_what_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {("flax", "flax")}  # whose message has another form
    for folder in ("lumina_jax", "flax_layers", "exporter", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            found |= set(re.findall(r"needs? (\w+)[^;]*pip install 'lumina-jax\[(\w+)\]'", text))
    assert {package.lower() for package, _ in found} >= {"matplotlib", "optax", "flax"}
    extras = project["optional-dependencies"]

    def has(extra: str, package: str) -> bool:
        included = [re.fullmatch(r"lumina-jax\[([\w,]+)\]", r) for r in extras[extra]]
        return any(r.startswith(package) for r in extras[extra]) or any(
            has(name, package) for match in included if match for name in match[1].split(",")
        )

    for package, extra in found:
        assert has(extra, package.lower()), (package, extra)
