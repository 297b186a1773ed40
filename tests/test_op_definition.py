"""What `define` makes of attributes and of a signature, shown by an op that exists here alone."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.interpreters import mlir
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from exporter import _decode, _encode
from exporter import _lmn_pb2 as pb
from lumina_jax import _lumina
from lumina_jax._attributes import Attributes, Float
from lumina_jax.ops import OPS
from lumina_jax.ops._op import OpDef, _ffi_call, define
from lumina_jax.ops._signature import Derived, Signature, tensor

T = TypeVar("T")
NAN, OTHER_NAN = struct.unpack("<2d", struct.pack("<2Q", 0x7FF8 << 48, 0x7FF8 << 48 | 1))


@dataclass(frozen=True, kw_only=True)
class Attrs(Attributes):
    scale: float
    padding: tuple[int, ...]
    stride: int
    name: str = "moving"
    flag: bool = False


class Operands(NamedTuple, Generic[T]):
    x: T
    w: T
    ids: T


def _signature(attrs: Attrs) -> Signature:
    """A one-dimensional convolution: of the outputs, no operand has the extent by its own."""
    low, high = attrs.padding
    outputs = Derived(("h", "k"), lambda h, k: (h + low + high - k) // attrs.stride + 1)
    return Signature(
        Operands(
            x=tensor("f32", "m", "h"), w=tensor("f32", "k"), ids=tensor("u32", "m", "outputs")
        ),
        (tensor("f32", "m", "outputs"),),
        derived={"outputs": outputs},
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    padded = jnp.pad(operands.x, ((0, 0), attrs.padding))
    outputs, k = operands.ids.shape[1], operands.w.shape[0]
    windows = [padded[:, i * attrs.stride : i * attrs.stride + k] for i in range(outputs)]
    y = jnp.stack([(window * operands.w[None]).sum(1) for window in windows], 1)
    # A scale of -0.0 is no scale of 0.0: signs tell them apart.
    return [y * jnp.float32(attrs.scale)]


ATTRS = Attrs(scale=0.5, padding=(1, 2), stride=2)


@pytest.fixture
def convolve() -> Iterator[OpDef[Attrs, Any]]:
    op = define(
        "convolve", attrs=Attrs, operands=Operands, signature=_signature, reference=_reference
    )

    # There is no kernel of that name.
    def in_jnp(*operands: jax.Array, **params: Any) -> Any:
        return _reference(Attrs(**params), Operands(*operands))

    mlir.register_lowering(op.primitive, mlir.lower_fun(in_jnp, multiple_results=True), "cpu")
    yield op
    del OPS["convolve"]


def operands(rows: int = 4, h: int = 9, k: int = 3) -> Operands[jax.Array]:
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((rows, h), (k,)))
    return Operands(x=x, w=w, ids=jnp.zeros((rows, (h + 3 - k) // 2 + 1), jnp.uint32))


# --- attributes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "1"}, "test_op_definition: `scale` must be a float, got '1'"),
        ({"scale": True}, "test_op_definition: `scale` must be a float, got True"),
        ({"stride": 2.0}, "test_op_definition: `stride` must be an int, got 2.0"),
        ({"stride": True}, "test_op_definition: `stride` must be an int, got True"),
        ({"padding": [1, 2]}, "test_op_definition: `padding` must be a tuple of ints, got [1, 2]"),
        ({"padding": (1, 2.0)}, "test_op_definition: `padding` must be a tuple of ints, got"),
        ({"name": b"x"}, "test_op_definition: `name` must be a str, got b'x'"),
        ({"flag": 1}, "test_op_definition: `flag` must be a bool, got 1"),
    ],
)
def test_attributes_are_of_the_declared_types(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        replace(ATTRS, **change)


def test_a_float_may_be_given_as_an_int() -> None:
    assert type(replace(ATTRS, scale=2).scale) is Float
    assert replace(ATTRS, scale=2) == replace(ATTRS, scale=2.0)


def test_a_type_that_is_none_of_an_attribute_is_refused_when_the_op_is_defined() -> None:
    @dataclass(frozen=True)
    class Wrong(Attributes):
        table: dict

    message = "test_op_definition: `table` is declared as <class 'dict'>, expected one of a bool"
    with pytest.raises(TypeError, match=re.escape(message)):
        define("wrong", attrs=Wrong, operands=Operands, signature=_signature, reference=_reference)
    assert "wrong" not in OPS


SCALES = [0.0, -0.0, 1.0, math.nextafter(1, 2), math.inf, NAN, OTHER_NAN]


def test_floats_are_equal_by_their_bits() -> None:
    keys = {replace(ATTRS, scale=scale): scale for scale in SCALES}
    assert len(keys) == len(SCALES)
    for scale in SCALES:
        assert struct.pack("<d", keys[replace(ATTRS, scale=scale)]) == struct.pack("<d", scale)
    assert Float(0.5) == 0.5
    assert Float(0.5) != 0.25
    assert {Float(0.5), 0.5} == {0.5}
    assert repr(Float(-0.0)) == "-0.0"


def test_two_scales_never_share_a_program(convolve: OpDef[Attrs, Any]) -> None:
    x = operands()

    def both(*scales: float) -> list[np.ndarray]:
        eager = [convolve(replace(ATTRS, scale=scale), x)[0] for scale in scales]
        in_one = jax.jit(lambda: [convolve(replace(ATTRS, scale=scale), x)[0] for scale in scales])
        for a, b in zip(eager, in_one(), strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(np.signbit(a)[a == 0], np.signbit(b)[a == 0])
            # XLA may round a product and a sum at once.
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        return [np.asarray(v) for v in eager]

    plus, minus, nan, one = both(0.0, -0.0, NAN, 1.0)
    assert not plus.any()
    assert not minus.any()
    assert (np.signbit(plus) != np.signbit(minus)).all()
    assert np.isnan(nan).all()
    assert one.any()


def test_the_jaxpr_shows_attributes(convolve: OpDef[Attrs, Any]) -> None:
    jaxpr = str(jax.make_jaxpr(lambda x: convolve(ATTRS, x))(operands()))
    assert "convolve[" in jaxpr
    for parameter in ("scale=0.5", "padding=(1, 2)", "stride=2", "name=moving", "flag=False"):
        assert parameter in jaxpr


def test_attributes_reach_xla(convolve: OpDef[Attrs, Any]) -> None:
    attrs = replace(ATTRS, scale=-0.0, padding=(1, 1), stride=2**40)
    call = jax.jit(lambda *x: _ffi_call(convolve, attrs, *x))
    x = operands(h=7)._replace(ids=jnp.zeros((4, 1), jnp.uint32))
    text = call.trace(*x).lower(lowering_platforms=("cpu",)).as_text()
    for written in (
        "scale = -0.000000e+00 : f64", "padding = dense<1> : tensor<2xi64>",
        "stride = 1099511627776 : i64", 'name = "moving"', "flag = false",
    ):  # fmt: skip
        assert written in text


@pytest.mark.parametrize("value", [(1, 2), (7, 7), ()])
def test_the_handler_reads_a_list(value: tuple[int, ...]) -> None:
    """No op has one yet, so what comes back is that this one does not take it."""
    call = jax.ffi.ffi_call("lumina.quantize.v1", jax.ShapeDtypeStruct((2, 3), np.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="`bits` must be an integer, got"):
        call(jnp.ones((2, 3)), jnp.ones((1, 1)), bits=np.array(value, np.int64))


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ((1, -2), "Ints([1, -2])"),
        ([1, 2], "Ints([1, 2])"),
        ((), "Ints([])"),
        (0.1, "Float(0.1)"),
        (-0.0, "Float(-0.0)"),
        ("8", 'Str("8")'),
        (True, "Bool(true)"),
    ],
)
def test_numpy_takes_every_kind(value: Any, got: str) -> None:
    one = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match=re.escape(f"`bits` must be an integer, got {got}")):
        _lumina.call("quantize", {"bits": value}, [one, one])
    with pytest.raises(TypeError, match="attribute `bits` is a "):
        _lumina.call("quantize", {"bits": {"a": 1}}, [one, one])


@pytest.mark.parametrize(
    "value", [True, -3, Float(0.1), Float(-0.0), Float(math.inf), "a", (1, -2), ()]
)
def test_files_take_every_kind(value: Any) -> None:
    attr = _encode._attr(value, _encode.OPSET, {})
    read = getattr(attr, attr.WhichOneof("value"))
    got = tuple(read.values) if isinstance(value, tuple) else read
    assert got == value
    assert type(got) is (float if isinstance(value, Float) else type(value))
    again = _decode._Decoder(pb.Graph(), _encode.OPSET, ()).attr(attr)
    assert (again, type(again)) == (got, type(got))
    with pytest.raises(TypeError, match="an attribute is a dict, expected a bool"):
        _encode._attr({}, _encode.OPSET, {})  # pyright: ignore[reportArgumentType]


# --- derived extents ----------------------------------------------------------------------------


def test_derived_extents_are_those_of_the_result(convolve: OpDef[Attrs, Any]) -> None:
    (y,) = convolve(ATTRS, operands())
    assert y.shape == (4, 5)
    full = np.stack([np.convolve(np.pad(row, (1, 2)), operands().w[::-1]) for row in operands().x])
    np.testing.assert_allclose(y, 0.5 * full[:, 2:-2:2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (operands()._replace(ids=jnp.zeros((4, 4), jnp.uint32)),
         "convolve: `ids` has shape (4, 4), expected (m, outputs), "
         "where m = 4 of `x` and outputs = 5"),
        (Operands(jnp.ones((4, 1)), jnp.ones(7), jnp.zeros((4, 0), jnp.uint32)),
         "convolve: `ids` has shape (4, 0), expected (m, outputs), "
         "where m = 4 of `x` and outputs = -1"),
    ],
)  # fmt: skip
def test_derived_extents_are_checked(
    convolve: OpDef[Attrs, Any], x: Operands[jax.Array], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        convolve(replace(ATTRS, stride=2), x)


def test_a_result_has_no_negative_extent() -> None:
    shorter = Derived(("h",), lambda h: h - 2)
    x = tensor("f32", "h")
    signature = Signature(
        NamedTuple("One", [("x", Any)])(x), (tensor("f32", "g"),), derived={"g": shorter}
    )
    message = "op: g = -1, where h = 1 of `x`"
    with pytest.raises(ValueError, match=re.escape(message)):
        signature.check("op", [jnp.ones(1)])


def test_rows_are_batched_beside_derived_extents(convolve: OpDef[Attrs, Any]) -> None:
    x = operands(rows=8)
    halves = jax.tree.map(lambda v: v if v.ndim == 1 else v.reshape(2, 4, -1), x)
    axes = (0, None, 0)
    mapped = jax.vmap(lambda *x: convolve(ATTRS, Operands(*x))[0], in_axes=axes)
    np.testing.assert_array_equal(mapped(*halves).reshape(8, 5), convolve(ATTRS, x)[0])
    assert "convolve[" in str(jax.make_jaxpr(mapped)(*halves))
    assert "scan" not in str(jax.make_jaxpr(mapped)(*halves))


def test_a_derived_extent_of_the_rows_keeps_calls_apart() -> None:
    signature = Signature(
        NamedTuple("One", [("x", Any)])(tensor("f32", "m")),
        (tensor("f32", "pairs"),),
        derived={"pairs": Derived(("m",), lambda m: m // 2)},
    )
    assert signature.bound == {"m", "pairs"}


def test_derived_extents_are_symbolic_too(convolve: OpDef[Attrs, Any]) -> None:
    m, h = jax.export.symbolic_shape("m, h")
    types = convolve.signature(ATTRS)
    sizes = types.sizes([(m, h), (3,), (m, (h + 3 - 3) // 2 + 1)])
    assert sizes["outputs"] == h // 2 + 1


def test_explicit_meshes_split_what_is_not_derived(convolve: OpDef[Attrs, Any]) -> None:
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        x = operands(h=8)
        x = x._replace(
            x=jax.device_put(x.x, NamedSharding(mesh, P("a", "b"))),
            ids=jnp.zeros((4, 5), jnp.uint32),
        )
        got = jax.eval_shape(lambda *x: convolve(ATTRS, Operands(*x))[0], *x)
    assert got.sharding.spec == P("a", None)


def test_every_element_type_has_a_tensor() -> None:
    for name, in_numpy, _ in _lumina.dtypes():
        assert tensor(name, "m").dtype == jnp.dtype(in_numpy)
