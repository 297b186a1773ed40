"""The benchmark of whole networks compares equal functions."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import _options, _peers  # noqa: E402
from benchmarks.suites import _models_networks, models  # noqa: E402

SHAPES = {
    "ResNet-18": (2, 8, 4),
    "GPT-2, prefill": (6, 11, 16, 4, 2),
    "GPT-2, decode": (8, 11, 16, 4, 2),
}


@pytest.fixture(autouse=True)
def _as_users_write() -> Iterator[None]:
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", models.CHOICE)
def test_a_network_of_a_peer_is_ours(name: str) -> None:
    network = _models_networks.NETWORKS[name](SHAPES[name])
    assert network.products > 0
    ours, peer = (models.program(network, one, 1) for one in ("ours", "jax"))
    # Twice: what one call keeps, the next one reads.
    for _ in range(2):
        models.check("jax", peer, ours)
    off = peer._replace(to_numpy=lambda result: (peer.to_numpy(result)[0] + np.float32(1e-2),))
    with pytest.raises(ValueError, match=r"^jax: is 0\.\d+ off, expected at most 0\.0001"):
        models.check("jax", off, ours)
    cut = peer._replace(to_numpy=lambda result: (peer.to_numpy(result)[0][..., :1],))
    with pytest.raises(ValueError, match=r"^jax: returned float32\[.*1\], expected float32\["):
        models.check("jax", cut, ours)


@pytest.mark.parametrize("name", models.CHOICE)
def test_a_converted_network_is_ours(
    name: str, lumina: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("LUMINA_BIN", str(lumina))
    network = _models_networks.NETWORKS[name](SHAPES[name])
    ours, peer = (models.program(network, one, 1) for one in ("ours", "onnxruntime"))
    for _ in range(2):
        models.check("onnxruntime", peer, ours)


def test_a_peer_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _models_networks.NETWORKS["ResNet-18"](SHAPES["ResNet-18"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(_peers.Unsupported, match=r"^there is no onnxruntime: pip install"):
        models.program(network, "onnxruntime", 1)


def test_the_choice_of_cases() -> None:
    for quick in (False, True):
        cases = models.cases(_options.Options(suites=("models",), quick=quick))
        assert [case.workload for case in cases] == [
            *["ResNet-18"] * (1 if quick else 2),
            "GPT-2, prefill",
            "GPT-2, decode",
        ]
