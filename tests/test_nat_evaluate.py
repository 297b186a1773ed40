"""`nat.evaluate`: it is a plain loop, it resumes, and its results survive a file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

import lumina_jax as lj
from lumina_jax import NoiseModel, OpticalSpec, nat

X = jnp.asarray(np.random.default_rng(0).normal(size=(20, 8)), jnp.float32)
PARAMS = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)}
GRID: dict[str, Any] = {"noise": [0.0, 0.1, 0.3], "bits": [3, None], "temperature": (280.0, 320.0)}
SEEDS = (3, 1, 4, 15)


def forward(params: Any, key: Any, noise: Any, bits: Any, temperature: Any) -> jax.Array:
    gain = jnp.exp2((300 - temperature) / 20)
    return lj.optical_matmul(
        X,
        params["w"] * gain,
        spec=OpticalSpec(dac_bits=bits),
        noise=NoiseModel(relative=noise),
        key=key,
    )


def largest(params: Any, key: Any, *, noise: Any, bits: Any, temperature: Any) -> jax.Array:
    return jnp.abs(forward(params, key, noise, bits, temperature)).max()


def level(params: Any, key: jax.Array, *, noise: jax.Array) -> jax.Array:
    """The exact metric that the simple tests look at."""
    return params["w"][0, 0] + noise * jax.random.key_data(key)[1].astype(jnp.float32)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_it_is_a_plain_loop(batch: int) -> None:
    got = nat.evaluate(largest, PARAMS, GRID, SEEDS, batch=batch, progress=False)
    assert got.values.shape == (3, 2, 2, 4)
    for index in np.ndindex(got.values.shape):
        i, j, k, s = index
        expected = largest(
            PARAMS,
            jax.random.key(SEEDS[s]),
            noise=jnp.float32(GRID["noise"][i]),
            bits=GRID["bits"][j],
            temperature=jnp.float32(GRID["temperature"][k]),
        )
        # The op keeps its bits; XLA may compute 2^x in another order where it is vectorized.
        np.testing.assert_allclose(got.values[index], expected, rtol=1e-6)
    for name in ("mean", "std", "min", "max"):
        expected = getattr(np, name)(got.values, axis=-1)
        np.testing.assert_array_equal(getattr(got, name), expected)
        assert getattr(got, name).shape == got.shape == (3, 2, 2)


def test_the_op_keeps_its_bits() -> None:
    def metric(params: Any, key: Any, *, noise: Any) -> dict[str, jax.Array]:
        y = lj.optical_matmul(X, params["w"], spec=OpticalSpec(), noise=noise_of(noise), key=key)
        return {"first": y[0, 0], "last": y[-1, -1]}

    def noise_of(level: Any) -> NoiseModel:
        return NoiseModel(relative=level, thermal=0.1)

    got = nat.evaluate(metric, PARAMS, {"noise": [0.1, 0.2]}, 3, progress=False)
    assert list(got.metrics) == ["first", "last"]
    for i, noise in enumerate([0.1, 0.2]):
        for seed in range(3):
            expected = jax.jit(metric)(PARAMS, jax.random.key(seed), noise=jnp.float32(noise))
            assert got["first"].values[i, seed] == expected["first"]
            assert got["last"].values[i, seed] == expected["last"]


def test_static_axes_compile_once_each_and_traced_axes_never_again() -> None:
    traces = []

    def metric(params: Any, key: Any, *, bits: int, noise: Any, mode: str) -> jax.Array:
        assert isinstance(bits, int)
        assert isinstance(mode, str)
        assert isinstance(noise, Tracer)
        traces.append((bits, mode))
        return noise * bits

    grid = {"bits": [2, 4, 8], "noise": np.linspace(0, 1, 11), "mode": ["a", "b"]}
    got = nat.evaluate(metric, PARAMS, grid, 2, batch=3, progress=False)
    assert sorted(traces) == [(b, m) for b in (2, 4, 8) for m in "ab"]
    expected = np.multiply.outer([2, 4, 8], np.linspace(0, 1, 11))
    np.testing.assert_allclose(got.select(mode="b").mean, expected, rtol=1e-6)


def test_grids_without_traced_axes_and_without_axes() -> None:
    def metric(params: Any, key: Any, *, bits: int = 7) -> jax.Array:
        return bits * jax.random.key_data(key)[1].astype(jnp.float32)

    got = nat.evaluate(metric, PARAMS, {"bits": [1, 2]}, [5, 6], progress=False)
    np.testing.assert_array_equal(got.values, [[5, 6], [10, 12]])
    alone = nat.evaluate(metric, PARAMS, {}, [5, 6], progress=False)
    np.testing.assert_array_equal(alone.values, [35, 42])
    assert alone.mean.shape == ()


def test_true_and_one_are_two_values() -> None:
    def metric(params: Any, key: Any, *, flag: Any) -> float:
        return 10.0 if flag is True else float(flag)

    got = nat.evaluate(metric, PARAMS, {"flag": [1, True]}, 1, progress=False)
    np.testing.assert_array_equal(got.mean, [1, 10])


class StopError(Exception):
    """What stops an evaluation halfway."""


def counting(calls: list[int], *, stop_after: int | None = None) -> Callable[..., jax.Array]:
    """A metric that notes each static value that it is computed for, and may stop."""

    def count(bits: Any) -> None:
        if stop_after is not None and len(calls) >= stop_after:
            raise StopError
        calls.append(int(bits))

    def metric(params: Any, key: jax.Array, *, bits: int, noise: jax.Array) -> jax.Array:
        count(bits)
        return bits + noise + jax.random.uniform(key)

    return metric


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "noise.json"
    grid = {"bits": [1, 2, 3, 4], "noise": [0.0, 0.5, 1.0]}
    whole = nat.evaluate(counting([]), PARAMS, grid, 3, progress=False)
    first: list[int] = []
    with pytest.raises(StopError):
        nat.evaluate(
            counting(first, stop_after=2), PARAMS, grid, 3, checkpoint=path, progress=False
        )
    assert first == [1, 2]
    with pytest.raises(ValueError, match=r"noise\.json holds 6 of 12 points; finish it by"):
        nat.Evaluation.from_json(path)
    second: list[int] = []
    resumed = nat.evaluate(counting(second), PARAMS, grid, 3, checkpoint=path, progress=False)
    assert second == [3, 4]
    np.testing.assert_array_equal(resumed.values, whole.values)
    third: list[int] = []
    again = nat.evaluate(counting(third), PARAMS, grid, 3, checkpoint=path, progress=False)
    assert third == []
    np.testing.assert_array_equal(again.values, whole.values)
    assert [p.name for p in path.parent.iterdir()] == ["noise.json"]


def test_resuming_inside_a_static_value_computes_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    grid = {"noise": [0.0, 0.1, 0.2, 0.3, 0.4]}
    whole = nat.evaluate(level, PARAMS, grid, 2, checkpoint=path, progress=False)
    document = json.loads(path.read_text())
    for lost in (1, 4):
        document["metrics"]["metric"][lost] = None
    path.write_text(json.dumps(document))
    asked: list[np.ndarray] = []

    def spy(params: Any, key: Any, *, noise: Any) -> Any:
        jax.debug.callback(lambda v: asked.append(np.asarray(v)), noise)
        return level(params, key, noise=noise)

    got = nat.evaluate(spy, PARAMS, grid, 2, checkpoint=path, progress=False)
    jax.effects_barrier()
    np.testing.assert_array_equal(got.values, whole.values)
    assert sorted({float(v) for v in asked}) == pytest.approx([0.1, 0.4])


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"grid": {"noise": [0.0, 0.2]}}, r"is of other grid, \{'noise': \(0.0, 0.1\)\}, expected"),
    ({"grid": {"loss": [0.0, 0.1]}}, "is of other grid"),
    ({"seeds": [0, 2]}, r"is of other seeds, \(0, 1\), expected \(0, 2\)"),
    ({"params": {"w": PARAMS["w"] + 1}}, "is of other params, .*; remove the file or name another"),
    ({"params": {"v": PARAMS["w"]}}, "is of other params"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_foreign_checkpoints_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "sweep.json"
    arguments: dict[str, Any] = {"params": PARAMS, "grid": {"noise": [0.0, 0.1]}, "seeds": 2}
    nat.evaluate(level, **arguments, checkpoint=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        nat.evaluate(level, **arguments | change, checkpoint=path, progress=False)
    assert path.read_bytes() == before


def test_other_metrics_do_not_join_those_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    grid = {"noise": [0.0, 0.1]}
    nat.evaluate(level, PARAMS, grid, 1, checkpoint=path, progress=False)
    document = json.loads(path.read_text())
    document["metrics"]["metric"][1] = None
    path.write_text(json.dumps(document))
    with pytest.raises(
        ValueError, match=r"`fn` returned the metrics \['loss'\], expected \['metric'"
    ):
        nat.evaluate(
            lambda p, k, noise: {"loss": noise}, PARAMS, grid, 1, checkpoint=path, progress=False
        )


def test_axes_in_another_order_are_another_grid(tmp_path: Path) -> None:
    def metric(params: Any, key: Any, *, a: Any, b: Any) -> Any:
        return a - b

    path = tmp_path / "sweep.json"
    nat.evaluate(metric, PARAMS, {"a": [1.0], "b": [2.0]}, 1, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="is of other grid"):
        nat.evaluate(metric, PARAMS, {"b": [2.0], "a": [1.0]}, 1, checkpoint=path, progress=False)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "lumina-evaluation", "version": 2}', '{"format": 3, "version": 1}',
     '{"format": "lumina-evaluation", "version": 1, "grid": {"noise": [0.0]}, "seeds": [0], '
     '"params": "", "metrics": {"metric": []}}',
     '{"format": "lumina-evaluation", "version": 1, "grid": {"noise": [0.0]}, "seeds": [0], '
     '"params": "", "metrics": {"metric": [[1.0, 2.0]]}}'],
)  # fmt: skip
def test_other_files_are_no_checkpoints(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"evaluate: .*other\.json is no evaluation of version 1"):
        nat.evaluate(level, PARAMS, {"noise": [0.0]}, 1, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match=r"from_json: .*other\.json is no evaluation"):
        nat.Evaluation.from_json(path)


def test_json_round_trip_with_values_that_are_not_finite(tmp_path: Path) -> None:
    def metric(params: Any, key: Any, *, noise: Any, bits: Any) -> dict[str, Any]:
        return {"log": jnp.log(noise), "ratio": (noise - noise) / noise, "bits": bits or 0}

    grid = {"noise": [0.0, 1.0], "bits": [None, 4]}
    with pytest.warns(RuntimeWarning) as warned:
        got = nat.evaluate(metric, PARAMS, grid, 2, progress=False)
    texts = [str(w.message) for w in warned]
    assert len(texts) == 2
    assert texts[0] == (
        "evaluate: 4 of 8 values of 'log' are not finite, the first at noise=0.0, bits=None, seed 0"
    )
    assert np.isneginf(got["log"].values[0]).all()
    assert np.isnan(got["ratio"].mean[0]).all()
    path = got.to_json(tmp_path / "deep" / "result.json")
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = nat.Evaluation.from_json(path)
    assert (back.axes, back.seeds, back.params) == (got.axes, got.seeds, got.params)
    assert list(back.metrics) == ["bits", "log", "ratio"]
    for name in got.metrics:
        np.testing.assert_array_equal(back[name].values, got[name].values)


def test_select_and_metrics_by_name() -> None:
    def metric(params: Any, key: Any, *, a: Any, b: Any) -> dict[str, Any]:
        return {"sum": a + b, "product": a * b}

    got = nat.evaluate(metric, PARAMS, {"a": [1.0, 2.0], "b": [3, 4]}, 2, progress=False)
    np.testing.assert_array_equal(got["sum"].mean, [[4, 5], [5, 6]])
    np.testing.assert_array_equal(got["product"].select(b=4).mean, [4, 8])
    assert got.select(a=2.0, b=3)["sum"].mean == 5
    with pytest.raises(ValueError, match="there are the metrics 'product', 'sum'; take one by"):
        _ = got.mean
    with pytest.raises(KeyError, match="there is no metric 'loss', expected one of 'product'"):
        _ = got["loss"]
    with pytest.raises(ValueError, match="there is no axis 'c', expected one of 'a', 'b'"):
        got.select(c=1)
    with pytest.raises(ValueError, match=r"`b` has no value 5, expected one of \(3, 4\)"):
        got.select(b=5)


GRID_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"fn": 3}, TypeError, "`fn` must be a function, got int"),
    ({"grid": [0.1]}, TypeError, "`grid` must be a mapping, got list"),
    ({"grid": {3: [0.1]}}, TypeError, "names of `grid` must be str, got 3"),
    ({"grid": {"noise": 0.1}}, TypeError, r"`grid\['noise'\]` must be a sequence of values, got 0"),
    ({"grid": {"noise": "ab"}}, TypeError, r"`grid\['noise'\]` must be a sequence of values"),
    ({"grid": {"noise": []}}, ValueError, r"`grid\['noise'\]` is empty"),
    ({"grid": {"noise": [0.1, None]}}, TypeError, r"`grid\['noise'\]` mixes floats with other"),
    ({"grid": {"noise": [0.1, 0.1]}}, ValueError, r"`grid\['noise'\]` has a value twice"),
    ({"grid": {"noise": [float("nan")]}}, ValueError, r"`grid\['noise'\]` must be finite, got nan"),
    ({"grid": {"noise": [1j]}}, TypeError, r"has 1j, expected float, int, bool, str or None"),
    ({"seeds": 0}, ValueError, "`seeds` must be from 1 to 10000000, got 0"),
    ({"seeds": []}, ValueError, r"`seeds` must be at least one, and different, got \(\)"),
    ({"seeds": [1, 1]}, ValueError, "`seeds` must be at least one, and different"),
    ({"seeds": [-1]}, ValueError, "`seeds` must be from 0 to 4294967295, got -1"),
    ({"seeds": "12"}, TypeError, "`seeds` must be an int or ints, got '12'"),
    ({"batch": 0}, ValueError, "`batch` must be at least 1, got 0"),
    ({"fn": lambda p, k, noise: jnp.ones(2)}, ValueError,
     r"`fn` returned float32\[2\] as 'metric', expected a real scalar"),
    ({"fn": lambda p, k, noise: 1j}, ValueError, "`fn` returned complex64"),
    ({"fn": lambda p, k, noise: "good"}, TypeError, "`fn` returned str as 'metric'"),
    ({"fn": lambda p, k, noise: {}}, ValueError, "`fn` returned no metrics"),
    ({"fn": lambda p, k, noise: {1: 2.0}}, TypeError, "names of metrics must be str, got 1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), GRID_ERRORS)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"fn": level, "params": PARAMS, "grid": {"noise": [0.1]}, "seeds": 2} | change
    with pytest.raises(error, match=f"evaluate: .*{message}"):
        nat.evaluate(**arguments, progress=False)


def test_progress_shows_points(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grid = {"noise": [0.0, 0.1, 0.2]}
    nat.evaluate(level, PARAMS, grid, 1, progress=True, checkpoint=tmp_path / "sweep.json")
    assert "3/3" in capsys.readouterr().err
    nat.evaluate(level, PARAMS, grid, 1)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    capsys.readouterr()
    nat.evaluate(level, PARAMS, grid, 1)
    assert capsys.readouterr().err == ""
    nat.evaluate(level, PARAMS, grid, 1, progress=True, batch=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line[: line.index(",")] for line in lines] == [
        f"evaluate: {i} of {len(lines)} points" for i in range(1, len(lines) + 1)
    ]
    # What nobody asked for comes now and then.
    monkeypatch.setattr("lumina_jax._progress.QUIET_S", 0.0)
    nat.evaluate(level, PARAMS, grid, 1)
    assert "points, 0 s" in capsys.readouterr().err


def test_results_are_read_as_tables() -> None:
    def metric(params: Any, key: Any, *, bits: Any, noise: Any) -> Any:
        return {"<acc>": noise * bits, "loss": jnp.float32(jnp.nan)}

    with pytest.warns(RuntimeWarning, match="not finite"):
        got = nat.evaluate(metric, PARAMS, {"bits": [4], "noise": [0.25, 0.5]}, 2, progress=False)
    assert repr(got) == "Evaluation of <acc>, loss (bits: 1, noise: 2, 2 seeds)"
    assert str(got).splitlines()[1:] == [
        "bits  noise  <acc>       loss",
        "   4   0.25  1 ± 0  nan ± nan",
        "   4    0.5  2 ± 0  nan ± nan",
    ]
    assert "<th>&lt;acc&gt;</th>" in got._repr_html_()
    grid = {"bits": [1], "noise": [i / 8 for i in range(50)]}
    many = nat.evaluate(lambda p, k, bits, noise: noise * bits, PARAMS, grid, 1, progress=False)
    assert len(str(many).splitlines()) == 43
    assert len(repr(many)) < 80


def test_plot_draws_a_line_for_each_point_of_the_other_axes(tmp_path: Path) -> None:
    def metric(params: Any, key: Any, *, bits: Any, noise: Any) -> Any:
        return noise * (bits or 32) + jax.random.uniform(key)

    grid = {"bits": [4, None], "noise": [0.2, 0.0, 0.1]}
    got = nat.evaluate(metric, PARAMS, grid, 5, progress=False)
    figure = got.plot(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "noise"
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["bits 4", "bits None"]
    for line, mean in zip(axes.get_lines(), got.mean, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0.0, 0.1, 0.2])
        np.testing.assert_array_equal(line.get_ydata(), mean[[1, 2, 0]])
    assert axes.get_title() == "mean and standard deviation of 5 draws of the noise"
    assert figure._repr_png_().startswith(b"\x89PNG")
    named = got.plot(title="Chip", labels={"noise": "noise, part of y", "bits": "ADC bits"})
    assert named.axes[0].get_title() == "Chip"
    assert named.axes[0].get_xlabel() == "noise, part of y"
    assert named.axes[0].get_legend().get_texts()[0].get_text() == "ADC bits 4"
    (by_bits,) = got.plot(x="bits").axes
    assert [text.get_text() for text in by_bits.get_xticklabels()] == ["4", "None"]


def test_plot_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def metric(params: Any, key: Any, *, a: Any, b: Any) -> Any:
        return a * b

    got = nat.evaluate(metric, PARAMS, {"a": [1.0, 2.0], "b": range(13)}, 1, progress=False)
    with pytest.raises(ValueError, match="13 lines, expected at most 12; leave axes out by"):
        got.plot()
    with pytest.raises(ValueError, match="there is no axis 'c', expected one of 'a', 'b'"):
        got.plot(x="c")
    with pytest.raises(ValueError, match="the grid has no axis"):
        got.select(a=1.0, b=2).plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Evaluation.plot needs matplotlib: pip install"):
        got.plot(x="b")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([0.0, 1e300], "`grid['n']` must be a number and finite in float32, got 1e+300"),
        ([0.0, 10**400], "`grid['n']` must be a number and finite in float32, got 1000"),
        ([[1], [1, 2]], "`grid['n']` has [1], expected float, int, bool, str or None"),
    ],
)
def test_values_that_are_none(grid: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        nat.evaluate(lambda params, key, n: n, {}, {"n": grid}, 1, progress=False)


@pytest.mark.parametrize("seeds", [10**9, 10**400])
def test_seeds_that_no_one_waits_for(seeds: int) -> None:
    with pytest.raises(ValueError, match="`seeds` must be from 1 to 10000000, got 1000"):
        nat.evaluate(lambda params, key: 0.0, {}, {}, seeds, progress=False)


DOCUMENT = {"format": "lumina-evaluation", "version": 1, "seeds": [0], "params": "", "metrics": {}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(DOCUMENT | {"grid": {str(i): list(range(99)) for i in range(30)}}),
        json.dumps(DOCUMENT | {"grid": {"a": []}}),
        json.dumps(DOCUMENT | {"grid": {"a": [[1]]}}),
        json.dumps(DOCUMENT | {"grid": {}, "seeds": ["x"]}),
        json.dumps(DOCUMENT | {"grid": {}, "metrics": {"m": [[10**400]]}}),
        "[" * 100_000,
    ],
)
def test_files_that_no_evaluation_writes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "noise.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"Evaluation.from_json: .*noise.json (is no|holds 0 of)"):
        nat.Evaluation.from_json(path)
