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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith("https://") and not (document.parent / link).exists()
    ]
    assert not missing
