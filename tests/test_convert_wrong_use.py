"""What `convert` and its rules refuse, and what they say."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest
from flax import nnx

import lumina_jax
from lumina_jax import ConversionRule, NoiseModel, OpticalSpec, layers

BY_RULE = [
    (("(",), {}, "expected a regular expression: missing ), unterminated subpattern"),
    ((3,), {}, "`module_path` is of type int, expected a str"),
    ((), {"digital": "no"}, "`digital` is of type str, expected a bool"),
    (
        (),
        {"profile": "nano"},
        "unknown `profile` 'nano', expected custom, datacenter_high",
    ),
    ((), {"profile": 3}, "`profile` is of type int, expected a HardwareProfile"),
    ((), {"spec": 8}, "`spec` is of type int, expected an OpticalSpec or None"),
    ((), {"noise": 0.1}, "`noise` is of type float, expected a NoiseModel or None"),
    ((), {"ranges": "fix"}, "`ranges` is 'fix', expected 'calibrate' or 'learn'"),
    ((), {"momentum": 2.0}, "`momentum` is 2.0, expected 0 <= momentum < 1"),
    *[
        (
            (),
            {"digital": True, name: value},
            f"`{name}` is {value!r} and `digital` is True, expected one of the two: digital layers "
            f"run on no device; drop `digital` for optical layers, or `{name}` for digital ones",
        )
        for name, value in {
            "profile": "lumina_nano_v1",
            "spec": OpticalSpec(dac_bits=6),
            "noise": NoiseModel(relative=jnp.ones(2)),
            "ranges": "learn",
            "momentum": 0.5,
            "axis_name": "batch",
        }.items()
    ],
    ((), {"digital": True, "profile": None}, "`profile` is None and `digital` is True, expected"),
]
NET, LINEAR = nn.Dense(3), nnx.Linear(2, 2, rngs=nnx.Rngs(0))
BY_CONVERT = [
    (
        (jnp.sin,),
        {},
        "`module` is of type PjitFunction, expected a flax.linen.Module or a flax",
    ),
    ((nn.Dense,), {}, "`module` is the class Dense, expected a flax.linen.Module or a flax"),
    ((NET, "a"), {}, "`rules` is of type str, expected a sequence of ConversionRule"),
    ((NET, [ConversionRule(), 3]), {}, "`rules[1]` is of type int, expected a ConversionRule"),
    ((NET.bind({}),), {}, "`module` is bound to variables, expected a model as its constructor"),
    ((NET,), {"rngs": nnx.Rngs(0)}, "`rngs` is for NNX, expected None with a Linen model"),
    ((LINEAR,), {"rngs": 3}, "`rngs` is of type int, expected an nnx.Rngs"),
    ((LINEAR,), {"rngs": nnx.Rngs(params=0)}, "`rngs` has no stream `noise`, expected nnx.Rngs("),
]


def test_a_digital_rule_is_changed_as_any_other() -> None:
    rule = ConversionRule("head", digital=True)
    assert replace(rule, module_path="tail") == ConversionRule("tail", digital=True)
    assert replace(rule, digital=False) == ConversionRule("head", profile="lumina_nano_v1")
    assert pickle.loads(pickle.dumps(rule)) == rule


@pytest.mark.parametrize(("name", "calls"), [("ConversionRule", BY_RULE), ("convert", BY_CONVERT)])
def test_wrong_use_is_told(name: str, calls: Any) -> None:
    for args, kwargs, message in calls:
        error = TypeError if "of type" in message or "the class" in message else ValueError
        with pytest.raises(error, match=f"^{name}: .*{re.escape(message)}"):
            getattr(lumina_jax, name)(*args, **kwargs)
    assert getattr(layers, name) is getattr(lumina_jax, name)
