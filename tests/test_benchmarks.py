"""The benchmarks compare equal things, and report what they measured."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    _compare,
    _equality,
    _machine,
    _memory_probe,
    _options,
    _peers,
    _plot,
    _problem,
    _run,
    _summary,
    _table,
    _timing,
    _worker,
)
from benchmarks.__main__ import main  # noqa: E402
from benchmarks._bench import Bench, Row  # noqa: E402
from benchmarks._suites import SUITES  # noqa: E402

SHAPES = ((5, 7, 9), (33, 130, 65))
WORKLOADS = (_problem.ADC_ONLY, _problem.ALL_BITS)


def row(**changes: Any) -> Any:
    """A row of 10 µs for ours and 20 µs for jax, and 5 µs at the limit."""
    times = {"ours": 10e-6, "jax": 20e-6}
    results = {name: {"median": t, "min": t, "samples": 5} for name, t in times.items()}
    return {
        "suite": "forward",
        "workload": "ADC 8 bit",
        "shape": "2x3x4",
        "threads": 1,
        "unit": "s",
        "operations": {"float32": 48.0},
        "bytes": 104.0,
        "normals": 8,
        "limit": 5e-6,
        "results": results,
        "notes": {},
        "profile": None,
        **changes,
    }


def report(*rows: Any) -> dict[str, Any]:
    limits = {"threads": 1, "peak float32": 1e11, "read 65536": 1e10, "notes": {}}
    return {
        "schema": 1,
        "machine": {"cpu": "a CPU", "family_model_stepping": "1/2/3", "cpus": 1, "versions": {}},
        "threads": [1],
        "limits": [limits],
        "rows": rows,
    }


# --- peers


@pytest.mark.parametrize(
    ("suite", "shape"), [("forward", SHAPES[0]), ("step", SHAPES[1])], ids=("forward", "step")
)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("name", [name for name in _peers.PEERS if name != "torch-compile"])
def test_a_peer_computes_what_we_do(
    name: str, suite: str, workload: _problem.Workload, shape: _options.Shape
) -> None:
    problem = _problem.make(workload, shape)
    ours = getattr(_peers.load("ours"), suite)(problem)
    # The warnings and promotions of other libraries are theirs.
    with (
        warnings.catch_warnings(action="ignore"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        try:
            peer = _peers.load(name)
            program = getattr(peer, suite)(problem)
        except _peers.Unsupported as reason:
            pytest.skip(str(reason))
        _equality.check(problem, name, program, ours, getattr(peer, "OWN_GRID", False))


def test_an_absent_peer_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers._torch", raising=False)
    with pytest.raises(_peers.Unsupported, match="ModuleNotFoundError: import of torch halted"):
        _peers.load("torch")


def altered(index: int, change: Any) -> tuple[_problem.Problem, _peers.Program, _peers.Program]:
    """A problem, our step, and the same with one of its results changed."""
    problem = _problem.make(_problem.ADC_ONLY, (33, 130, 65))
    ours = _peers.load("ours").step(problem)

    def to_numpy(result: Any) -> tuple[np.ndarray, ...]:
        arrays = list(ours.to_numpy(result))
        arrays[index] = change(problem, arrays[index])
        return tuple(arrays)

    return problem, ours, ours._replace(to_numpy=to_numpy)


def adc_step(problem: _problem.Problem) -> np.float32:
    return np.float32(problem.y_full_scale / 127)


@pytest.mark.parametrize(
    ("index", "change", "error"),
    [
        (0, lambda p, y: y + adc_step(p), r"peer: 2145 of 2145 outputs differ by up to 1 steps"),
        (0, lambda p, y: y * np.float32(1.05), r"outputs differ by up to \S+ steps of the ADC"),
        (
            0,
            lambda _, y: y.astype(np.float64),
            r"y is float64\[33, 65\], expected float32\[33, 65\]",
        ),
        (1, lambda _, dx: dx * np.float32(1.001), r"dX differs by 0\.001 of its norm"),
        (2, lambda _, dw: dw.T.copy(), r"dW is float32\[65, 130\], expected float32\[130, 65\]"),
        (2, lambda _, dw: np.full_like(dw, np.nan), r"dW differs by nan of its norm"),
    ],
)
def test_a_peer_that_computes_something_else_is_refused(
    index: int, change: Any, error: str
) -> None:
    problem, ours, other = altered(index, change)
    with pytest.raises(ValueError, match=error):
        _equality.check(problem, "peer", other, ours, False)


@pytest.mark.parametrize(("factor", "accepted"), [(1.0, True), (0.0, False), (1.2, False)])
def test_noise_of_another_size_is_refused(factor: float, accepted: bool) -> None:
    problem, ours, _ = altered(0, lambda _, y: y)
    other = ours._replace(bind=lambda level: ours.bind(factor * level))
    if accepted:
        _equality.check(problem, "peer", other, ours, False)
    else:
        with pytest.raises(ValueError, match=r"peer: the noise is .* times what is expected"):
            _equality.check(problem, "peer", other, ours, False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_adc_clips_and_no_output_is_near_its_full_scale(shape: _options.Shape) -> None:
    problem = _problem.make(_problem.ADC_ONLY, shape)
    magnitudes = np.abs(problem.x @ problem.w) / problem.y_full_scale
    assert 1 <= np.count_nonzero(magnitudes > 1) <= 15
    # Half a step of the ADC on either side.
    assert not np.any(np.abs(magnitudes - 1) < 0.5 / 127)


# --- measuring


class Clock:
    """Stands in for the module `time`: whoever sleeps or computes moves it on."""

    def __init__(self, busy: float = 0.0) -> None:
        self.now = self.computed = 0.0
        self.busy = busy
        """Until then a thread of the process computes."""

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.computed

    def sleep(self, seconds: float) -> None:
        self.computed += min(seconds, max(0.0, self.busy - self.now))
        self.now += seconds


def test_calls_take_turns_and_the_order_turns_around(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(_timing, "time", clock)
    calls: list[str] = []

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        clock.now += seconds

    results = _timing.interleave(
        {"a": lambda: call("a", 3e-3), "b": lambda: call("b", 2e-5)}, seconds=0, rounds=(3, 3)
    )
    turns = [name for name, before in zip(calls[1:], calls, strict=False) if name != before]
    # Both are tried in turn to find out how often a sample repeats them; then three rounds.
    assert calls[0] == "a"
    assert turns == ["b", "a", "b", "a"]
    for name, seconds in {"a": 3e-3, "b": 2e-5}.items():
        assert results[name] == pytest.approx({"median": seconds, "min": seconds, "samples": 3})
    # A sample of the short one lasts for as long as the clock needs.
    assert calls.count("b") >= 3 * _timing.SAMPLE / 2e-5


def test_time_goes_on_until_all_have_had_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(_timing, "time", clock)

    def call() -> None:
        clock.now += 0.1

    results = _timing.interleave({"a": call, "b": call}, seconds=1.0, rounds=(2, 100))
    # Of the two seconds the first calls of both, which do not count, take a tenth.
    assert results["a"]["samples"] == results["b"]["samples"] == 9


@pytest.mark.parametrize("busy", [0.0, 0.02, 1.0])
def test_a_rest_lasts_until_threads_are_idle(busy: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(busy)
    monkeypatch.setattr(_timing, "time", clock)
    _timing.rest()
    expected = min(busy, _timing.LONGEST_REST)
    assert expected <= clock.now <= expected + 2 * _timing.REST


def test_the_limit_adds_operations_and_takes_the_longer_of_them_and_reading() -> None:
    class Known(_machine.Limits):
        def peak(self, kind: str) -> float | None:
            return {"float32": 1e9, "int8": 4e9}.get(kind)

        def bandwidth(self, size: float) -> float:
            return 1e9

        def normal(self) -> float:
            return 1e-9

    limits = Known(2, quick=True)
    assert limits.seconds({"float32": 2e9, "int8": 4e9}, 1e9, 5e8) == pytest.approx(3.5)
    assert limits.seconds({"float32": 2e9}, 5e9) == pytest.approx(5.0)
    assert limits.seconds({"bfloat16": 1.0}, 1.0) is None


def test_limits_are_measured_once() -> None:
    limits = _machine.Limits(2, quick=True)
    peak, read = limits.peak("float32"), limits.bandwidth(1 << 20)
    assert peak
    assert read > 1e6
    assert (limits.peak("float32"), limits.bandwidth(1 << 20)) == (peak, read)
    assert limits.to_json() == {
        "threads": 2,
        "peak float32": peak,
        "read 1048576": read,
        "notes": {},
    }
    assert limits.peak("float16") is None
    assert limits.notes == {"float16": "this CPU has no instructions for sums of float16 products"}


def test_memory_is_the_peak_of_a_step_over_what_was_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The system's figures are its own affair, so these are files that a step writes."""
    status, clear = tmp_path / "status", tmp_path / "clear_refs"

    def resident(now: int, peak: int) -> None:
        status.write_text(f"Name:\tx\nVmHWM:\t    {peak} kB\nVmRSS:\t {now} kB\n")

    monkeypatch.setattr(_memory_probe, "_STATUS", status)
    monkeypatch.setattr(_memory_probe, "_CLEAR", clear)
    resident(100, 900)

    def step(peak: int) -> None:
        assert clear.read_text() == "5"
        clear.unlink()
        resident(100, peak)

    assert _memory_probe._growth(lambda: step(164)) == 64 * 1024
    assert _memory_probe._growth(lambda: step(100)) == 0
    # It counts pages late, so a peak may lie below what was there.
    assert _memory_probe._growth(lambda: step(96)) == 0


def test_a_ratio_needs_two_figures_above_zero() -> None:
    def memory(ours: float, peer: float) -> Any:
        figures = {"ours": ours, "jax": peer}
        results = {name: {"median": v, "min": v, "samples": 5} for name, v in figures.items()}
        return row(suite="memory", unit="bytes", operations={}, limit=None, results=results)

    assert _summary.ratio(memory(2.0, 3.0), "jax") == 1.5
    none = [memory(0.0, 3.0), memory(3.0, 0.0), memory(0.0, 0.0)]
    assert [_summary.ratio(one, "jax") for one in none] == [None] * 3
    shown = io.StringIO()
    _table.show(report(*none), Console(file=shown, width=100))
    assert "×" not in shown.getvalue()
    shown = io.StringIO()
    _table.show(report(*none, memory(2.0, 3.0)), Console(file=shown, width=100))
    assert shown.getvalue().count("×1.50") == 3


def test_a_worker_has_one_device_and_as_many_threads_as_asked_for() -> None:
    flags = "--xla_cpu_a=1 --xla_force_host_platform_device_count=4 --xla_cpu_b=2"
    environment = _worker.environment({"XLA_FLAGS": flags, "HOME": "h"}, 3)
    assert environment["XLA_FLAGS"] == "--xla_cpu_a=1 --xla_cpu_b=2"
    assert environment["HOME"] == "h"
    assert environment.items() >= _worker.KEEP_FREED.items()
    assert {environment[name] for name in ("PJRT_NPROC", "NPROC", "OMP_NUM_THREADS")} == {"3"}
    as_found = _worker.environment({}, 3, keeps_freed=False)
    assert as_found.keys() == environment.keys() - {"HOME"} - _worker.KEEP_FREED.keys()


def test_a_worker_has_the_allocator_of_its_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def worker(options: _options.Options, threads: int, keeps_freed: bool) -> list[Any]:
        started.append((options.suites, threads, keeps_freed))
        return [{"cases": 1}]

    monkeypatch.setattr(_run, "_worker_messages", worker)
    options = _options.Options(suites=("step", "train", "noise"))
    assert list(_run._messages(options, 2)) == [{"cases": 1}] * 2
    assert started == [(("step", "noise"), 2, True), (("train",), 2, False)]


def test_limits_of_two_workers_are_one_entry() -> None:
    first = {"threads": 2, "normal": 1e-9, "notes": {"int8": "a"}}
    second = {"threads": 2, "normal": 2e-9, "read 65536": 1e10, "notes": {"bfloat16": "b"}}
    assert _run._together([first, second]) == {
        **second,
        "normal": 1e-9,
        "notes": {"int8": "a", "bfloat16": "b"},
    }


def test_what_breaks_in_a_peer_is_a_note() -> None:
    def build(name: str) -> Any:
        if name == "works":
            return list
        raise {"absent": _peers.Unsupported("no such module"), "broken": OSError(5, "disk")}[name]

    bench = Bench(_options.Options(suites=()), 1)
    calls, notes = bench.attempt(["works", "absent", "broken"], build)
    assert calls == {"works": list}
    assert notes == {"absent": "no such module", "broken": "OSError: [Errno 5] disk"}


# --- the program


def test_a_run_writes_table_json_and_plot(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--peers", "numpy"),
            *("--shapes", "5x7x9,8x16,4x6x6x6x3,2x7x3x4", "--json", tmp_path / "run.json"),
            *("--plot", tmp_path / "run.png", "--profile"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "forward: ADC 8 bit, 1 thread" in done.stdout
    assert "geometric mean over the shapes" in done.stdout
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")

    run = json.loads((tmp_path / "run.json").read_text())
    assert run["threads"] == [1]
    assert run["machine"].keys() >= {"cpu", "flags", "cpus", "python", "versions"}
    assert run["machine"]["versions"].keys() >= {"lumina-jax", "jax", "jaxlib", "numpy"}
    (limits,) = run["limits"]
    assert limits["peak float32"] > 0
    assert limits["normal"] > 0
    assert {measured["suite"] for measured in run["rows"]} == set(SUITES)
    for measured in run["rows"]:
        assert measured.keys() == Row.__annotations__.keys()
        assert measured["shape"] in ("5x7x9", "8x16", "4x6x6x6x3", "2x7x3x4")
        trains = measured["suite"] == "train"
        alone = measured["suite"] not in ("forward", "step", "noise", "memory", "tiles")
        everyone = {"ours"} if alone else {"ours", "numpy"}
        if measured["suite"] == "tiles":
            everyone = {"ours", "one array"}
        assert measured["results"].keys() == everyone, measured
        assert (measured["profile"] is not None) == trains, measured
        if measured["suite"] in ("forward", "step", "train"):
            # Not every CPU has instructions for every type of number.
            known = all(limits[f"peak {kind}"] for kind in measured["operations"])
            assert (_summary.fraction_of_limit(measured, "ours") is not None) == known


def test_a_table_is_as_wide_as_the_terminal() -> None:
    result = {"median": 30e-6, "min": 30e-6, "samples": 5}
    results = {**row()["results"], "torch": result, "numpy": result}
    notes = {"qwix": "nothing to quantize"}
    shown = io.StringIO()
    run = report(row(results=results, notes=notes))
    _table.show(run, Console(file=shown, width=100))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("forward: ADC 8 bit, 1 thread, continued" in line for line in lines) == 1
    assert any("2x3x4" in line and "20.0   ×2.00" in line for line in lines)
    assert any("2x3x4" in line and "30.0   ×3.00" in line for line in lines)
    assert lines.count("qwix: nothing to quantize") == 1
    assert any("≥ 50 %" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["backward"], f"suite must be one of {', '.join(SUITES)}, got 'backward'"),
        (["--peers", "jax,matlab"], "peer must be one of jax, torch, .*, got 'matlab'"),
        (["--shapes", "32x0x5"], r"shape must be extents such as 32x784x512 .*, got '32x0x5'"),
        (["forward", "--profile"], "--profile needs a suite of train, got forward"),
        (["--threads", "0"], r"threads must be from 1 to \d+, or all, got '0'"),
    ],
)
def test_what_is_unknown_is_named(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert re.fullmatch(f"benchmarks: {error}\n", capsys.readouterr().err)


def test_options_survive_the_way_to_a_worker() -> None:
    options = _options.Options(
        suites=("step",), quick=True, peers=("jax",), shapes=((1, 2, 3), (4, 5)), profile=True
    )
    assert _options.Options.from_json(options.to_json()) == options
    assert options.shapes_of(2, [(9, 9)], [(8, 8)]) == [(4, 5)]
    assert options.shapes_of(4, [(9,) * 4], [(8,) * 4]) == [(9,) * 4]


def test_there_is_no_plot_without_operations(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row has operations"):
        _plot.save(report(row(operations={})), tmp_path / "empty.png")


# --- comparing


def compare(tmp_path: Path, old: Any, new: Any, *arguments: str) -> int:
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    for path, content in zip(paths, (old, new), strict=True):
        path.write_text(json.dumps(content))
    return _compare.main([*map(str, paths), *arguments])


def slower(factor: float) -> Any:
    """The row on a machine of half the speed, where ours is slower by that factor besides."""
    results = {
        name: {"median": 2 * t, "min": 2 * t, "samples": 5}
        for name, t in {"ours": factor * 10e-6, "jax": 20e-6}.items()
    }
    return row(results=results)


def test_equal_files_compare_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path, report(row()), report(row())) == 0
    assert "1 compared, 0 slower by more than 1.15" in capsys.readouterr().out


def test_a_slower_machine_is_no_regression(tmp_path: Path) -> None:
    assert compare(tmp_path, report(row()), report(slower(1.0))) == 0


def test_a_regression_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path, report(row()), report(slower(1.2))) == 1
    expected = "slower by 1.20: forward, ADC 8 bit, 2x3x4, threads 1, jax: ours/peer 0.500 → 0.600"
    assert expected in capsys.readouterr().out
    assert compare(tmp_path, report(row()), report(slower(1.2)), "--tolerance", "1.25") == 0


def test_rows_that_went_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = report(row(), row(shape="5x6x7"))
    assert compare(tmp_path, both, report(row())) == 0
    assert "no longer measured: forward, ADC 8 bit, 5x6x7" in capsys.readouterr().out


def test_files_that_cannot_be_compared_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, report(row()), {"rows": []}) == 2
    assert "new.json is not a report of schema 1" in capsys.readouterr().err
    assert compare(tmp_path, report(row()), report()) == 2
    assert "no row and peer in common" in capsys.readouterr().err
