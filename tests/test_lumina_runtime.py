"""The package `lumina_runtime` has the bits of the exporter's sessions and of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax
from exported import Program
from flax_layers import OpticalDense
from runtime_models import SQUARE, W, X, dense, exported, looped, rt


@pytest.fixture(scope="module")
def plain() -> tuple[exporter.Model, Any]:
    return exported(dense, X, batch="batch")


@pytest.fixture(scope="module")
def noisy() -> tuple[exporter.Model, Any]:
    net = OpticalDense(3, profile="lumina_nano_v1")
    rngs = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = net.init(rngs, X, deterministic=False)

    def infer(x: Any, key: Any) -> Any:
        return net.apply(variables, x, deterministic=False, rngs={"noise": key})

    return exported(infer, X, jax.random.key(0), batch="batch", allow_uncalibrated=True)


def update(cache: Any, lines: Any) -> Any:
    place = (cache["position"], 0)
    written = jax.lax.dynamic_update_slice(cache["lines"], lines @ W, place)
    return written.sum(0), {"lines": written, "position": place[0] + lines.shape[0]}


@pytest.fixture(scope="module")
def stateful() -> tuple[exporter.Model, Any]:
    (time,) = jax.export.symbolic_shape("time", constraints=["time <= 8"])
    prompt = jax.ShapeDtypeStruct((time, 6), jnp.float32)
    cache = {"lines": jnp.zeros((8, 4)), "position": jnp.int32(0)}
    functions = {"prefill": (update, prompt), "decode": (update, jnp.ones((1, 6)))}
    return exported(functions, state=cache)


def test_a_file_describes_itself(plain: Any, noisy: Any, stateful: Any) -> None:
    (x,), (y,) = plain[1].inputs, plain[1].outputs
    assert (x.name, x.dtype, x.shape, x.is_noise_seed) == ("x", "float32", ("batch", 6), False)
    assert (y.dtype, y.shape) == ("float32", ("batch", 4))
    assert repr(x) == "<x: float32[batch, 6]>"
    assert repr(plain[1]).startswith("<Model ")
    key = noisy[1].inputs[1]
    assert (key.name, key.dtype, key.shape, key.is_noise_seed) == ("key", "uint32", (2,), True)
    model = stateful[1]
    assert model.entries == ("prefill", "decode")
    assert model.inputs_of("prefill")[0].shape == ("time", 6)
    assert model.inputs_of("decode")[0].shape == (1, 6)
    assert model.outputs_of("decode")[0].shape == (4,)
    states = {state.name: (state.dtype, state.shape) for state in model.states}
    assert states == {"lines": ("float32", (8, 4)), "position": ("int32", ())}


@pytest.mark.parametrize("rows", [0, 1, 5, 64])
def test_outputs_are_those_of_the_exporter(plain: Any, rows: int) -> None:
    x = np.asarray(jax.random.normal(jax.random.key(rows), (rows, 6)))
    got = plain[1](x)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, plain[0](x))
    np.testing.assert_array_equal(plain[1](x=x), got)


def test_noise_is_that_of_training_and_of_the_program(noisy: Any, program: Program) -> None:
    theirs, ours = noisy
    key = np.asarray(jax.random.key_data(jax.random.key(7)))
    want = theirs(X, jax.random.key(7))
    np.testing.assert_array_equal(ours(X, 7), want)
    np.testing.assert_array_equal(ours(X, key=key), want)
    np.testing.assert_array_equal(ours(X, (5 << 32) + 7), ours(X, np.array([5, 7], np.uint32)))
    assert (ours(X, 8) != want).any()
    path = theirs.save(program.folder / "noisy.lmn")
    np.testing.assert_array_equal(program.run(path, X, "--noise-seed", "7"), want)
    for seed in (-1, 1 << 64):
        with pytest.raises(ValueError, match=r"`key` must be a seed from 0 to 2\^64 - 1, got "):
            ours(X, seed)


def test_states_and_entry_points(stateful: Any) -> None:
    theirs, ours = stateful[0].session(), rt.Session(stateful[1])
    for entry, rows in [("prefill", 3), ("decode", 1), ("decode", 1), ("prefill", 2)]:
        x = np.asarray(jax.random.normal(jax.random.key(rows), (rows, 6)))
        np.testing.assert_array_equal(ours.run(entry, x), theirs.run(entry, x))
        states = ours.states
        assert states.keys() == theirs.states.keys()
        for name, value in theirs.states.items():
            np.testing.assert_array_equal(states[name], value)
    assert states["position"] == 7
    ours.reset()
    assert ours.states["position"] == 0
    assert states["position"] == 7  # a copy
    ours.set_states(**states)
    np.testing.assert_array_equal(ours.states["lines"], states["lines"])
    other = rt.Session(stateful[1])
    other.set_states(position=np.int32(7), lines=states["lines"].tolist())
    np.testing.assert_array_equal(other.run("decode", X[:1]), ours.run("decode", X[:1]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda s: s.run("encode", X),
            ValueError,
            "no entry point `encode`, expected `prefill`, `d",
        ),
        (
            lambda s: s.set_states(cache=X),
            ValueError,
            "no state `cache`; the model has `lines`, `p",
        ),
        (
            lambda s: s.set_states(lines=X),
            ValueError,
            r"state `lines` must be f32\[8,4\], got f32\[",
        ),
        (lambda s: s.set_states(position=0.5), TypeError, "`position` must be int32, got float64"),
        (lambda s: s.run("decode", X[:2]), ValueError, "axis 0 must be 1, got 2"),
        (lambda s: s.model(X), ValueError, "states, which a call would forget; call a `Session`"),
        (lambda s: s.run(), TypeError, "incompatible function arguments"),
    ],
)
def test_wrong_use_of_a_session_is_told(stateful: Any, call: Any, error: Any, text: str) -> None:
    session = rt.Session(stateful[1])
    with pytest.raises(error, match=text):
        call(session)
    assert session.states["position"] == 0
    session.run("decode", X[:1])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m(), TypeError, "^`x` is missing$"),
        (lambda m: m(X, X), TypeError, "^takes the arrays `x`, got 2$"),
        (lambda m: m(X, x=X), TypeError, "^`x` is given twice$"),
        (lambda m: m(y=X), TypeError, "^`y` is unknown, expected `x`$"),
        (lambda m: m(X[0]), ValueError, "input `x`"),
        (lambda m: m(X[:, :5]), ValueError, "input `x`: axis 1 must be 6, got 5"),
        (
            lambda m: m(X + 1j),
            TypeError,
            "^`x` must be float32, got complex64; convert it with `as",
        ),
        (lambda m: m([[2**24 + 1] * 6]), TypeError, "got int64 with numbers that do not fit"),
        (lambda m: m("text"), TypeError, "`x` must be float32, got <U4"),
        (lambda m: m(np.zeros((1,) * 9, np.float32)), ValueError, "`x` has 9 axes, of which"),
        (lambda m: m(X, out=1), TypeError, "^`out` for `.*` must be an array of float32, got int$"),
        (lambda m: m(X, out=np.zeros((5, 4))), TypeError, "float32, got an array of float64"),
        (lambda m: m(X, out=np.zeros((5, 3), np.float32)), ValueError, r"f32\[5,4\].*f32\[5,3\]"),
        (lambda m: m(X, out=(X, X)), ValueError, "^`out` must have 1 arrays, got 2$"),
        (
            lambda m: m(X, out=np.broadcast_to(np.float32(0), (5, 4))),
            ValueError,
            "^`out` for `.*` cannot be written: it is read-only, or no plain memory of the CPU$",
        ),
        (lambda m: m.inputs_of("f"), ValueError, "there is no entry point `f`, expected `"),
    ],
)
def test_wrong_calls_are_told(plain: Any, call: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        call(plain[1])


def test_files(plain: Any, tmp_path: Path) -> None:
    path = plain[0].save(tmp_path / "größe.lmn")
    for model in (
        rt.Model(path),
        rt.Model(str(path)),
        rt.Model(path, mapped=True),
        rt.Model(path.read_bytes()),
        rt.Model(bytearray(path.read_bytes())),
        rt.Model(memoryview(path.read_bytes())),
    ):
        np.testing.assert_array_equal(model(X), plain[0](X))
    with pytest.raises(FileNotFoundError, match=r"none\.lmn"):
        rt.Model(tmp_path / "none.lmn")
    (tmp_path / "wrong.lmn").write_bytes(b"wrong")
    for mapped in (False, True):
        with pytest.raises(ValueError, match=r"wrong\.lmn: "):
            rt.Model(tmp_path / "wrong.lmn", mapped=mapped)
    for data in (b"", b"LMN\x1a", path.read_bytes()[:-1]):
        with pytest.raises(ValueError, match=r"\w"):
            rt.Model(data)
    with pytest.raises(ValueError, match="`mapped` is for a path, not for bytes"):
        rt.Model(b"", mapped=True)
    with pytest.raises(ValueError, match="a NUL inside"):
        rt.Model("a\0b")
    with pytest.raises(TypeError, match="expected a path or the bytes of a file, got int"):
        rt.Model(5)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        rt.Model(tmp_path)


def test_limits(plain: Any) -> None:
    with pytest.raises(MemoryError, match="bytes"):
        rt.Session(plain[1], memory_limit=64)(X)
    model = rt.Model(exporter.export(looped, SQUARE).to_bytes())
    with pytest.raises(RuntimeError, match="trips"):
        rt.Session(model, trip_limit=10)(SQUARE)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        rt.Session(plain[1], threads=-1)
    for threads in (1025, 1 << 40):
        with pytest.raises(ValueError, match=f"`threads` is {threads}, at most 1024"):
            rt.Session(plain[1], threads=threads)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(rt.Session(plain[1], threads=threads)(X), plain[1](X))


def test_versions_agree() -> None:
    assert rt.__version__ == lumina_jax.__version__


def test_the_stub_has_all_names() -> None:
    stub = (Path(rt.__file__).parent / "_native.pyi").read_text(encoding="utf-8")
    compile(stub, "_native.pyi", "exec")
    assert "\nversion: str" in stub
    assert (Path(rt.__file__).parent / "py.typed").is_file()
    for cls in (rt.Model, rt.Session, rt.TensorInfo):
        assert f"class {cls.__name__}:" in stub
        for name in vars(cls):
            assert name.startswith("_") or f"def {name}(" in stub, name
