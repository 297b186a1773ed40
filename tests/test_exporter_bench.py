"""`Model.bench`: figures of this process, as an object. How long things take is not asked."""

from __future__ import annotations

import json
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exporter._bench import Benchmark
from exporter._model import Model

W = np.ones((4, 3), np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return exporter.export(lambda x: jnp.tanh(x @ W), np.ones((2, 4), np.float32), batch="batch")


@pytest.fixture(scope="module")
def found(model: Model) -> Benchmark:
    return model.bench(batch=5, nodes=True, seconds=0, threads=1)


def test_work_is_counted(found: Benchmark) -> None:
    assert found.symbols == {"batch": 5}
    assert found.threads == 1
    assert [used.type for used in found.inputs] == ["f32[5,4]"]
    assert found.inputs[0].source == "elements of test vector 0, repeated"
    product = found.nodes[0]
    assert (product.op, product.outputs) == ("dot_general", "f32[5,3]")
    assert product.flops_per_call == 2 * 5 * 4 * 3
    assert product.bytes_per_call == 4 * (5 * 4 + 4 * 3 + 5 * 3)
    assert product.calls_per_run == 1
    assert found.work.flops == sum(node.flops_per_call for node in found.nodes)
    assert found.steady.runs >= 10
    assert found.steady.min_ms <= found.steady.p50_ms <= found.steady.p99_ms


def test_it_is_told_in_three_ways(found: Benchmark) -> None:
    content = json.loads(found.to_json())
    assert content["nodes"][0]["flops_per_call"] == 120
    assert "text" not in content
    assert content["memory"]["file_bytes"] > 0
    for part in ("batch = 5", "start", "steady", "memory", "limit", "dot_general"):
        assert part in str(found)
    assert repr(found).startswith(f"Benchmark of {found.steady.runs} runs: median ")
    assert "<td>dot_general</td>" in found._repr_html_()


def test_nodes_are_left_out_unless_asked_for(model: Model) -> None:
    found = model.bench(seconds=0)
    assert found.nodes == ()
    assert found.inputs[0].source == "test vector 0"
    assert "<td>" not in found._repr_html_()


def test_wrong_arguments(model: Model) -> None:
    with pytest.raises(ValueError, match="there is no symbol `time`; the model has `batch`"):
        model.bench(symbols={"time": 3})
    with pytest.raises(ValueError, match="there is no entry point `decode`; the file has none"):
        model.bench(entry="decode")
    with pytest.raises(ValueError, match="must be 0 to 86400 seconds, got -1"):
        model.bench(seconds=-1)
    with pytest.raises(ValueError, match="`batch` must be from 0 to"):
        model.bench(batch=-1)
    with pytest.raises(TypeError, match=r"`batch` must be an int, got 1\.5"):
        model.bench(batch=1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`threads` must be from 0 to 1024, got 2000"):
        model.bench(threads=2000)


def test_a_signal_ends_it(model: Model) -> None:
    # A shell that starts the tests in the background has them ignore it.
    begun = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.bench(seconds=600)
    finally:
        signal.signal(signal.SIGINT, begun)
    timer.join()


def test_the_gil_is_released(model: Model) -> None:
    done = threading.Event()

    def run() -> None:
        model.bench(seconds=0.5)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    steps = 0
    while not done.is_set():
        steps += 1
        done.wait(0.01)
    thread.join()
    assert steps > 1


def test_states_go_from_run_to_run() -> None:
    def step(state: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return state["sum"], {"sum": state["sum"] + x}

    state = {"sum": np.zeros(3, np.float32)}
    found = exporter.export(step, np.ones(3, np.float32), state=state).bench(seconds=0)
    assert found.states == 1
    assert "begin anew after 64 runs" in str(found)
