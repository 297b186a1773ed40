"""What the documents show is what happens: code runs, commands work, links lead somewhere."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LUMINA = Path(os.environ.get("LUMINA_BIN", ROOT / "target" / "release" / "lumina"))


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_readme_runs(tmp_path: Path) -> None:
    (tmp_path / "readme.py").write_text(
        "\n".join([*blocks("python"), "assert value < 1.0, value  # ln(10) = 2.3 is chance\n"]),
        encoding="utf-8",
    )
    subprocess.run([sys.executable, "readme.py"], cwd=tmp_path, check=True, timeout=120)

    commands = [line[2:] for block in blocks("console") for line in block.splitlines()]
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "lumina"
        subprocess.run([LUMINA, *arguments], cwd=tmp_path, check=True, timeout=60)
    assert np.load(tmp_path / "y.npy").shape == (256, 10)


def test_noise_document_shows_the_noise() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "noise.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


NAT_SETUP = """
import jax, jax.numpy as jnp
import numpy as np
from lumina_jax import NoiseModel, OpticalSpec, optical_matmul

images = jax.random.normal(jax.random.key(0), (32, 6))
labels = jnp.argmax(images[:, :3], axis=1)
params = {"w": 0.1 * jax.random.normal(jax.random.key(1), (6, 3))}
teacher = lambda x: 5 * x[:, :3]


def predict(params, x, noise, key, bits=4):
    spec = OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)
    return optical_matmul(x, params["w"], spec=spec, y_full_scale=4.0, noise=noise, key=key)
"""
NAT_LOOP = """
state, start = optimizer.init(params), params
for i in range(60):
    params, state = step(params, state, images, labels, jax.random.key(i), i)
before, after = (accuracy(p, jax.random.key(9), noise=0.0, bits=8) for p in (start, params))
assert after > before, (before, after)
"""
NAT_CHECKS = """
assert result.mean.shape == (4, 2) and result.select(bits=4).std.shape == (4,)
assert np.isfinite(result.mean).all()
"""


def test_nat_document_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "nat.md").read_text(encoding="utf-8")
    recipe, survey = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    parts = survey.split("\n\n\n")
    assert len(parts) == 2, "the metric, and what is done with it"
    code = "\n".join([NAT_SETUP, recipe, parts[0], NAT_LOOP, parts[1], NAT_CHECKS])
    (tmp_path / "nat.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "agg"}
    subprocess.run(
        [sys.executable, "nat.py"], cwd=tmp_path, check=True, timeout=120, env=environment
    )
    assert {"sweep.json", "sweep.png", "result.json"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith("https://") and not (document.parent / link).exists()
    ]
    assert not missing
