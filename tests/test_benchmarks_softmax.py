"""The benchmark of the softmax compares equal functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _peers  # noqa: E402
from benchmarks.suites import softmax  # noqa: E402


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", softmax.PEERS)
def test_a_softmax_of_a_peer_is_ours(name: str, direction: str) -> None:
    try:
        _peers.load(name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal((2, 5, 9), np.float32) for _ in range(2)]
    ours, peer = (
        getattr(importlib.import_module(f"benchmarks.suites._softmax_{one}"), direction)(*operands)
        for one in ("ours", name)
    )
    softmax.check(name, peer, ours)
    off = peer._replace(to_numpy=lambda result: (peer.to_numpy(result)[0] + np.float32(1e-4),))
    with pytest.raises(ValueError, match=rf"^{name}: is 0\.0001 off, expected at most "):
        softmax.check(name, off, ours)
    cut = peer._replace(to_numpy=lambda result: (peer.to_numpy(result)[0][:1],))
    with pytest.raises(ValueError, match=rf"^{name}: returned float32\[1, 5, 9\], expected "):
        softmax.check(name, cut, ours)
