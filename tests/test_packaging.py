"""Versions agree, and the checkout holds what it should and nothing of the machine it came from."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from functools import cache
from pathlib import Path

import pytest

import lumina_jax

ROOT = Path(__file__).parent.parent


def toml(name: str) -> dict:
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


@cache
def tracked() -> tuple[str, ...]:
    if not (ROOT / ".git").exists():
        pytest.skip("a checkout without Git does not know its files")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return tuple(name for name in listing.stdout.split("\0") if (ROOT / name).is_file())


def test_versions_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    workspace = toml("Cargo.toml")["workspace"]
    shared = workspace["dependencies"].values()
    assert {
        toml("pyproject.toml")["project"]["version"],
        toml("runtime/python/pyproject.toml")["project"]["version"],
        workspace["package"]["version"],
        *(crate["version"] for crate in shared if "path" in crate),
        *(p["version"] for p in toml("Cargo.lock")["package"] if p["name"].startswith("lumina-")),
        re.findall(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[0],
        lumina_jax.numpy.version(),
    } == {lumina_jax.__version__}


def test_rust_and_python_of_the_readme_are_those_declared() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rust = toml("Cargo.toml")["workspace"]["package"]["rust-version"]
    python = toml("pyproject.toml")["project"]["requires-python"].removeprefix(">=")
    assert f"Python {python} or\nnewer, Rust {rust} or newer" in readme


def test_dependencies_have_a_lower_and_an_upper_bound() -> None:
    project, runtime = toml("pyproject.toml")["project"], toml("runtime/python/pyproject.toml")
    groups = [runtime["build-system"]["requires"], runtime["project"]["dependencies"]]
    groups += [project["dependencies"], *project["optional-dependencies"].values()]
    for group in groups:
        for requirement in group:
            assert requirement.startswith("lumina-jax[") or re.search(
                r">=[\d.]+,<[\d.]+$", requirement
            ), requirement


def test_only_packages_have_an_init() -> None:
    runtime = "runtime/python/lumina_runtime"
    found = {name for name in tracked() if name.endswith("__init__.py")}
    ours = {f"{runtime}/__init__.py", f"{runtime}/testing/__init__.py"}
    assert ours <= found
    roots = {name.split("/")[0] for name in found - ours}
    assert roots == set(toml("pyproject.toml")["tool"]["maturin"]["python-packages"])


def test_what_builds_the_runtime_package_is_in_the_extra_of_tests() -> None:
    test = toml("pyproject.toml")["project"]["optional-dependencies"]["test"]
    assert set(toml("runtime/python/pyproject.toml")["build-system"]["requires"]) <= set(test)


def test_the_sdist_of_the_runtime_package_builds_without_a_checkout(tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    code = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    run = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(run, cwd=ROOT / "runtime/python", capture_output=True, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    rust = tmp_path / archive.name.removesuffix(".tar.gz") / "rust"
    members = toml("Cargo.toml")["workspace"]["members"]
    sources = [name for name in tracked() if name.startswith(tuple(f"{m}/src/" for m in members))]
    assert len(sources) > 100
    for name in [*sources, "runtime/capi/build.rs", "runtime/capi/include/lumina.h", "Cargo.lock"]:
        assert (rust / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert (rust.parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    # Cargo takes the workspace as it is there, with the lock file unchanged.
    cargo = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    asked = subprocess.run(cargo, cwd=rust, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr


def test_no_machine_path_is_tracked() -> None:
    machine = re.compile(rb"/(?:root|home/\w+|Users/\w+|work|tmp)/[\w.-]")
    assert [name for name in tracked() if machine.search((ROOT / name).read_bytes())] == []
