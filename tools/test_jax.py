"""Runs the Python tests with a jax of choice, in a virtual environment of its own under build/.

    python3.11 tools/test_jax.py 0.8.0 -x -q    # this jax, and what fits it
    python3.11 tools/test_jax.py oldest         # the lower bound of every dependency
    python3.13 tools/test_jax.py newest         # the newest release of everything
    python3 tools/test_jax.py smoke             # a selection on both ends
    python3 tools/test_jax.py zoo BERT          # models of other packages: tests/zoo/run.py

What follows the version goes to pytest. The environment holds the dependencies and the path of this
checkout, whose module is built for the stable ABI and so serves every Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# An op and its gradient, shards, every rule of the exporter, and the README from the layer to the
# file that runs: what a release of JAX or Flax breaks first.
SMOKE = (
    "tests/test_optical_matmul.py",
    "tests/laws/test_shard_map.py",
    "tests/test_exporter_rules.py",
    "tests/test_docs.py",
)


def main(jax: str, *arguments: str) -> int:
    """The exit status of the tests."""
    if jax == "smoke":
        return smoke()
    if jax == "zoo":
        command = [environment(jax), ROOT / "tests" / "zoo" / "run.py", *arguments]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    command = [environment(jax), "-m", "pytest", "-n", "auto", "--maxprocesses", "4", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def smoke() -> int:
    """`SMOKE` on the oldest supported Python and on the newest one of this machine."""
    pythons = interpreters()
    for jax, minor in (("oldest", supported()[0]), ("newest", max(pythons, default=0))):
        if minor not in pythons:
            print(f"==> Without the {jax} jax: no Python 3.{minor} here", flush=True)
            continue
        print(f"==> Smoke tests with the {jax} jax on Python 3.{minor}", flush=True)
        command = [pythons[minor], __file__, jax, "-q", *SMOKE]
        if status := subprocess.run(command, check=False).returncode:
            return status
    return 0


def environment(jax: str) -> Path:
    """The interpreter of the environment for `jax`, which is made or brought up to date."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    directory = ROOT / "build" / f"jax-{jax}-python{version}"
    python = directory / "bin" / "python"
    if not runs(python, "import pip"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        (site,) = directory.glob("lib/python*/site-packages")
        (site / "checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")
        # Benchmarks and exported files name the version that is installed.
        metadata = site / f"lumina_jax-{PROJECT['version']}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(
            f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n",
            encoding="utf-8",
        )
    upgrade = ["--upgrade"] if jax == "newest" else []
    install = [python, "-m", "pip", "install", "--quiet", *upgrade, *requirements(jax)]
    if subprocess.run(install, check=False).returncode:
        sys.exit(f"pip cannot install jax ({jax}) and what the tests need on Python {version}")
    return python


def requirements(jax: str) -> list[str]:
    """What pip installs for `jax`."""
    needed = [*PROJECT["dependencies"], *extra("test")]
    if jax == "newest":
        return needed
    if jax == "zoo":
        return [*needed, *extra("zoo")]
    if jax != "oldest":
        return [*needed, f"jax=={jax}"]
    # Of the tools of the tests no version is promised.
    promised = {*PROJECT["dependencies"], *extra("flax")}
    return [re.sub(r">=([\d.]+),.*", r"==\1", r) if r in promised else r for r in needed]


def extra(name: str) -> Iterator[str]:
    """The requirements of an extra and of those that it includes."""
    for requirement in PROJECT["optional-dependencies"][name]:
        if included := re.fullmatch(rf"{PROJECT['name']}\[([\w,]+)\]", requirement):
            for part in included[1].split(","):
                yield from extra(part)
        else:
            yield requirement


def supported() -> list[int]:
    """The x of every Python 3.x that the project names."""
    return [int(x) for x in re.findall(r":: 3\.(\d+)", " ".join(PROJECT["classifiers"]))]


def interpreters() -> dict[int, str]:
    """Supported interpreters on the PATH or in pyenv, by the x of Python 3.x."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {}
    for minor in supported():
        # On the PATH, pyenv may have a name for a version that it then does not start.
        on_path = shutil.which(f"python3.{minor}")
        candidates = [on_path, sys.executable, *pyenv.glob(f"versions/3.{minor}.*/bin/python3")]
        check = f"import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
        python = next((c for c in candidates if c and runs(c, check)), None)
        if python:
            found[minor] = str(python)
    return found


def runs(python: str | Path, code: str) -> bool:
    """Whether `python` is an interpreter that runs `code`."""
    try:
        return (
            subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
