"""The benchmark of complex products compares equal functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _peers  # noqa: E402
from benchmarks.suites import complex as suite  # noqa: E402


@pytest.mark.parametrize("workload", suite.WORKLOADS)
@pytest.mark.parametrize("name", suite.PEERS)
def test_a_product_of_a_peer_is_ours(name: str, workload: str) -> None:
    try:
        _peers.load(name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    problem = suite.make((5, 40, 9))
    ours, peer = (
        getattr(importlib.import_module(f"benchmarks.suites._complex_{one}"), workload)(problem)
        for one in ("ours", name)
    )
    suite.check(problem, workload, name, peer, ours)
    # The last result: of a step, a gradient.
    *others, last = peer.to_numpy(peer.bind(0.0)())
    off = peer._replace(to_numpy=lambda result: (*others, 2 * last))
    with pytest.raises(ValueError, match=rf"^{name}: (is .* off, expected at most|more than 1 %)"):
        suite.check(problem, workload, name, off, ours)
    cut = peer._replace(to_numpy=lambda result: (*others, last[:1]))
    with pytest.raises(ValueError, match=rf"^{name}: returned complex64\[1, 9\], expected "):
        suite.check(problem, workload, name, cut, ours)
    # With noise, another result than without.
    if workload != "product":
        noisy, quiet = (peer.to_numpy(peer.bind(level)())[0] for level in (0.1, 0.0))
        assert np.any(noisy != quiet)
