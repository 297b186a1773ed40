"""What `optical_attention` refuses, and what it says to pass instead."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
import pytest

from lumina_jax import NoiseModel, OpticalSpec, optical_attention

X = np.zeros((2, 3, 4, 5), np.float32)
NAME = "optical_attention"
REFUSED: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "`q` must be float32, got float64; cast it", {"q": X.astype(np.float64)}),
    (TypeError, "`k` must be float32, got float16; cast it", {"k": X.astype(np.float16)}),
    (
        TypeError,
        "`v` must be float32, got complex64; pass v.real or layers.detect(v)",
        {"v": X.astype(np.complex64)},
    ),
    (TypeError, "`spec` must be an OpticalSpec, got NoneType; pass one", {"spec": None}),
    (ValueError, "`q` has shape (4, 5), expected (..., t, h, d)", {"q": X[0, 0]}),
    (
        ValueError,
        "`k` has shape (3, 4, 5), expected (..., s, h, d) with the leading dimensions (2,) of `q`",
        {"k": X[0]},
    ),
    (
        ValueError,
        "`v` has shape (1, 3, 4, 5), expected (..., s, h, e) with the leading dimensions (2,)",
        {"v": X[:1]},
    ),
    (
        ValueError,
        "`k` has shape (2, 3, 4, 4), expected (..., s, h, d) with d = 5, the last extent of `q`",
        {"k": X[..., :4]},
    ),
    (
        ValueError,
        "`v` has shape (2, 2, 4, 5), expected (..., s, h, e) with s = 3 and h = 4 of `k`",
        {"v": X[:, :2]},
    ),
    (
        ValueError,
        "`k` has 3 heads, expected a number that divides the 4 of `q`",
        {"k": X[:, :, :3], "v": X[:, :, :3]},
    ),
    (TypeError, "`lengths` must be integers, got float32", {"lengths": np.float32([1, 2])}),
    (ValueError, "`lengths` must be at most 3, got 4", {"lengths": [1, 4]}),
    (ValueError, "`lengths` must be at least 0, got -1", {"lengths": -1}),
    (
        ValueError,
        "`lengths` has shape (3,), expected one that broadcasts to (2,), or (2, 4) with the heads",
        {"lengths": [1, 2, 3]},
    ),
    (TypeError, "`offset` must be an integer, got float32", {"causal": True, "offset": 1.0}),
    (ValueError, "`offset` has shape (1,), expected a scalar", {"causal": True, "offset": [1]}),
    (ValueError, "`offset` is of use with `causal` alone, got 3", {"offset": 3}),
    (ValueError, "`scale` has shape (2,), expected a scalar", {"scale": np.ones(2)}),
    (
        ValueError,
        "`adc_bits`=8 needs `scores_full_scale`, got None; pass the range of the ADC",
        {"spec": OpticalSpec(adc_bits=8), "out_full_scale": 1.0},
    ),
    (
        ValueError,
        "`adc_bits`=8 needs `out_full_scale`, got None; pass the range of the ADC",
        {"spec": OpticalSpec(adc_bits=8), "scores_full_scale": 1.0},
    ),
    (
        ValueError,
        "`dac_bits` must not be 1, which has no level for a probability of 0",
        {"spec": OpticalSpec(dac_bits=1)},
    ),
    (
        ValueError,
        "`spec.array_rows` must be None, got 8: the second product has as many inputs as there are "
        "keys; pass dataclasses.replace(spec, array_rows=None)",
        {"spec": OpticalSpec(array_rows=8)},
    ),
    (
        ValueError,
        "`q_full_scale` has shape (2,), expected a scalar or (4,), the heads of `q`",
        {"q_full_scale": np.float32([1, 2])},
    ),
    (ValueError, "`p_full_scale` must not be negative or NaN, got -1", {"p_full_scale": -1.0}),
    (TypeError, "`noise` must be a NoiseModel, got float", {"noise": 0.1}),
    (ValueError, "`noise` needs a `key`, got None; pass key=", {"noise": NoiseModel(relative=0.1)}),
    (
        ValueError,
        "`noise` is in parts of the full scale of the ADC and needs `scores_full_scale`, got None",
        {"noise": NoiseModel(relative=0.1, unit="full_scale"), "key": np.uint32([0, 1])},
    ),
]


@pytest.mark.parametrize(("kind", "text", "arguments"), REFUSED)
def test_refused(kind: type[Exception], text: str, arguments: dict[str, Any]) -> None:
    given = {"q": X, "k": X, "v": X, "spec": OpticalSpec(), **arguments}
    # Without 64 bits JAX itself makes the float64 of a test a float32.
    wide = given["q"].dtype == np.float64
    with jax.enable_x64(wide), pytest.raises(kind, match=f"^{NAME}: {re.escape(text)}"):
        optical_attention(**given)
