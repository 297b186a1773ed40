"""No module of the Python packages imports itself by way of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lumina_jax", "flax_layers", "exporter", "benchmarks")


def modules(package: str) -> dict[str, Path]:
    """Files of a package by the full name of their module."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, name: str) -> Iterator[str]:
    """Full names that a module imports, at its top or in a function, but not for types alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # What runs is the branch that types do not see.
            waiting += node.body if isinstance(node.test, ast.UnaryOp) else node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = ".".join(base if node.level else [])
            source = ".".join(filter(None, (start, node.module)))
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Which modules each one imports.

    A package runs before any module of it, so whoever imports one from outside of the package
    imports both; inside, only what is named counts.
    """
    edges = {}
    for name, path in files.items():
        edges[name] = set()
        for target in imported(path, name):
            parts = target.split(".")
            for end in range(1, len(parts) + 1):
                step = ".".join(parts[:end])
                inside = f"{name}.".startswith(f"{step}.")
                if step in files and not inside:
                    edges[name].add(step)
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """A way from a module back to itself; empty where there is none."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in done:
            for target in sorted(edges[name]):
                if found := search(target, [*way, name]):
                    return found
            done.add(name)
        return []

    return next(filter(None, (search(name, []) for name in edges)), [])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    edges = graph(modules(package))
    assert sum(map(len, edges.values())) > len(edges) / 2  # the graph is no empty one
    assert circle(edges) == []


def test_packages_import_each_other_one_way() -> None:
    files = {name: path for package in PACKAGES for name, path in modules(package).items()}
    edges = {package: set() for package in PACKAGES}
    for name, targets in graph(files).items():
        package = name.partition(".")[0]
        edges[package] |= {target.partition(".")[0] for target in targets} - {package}
    assert circle(edges) == []
    assert edges["lumina_jax"] == set()


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
