"""What compares runs of the standard's own suite: on reports that pytest wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "array_api_tests.py"

TESTS = """
import os, pytest

OURS = os.environ["OURS"] == "yes"


@pytest.mark.parametrize("case", ["x -> 0", "y[0] < 1"])
def test_special(case):
    assert not OURS or "y" in case


def test_matmul():
    assert not OURS


def test_gained():
    assert OURS


@pytest.fixture
def broken():
    yield
    assert not OURS


def test_torn_down(broken):
    pass


def test_skipped():
    if OURS:
        pytest.skip("not here")


def test_never():
    pytest.skip("nowhere")


if not OURS:
    def test_missing():
        pass
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("array_api_tests_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_linalg.py").write_text(TESTS)
    texts = []
    for ours in ("no", "yes"):
        report = folder / f"{ours}.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        done = subprocess.run(
            [*command, f"--junitxml={report}", f"--rootdir={folder}"],
            cwd=folder, env={"OURS": ours}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stdout + done.stderr
        texts.append(report.read_text())
    return texts


def test_a_report_is_read(tool: ModuleType, reports: list[str]) -> None:
    peer, ours = map(tool.parsed, reports)
    assert peer == {
        "test_linalg::test_special[x -> 0]": "passed",
        "test_linalg::test_special[y[0] < 1]": "passed",
        "test_linalg::test_matmul": "passed",
        "test_linalg::test_gained": "failed",
        "test_linalg::test_torn_down": "passed",
        "test_linalg::test_skipped": "passed",
        "test_linalg::test_never": "skipped",
        "test_linalg::test_missing": "passed",
    }
    assert ours["test_linalg::test_torn_down"] == "failed"
    assert ours["test_linalg::test_gained"] == "passed"


def test_what_ours_loses_is_told(tool: ModuleType, reports: list[str]) -> None:
    peer, ours = map(tool.parsed, reports)
    lost = tool.lost(peer, ours, {"test_linalg::test_matmul"})
    assert lost == [
        f"test_linalg::test_{name}"
        for name in ("special[x -> 0]", "torn_down", "skipped", "missing")
    ]
    assert "test_linalg::test_matmul" in tool.lost(peer, ours)
    assert tool.lost(peer, peer) == []
    text = tool.summary({"jax.numpy": peer, "ideal": ours}, lost)
    assert text.splitlines() == [
        "jax.numpy        6 passed     1 failed     1 skipped",
        "ideal            2 passed     3 failed     2 skipped",
        "passed by the first and not by the second: 4",
        *(f"    {name}" for name in lost),
    ]
    assert tool.summary({}, []) == "passed by the first and not by the second: none"


def test_a_folder_without_the_suite_is_refused(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path)])
    assert "pass a checkout of data-apis/array-api-tests" in capsys.readouterr().err


def test_arguments_for_pytest_stand_behind_two_dashes(tool: ModuleType) -> None:
    own = ["suite", "--device", "ideal", "noisy"]
    assert tool.split([*own, "--", "-k", "linalg"]) == (own, ["-k", "linalg"])
    assert tool.split(own) == (own, [])


def test_devices_are_namespaces(tool: ModuleType) -> None:
    for device in tool.DEVICES:
        found: dict[str, object] = {}
        exec(tool.MODULES[device], found)
        assert f"on {device!r}" in repr(found["xp"])
