"""`model.report` writes the page that `lumina report` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program

X = np.ones((4, 3), np.float32)


@pytest.fixture(scope="module")
def model() -> exporter.Model:
    weight = jnp.arange(6.0).reshape(3, 2)
    return exporter.export(lambda x: jnp.tanh(x @ weight), X, batch="batch")


def content(page: Path) -> dict[str, Any]:
    """The JSON in a page."""
    text = page.read_text()
    found = re.findall('<script type="application/json" id="data">(.*?)</script>', text)
    assert len(found) == 1
    return json.loads(found[0])


def test_it_is_the_page_of_the_program(program: Program, model: exporter.Model) -> None:
    path = program.verified(model)
    pages = [program.folder / name for name in ("a.html", "b.html")]
    program.call("report", path, "--output", pages[0], "--symbol", "batch=7")
    assert model.report(pages[1], symbols={"batch": 7}) == pages[1]
    of_program, of_model = map(content, pages)
    assert (of_program.pop("title"), of_model.pop("title")) == ("m.lmn", "b")
    assert of_model == of_program
    assert of_model["entries"][0]["nodes"][-1]["types"] == ["f32[7,2]"]


def test_times_are_those_of_a_benchmark(model: exporter.Model, tmp_path: Path) -> None:
    bench = model.bench(seconds=0.01, nodes=True)
    shown = content(model.report(tmp_path / "page.html", bench=bench))["bench"]
    measured = json.loads(bench.to_json())
    assert [row["node"] for row in shown["nodes"]] == [row["node"] for row in measured["nodes"]]
    times = [row["ms_per_run"] for row in measured["nodes"]]
    # What reads the JSON may be off in the last place.
    assert [row["ms_per_run"] for row in shown["nodes"]] == pytest.approx(times, rel=1e-15)


def test_wrong_arguments_are_told(model: exporter.Model, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(ValueError, match="there is no symbol `time`; the model has `batch`"):
        model.report(page, symbols={"time": 3})
    with pytest.raises(ValueError, match="there is no entry point `decode`; the file has none"):
        model.report(page, entry="decode")
    with pytest.raises(ValueError, match=re.escape("Model.report: `symbols['batch']`")):
        model.report(page, symbols={"batch": -1})
    with pytest.raises(exporter.SaveError, match="there is no directory"):
        model.report(tmp_path / "none" / "page.html")
    assert not page.exists()
