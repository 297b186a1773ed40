"""Models in which a code depends on the last bit of what stands before a converter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
import exporter._vectors
from exported import Program
from exporter import VerifyError
from exporter._graph import Graph
from exporter._settle import cut
from flax_layers import OpticalConv, OpticalDense
from lumina_jax import OpticalSpec, optical_matmul, quantize

SPEC = OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=4)
W = np.asarray(jax.random.normal(jax.random.key(0), (7, 5)))
# Half of an odd number is a tie of a converter whose step is 1.
X = np.arange(-7, 35, dtype=np.float32).reshape(6, 7) % 15 - 7

Change = Callable[[Any], Any]


def up(array: Any) -> Any:
    """What is one rounding away, as another order of a sum is."""
    return jnp.nextafter(array, jnp.float32(jnp.inf))


@pytest.fixture
def in_jax(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has JAX compute some primitives otherwise: `in_jax(div=up)`."""
    evaluate = exporter._vectors.evaluate

    def change(**changes: Change) -> None:
        def changed(eqn: Any, operands: Sequence[Any]) -> list[Any]:
            results = evaluate(eqn, operands)
            made = changes.get(eqn.primitive.name)
            return results if made is None else [made(result) for result in results]

        monkeypatch.setattr(exporter._vectors, "evaluate", changed)

    return change


def chain(x: Any, w: Any = W) -> jax.Array:
    return optical_matmul(x, w, spec=SPEC, x_full_scale=7.0, y_full_scale=8.0)


def ties(x: Any) -> jax.Array:
    """Two products, before each of which something rounds."""
    hidden = nn.relu(chain(x / 2))
    return jnp.tanh(chain(hidden / 3, W.T[:, :3]))


def of_state(state: Any, x: Any) -> Any:
    return chain(state / 2), state + x / 2


def of_branch(x: Any) -> jax.Array:
    """A branch that is known when exporting, as of layers with calibrated ranges."""
    return lax.cond(jnp.all(W > -9), chain, lambda x: x @ W, x / 2)


def choice(x: Any) -> jax.Array:
    return jnp.argmax(jnp.stack([x * 0.5, x / 2], 0), 0)


FUNCTIONS = {
    "products": lambda: exporter.export(ties, X),
    "batch": lambda: exporter.export(ties, X, batch="batch"),
    "converter": lambda: exporter.export(lambda x: quantize(x / 2, full_scale=7.0, bits=4), X),
    "round": lambda: exporter.export(lambda x: jnp.round(x / 2) * 3, X),
    "branch": lambda: exporter.export(of_branch, X),
    "choice": lambda: exporter.export(choice, X),
    "state": lambda: exporter.export(of_state, X, state=jnp.asarray(X)),
    "entries": lambda: exporter.export(
        {"a": (of_state, X), "b": (lambda s, x: (x / 2, s), X)}, state=jnp.asarray(X)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_code_that_is_in_doubt_keeps_no_model_from_a_file(
    name: str, in_jax: Any, program: Program
) -> None:
    expected = FUNCTIONS[name]()
    in_jax(div=up)
    model = FUNCTIONS[name]()
    differ = [
        not np.allclose(one, other, rtol=1e-3)
        for test, own in zip(model.tests, expected.tests, strict=True)
        for one, other in zip(test.outputs, own.outputs, strict=True)
    ]
    # What the runtime computes is what JAX does without that rounding, to the code.
    assert not any(differ)
    assert exporter.load(program.verified(model)).to_bytes() == model.to_bytes()


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "entries"])
def test_the_last_bit_is_a_step_there(
    name: str, in_jax: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without pieces, models of these functions are refused."""
    in_jax(div=up)
    monkeypatch.setattr("exporter._export.settled", lambda model, *rest: model)
    with pytest.raises(VerifyError, match="differs by up to"):
        FUNCTIONS[name]().save(tmp_path / "m.lmn")
    assert not list(tmp_path.iterdir())


WRONG: dict[str, dict[str, Change]] = {
    "more than rounding": {"div": lambda v: v * 1.001},
    "another rounding mode": {"div": up, "round": lambda v: jnp.where(v % 2 == 0, v + 1, v)},
    "rows in another order": {"div": up, "optical_matmul": lambda v: v[::-1]},
    "one element": {"div": up, "optical_matmul": lambda v: v.at[1, 1].add(1.0)},
    "after the last converter": {"div": up, "tanh": lambda v: v + 1e-3},
    "not a number": {"div": up, "tanh": lambda v: v.at[0, 0].set(jnp.nan)},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_all_the_same(name: str, in_jax: Any, tmp_path: Path) -> None:
    in_jax(**WRONG[name])
    model = exporter.export(lambda x: (ties(x), jnp.round(x / 2)), X)
    with pytest.raises(VerifyError, match="does not compute what JAX did"):
        model.save(tmp_path / "m.lmn")


def of_node(op: str, **attrs: Any) -> Callable[[Graph], Graph]:
    """A fault of the graph: other attributes of all nodes of an op."""

    def changed(graph: Graph) -> Graph:
        nodes = (
            replace(node, attrs={**node.attrs, **attrs}) if node.op == op else node
            for node in graph.nodes
        )
        return replace(graph, nodes=tuple(nodes))

    return changed


def of_weight(graph: Graph) -> Graph:
    """A fault of one element of a weight, by a step of its codes."""
    step = np.abs(W).max(axis=0)[0] / 7
    at_first = np.zeros_like(W)
    at_first[0, 0] = -np.sign(W[0, 0]) * step
    tensors = (
        replace(tensor, data=tensor.data + at_first) if tensor.data.shape == W.shape else tensor
        for tensor in graph.tensors
    )
    return replace(graph, tensors=tuple(tensors))


FAULTS = {
    "a weight": of_weight,
    "an axis": of_node("transpose", permutation=(0, 1)),
    "bits of a converter": of_node("optical_matmul", adc_bits=5),
    "the array of a product": of_node("optical_matmul", array_rows=2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_graph_is_refused_all_the_same(
    name: str, in_jax: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fn(x: Any) -> jax.Array:
        return chain(x.T / 2)

    in_jax(div=up)
    square = np.resize(X, (7, 7))
    exporter.export(fn, square).save(tmp_path / "m.lmn")
    fault = FAULTS[name]
    monkeypatch.setattr("exporter._export.fused", lambda graph, shared: fault(graph))
    with pytest.raises(VerifyError, match="does not compute what JAX did"):
        exporter.export(fn, square).save(tmp_path / "m.lmn")


def test_tolerances_that_are_given_count(in_jax: Any, tmp_path: Path) -> None:
    in_jax(div=lambda v: v * 1.001)
    with pytest.raises(VerifyError):
        exporter.export(ties, X, rtol=1e-4).save(tmp_path / "m.lmn")
    exporter.export(ties, X, rtol=1e-2, atol=1e-2).save(tmp_path / "m.lmn")
    # Of no tolerance at all, the last bit is a difference in a piece, too.
    in_jax(div=up)
    with pytest.raises(VerifyError):
        exporter.export(ties, X, rtol=0.0, atol=0.0).save(tmp_path / "m.lmn")


def cuts(fn: Any, *args: Any) -> int:
    return len(cut(exporter.export(fn, *args).graph).taps)


def test_a_graph_is_cut_where_something_inexact_meets_a_converter() -> None:
    assert cuts(ties, X) == 2
    # Products, maxima and moves make the same bits everywhere.
    assert cuts(lambda x: chain(nn.relu(chain(x)).T[:5, :5].T, W[:5]), X[:, :7]) == 0
    # Two converters that read one value; what stands behind the last of them.
    assert cuts(lambda x: chain(x / 2) + chain(x / 2, W * 2), X) == 1
    assert cuts(lambda x: jnp.tanh(chain(x)) / 2, X) == 0
    # Numbers that no argument changes; codes of no bits.
    assert cuts(lambda x: chain(x, jnp.tanh(W)), X) == 0
    assert cuts(lambda x: optical_matmul(x / 2, W, spec=OpticalSpec()), X) == 0
    # A loop is whole.
    assert cuts(lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.round(c / 2), x), X) == 0
    # In pieces it is a graph as any other.
    graph = cut(exporter.export(ties, X, batch="batch").graph).graph
    graph.validate()
    assert [str(port.value) for port in graph.inputs] == [
        "f32[batch, 7]",
        "f32[batch, 7]",
        "f32[batch, 5]",
    ]
    assert [port.name for port in graph.outputs] == ["output", "piece 0", "piece 1"]


class Net(nn.Module):
    """Means of the levels of an ADC, which lie on ties of the next DAC."""

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        for features in (4, 8):
            layer = OpticalConv(features, (3, 3), profile="lumina_nano_v1")
            x = nn.relu(layer(x, deterministic=True))
            x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        x = nn.LayerNorm()(x.reshape(x.shape[0], -1))
        return OpticalDense(10, profile="lumina_nano_v1")(x, deterministic=True)


@pytest.mark.parametrize("batch", [None, "batch"])
def test_a_network_saves_without_a_tolerance(batch: str | None, program: Program) -> None:
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = Net().init(jax.random.key(0), x)
    model = exporter.export(Net().apply, x, params=variables, batch=batch, allow_uncalibrated=True)
    assert cut(model.graph).taps
    program.verified(model)
