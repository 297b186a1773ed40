"""The benchmark of attention compares equal functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _peers  # noqa: E402
from benchmarks.suites import attention  # noqa: E402


@pytest.mark.parametrize("direction", ["forward", "step"])
@pytest.mark.parametrize("name", attention.PEERS)
def test_the_attention_of_a_peer_is_ours(name: str, direction: str) -> None:
    try:
        _peers.load(name)
    except _peers.Unsupported as reason:
        pytest.skip(str(reason))
    operands = attention.operands_of((2, 9, 3, 4))
    ours, peer = (
        getattr(importlib.import_module(f"benchmarks.suites._attention_{one}"), direction)(
            *operands
        )
        for one in ("ours", name)
    )
    attention.check(name, peer, ours)
    last = 0 if direction == "forward" else 3

    def changed(change: np.ndarray) -> _peers.Program:
        def to_numpy(results: object) -> tuple[np.ndarray, ...]:
            *others, one = peer.to_numpy(results)
            return (*others, (one + change)[:, : 9 - int(change.size > 1)])

        return peer._replace(to_numpy=to_numpy)

    with pytest.raises(ValueError, match=rf"^{name}: result {last} is .* off, expected at most "):
        attention.check(name, changed(np.float32(1e-3).reshape(1)), ours)
    with pytest.raises(ValueError, match=rf"^{name}: result {last} is float32\[2, 8, 3, 4\], exp"):
        attention.check(name, changed(np.zeros(4, np.float32)), ours)
