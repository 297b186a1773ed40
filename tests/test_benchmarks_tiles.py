"""The benchmark of array tiles compares equal functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _options, _peers  # noqa: E402
from benchmarks._problem import ADC_ONLY, ALL_BITS  # noqa: E402
from benchmarks.suites import _tiles_problem, tiles  # noqa: E402


@pytest.mark.parametrize(
    ("direction", "workload", "noisy"),
    [("forward", ADC_ONLY, True), ("step", ALL_BITS, True), ("step", ADC_ONLY, False)],
)
@pytest.mark.parametrize("name", tiles.PEERS)
def test_the_tiles_of_a_peer_are_ours(name: str, direction: str, workload, noisy: bool) -> None:
    problem = _tiles_problem.make(workload, (64, 11, 9, 4), noisy=noisy)
    try:
        peer = tiles.program(problem, name, direction)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    ours = tiles.program(problem, "ours", direction)
    tiles.check(problem, name, peer, ours)
    whole = tiles.program(problem, _peers.ONE_ARRAY, direction)
    with pytest.raises(ValueError, match=rf"^{name}: .* outputs differ by up to"):
        tiles.check(problem, name, peer, whole)
    if noisy:
        louder = peer._replace(bind=lambda level: peer.bind(2 * level))
        with pytest.raises(ValueError, match=rf"^{name}: the noise is \S+ times ours"):
            tiles.check(problem, name, louder, ours)


def test_the_choice_of_cases() -> None:
    options = _options.Options(suites=("tiles",))
    cases = tiles.cases(options)
    assert len({(case.workload, case.shape) for case in cases}) == len(cases) == 8 * 4
    assert {case.shape[3] for case in cases} == {64, 128}
