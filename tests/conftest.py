"""What tests need before JAX starts: four CPU devices, quick compilation, strict promotion."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# These are read when JAX starts, so this comes before its first import. Most tests compile a small
# program of their own and run it once: LLVM's optimizations, and the MLIR pipeline of the fusion
# emitters, would take longer than they save.
_FLAGS = ["--xla_force_host_platform_device_count=4", "--xla_backend_optimization_level=0"]
# XLA aborts at a flag that it does not know, and this one is gone after jaxlib 0.10.
if tuple(int(number) for number in version("jaxlib").split(".")[:2]) <= (0, 10):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Of arrays of other libraries SciPy and scikit-learn ask for this when they are imported.
os.environ["SCIPY_ARRAY_API"] = "1"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "lumina",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("lumina")


_STATES: dict[int, dict[str, object]] = {}
"""What the import of a module has left its generators in."""


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """Generators of modules begin anew with each test, whichever tests its process ran before."""
    for module in (request.module, sys.modules.get("any_array")):
        for value in vars(module).values() if module else ():
            if isinstance(value, np.random.Generator):
                state = _STATES.setdefault(id(value), dict(value.bit_generator.state))
                value.bit_generator.state = state


@pytest.fixture
def numpy_promotion():
    """Types and ranks are promoted as JAX does by default, for code that is not ours."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def program(lumina: Path, tmp_path_factory: pytest.TempPathFactory):
    from exported import Program  # most tests need no exporter

    return Program(lumina, tmp_path_factory.mktemp("lumina"))


@pytest.fixture(scope="session")
def lumina() -> Path:
    """The `lumina` program: `$LUMINA_BIN`, or what `cargo build --release` has left."""
    built = Path(__file__).parents[1] / "target" / "release" / "lumina"
    program = Path(os.environ.get("LUMINA_BIN", built))
    if not program.is_file():
        pytest.fail(f"no program at {program}: run `cargo build --release -p lumina-runtime`")
    return program
