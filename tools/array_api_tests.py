"""Runs the standard's own test suite on `lumina_jax.array_api`, and compares with jax.numpy.

    python tools/array_api_tests.py SUITE [--device ideal noisy] [--api 2024.12] [--examples 3]

SUITE is a checkout of data-apis/array-api-tests with its submodule; what it requires is installed
into an environment of its own under build/. A test that passes on jax.numpy must pass on the ideal
device, and on a noisy one with 8-bit converters unless it compares the numbers of products. The
exit status is 1 where one does not. Seeds are fixed, so that both see the same examples. What
follows `--` goes to pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "array-api-tests"

PEER = "jax.numpy"

MODULES = {
    PEER: "import jax.numpy as xp",
    "ideal": "from lumina_jax import array_api; xp = array_api.namespace(None)",
    "noisy": (
        "import jax; from lumina_jax import HardwareProfile, NoiseModel, array_api; "
        "from lumina_jax.hardware import Converters; "
        'chip = HardwareProfile(name="noisy", converters=Converters.all(8), '
        "noise=NoiseModel(relative=0.05)); "
        "xp = array_api.namespace(chip, key=jax.random.key(0))"
    ),
}
"""What makes the namespace `xp` of each device, and of the peer."""

DEVICES = tuple(name for name in MODULES if name != PEER)

PRODUCTS = frozenset(
    f"array_api_tests.test_linalg::test_{name}"
    for name in (
        "linalg_matmul", "linalg_tensordot", "linalg_vecdot", "matmul", "matrix_power",
        "tensordot", "vecdot", "vecdot_conj",
    )
)  # fmt: skip
"""Tests that compare the numbers of products."""


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", type=Path, help="a checkout of data-apis/array-api-tests")
    parser.add_argument("--device", nargs="+", choices=DEVICES, default=["ideal"])
    parser.add_argument("--api", default="2024.12", help="version of the standard")
    parser.add_argument("--examples", type=int, default=3, help="examples for each test")
    own, for_pytest = split(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(own)
    if not (args.suite / "array-api" / "spec" / args.api).is_dir():
        parser.error(
            f"{args.suite} has no array-api/spec/{args.api}: pass a checkout of "
            f"data-apis/array-api-tests, with its submodule array-api"
        )
    python = environment(args.suite / "requirements.txt")

    def outcomes(name: str) -> dict[str, str]:
        print(f"==> {name}, version {args.api}, {args.examples} examples", flush=True)
        report = OUT / f"{name}-{args.api}.xml"
        report.unlink(missing_ok=True)
        command = [
            python, "-m", "pytest", "array_api_tests", "-q", "--tb=no", "--no-summary",
            "-p", "no:cacheprovider", f"--junitxml={report}", f"--max-examples={args.examples}",
            "--derandomize", "--hypothesis-seed=0", "--disable-deadline", *for_pytest,
        ]  # fmt: skip
        variables = {
            # The suite draws some examples with `random`, which no option of pytest seeds.
            "ARRAY_API_TESTS_MODULE": f"exec('import random; random.seed(0); {MODULES[name]}')",
            "ARRAY_API_TESTS_VERSION": args.api,
            "JAX_ENABLE_X64": "1",
            "JAX_PLATFORMS": "cpu",
            "PYTHONHASHSEED": "0",
        }
        done = subprocess.run(command, cwd=args.suite, env={**os.environ, **variables}, check=False)
        if done.returncode > 1 or not report.is_file():
            sys.exit(f"the suite did not run on {name}: pytest ended with {done.returncode}")
        return parsed(report.read_text(encoding="utf-8"))

    peer = outcomes(PEER)
    status = 0
    for device in args.device:
        ours = outcomes(device)
        missing = lost(peer, ours, PRODUCTS if device == "noisy" else ())
        print(summary({PEER: peer, device: ours}, missing), flush=True)
        status |= bool(missing)
    return status


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before `--`, and behind it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def environment(requirements: Path) -> Path:
    """The interpreter of an environment with what the suite requires, upon that of this one."""
    python = OUT / "venv" / "bin" / "python"
    if not python.is_file():
        venv.create(OUT / "venv", with_pip=True, clear=True)
        (site,) = OUT.glob("venv/lib/python*/site-packages")
        paths = (ROOT, *(path for path in sys.path if path.endswith("site-packages")))
        (site / "checkout.pth").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "-r", requirements]
    if subprocess.run(install, check=False).returncode:
        sys.exit(f"pip cannot install {requirements}")
    return python


def parsed(report: str) -> dict[str, str]:
    """Whether each test of a JUnit report passed, failed or was skipped."""
    kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    outcomes: dict[str, str] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        found = {kinds[child.tag] for child in case if child.tag in kinds}
        # A test whose teardown fails has an entry for that.
        outcome = min(found, default="passed")
        if outcomes.get(name) != "failed":
            outcomes[name] = outcome
    return outcomes


def lost(
    peer: Mapping[str, str], ours: Mapping[str, str], excepted: Collection[str] = ()
) -> list[str]:
    """The tests that pass on `peer` and not on `ours`, but for some, whatever their parameters."""
    return [
        name
        for name, outcome in peer.items()
        if outcome == "passed"
        and ours.get(name) != "passed"
        and name.partition("[")[0] not in excepted
    ]


def summary(outcomes: Mapping[str, Mapping[str, str]], missing: Iterable[str]) -> str:
    """How many tests passed, failed and were skipped on each, and which are missing."""
    lines = []
    for name, of in outcomes.items():
        counts = Counter(of.values())
        kinds = (f"{counts[kind]:>6} {kind}" for kind in ("passed", "failed", "skipped"))
        lines.append(f"{name:<12}{''.join(kinds)}")
    missing = list(missing)
    lines.append(f"passed by the first and not by the second: {len(missing) or 'none'}")
    return "\n".join([*lines, *(f"    {name}" for name in missing)])


if __name__ == "__main__":
    sys.exit(main())
