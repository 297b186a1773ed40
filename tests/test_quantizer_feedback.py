"""Error feedback: the output of a layer, not its weights, decides the codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lumina_jax.quantizer import QuantizerParams, WeightQuantizer, error_feedback

Floats = NDArray[np.float32]


def layer(seed: int = 0, k: int = 96, n: int = 40, m: int = 300) -> tuple[Floats, Floats]:
    """Correlated inputs [m, k], and weights [k, n] whose outputs differ in size."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, k // 4)) @ rng.normal(size=(k // 4, k)) + 0.3 * rng.normal(size=(m, k))
    w = rng.normal(size=(k, n)) * np.geomspace(0.1, 1, n)
    return x.astype(np.float32), w.astype(np.float32)


def sqnr_db(
    x: Floats, w: Floats, codes: Any, params: QuantizerParams, only: int | slice = slice(None)
) -> float:
    """Of all outputs, or of `only` some."""
    codes = np.asarray(codes).astype(np.int16)
    restored = np.asarray(WeightQuantizer().dequantize(codes, params), np.float64)
    y = (x.astype(np.float64) @ w)[:, only]
    return float(10 * np.log10(np.sum(y**2) / np.sum(((x @ restored)[:, only] - y) ** 2)))


def gptq_by_definition(x: Floats, w: Floats, params: QuantizerParams, damping: float) -> Floats:
    """Frantar et al.: the inverse of the remaining Hessian, anew for each input."""
    q = WeightQuantizer()
    h = x.T.astype(np.float64) @ x
    h += damping * np.mean(np.diag(h)) * np.eye(len(h))
    left = w.astype(np.float64)
    codes = np.zeros(w.shape)
    order = np.argsort(-np.diag(h), kind="stable")
    for step, k in enumerate(order):
        rest = order[step:]
        inverse = np.linalg.inv(h[np.ix_(rest, rest)])
        code = q.quantize(left[k : k + 1].astype(np.float32), params)
        restored = np.asarray(q.dequantize(code, params), np.float64)[0]
        codes[k] = np.asarray(code)[0]
        left[rest] -= np.outer(inverse[:, 0] / inverse[0, 0], left[k] - restored)
    return codes


def test_is_gptq() -> None:
    x, w = layer(k=24, n=5)
    params = WeightQuantizer(axis=1).calibrate(w, bits=3)
    codes = error_feedback(w, params, x, damping=0.05)
    by_definition = gptq_by_definition(x, w, params, 0.05)
    nearest = WeightQuantizer().quantize(w, params)
    # Output by output, whichever is better on x.
    best = [
        max((by_definition, nearest), key=lambda c: sqnr_db(x, w, c, params, only=n))[:, n]
        for n in range(5)
    ]
    np.testing.assert_array_equal(codes, np.stack(best, axis=1))
    assert not np.array_equal(codes, nearest)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("method", ["absmax", "optimal", "lut"])
def test_the_output_is_better(method: Any, axis: int | None) -> None:
    x, w = layer()
    q = WeightQuantizer(method, axis=axis)
    params = q.calibrate(w, bits=3)
    nearest, feedback = q.quantize(w, params), q.quantize(w, params, activations=x)
    assert feedback.dtype == nearest.dtype
    assert sqnr_db(x, w, feedback, params) > sqnr_db(x, w, nearest, params) + 2


def test_it_holds_on_inputs_that_were_not_seen() -> None:
    x, w = layer(m=4000)
    q = WeightQuantizer(axis=1)
    params = q.calibrate(w, bits=4)
    codes = q.quantize(w, params, activations=x[:2000])
    assert sqnr_db(x[2000:], w, codes, params) > sqnr_db(x[2000:], w, q.quantize(w, params), params)


def test_scales_per_output_are_worth_three_db() -> None:
    x, w = layer()
    found = []
    for axis in (None, 1):
        q = WeightQuantizer(axis=axis)
        params = q.calibrate(w, bits=4)
        restored = np.asarray(q.dequantize(q.quantize(w, params), params))
        y = x @ w
        # Each output relative to its own size.
        ratio = np.sum((x @ restored - y) ** 2, axis=0) / np.sum(y**2, axis=0)
        found.append(-10 * np.log10(np.mean(ratio)))
    assert found[1] > found[0] + 3


def test_more_inputs_than_a_block() -> None:
    x, w = layer(k=300, n=8, m=900)
    q = WeightQuantizer(axis=1)
    params = q.calibrate(w, bits=3)
    codes = q.quantize(w, params, activations=x.reshape(30, 30, 300))
    assert sqnr_db(x, w, codes, params) > sqnr_db(x, w, q.quantize(w, params), params) + 2


@pytest.mark.parametrize("seed", range(10))
def test_never_worse_than_the_nearest_levels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 12)).astype(np.float32)
    w = rng.normal(size=(12, 1)).astype(np.float32)
    q = WeightQuantizer()
    params = q.calibrate(w, bits=2)
    codes = q.quantize(w, params, activations=x)
    assert sqnr_db(x, w, codes, params) >= sqnr_db(x, w, q.quantize(w, params), params)


def test_inputs_that_are_always_zero() -> None:
    x, w = layer(k=24, n=5)
    q = WeightQuantizer()
    params = q.calibrate(w, bits=4)
    nearest = q.quantize(w, params)
    np.testing.assert_array_equal(q.quantize(w, params, activations=0 * x), nearest)
    x[:, 3] = 0
    codes = q.quantize(w, params, activations=x, damping=0.0)
    np.testing.assert_array_equal(codes[3], nearest[3])


def test_bad_input() -> None:
    x, w = layer(k=24, n=5)
    q = WeightQuantizer(axis=1)
    params = q.calibrate(w, bits=4)
    for weights, activations, message in (
        (w, x[:, :7], r"`activations` has shape \(300, 7\), expected \[..., 24\]"),
        (w[:, 0], x, r"`weights` has shape \(24,\), expected \[K, N\]"),
        (w[:, :3], x, "expected 5 channels on axis 1"),
        (np.where(w > 1, np.float32(np.nan), w), x, "`weights` has NaN"),
        (w, np.where(x > 1, np.float32(np.inf), x), "`activations` has NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            q.quantize(weights, params, activations=activations)
    with pytest.raises(ValueError, match="`damping` must be at least 0, got -1"):
        q.quantize(w, params, activations=x, damping=-1)
