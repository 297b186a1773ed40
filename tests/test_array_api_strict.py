"""The namespace beside array-api-strict, which implements the standard and nothing more.

Names, results, types and errors are the same on the ideal device. On a noisy one all but the
numbers of products are.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import array_api_strict
import jax
import numpy as np
import pytest

import lumina_jax as lj
from lumina_jax import array_api
from lumina_jax.array_api import OpticalArray
from lumina_jax.hardware import Converters

STRICT = cast(Any, array_api_strict)
NOISY = lj.HardwareProfile(
    name="noisy", converters=Converters.all(8), noise=lj.NoiseModel(relative=0.05)
)
NAMESPACES = {
    "ideal": array_api.namespace(None, api_version="2025.12"),
    "noisy": array_api.namespace(NOISY, key=jax.random.key(0), api_version="2025.12"),
}
RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 4))
SQUARE = RNG.normal(size=(2, 3, 3))
POSITIVE = SQUARE @ np.swapaxes(SQUARE, 1, 2) + 3 * np.eye(3)
INTEGERS = RNG.integers(-5, 6, (3, 4))
SHIFTS = RNG.integers(0, 4, (3, 4))
BOOLS = INTEGERS > 0
COMPLEX = REAL + 1j * RNG.normal(size=(3, 4))
UNIT = REAL / 5
REPEATED = np.array([3, 1, 3, 2, 1])

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


@pytest.fixture(autouse=True)
def modes(numpy_promotion: None) -> Iterator[None]:
    with jax.enable_x64(True), warnings.catch_warnings():
        # NumPy, on which array-api-strict computes, warns of logarithms of negative numbers.
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def calls(names: str, *arguments: Any, **options: Any) -> list[Call]:
    return [(name, arguments, options) for name in names.split()]


ELEMENTWISE = [
    *calls(
        "abs acosh asinh atan ceil cos cosh exp expm1 floor isfinite isinf isnan log1p negative "
        "positive reciprocal round sign signbit sin sinh sqrt square tan tanh trunc",
        REAL,
    ),
    *calls("acos asin atanh log log10 log2", UNIT),
    *calls("abs conj exp imag isfinite log real sign sin sqrt square tanh", COMPLEX),
    *calls("abs bitwise_invert negative sign square", INTEGERS),
    *calls("logical_not", BOOLS),
    *calls(
        "add atan2 copysign divide equal floor_divide greater hypot less_equal logaddexp maximum "
        "minimum multiply nextafter not_equal pow remainder subtract",
        np.abs(REAL), REAL[:1],
    ),
    *calls("add multiply subtract divide pow equal", COMPLEX, REAL),
    *calls(
        "add bitwise_and bitwise_or bitwise_xor floor_divide greater maximum remainder subtract",
        INTEGERS, SHIFTS + 1,
    ),
    *calls("bitwise_left_shift bitwise_right_shift", INTEGERS, SHIFTS),
    *calls("logical_and logical_or logical_xor equal", BOOLS, ~BOOLS[:1]),
    *calls("add maximum multiply", REAL, 2.0),
    *calls("clip", REAL, -0.5, 0.5),
    *calls("clip", INTEGERS, max=2),
    *calls("where", BOOLS, REAL, 0.0),
]  # fmt: skip

SHAPES = [
    ("concat", ([REAL, REAL[:1]],), {"axis": 0}),
    ("stack", ([REAL, REAL],), {"axis": 1}),
    *calls("broadcast_arrays", REAL, REAL[:, :1]),
    *calls("broadcast_to", REAL[:1], (2, 4)),
    *calls("expand_dims unstack", REAL, axis=1),
    *calls("flip matrix_transpose", REAL),
    *calls("moveaxis", SQUARE, 0, 2),
    *calls("permute_dims", SQUARE, (2, 0, 1)),
    *calls("repeat", REAL, 2, axis=0),
    *calls("reshape", REAL, (2, 6)),
    *calls("roll", REAL, 1, axis=1),
    *calls("squeeze", REAL[:1], axis=0),
    *calls("tile", REAL, (2, 1)),
    *calls("tril triu", SQUARE, k=1),
    *calls("take", REAL, np.array([2, 0]), axis=1),
    *calls("take_along_axis", REAL, INTEGERS % 3, axis=0),
    *calls("meshgrid", REAL[0], REAL[:, 0], indexing="ij"),
]

REDUCTIONS = [
    *calls("all any count_nonzero", BOOLS, axis=1),
    *calls("argmax argmin argsort cumulative_prod cumulative_sum diff sort", REAL, axis=0),
    *calls("max mean min prod std sum var", REAL, axis=1, keepdims=True),
    *calls("prod sum cumulative_sum", INTEGERS, axis=0),
    *calls("std var", REAL, correction=1.0),
    *calls("sum mean", COMPLEX),
    *calls("nonzero", INTEGERS),
    *calls("searchsorted", np.sort(REAL[0]), REAL),
    *calls("isin", INTEGERS, REPEATED),
    *calls("unique_all unique_counts unique_inverse unique_values", REPEATED),
    *calls("argsort sort", REPEATED, descending=True),
]

CREATION = [
    *calls("arange", 1, 8, 2),
    *calls("arange", 0.0, 1.0, 0.25),
    *calls("eye", 3, 4, k=1),
    *calls("full", (2, 3), 7.0),
    *calls("linspace", 0.0, 1.0, 5, endpoint=False),
    *calls("ones zeros", (2, 3)),
    *calls("ones_like zeros_like", INTEGERS),
    *calls("full_like", REAL, 3.0),
]

LINALG = [
    *calls("cholesky det eigvalsh inv slogdet svdvals", POSITIVE),
    *calls("cross", REAL[:, :3], REAL[:, 1:]),
    *calls("diagonal matrix_transpose trace", SQUARE),
    *calls("matrix_norm pinv matrix_rank", REAL),
    *calls("outer", REAL[0], REAL[1]),
    *calls("solve", POSITIVE, SQUARE),
    *calls("vector_norm", REAL, axis=1),
]

FFT = [
    *calls("rfft ihfft fftshift", REAL),
    *calls("fft ifft fftn irfft hfft", COMPLEX),
    *calls("fftfreq rfftfreq", 5),
]

PRODUCTS = [
    *calls("matmul", REAL, REAL.T),
    *calls("matmul", SQUARE, POSITIVE[0]),
    *calls("matmul", COMPLEX, COMPLEX.T),
    *calls("matmul", REAL[0], REAL.T),
    *calls("matmul", REAL, INTEGERS[0].astype(np.float32)),
    *calls("tensordot", REAL, REAL, axes=((0, 1), (0, 1))),
    *calls("vecdot", REAL, REAL[0]),
    *calls("vecdot", COMPLEX, COMPLEX, axis=-2),
]

ALL = [
    *(("", *call) for call in [*ELEMENTWISE, *SHAPES, *REDUCTIONS, *CREATION]),
    *(("linalg", *call) for call in LINALG),
    *(("fft", *call) for call in FFT),
]

TOLERANCE = 1e-12
"""Of functions in f64, a hundred roundings, on decompositions that are conditioned like 10."""


def convert(xp: Any, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return xp.asarray(value)
    if isinstance(value, list):
        return [convert(xp, each) for each in value]
    return value


def run(xp: Any, extension: str, call: Call) -> list[Any]:
    """The arrays that a call gives."""
    name, arguments, options = call
    function = getattr(getattr(xp, extension) if extension else xp, name)
    result = function(*(convert(xp, each) for each in arguments), **options)
    return list(result) if isinstance(result, list | tuple) else [result]


def same(ours: Any, strict: Any, tolerance: float | None) -> None:
    """Types and shapes are equal; without a tolerance the numbers are not compared."""
    assert isinstance(ours, OpticalArray)
    assert ours.shape == strict.shape
    assert str(ours.dtype) == str(strict.dtype).rpartition(".")[2]
    if tolerance is not None:
        expected = np.asarray(strict)
        np.testing.assert_allclose(np.asarray(ours), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", NAMESPACES)
@pytest.mark.parametrize("case", ALL, ids=lambda case: ".".join(filter(None, case[:2])))
def test_functions(device: str, case: Any) -> None:
    extension, *call = case
    ours = run(NAMESPACES[device], extension, cast(Call, tuple(call)))
    strict = run(STRICT, extension, cast(Call, tuple(call)))
    for one, other in zip(ours, strict, strict=True):
        same(one, other, TOLERANCE)


@pytest.mark.parametrize("device", NAMESPACES)
@pytest.mark.parametrize("extension", ["", "linalg"])
def test_products(device: str, extension: str) -> None:
    """On the noisy device they have the same type and shape, and other numbers."""
    for call in PRODUCTS:
        (ours,), (strict,) = (run(xp, extension, call) for xp in (NAMESPACES[device], STRICT))
        same(ours, strict, TOLERANCE if device == "ideal" else None)
        assert (device == "ideal") == np.allclose(np.asarray(ours), np.asarray(strict), 1e-12)


def test_names() -> None:
    """Every public name of the standard is there, and takes the same parameters."""
    xp = NAMESPACES["ideal"]
    own = {"ArrayAPIStrictFlags", "Device"}
    for ours, strict in ((xp, STRICT), (xp.linalg, STRICT.linalg), (xp.fft, STRICT.fft)):
        for name in strict.__all__:
            if name in own or name.startswith("__") or name.endswith("_flags"):
                continue
            assert hasattr(ours, name), name
            function = getattr(strict, name)
            if not inspect.isfunction(function):
                continue
            taken = inspect.signature(getattr(ours, name)).parameters
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                    assert parameter.name in taken, f"{name}: {parameter.name}"
    methods = {name for name in dir(STRICT.asarray(1)) if not name.startswith("_")}
    assert methods - {"device"} <= set(dir(OpticalArray))


def test_types() -> None:
    xp = NAMESPACES["ideal"]
    info, of_strict = (each.__array_namespace_info__() for each in (xp, STRICT))
    names = of_strict.dtypes()
    assert set(info.dtypes()) == set(names)
    assert info.capabilities().keys() == of_strict.capabilities().keys()
    for left in names:
        for right in names:
            kinds = (getattr(xp, left), getattr(xp, right))
            try:
                expected = STRICT.result_type(getattr(STRICT, left), getattr(STRICT, right))
            except TypeError:
                continue  # JAX promotes what the standard leaves open.
            assert str(xp.result_type(*kinds)) == str(expected).rpartition(".")[2], (left, right)
        for kind in ("bool", "integral", "real floating", "numeric"):
            answers = (each.isdtype(getattr(each, left), kind) for each in (xp, STRICT))
            assert len(set(answers)) == 1, (left, kind)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "a + 1.5": lambda a, b: a + 1.5,
    "2 - b": lambda a, b: 2 - b,
    "a ** 2": lambda a, b: a**2,
    "b // 3": lambda a, b: b // 3,
    "a @ a.T": lambda a, b: a @ a.T,
    "a[1:, ::-1]": lambda a, b: a[1:, ::-1],
    "a[..., None]": lambda a, b: a[..., None],
    "a[b > 0]": lambda a, b: a[b > 0],
    "~(b > 0)": lambda a, b: ~(b > 0),
    "b << 1": lambda a, b: b << 1,
    "abs(b)": lambda a, b: abs(b),
    "a.mT": lambda a, b: a.mT,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operators(name: str) -> None:
    ours, strict = (
        OPERATIONS[name](xp.asarray(REAL), xp.asarray(INTEGERS))
        for xp in (NAMESPACES["ideal"], STRICT)
    )
    same(ours, strict, TOLERANCE)


WRONG: dict[str, Callable[[Any], Any]] = {
    "shapes that do not broadcast": lambda xp: xp.ones((2, 3)) + xp.ones((2, 4)),
    "depths of a product": lambda xp: xp.matmul(xp.ones((2, 3)), xp.ones((2, 3))),
    "a product with a number": lambda xp: xp.matmul(xp.ones((2, 3)), xp.asarray(1.0)),
    "axes of tensordot": lambda xp: xp.tensordot(xp.ones((2, 3)), xp.ones((2, 3)), axes=1),
    "length of vecdot": lambda xp: xp.vecdot(xp.ones(3), xp.ones(4)),
    "size of reshape": lambda xp: xp.reshape(xp.ones(6), (4, 2)),
    "axis of sum": lambda xp: xp.sum(xp.ones(3), axis=1),
    "axis of squeeze": lambda xp: xp.squeeze(xp.ones((2, 1)), axis=0),
    "shapes of concat": lambda xp: xp.concat([xp.ones((2, 3)), xp.ones((2, 4))], axis=0),
    "square of inv": lambda xp: xp.linalg.inv(xp.ones((2, 3))),
    "power of a rectangle": lambda xp: xp.linalg.matrix_power(xp.ones((2, 3)), 2),
    "bits of floats": lambda xp: xp.bitwise_and(xp.ones(3), xp.ones(3)),
    "no such kind": lambda xp: xp.isdtype(xp.float32, "real"),
    "truth of many": lambda xp: bool(xp.ones(2)),
    "number of many": lambda xp: float(xp.ones(2)),
    "index of a float": lambda xp: [1, 2, 3][xp.asarray(1.0)],
    "wrong operand": lambda xp: xp.ones(2) + "x",
}


@pytest.mark.parametrize("device", NAMESPACES)
@pytest.mark.parametrize("what", WRONG)
def test_errors(device: str, what: str) -> None:
    """What the one refuses the other refuses too, with one of the errors that Python has for it."""
    for xp in (STRICT, NAMESPACES[device]):
        with pytest.raises((TypeError, ValueError, IndexError, np.linalg.LinAlgError)):
            WRONG[what](xp)
