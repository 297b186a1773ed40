"""The namespace of the Array API standard on a simulated processor."""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax as lj
from lumina_jax import array_api
from lumina_jax.array_api import OpticalArray
from lumina_jax.hardware import Converters, OpticalPath

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(0)
KEY = jax.random.key(7)
NOISY = lj.HardwareProfile(
    name="noisy",
    converters=Converters.all(8),
    noise=lj.NoiseModel(relative=0.1),
    path=OpticalPath(transmission=0.5),
)
FINE = lj.HardwareProfile(
    name="fine",
    converters=Converters.all(None),
    noise=lj.NoiseModel(),
    path=OpticalPath(transmission=0.5),
)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    values = RNG.normal(size=(*shape, 2))
    return (
        values @ [1, 1j] if np.issubdtype(dtype, np.complexfloating) else values[..., 0]
    ).astype(dtype)


def bits(*arrays: Any) -> list[bytes]:
    return [np.asarray(array).tobytes() for array in arrays]


PRODUCTS = [
    ("matmul", ((3, 4), (4, 2)), {}),
    ("matmul", ((4,), (4, 2)), {}),
    ("matmul", ((3, 4), (4,)), {}),
    ("matmul", ((4,), (4,)), {}),
    ("matmul", ((5, 3, 4), (4, 2)), {}),
    ("matmul", ((3, 4), (2, 4, 2)), {}),
    ("matmul", ((2, 1, 3, 4), (5, 4, 2)), {}),
    ("matmul", ((4,), (5, 4, 2)), {}),
    ("matmul", ((0, 4), (4, 2)), {}),
    ("matmul", ((3, 0), (0, 2)), {}),
    ("matmul", ((0, 3, 4), (0, 4, 2)), {}),
    ("vecdot", ((3, 4), (3, 4)), {}),
    ("vecdot", ((2, 3, 4), (4,)), {}),
    ("vecdot", ((4, 3), (4, 3)), {"axis": -2}),
    ("tensordot", ((3, 4), (4, 2)), {"axes": 1}),
    ("tensordot", ((3, 4), (3, 4)), {}),
    ("tensordot", ((3, 4), (2,)), {"axes": 0}),
    ("tensordot", ((3, 4, 5), (5, 3, 2)), {"axes": ((0, -1), (1, 0))}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("profile", [None, FINE], ids=["ideal", "fine"])
def test_products_are_those_of_numpy(profile: Any, dtype: Any) -> None:
    """What light loses is given back, so a device without converters and noise is exact.

    Sums of ten terms of order one, in f32: 1e-5 is some ten roundings.
    """
    xp = array_api.namespace(profile)
    for name, shapes, options in PRODUCTS:
        x, w = (normal(*shape, dtype=dtype) for shape in shapes)
        factors = xp.asarray(x), xp.asarray(w)
        got = getattr(xp, name)(*factors, **options)
        expected = getattr(np, name)(x, w, **options)
        assert isinstance(got, OpticalArray)
        assert (got.shape, got.dtype) == (expected.shape, dtype), (name, shapes)
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-5, atol=1e-5)
        if name != "matmul":
            assert bits(getattr(xp.linalg, name)(xp.asarray(x), xp.asarray(w), **options)) == bits(
                got
            )
    a = normal(3, 3, dtype=dtype)
    for n in (-2, 0, 1, 5):
        got = xp.linalg.matrix_power(xp.asarray(a), n)
        expected = np.linalg.matrix_power(a.astype(np.complex128), n)
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-3, atol=1e-4)


def test_product_i_is_the_op_with_key_i() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    x, w = normal(5, 8), normal(8, 3)
    y_full_scale = lj.optical_matmul(
        x, w, profile=NOISY, spec=lj.OpticalSpec(dac_bits=8, weight_bits=8), noise=lj.NoiseModel(),
        return_peak=True,
    )[1].max()  # fmt: skip
    for i, product in enumerate((xp.asarray(x) @ xp.asarray(w), xp.linalg.matmul(x, w))):
        expected = lj.optical_matmul(
            x, w, profile=NOISY, y_full_scale=y_full_scale, key=jax.random.fold_in(KEY, i)
        )
        assert bits(product) == bits(expected / 0.5)


def test_a_script_gives_the_same_bits_each_time_and_matrices_noise_of_their_own() -> None:
    a, b = normal(2, 3, 4), normal(1, 4, 3)
    same = np.stack([a[0], a[0]])

    def script(key: jax.Array) -> list[bytes]:
        xp = array_api.namespace(NOISY, key=key)
        x, w = xp.asarray(a), xp.asarray(b)
        return bits(x @ w, x @ w, xp.vecdot(x, x), (x + 1j) @ w)

    first = script(KEY)
    assert first == script(KEY) != script(jax.random.key(8))
    assert first[0] != first[1]
    xp = array_api.namespace(NOISY, key=KEY)
    one, other = xp.asarray(same) @ xp.asarray(b)
    assert bits(one) != bits(other)


def test_other_types_are_computed_in_f32_and_promoted_and_integers_are_digital() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    with jax.enable_x64(True):
        x, w = normal(5, 8), normal(8, 3)
        (single,) = bits(xp.with_key(KEY).matmul(x, w))
        for left, right, result in (
            (np.float64, np.float32, np.float64),
            (np.float32, np.float16, np.float32),
            (np.float16, np.float16, np.float16),
        ):
            got = xp.with_key(KEY).matmul(x.astype(left), w.astype(right))
            assert got.dtype == result
            if left == np.float64:
                assert bits(xp.astype(got, xp.float32)) == [single]
        assert xp.matmul(x.astype(np.complex128), w).dtype == np.complex128
        integers = np.arange(12).reshape(3, 4)
        assert (np.asarray(xp.asarray(integers) @ integers.T) == integers @ integers.T).all()
        assert xp.asarray(integers > 3).dtype == bool
        exact = array_api.namespace(None).asarray(x.astype(np.float64))
        np.testing.assert_allclose(np.asarray(exact @ w), x.astype(np.float64) @ w, rtol=1e-13)


def test_a_namespace_within_jit() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    a = xp.asarray(normal(4, 4))
    message = "this product would draw the same noise in every run.*use xp = xp.with_key"
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda a: a @ a)(a)
    with pytest.raises(ValueError, match=message):
        jax.lax.scan(lambda a, _: (a @ a, None), a, length=2)

    @jax.jit
    def power(key: jax.Array, a: OpticalArray) -> OpticalArray:
        own = xp.with_key(key)
        b = own.asarray(a)
        return (b @ a) @ b

    once = power(KEY, a)
    own = xp.with_key(KEY)
    assert bits(once) == bits(own.matmul(own.matmul(a, a), a)) != bits(power(jax.random.key(1), a))
    # What leaves the program draws from the namespace outside, and its arrays mix.
    assert once.__array_namespace__() is a.__array_namespace__() is xp
    assert isinstance(once @ a, OpticalArray)

    @jax.jit
    def frozen(key: jax.Array, a: OpticalArray) -> Any:
        outside = xp.with_key(key)
        return jax.lax.scan(lambda a, _: (xp.asarray(outside.matmul(a, a)), None), a, length=2)

    with pytest.raises(ValueError, match=message):
        frozen(KEY, a)

    def step(a: OpticalArray, key: jax.Array) -> tuple[OpticalArray, None]:
        return xp.with_key(key).matmul(a, a), None

    keys = jax.random.split(KEY, 2)
    scanned, _ = jax.lax.scan(step, a, keys)
    expected = a
    for key in keys:
        expected, _ = step(expected, key)
    # XLA may keep other roundings of the division by what light has lost, in a loop.
    np.testing.assert_allclose(np.asarray(scanned), np.asarray(expected), rtol=1e-5)


def test_transformations() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    a, b = xp.asarray(normal(3, 4)), xp.asarray(normal(4, 2))

    def loss(a: OpticalArray, b: OpticalArray, key: jax.Array) -> jax.Array:
        return jnp.sum(xp.with_key(key).matmul(a, b).__jax_array__() ** 2)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(a, b, KEY)
    eager = jax.grad(loss, argnums=(0, 1))(a, b, KEY)
    for gradient, other, operand in zip(gradients, eager, (a, b), strict=True):
        assert isinstance(gradient, OpticalArray)
        assert gradient.shape == operand.shape
        np.testing.assert_allclose(np.asarray(gradient), np.asarray(other), rtol=1e-5, atol=1e-5)
    # Without converters and noise it is the gradient of the product.
    fine = array_api.namespace(FINE)
    x, w = normal(3, 4), normal(4, 2)
    got = jax.grad(lambda x: jnp.sum((fine.asarray(x) @ w).__jax_array__()))(x)
    np.testing.assert_allclose(got, np.broadcast_to(w.sum(1), (3, 4)), rtol=1e-5)

    many = xp.asarray(normal(5, 3, 4))
    mapped = jax.vmap(lambda a: xp.with_key(KEY).matmul(a, b))(many)
    assert bits(mapped[2]) == bits(xp.with_key(KEY).matmul(many[2], b))
    remat = jax.jit(jax.grad(jax.checkpoint(loss)))(a, b, KEY)
    assert remat.shape == a.shape
    leaves, structure = jax.tree.flatten({"a": a})
    assert bits(jax.tree.unflatten(structure, leaves)["a"]) == bits(a)
    assert jax.block_until_ready(a) is not None


def test_inside_jit_the_ideal_namespace_is_jax_numpy() -> None:
    xp = array_api.namespace()
    a, b = normal(3, 4), normal(4, 5)

    def program(multiply: Any, *arrays: Any) -> str:
        def product(a: Any, b: Any) -> Any:
            return multiply(a, b)

        return jax.jit(product).lower(*arrays).as_text()

    ours = program(lambda a, b: a @ b + 1, *(xp.asarray(jnp.asarray(x)) for x in (a, b)))
    plain = program(lambda a, b: jnp.matmul(a, b, precision="highest") + 1, a, b)
    # The names of arguments and results are those of a pytree.
    names = re.compile(r'\{jax\.result_info = "[^"]*"\}|loc\([^)]*\)')
    assert names.sub("", ours) == names.sub("", plain)


def test_calibrate() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    a, b = xp.asarray(np.abs(normal(6, 4))), xp.asarray(np.abs(normal(4, 3)))
    with xp.calibrate():
        xp.matmul(a / 2, b)
        largest = float(xp.max(xp.with_key(KEY).matmul(a, b)))
    assert "fixed by calibrate() for weights of float32[4, 3]" in xp.describe()
    # An ADC of a fixed range cannot tell twice the signal.
    product = xp.max(xp.matmul(2 * a, b))
    assert float(product) <= largest * 1.3
    assert float(xp.max(xp.matmul(2 * a, b[:, :2]))) > largest
    jitted = jax.jit(lambda key, a: xp.with_key(key).matmul(a, b))
    assert float(xp.max(jitted(KEY, 2 * a))) <= largest * 1.3
    with xp.calibrate():
        xp.matmul(2 * a, b)
    assert float(xp.max(jitted(KEY, 2 * a))) > largest * 1.3, "compiled with the former ranges"

    def calibrated(run: Callable[[], object]) -> None:
        with xp.calibrate():
            run()

    before = xp.describe()
    with contextlib.suppress(ZeroDivisionError), xp.calibrate():
        xp.matmul(a[:2], b[:, :1])
        _ = 1 / 0
    assert "[4, 3]" in xp.describe()
    assert "[4, 1]" not in xp.describe(), before
    with pytest.raises(ValueError, match="a product within jit, grad or vmap cannot be calib"):
        calibrated(lambda: jitted(KEY, a[:3]))
    with pytest.raises(ValueError, match=r"calibrate\(\) within calibrate\(\)"):
        calibrated(lambda: calibrated(lambda: None))


def test_arrays_of_two_devices_do_not_mix() -> None:
    ideal, xp = array_api.namespace(), array_api.namespace(NOISY, key=KEY)
    a, b = ideal.asarray(normal(2, 2)), xp.asarray(normal(2, 2))
    assert array_api.namespace(None).asarray([1.0]).__array_namespace__() is ideal
    message = r"of arrays of two devices, '(noisy|ideal)' and '(noisy|ideal)'; bring one .*asarray"
    for mixed in (
        lambda: a + b,
        lambda: b @ a,
        lambda: a[xp.asarray(0)],
        lambda: xp.add(a, b),
        lambda: xp.concat([a, b]),
        lambda: xp.where(b > 0, b, a),
        lambda: xp.linalg.solve(a, b),
        lambda: a.at[0].set(b[0]),
        lambda: xp.clip(b, max=a),
    ):
        with pytest.raises(TypeError, match=message):
            mixed()
    assert isinstance(xp.asarray(a) + b, OpticalArray)
    one, other = xp.with_key(KEY).asarray(b), xp.with_key(jax.random.key(1)).asarray(b)
    with pytest.raises(ValueError, match=r"two namespaces that with_key made.*asarray"):
        one @ other
    assert bits(one @ b) == bits(xp.with_key(KEY).matmul(b, b))


def test_operators() -> None:
    xp = array_api.namespace()
    x = normal(2, 3)
    a = xp.asarray(x)
    for got, expected in (
        (a + 1, x + 1), (1 - a, 1 - x), (2 * a, 2 * x), (a / x, x / x), (x / a, x / x),
        (a**2, x**2), (2**a, 2**x), (a // 2, x // 2), (a % 2, x % 2), (-a, -x), (+a, x),
        (abs(a), abs(x)), (a < 0, x < 0), (a == x, x == x), (x != a, x != x), (a @ x.T, x @ x.T),
        (x.T @ a, x.T @ x), (jnp.asarray(1.0) + a, 1 + x), (a.T, x.T),
        (a[..., None].mT, x[:, None]),
        (a[xp.asarray([1, 0])], x[[1, 0]]), (a[a > 0], x[x > 0]), (~(a > 0), x <= 0),
        (xp.asarray([3]) << 1, np.array([6])), (xp.asarray([3]) & 1, np.array([1])),
        (a.at[0].set(5.0), np.stack([np.full(3, 5, np.float32), x[1]])),
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-6, atol=1e-6)
    assert [row.shape for row in a] == [(3,)] * 2
    assert (len(a), bool(a[0, 0] == x[0, 0]), int(xp.asarray(3))) == (2, True, 3)
    assert float(a[0, 0]) == x[0, 0]
    assert f"{xp.asarray(0.5):.2f} {[1, 2, 3][xp.asarray(1)]}" == "0.50 2"
    assert (a + 1.0).dtype == np.float32, "a Python number takes the type of the array"
    a += 1
    assert isinstance(a, OpticalArray)
    for other in ("x", None, [1.0]):
        with pytest.raises(TypeError, match="unsupported operand"):
            a + other


def test_an_array_cannot_be_changed() -> None:
    a = array_api.namespace(None).asarray([1.0, 2.0])
    with pytest.raises(TypeError, match=r"cannot be changed; make a new one with a\.at\[index\]"):
        a[0] = 3.0
    with pytest.raises(AttributeError, match="cannot be changed, and `dtype` is not set"):
        a.dtype = np.float64
    message = r"no attribute 'sum'; the standard has functions.*__array_namespace__\(\)\.sum\(a\)"
    with pytest.raises(AttributeError, match=message):
        a.sum()
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)
    with pytest.raises(TypeError, match=r"not pickled.*numpy\.asarray\(array\)"):
        pickle.dumps(a)
    assert copy.deepcopy([a])[0] is a
    assert repr(a) == "OpticalArray([1., 2.], dtype=float32, device='ideal')"


def test_arrays_go_in_and_out_without_a_copy() -> None:
    xp = array_api.namespace()
    memory = np.zeros(4096 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + 4096].view(np.float32).reshape(32, 32)
    a = xp.asarray(aligned)
    assert a._array.unsafe_buffer_pointer() == aligned.ctypes.data
    assert np.from_dlpack(a).ctypes.data == aligned.ctypes.data
    assert xp.from_dlpack(aligned)._array.unsafe_buffer_pointer() == aligned.ctypes.data
    assert xp.asarray(aligned, copy=True)._array.unsafe_buffer_pointer() != aligned.ctypes.data
    assert xp.asarray(a)._array is a._array
    odd = memory[start + 4 : start + 4 + 4000].view(np.float32)
    with pytest.raises(ValueError, match="copy"):
        xp.asarray(odd, copy=False)
    aligned[:] = normal(32, 32)
    read_only = normal(4, 4)
    read_only.flags.writeable = False
    for given in (odd, aligned[::2, ::3], aligned.T, aligned[::-1], aligned[:0], read_only,
                  np.float64(1), [[1.0, xp.asarray(2.0)]], aligned.astype(">f4")):  # fmt: skip
        plain = [[1.0, 2.0]] if isinstance(given, list) else given
        np.testing.assert_array_equal(np.asarray(xp.asarray(given)), np.asarray(plain, np.float32))
    with pytest.raises(TypeError, match=r"masked array.*filled\(0\)"):
        xp.asarray(np.ma.masked_array([1.0], [True]))


def test_versions_of_the_standard() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    newest = xp.asarray(1.0).__array_namespace__(api_version="2025.12")
    assert (xp.__array_api_version__, newest.__array_api_version__) == ("2024.12", "2025.12")
    a = xp.asarray([1.0, 2.0])
    for namespace, kind in ((xp, list), (newest, tuple)):
        assert type(namespace.meshgrid(a, a)) is kind
        assert type(namespace.__array_namespace_info__().devices()) is kind
        assert isinstance(namespace.broadcast_arrays(a, a)[0], OpticalArray)
    # They are one device, and draw from one key.
    counted = array_api.namespace(NOISY, key=KEY)
    first = counted.matmul(normal(2, 2), normal(2, 2))
    assert isinstance(newest.add(a, xp.asarray(1.0)) @ a, OpticalArray)
    assert isinstance(first, OpticalArray)
    with pytest.raises(ValueError, match=r"version '2020\.01' of the standard, expected 2022"):
        array_api.namespace(None, api_version="2020.01")
    with pytest.raises(AttributeError, match=r"the standard has no 'einsum'; jax.numpy may"):
        xp.einsum("ij->ji", a)
    assert {"sin", "linalg", "with_key", "float32", "pi"} <= set(dir(xp))
    names = [name for name in dir(xp) if not name.startswith("_")]
    assert all(hasattr(xp, name) for name in names)


def test_errors_at_the_edge() -> None:
    for arguments, error, message in (
        ({"device": "lumina"}, ValueError, "array_api.namespace: unknown `profile` 'lumina', exp"),
        ({"device": 3}, TypeError, "array_api.namespace: `profile` is of type int, expected a Har"),
        ({"device": NOISY, "key": 3}, TypeError, "array_api.namespace: `key` must be a key such"),
        ({"key": 3}, TypeError, "array_api.namespace: `key` must be a key such"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            array_api.namespace(**arguments)
    xp = array_api.namespace(NOISY)
    a = xp.asarray(normal(2, 3))
    with pytest.raises(ValueError, match=r"'noisy' has noise, and the namespace no key.*key=jax"):
        a @ a.T
    with pytest.raises(ValueError, match=r"matmul of shapes \(2, 3\) and \(2, 3\); expected"):
        a @ a
    with pytest.raises(ValueError, match=r"matmul of shapes \(\) and \(2, 3\); expected"):
        xp.matmul(xp.asarray(1.0), a)
    with pytest.raises(TypeError, match="with_key needs a key such as"):
        xp.with_key(None)
    with pytest.raises(ValueError, match=r"matrix_power of shape \(2, 3\), expected \(..., m, m\)"):
        xp.linalg.matrix_power(a, 2)
    broken = array_api.namespace(FINE).asarray([[np.nan, 1.0], [1.0, 2.0]])
    rows = np.isnan(np.asarray(broken @ np.eye(2, dtype=np.float32)))
    assert rows.tolist() == [[True, True], [False, False]]


def test_threads_draw_different_noise() -> None:
    xp = array_api.namespace(NOISY, key=KEY)
    a, b = xp.asarray(normal(4, 4)), xp.asarray(normal(4, 4))
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.extend(bits(a @ b))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = array_api.namespace(NOISY, key=KEY)
    x, w = (counted.asarray(np.asarray(array)) for array in (a, b))
    assert sorted(results) == sorted(bits(*(x @ w for _ in range(8))))
    assert len(set(results)) == 8


def test_describe() -> None:
    text = array_api.namespace("lumina_nano_v1", key=KEY).describe()
    for line in (
        "array API on 'lumina_nano_v1'",
        "    converters  DAC 4 bits, weights 4 bits, ADC 4 bits",
        "    noise       relative 0.15; products that have drawn from the key: 0",
        "    precision   float32 and complex64; of other types the product is computed in these,",
    ):
        assert line in text.splitlines()
    assert "products are exact" in array_api.namespace().describe()
    assert "no key yet" in array_api.namespace(NOISY).describe()
    with contextlib.suppress(TypeError):
        pickle.dumps(array_api.namespace())
        raise AssertionError("a device was pickled")
