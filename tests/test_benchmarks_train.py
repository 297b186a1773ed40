"""The benchmark of training compares equal trainings, and takes a step apart."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import lumina_jax as lj

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _options, _peers, _profile, _table  # noqa: E402
from benchmarks.suites import _train_jax, _train_problem, train  # noqa: E402

SHAPE = (9, 20, 16, 16, 4)
SHAPES = {"mlp": SHAPE, "cnn": (9, 8, 2, 5, 6, 4), "gpt": (5, 7, 6, 8, 2, 16, 1)}
METHODS = [method for method, _, _ in train.CHOICE]
BITS = METHODS[1]


@pytest.fixture(autouse=True)
def _other_libraries() -> Iterator[None]:
    """The warnings and promotions of other libraries are theirs."""
    with (
        warnings.catch_warnings(action="ignore"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def program(training: _train_problem.Training, name: str) -> _peers.Program:
    try:
        return train.program(training, name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))


# --- equality


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("name", train.PEERS)
def test_a_peer_trains_as_we_do(name: str, method: _train_problem.Method) -> None:
    training = _train_problem.make(method, SHAPES[method.network])
    train.check(training, name, program(training, name), train.program(training, "ours"))


def refused(error: str, peer: _peers.Program, training: _train_problem.Training) -> None:
    with pytest.raises(ValueError, match=error):
        train.check(training, "peer", peer, train.program(training, "ours"))


def test_a_gradient_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _train_problem.make(BITS, SHAPE)
    monkeypatch.setitem(_train_problem.LEARNING_RATE, "sgd", 0.115)
    peer = train.program(training, "jax")
    peer.bind(0.0)()
    monkeypatch.undo()
    refused(r"peer: the loss of step \d is \S+, expected \S+ within", peer, training)


def test_ranges_that_follow_otherwise_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _train_problem.make(BITS, SHAPE)
    monkeypatch.setattr(_train_jax, "MOMENTUM", 0.0)
    refused(r"peer: the loss of step [3-8] is", train.program(training, "jax"), training)


@pytest.mark.parametrize(("factor", "accepted"), [(1.0, True), (0.0, False), (4.0, False)])
def test_another_noise_is_refused(factor: float, accepted: bool) -> None:
    training = _train_problem.make(BITS, SHAPE)
    ours = train.program(training, "ours")
    peer = ours._replace(bind=lambda level: ours.bind(factor * level))
    if accepted:
        train.check(training, "peer", peer, ours)
    else:
        refused(r"peer: the noise of the first loss is \S+, expected \S+ within", peer, training)


def test_a_loss_that_is_no_number_is_refused() -> None:
    training = _train_problem.make(BITS, SHAPE)
    ours = train.program(training, "ours")
    peer = ours._replace(to_numpy=lambda _: (np.array(np.nan),))
    refused("peer: the loss of step 1 is nan", peer, training)


@pytest.mark.parametrize("name", train.PEERS)
def test_the_full_scale_of_a_peer_is_learned_as_ours(name: str) -> None:
    """In losses of a few steps its part is too small to be told from that of roundings."""
    v = np.random.default_rng(0).standard_normal((6, 7), np.float32)
    g, full_scale = v[::-1].copy(), np.float32(0.8)

    def ours(full_scale: jax.Array) -> jax.Array:
        return jnp.sum(g * lj.quantize(v, bits=8, full_scale=full_scale))

    try:
        peer = _peers.load(name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    if name == "jax":

        def theirs(full_scale: jax.Array) -> jax.Array:
            return jnp.sum(g * peer.converter(8, full_scale)(jnp.asarray(v)))

        got = jax.grad(theirs)(full_scale)
    else:
        scale = peer.torch.tensor(full_scale, requires_grad=True)
        out = peer.converter(8, scale)(peer.torch.from_numpy(v))
        out.backward(peer.torch.from_numpy(g))
        got = scale.grad.numpy()
    # A sum of 42 numbers of the order of 1 in another order.
    np.testing.assert_allclose(got, jax.grad(ours)(full_scale), rtol=1e-5, atol=1e-5)


# --- profile

HLO = """
HloModule jit_step

%fused (p: f32[2]) -> f32[] {
  ROOT %reduce.1 = f32[] reduce(%p), metadata={op_name="jit(step)/jvp(Mlp)/layer0/reduce_max"}
}

ENTRY %main (w: f32[2]) -> f32[] {
  %w = f32[2]{0} parameter(0), metadata={op_name="w"}
  %ffi_call.1 = (f32[2]) custom-call(%w), custom_call_target="lumina.optical_matmul_fwd.v1", \
metadata={op_name="jit(step)/jvp(Mlp)/layer0/ffi_call"}
  %ffi_call.2 = (f32[2]) custom-call(%w), custom_call_target="lumina.optical_matmul_grad.v1"
  %ffi_call.3 = (f32[2]) custom-call(%w), custom_call_target="lumina.optical_conv_fwd.v1"
  %ffi_call.4 = (f32[2]) custom-call(%w), custom_call_target="lumina.optical_attention_grad.v1"
  %wrapped_max.3 = f32[2] fusion(%w), metadata={op_name="jit(step)/jvp(loss)/reduce_max"}
  %relu-fusion = f32[2] fusion(%w), metadata={op_name="jit(step)/jvp(Mlp)/max"}
  %gain = f32[] fusion(%w), metadata={op_name="jit(step)/transpose(jvp(layer1))/mul"}
  ROOT %multiply_add_fusion = f32[2] fusion(%w), metadata={op_name="jit(step)/update/add"}
}
"""


def test_operations_are_told_apart_by_target_and_scope() -> None:
    assert _profile.parts_of(HLO) == {
        "reduce.1": _profile.RANGES,
        "w": _profile.OTHER,
        "ffi_call.1": _profile.FORWARD,
        "ffi_call.2": _profile.BACKWARD,
        "ffi_call.3": _profile.FORWARD,
        "ffi_call.4": _profile.BACKWARD,
        "wrapped_max.3": _profile.OTHER,
        "relu-fusion": _profile.OTHER,
        "gain": _profile.RANGES,
        "multiply_add_fusion": _profile.UPDATE,
    }


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], {"dispatch": 10}),
        ([(2, 5, 1, "a"), (6, 8, 2, "b")], {"dispatch": 4, "a": 3, "b": 2, "between ops": 1}),
        # Two threads at once, each with half of that time.
        ([(0, 6, 1, "a"), (2, 10, 2, "b")], {"dispatch": 0, "a": 4, "b": 6}),
        # A branch within its conditional, also where both begin at once.
        ([(0, 10, 1, "a"), (0, 3, 1, "b")], {"dispatch": 0, "a": 7, "b": 3}),
        # What goes on after the step is not of it.
        ([(4, 12, 1, "a")], {"dispatch": 4, "a": 6}),
    ],
)
def test_the_parts_add_up_to_the_step(operations: Any, expected: dict[str, float]) -> None:
    shares = _profile.share(0, 10, [_profile.Event(*operation) for operation in operations])
    assert shares == expected
    assert shares.total() == 10


@pytest.mark.parametrize("method", [BITS, METHODS[5]], ids=lambda method: method.name)
def test_a_profile_finds_all_parts(method: _train_problem.Method) -> None:
    ours = train.program(_train_problem.make(method, SHAPE), "ours")
    assert ours.hlo is not None
    parts = _profile.profile(ours.bind(0.1), ours.hlo(0.1), 4)["parts"]
    assert tuple(parts) == _profile.PARTS
    assert all(seconds > 0 for seconds in parts.values()), parts


def test_a_trace_without_the_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="the trace has no operations of the step"):
        _profile.profile(lambda: None, HLO, 1)


def test_a_table_shows_the_parts_and_how_they_were_found() -> None:
    results = {"ours": {"median": 40e-6, "min": 40e-6, "samples": 5}}
    parts = dict.fromkeys(_profile.PARTS, 0.0) | {"ranges": 10e-6, "dispatch": 30e-6}
    row = {
        "suite": "train", "workload": "bits", "shape": "2x3x4", "threads": 1, "unit": "s",
        "operations": {}, "bytes": 0, "normals": 0, "limit": None, "results": results, "notes": {},
        "profile": {"method": "how", "steps": 4, "parts": parts},
    }  # fmt: skip
    report = {
        "machine": {"cpu": "a CPU", "family_model_stepping": "1/2/3", "cpus": 1, "versions": {}},
        "limits": [],
        "rows": [row, row],
    }
    shown = io.StringIO()
    _table.show(report, Console(file=shown, width=100))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    (shares,) = {line for line in lines if "75 %" in line}
    assert shares.split()[:2] == ["25", "%"]
    assert lines.count("parts of a step: how") == 1


# --- cases


@pytest.mark.parametrize(
    ("options", "count", "batches"),
    [
        ({}, 16, {1, 8, 32, 128, 1024}),
        ({"quick": True}, 5, {32, 128}),
        ({"shapes": ((7, 5, 4, 3, 2), (1, 2, 3))}, len(METHODS), {7, 8, 32}),
    ],
)
def test_the_choice_of_cases(options: Any, count: int, batches: set[int]) -> None:
    cases = train.cases(_options.Options(suites=("train",), **options))
    assert len({(case.workload, case.shape) for case in cases}) == len(cases) == count
    assert {case.shape[0] for case in cases} == batches
