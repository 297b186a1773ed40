"""The benchmark of the convolution compares equal functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _equality, _peers  # noqa: E402
from benchmarks._problem import ADC_ONLY, ALL_BITS  # noqa: E402
from benchmarks.suites import conv  # noqa: E402


@pytest.mark.parametrize(
    ("direction", "groups", "workload"), [("forward", 1, ADC_ONLY), ("step", 2, ALL_BITS)]
)
@pytest.mark.parametrize("name", conv.PEERS)
def test_a_convolution_of_a_peer_is_ours(name: str, direction: str, groups: int, workload) -> None:
    try:
        _peers.load(name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    problem = conv.make(workload, (3, 5, 4, 6, groups))
    ours, peer = (
        getattr(importlib.import_module(f"benchmarks.suites._conv_{one}"), direction)(
            problem, groups
        )
        for one in ("ours", name)
    )
    _equality.check_quiet(problem, name, peer, ours)
    off = peer._replace(to_numpy=lambda result: (-peer.to_numpy(result)[0],))
    with pytest.raises(ValueError, match=rf"^{name}: "):
        _equality.check_quiet(problem, name, off, ours)
