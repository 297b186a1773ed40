"""What the documents show is what happens: code runs, commands work, links lead somewhere."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lumina_jax import HardwareProfile

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LUMINA = Path(os.environ.get("LUMINA_BIN", ROOT / "target" / "release" / "lumina"))


DRIVER = """
import os, pathlib, sys, traceback

failed = []
for code in sorted(pathlib.Path.cwd().glob("*/code.py")):
    os.chdir(code.parent)
    try:
        exec(compile(code.read_text(encoding="utf-8"), code, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        failed.append(code.parent.name)
sys.exit(f"the code of {', '.join(failed)} fails" if failed else 0)
"""
CHECKS = {
    "README.md": "assert value < 1.0, value  # ln(10) = 2.3 is chance",
    "nat.md": """
before, after = (accuracy({"w": w}, jax.random.key(9), noise=0.0, bits=8)
                 for w in (0.1 * jax.random.normal(jax.random.key(1), (16, 4)), params["w"]))
assert after > before + 10, (before, after)
assert result.mean.shape == (4, 2) and result.select(bits=4).std.shape == (4,)
assert {"sweep.json", "sweep.png", "result.json"} <= set(os.listdir())
""",
    "convert.md": "assert value < 1.2, value  # ln(4) = 1.4 is chance",
    "hardware.md": 'assert measured.noise.unit == "full_scale" and quieter.bank == chip.bank',
}
"""What holds after the code of a document."""
NEEDS = {"python_runtime.md": "lumina_runtime"}
"""Packages that the code of a document needs and that are not everywhere."""


def blocks(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each document that has code, in which its code has run."""
    folder = tmp_path_factory.mktemp("docs")
    for document in DOCUMENTS:
        if find_spec(NEEDS.get(document.name, "sys")) is None:
            continue
        if code := blocks(document, "python"):
            own = folder / document.name
            own.mkdir()
            lines = [*code, "import os", CHECKS.get(document.name, "")]
            (own / "code.py").write_text("\n".join(lines), encoding="utf-8")
    (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "driver.py"], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_code_of_documents_runs(ran: Path) -> None:
    assert CHECKS.keys() <= {document.name for document in ran.iterdir()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_documents_run(ran: Path, document: Path) -> None:
    for command in (line for block in blocks(document, "console") for line in block.splitlines()):
        if command.startswith("$ lumina "):
            arguments = shlex.split(command)[2:]
            subprocess.run([LUMINA, *arguments], cwd=ran / document.name, check=True, timeout=60)
        else:
            assert not command.startswith("$"), command


def test_the_readme_computes_outputs(ran: Path) -> None:
    test_the_commands_of_documents_run(ran, ROOT / "README.md")
    assert np.load(ran / "README.md" / "y.npy").shape == (256, 10)


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    links = set(re.findall(r"\]\(([^)#]+)", index.read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} <= links


def test_profiles_in_documents_are_read(tmp_path: Path) -> None:
    found = [block for document in DOCUMENTS for block in blocks(document, "toml")]
    assert found
    for block in found:
        (tmp_path / "chip.toml").write_text(block, encoding="utf-8")
        HardwareProfile.load(tmp_path / "chip.toml")


def test_noise_document_shows_the_noise() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "noise.md"), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith("https://") and not (document.parent / link).exists()
    ]
    assert not missing
