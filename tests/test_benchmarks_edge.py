"""The benchmark of rows on weights of few bits compares equal numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _options  # noqa: E402
from benchmarks._bench import Bench, Case  # noqa: E402
from benchmarks.suites import edge  # noqa: E402


@pytest.fixture(autouse=True)
def _as_users_write() -> Iterator[None]:
    with jax.numpy_rank_promotion("allow"):
        yield


def test_all_cases_run_and_equal_their_peer(lumina: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINA_BIN", str(lumina))
    shapes = ((40, 24), (8, 11, 16, 4, 2))
    choice = _options.Options(suites=("edge",), quick=True, peers=("jax",), shapes=shapes)
    bench = Bench(choice, 1)
    cases: list[Case] = edge.cases(choice)
    assert len({case.workload for case in cases}) == 10
    for case in cases:
        row = case.run(bench)
        peers = set() if case.workload.startswith("first token") else {"jax"}
        assert set(row["results"]) == {"ours", *peers}, (case.workload, row["notes"])
        assert row["bytes"] > 0
