"""`lumina report` in a browser: every control is used, without an error and without the network.

Skipped where there is no Chromium, its driver or selenium: `make report-test` installs the last.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import rebuilt
from flax_layers import OpticalDense

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 1'>"
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)


class Browser:
    """A page in headless Chromium, and what went wrong in it."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(DRIVER)
        self.driver = webdriver.Chrome(options=options, service=service)
        # Machines that are busy with other tests take their time.
        self.driver.set_script_timeout(300)

    def open(self, page: Path, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(page.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def assert_fine(self) -> None:
        """No script failed, nothing was refused by the policy, and nothing came from elsewhere."""
        assert self.driver.get_log("browser") == []
        messages = [
            json.loads(row["message"])["message"] for row in self.driver.get_log("performance")
        ]
        asked = [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in asked if not url.startswith("file:///")] == []
        assert self.run("return typeof window.hostile") == "undefined"

    def use_everything(self) -> int:
        """Opens, presses and changes all there is, also what appears meanwhile; how much it was."""
        return self.run(
            """
            const used = new Set();
            for (let round = 0; round < 60; round += 1) {
              const all = [...document.querySelectorAll("summary, button, select, input")];
              const fresh = all.filter((it) => !used.has(it) && it.isConnected && !it.hidden);
              if (fresh.length === 0) break;
              for (const it of fresh.slice(0, 200)) {
                used.add(it);
                if (it.matches("summary")) { if (!it.parentElement.open) it.click(); }
                else if (it.matches("button")) it.click();
                else if (it.matches("select")) {
                  for (const option of [...it.options]) {
                    it.value = option.value;
                    it.dispatchEvent(new Event("change"));
                  }
                  it.selectedIndex = 0;
                  it.dispatchEvent(new Event("change"));
                } else {
                  for (const text of ["no such thing", "a", "%1", ""]) {
                    it.value = text;
                    it.dispatchEvent(new Event("input"));
                  }
                }
              }
            }
            return used.size;
            """
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.driver.quit()


@pytest.fixture(scope="module")
def page(lumina: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The report of a file."""
    folder = tmp_path_factory.mktemp("report")

    def made(data: bytes, *options: str) -> Path:
        model, report = folder / "m.lmn", folder / "report.html"
        model.write_bytes(data)
        command = [lumina, "report", model, "--output", report, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return report

    return made


class Optical(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        x = nn.gelu(OpticalDense(8)(x, deterministic=deterministic))
        return OpticalDense(3)(x, deterministic=deterministic)


def optical() -> bytes:
    net = Optical()
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = net.init(keys, X, deterministic=False)
    _, ranges = net.apply(variables, X, deterministic=False, rngs=keys, mutable=["ranges"])
    variables = {**variables, **ranges}
    return exporter.export(lambda x: net.apply(variables, x), X, batch="batch").to_bytes()


def recurrent() -> bytes:
    net = nn.RNN(nn.LSTMCell(4))
    x = np.zeros((2, 5, 3), np.float32)
    variables = net.init(jax.random.key(0), x)
    return exporter.export(lambda x: net.apply(variables, x), x, batch="batch").to_bytes()


def with_states() -> bytes:
    def read(weight: Any, cache: Any, x: jax.Array) -> Any:
        lines = jax.lax.dynamic_update_slice(cache["lines"], x @ weight, (cache["position"], 0))
        return lines.sum(0), {"lines": lines, "position": cache["position"] + x.shape[0]}

    entries: dict[str, Any] = {
        "prefill": (read, jax.ShapeDtypeStruct((4, 3), jnp.float32)),
        "decode": (read, jnp.ones((1, 3))),
    }
    cache = {"lines": jnp.zeros((8, 3)), "position": jnp.int32(0)}
    weight = jnp.arange(9.0).reshape(3, 3)
    return exporter.export(entries, params=weight, state=cache).to_bytes()


def hostile() -> bytes:
    def change(graph: Any) -> None:
        graph.producer = HOSTILE
        graph.inputs[0].name = graph.outputs[0].name = HOSTILE
        for part in (*graph.tensors, *graph.states):
            part.name = HOSTILE
        for node in graph.nodes:
            node.source = f"{HOSTILE} ({HOSTILE})"
            node.fused.append(HOSTILE)

    return rebuilt(optical(), change)


def deep(layers: int = 200) -> bytes:
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(layers):
                x = jnp.tanh(nn.Dense(6)(x))
            return x

    net = Deep()
    variables = net.init(jax.random.key(0), X)
    return exporter.export(lambda x: net.apply(variables, x), X).to_bytes()


@pytest.mark.parametrize("model", [optical, recurrent, with_states, hostile])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_everything_can_be_used(
    browser: Browser, page: Callable[..., Path], model: Callable[[], bytes], width: int, scheme: str
) -> None:
    browser.open(page(model()), width, scheme)
    assert browser.use_everything() > 40
    browser.assert_fine()
    # Wide tables scroll by themselves, not the page.
    assert browser.run("return document.documentElement.scrollWidth") <= width
    dark = (
        browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    )
    assert dark == (scheme == "dark")


def test_search_and_filter_find_nodes(browser: Browser, page: Callable[..., Path]) -> None:
    browser.open(page(optical()))
    shown = """
        const [control, value, kind] = arguments;
        const it = document.getElementById(control);
        it.value = value;
        it.dispatchEvent(new Event(kind));
        const ops = document.querySelectorAll(".tree .node > summary .op");
        return [...ops].map((op) => op.textContent);
    """
    found = browser.run(shown, "search", "OpticalDense_1", "input")
    assert found == ["dequantize", "optical_matmul"]
    # A tree, of which the only module is open, and those in it are not.
    assert browser.run(shown, "search", "", "input") == ["gelu"]
    assert browser.run(shown, "op", "gelu", "change") == ["gelu"]
    assert browser.run(shown, "search", "nothing of this", "input") == []
    assert "No node is like that." in browser.run(
        "return document.querySelector('.tree').textContent"
    )
    browser.assert_fine()


def test_links_lead_to_nodes_and_constants(browser: Browser, page: Callable[..., Path]) -> None:
    browser.open(page(optical()))
    at = "return document.activeElement.closest('details').className"
    browser.run("revealNode(entry.nodes.at(-1))")
    assert browser.run(at) == "node"
    assert "optical_matmul" in browser.run("return document.activeElement.textContent")
    browser.run(
        "[...document.activeElement.parentElement.querySelectorAll('button.link')]"
        ".find((it) => it.textContent.includes('bias')).click()"
    )
    assert browser.run(at) == "constant"
    assert "bias" in browser.run("return document.activeElement.textContent")
    browser.assert_fine()


def test_a_model_of_200_layers_is_shown_piece_by_piece(
    browser: Browser, page: Callable[..., Path]
) -> None:
    browser.open(page(deep()))
    elements = "return document.querySelectorAll('*').length"
    assert browser.run(elements) < 2500
    for section in ("constants", "memory", "fusions"):
        browser.run("openSection(arguments[0])", section)
    assert browser.run(elements) < 8000
    last = "Dense_199"
    browser.run("revealNode(entry.nodes[entry.nodes.length - 2])")
    assert last in browser.run(
        "return document.activeElement.closest('details.module').querySelector('.name').textContent"
    )
    browser.assert_fine()


def test_times_of_a_benchmark_are_shown(
    browser: Browser, page: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        {"node": "1", "op": "optical_matmul", "ms_per_run": 3.0, "share": 0.75, "calls_per_run": 1},
        {"node": "2", "op": "gelu", "ms_per_run": 1.0, "share": 0.25, "calls_per_run": 1},
    ]
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"entry": "", "nodes": rows}))
    browser.open(page(optical(), "--bench", str(bench)))
    browser.run("openSection('time')")
    lines = browser.run(
        "return [...document.querySelectorAll('.time')].map((it) => it.textContent)"
    )
    assert [line.split(" ms")[0] for line in lines] == ["75.0 %3", "25.0 %1"]
    assert "75.0 %" in browser.run("return document.querySelector('.tree').textContent")
    browser.assert_fine()
