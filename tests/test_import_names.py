"""Names of the package: when they are imported, and what they are beside packages of others."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lumina_jax
from lumina_jax import _siblings

ROOT = Path(__file__).parent.parent


def python(script: str, folder: Path) -> str:
    """The last line that `script` prints to stdout or stderr as the main program of `folder`."""
    (folder / "train.py").write_text(script)
    run = subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return (run.stdout + run.stderr).strip().splitlines()[-1]


def test_the_numpy_entry_runs_without_jax(tmp_path: Path) -> None:
    script = """
import sys, warnings
warnings.simplefilter("ignore")  # lumina_jax.kernel says that it has moved
for name in ("jax", "jaxlib", "flax", "ml_dtypes", "scipy", "google.protobuf"):
    sys.modules[name] = None
before = set(sys.modules)
import numpy
from_numpy = set(sys.modules)
import lumina_jax.numpy, lumina_jax as lj
x = numpy.ones((1, 2), numpy.float32)
for entry in (lj, lj.numpy, lj.kernel):
    assert entry.optical_linear_infer(x, x, None, 24) == 2
assert lj.OpticalSpec(adc_bits=4).adc_bits == 4
loaded = {name.partition(".")[0] for name in set(sys.modules) - from_numpy}
print(sorted(loaded - sys.stdlib_module_names))
"""
    # An import takes as long as what it loads: beside NumPy, nothing that is large.
    assert python(script, tmp_path) == "['lumina_jax', 'numpy']"


def test_public_names_are_the_same_to_a_type_checker_and_at_run_time(tmp_path: Path) -> None:
    tree = ast.parse((ROOT / "lumina_jax" / "__init__.py").read_text("utf-8"))
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and node.orelse == []][:1]
    imported = {
        alias.name: f"lumina_jax{'.' * bool(entry.module)}{entry.module or ''}"
        for entry in typed.body
        if isinstance(entry, ast.ImportFrom)
        for alias in entry.names
    }
    assert imported.keys() | {"__version__"} == set(lumina_jax.__all__)
    for name, home in imported.items():
        assert getattr(lumina_jax, name) is getattr(importlib.import_module(home), name)
    assert {*imported, "export", "layers"} <= set(dir(lumina_jax))
    with pytest.raises(AttributeError, match="module 'lumina_jax' has no attribute 'nothing'"):
        lumina_jax.nothing  # noqa: B018
    script = """
from lumina_jax import *
import lumina_jax
print({name for name in lumina_jax.__all__ if globals()[name] is not getattr(lumina_jax, name)})
"""
    assert python(script, tmp_path) == "set()"


def test_both_names_are_one_module_and_none_is_loaded_unasked(tmp_path: Path) -> None:
    script = """
import sys
import lumina_jax
assert not {"flax", "exporter", "flax_layers", "google.protobuf"} & set(sys.modules)
assert "OpticalDense" in dir(lumina_jax.layers)
from lumina_jax import export, layers
import exporter, flax_layers.nnx, lumina_jax.layers.nnx, lumina_jax.export._graph
assert export is lumina_jax.export is exporter and layers is flax_layers
assert layers.nnx is flax_layers.nnx is sys.modules["lumina_jax.layers.nnx"]
assert lumina_jax.export._graph is exporter._graph
print(export.Model.__module__)
"""
    assert python(script, tmp_path) == "exporter._model"


def test_a_project_may_have_modules_of_these_names(tmp_path: Path) -> None:
    for name in ("exporter", "flax_layers"):
        (tmp_path / f"{name}.py").write_text("mine = True")
    script = """
import exporter, pickle, sys
from lumina_jax import _siblings, export, layers
import flax_layers, jax.numpy as jnp, lumina_jax.layers.nnx
assert exporter.mine and flax_layers.mine
assert sys.modules["exporter"] is exporter and not hasattr(exporter, "_graph")
assert layers.nnx.OpticalDense is not layers.OpticalDense
model = export.export(jnp.tanh, jnp.ones(3))
assert type(pickle.loads(pickle.dumps(model))) is export.Model
assert _siblings.graph_of(model) is _siblings.graph_of(model.graph) is model.graph
print(export.Model.__module__)
"""
    assert python(script, tmp_path) == "lumina_jax.export._model"


def test_a_package_installed_over_ours_is_told(tmp_path: Path, monkeypatch) -> None:
    ours = shutil.copytree(ROOT / "exporter", tmp_path / "exporter")
    monkeypatch.setattr(_siblings, "_HOME", tmp_path)
    expected = (
        "`lumina_jax.other` is the package `exporter` of lumina-jax, but another distribution has "
        f"put its own `exporter` into {ours}, or taken it away from there. Uninstall that "
        "distribution, then install lumina-jax again with `pip install --force-reinstall --no-deps`"
    )
    (ours / "__init__.py").write_text("raise RuntimeError('foreign code ran')")
    with pytest.raises(ImportError, match=re.escape(expected)):
        _siblings.adopt("lumina_jax.other", "exporter")
    (ours / "__init__.py").unlink()
    with pytest.raises(ImportError, match=re.escape(expected)):
        _siblings.adopt("lumina_jax.other", "exporter")
    shutil.copy(ROOT / "exporter" / "__init__.py", ours)
    known = set(sys.modules)
    _siblings.adopt("lumina_jax.other", "exporter")
    assert sys.modules["lumina_jax.other"].__file__ == str(ours / "__init__.py")
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_layers_without_flax_say_what_to_install(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["flax"] = None
import lumina_jax.layers
"""
    assert python(script, tmp_path) == (
        "ImportError: the layers need Flax, which is not installed; "
        "run `pip install 'lumina-jax[flax]'`"
    )
