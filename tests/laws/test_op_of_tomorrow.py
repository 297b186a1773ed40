"""An op that exists here alone: what the tools know of products, they know from the op itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.interpreters import mlir

from lumina_jax import export
from lumina_jax._attributes import Attributes
from lumina_jax.cost.workload import MatmulLayer, layers_of
from lumina_jax.ops import OPS, Factors, Matmul
from lumina_jax.ops._op import OpDef, define
from lumina_jax.ops._signature import Signature, tensor
from lumina_jax.planner import _streams

T = TypeVar("T")
RNG = np.random.default_rng(5)
Q, K, V = (RNG.standard_normal((3, n, 4)).astype(np.float32) for n in (5, 6, 6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attrs(Attributes):
    dac_bits: int
    scale: float


class Operands(NamedTuple, Generic[T]):
    q: T
    k: T
    v: T


def _signature(attrs: Attrs) -> Signature:
    q, k = tensor("f32", "b", "t", "d"), tensor("f32", "b", "s", "d")
    return Signature(Operands(q, k, k), (q,))


def _scores(attrs: Attrs, o: Operands[jax.Array]) -> jax.Array:
    return attrs.scale * o.q @ o.k.mT


def _reference(attrs: Attrs, o: Operands[jax.Array]) -> list[jax.Array]:
    return [_scores(attrs, o) @ o.v]


def _factors(attrs: Attrs, o: Operands[jax.Array]) -> tuple[Factors, ...]:
    return Factors(o.q, o.k.mT), Factors(_scores(attrs, o), o.v)


@pytest.fixture
def attend() -> Iterator[OpDef[Attrs, Any]]:
    """Two products a batch, of operands both, and a result that the first gives the second."""
    op = define(
        "optical_attend",
        attrs=Attrs,
        operands=Operands,
        signature=_signature,
        reference=_reference,
        factors=_factors,
    )

    def in_jnp(*operands: jax.Array, **attrs: Any) -> list[jax.Array]:
        return _reference(Attrs(**attrs), Operands(*operands))

    # There is no kernel.
    mlir.register_lowering(
        op.primitive, mlir.lower_fun(in_jnp, multiple_results=True), platform="cpu"
    )
    yield op
    del OPS[op.name]


def test_sizes_follow_from_the_factors(attend: OpDef[Attrs, Any]) -> None:
    attrs = {"dac_bits": 4, "scale": 0.5}
    assert attend.matmuls(attrs, [Q.shape, K.shape, V.shape]) == (
        Matmul(batch=3, rows=5, depth=4, columns=6),
        Matmul(batch=3, rows=5, depth=6, columns=4),
    )


def test_energy_report_and_planner_ask_the_op(attend: OpDef[Attrs, Any]) -> None:
    attrs = Attrs(dac_bits=4, scale=0.5)

    def attended(q: jax.Array) -> jax.Array:
        with jax.named_scope("attention"):
            return attend(attrs, Operands(q, jnp.asarray(K), jnp.asarray(V)))[0]

    def thrice(q: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 3, lambda _, x: attended(x), q)

    once = (
        MatmulLayer(rows=5, k=4, n=6, calls=3, dac_bits=4, weight_bits=4),
        MatmulLayer(rows=5, k=6, n=4, calls=3, dac_bits=4, weight_bits=4),
    )
    assert layers_of("f", attended, inputs=(Q,)) == once
    repeated = tuple(dataclasses.replace(layer, calls=9) for layer in once)
    assert layers_of("f", thrice, inputs=(Q,)) == repeated
    model = export.export(attended, Q)
    assert layers_of("f", model) == once

    scores, values = _streams.of_model(attended, [Q])
    assert (scores.name, values.name) == ("attention[0]", "attention[1]")
    gain = np.mean(K.astype(np.float64) ** 2, axis=1)
    power = np.mean(np.mean(Q.astype(np.float64) ** 2, axis=1) * gain, axis=0)
    np.testing.assert_allclose(scores.powers, power)
    with pytest.raises(ValueError, match=r"the weights of '.*\[1\]' .* from its inputs"):
        _streams.of_model(export.export(lambda v: attend(attrs, Operands(Q, K, v)), V), None)
