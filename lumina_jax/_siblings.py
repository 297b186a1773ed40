"""The packages installed beside this one, under names that nothing else can have.

`exporter` and `flax_layers` are names that a project may well give to modules of its own, or that
another distribution installs. `lumina_jax.export` and `lumina_jax.layers` are ours all the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HOME = Path(__file__).parent.parent
# The line of their `__init__.py` by which these packages are known.
_MARK = '__distribution__ = "lumina-jax"'


def adopt(alias: str, name: str, *submodules: str) -> None:
    """Makes the package `name` beside `lumina_jax`, with `submodules`, the module `alias`.

    Where `import name` finds that package, too, the two names are one module, and so are those of
    its submodules. Where it finds another one, the package is loaded under the name `alias` alone.

    Raises:
        ImportError: another distribution has installed its package over ours.
    """
    init = _HOME / name / "__init__.py"
    if not (init.is_file() and _MARK in init.read_text("utf-8")):
        raise ImportError(
            f"`{alias}` is the package `{name}` of lumina-jax, but another distribution has put "
            f"its own `{name}` into {init.parent}, or taken it away from there. Uninstall that "
            "distribution, then install lumina-jax again with `pip install --force-reinstall "
            "--no-deps`; the two need environments of their own",
            name=alias,
            path=str(init),
        )
    module = importlib.import_module(name) if _finds(name, init) else _load(alias, init)
    for submodule in submodules:
        importlib.import_module(f"{module.__name__}.{submodule}")
    for path, loaded in list(sys.modules.items()):
        if path == module.__name__ or path.startswith(f"{module.__name__}."):
            sys.modules[alias + path.removeprefix(module.__name__)] = loaded


def graph_of(model: Any) -> Any:
    """The graph in an exported model, or an exported graph itself; None where it is neither.

    Who has one has loaded the exporter, so nothing is imported here.
    """
    graph = getattr(model, "graph", model)
    modules = (sys.modules.get(f"{name}._graph") for name in ("exporter", "lumina_jax.export"))
    return graph if any(m and isinstance(graph, m.Graph) for m in modules) else None


def _finds(name: str, init: Path) -> bool:
    """Whether `import name` gives the package whose file `init` is."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
    return origin is not None and Path(origin).resolve() == init.resolve()


def _load(alias: str, init: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        alias, init, submodule_search_locations=[str(init.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
