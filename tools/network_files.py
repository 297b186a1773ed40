"""Writes small networks with test vectors: python tools/network_files.py.

The runtime's tests verify them on every CPU. The outputs in them are those that JAX computed on an
x86-64 one. Files that are there are left as they are: they are to load and to verify forever.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.suites import _models_networks as networks  # noqa: E402
from lumina_jax import HardwareProfile, NoiseModel, export, layers  # noqa: E402
from lumina_jax.hardware import Converters  # noqa: E402

FOLDER = ROOT / "runtime" / "tests" / "networks"
TOLERANCE = 1e-5
"""Of floats: sums in another order."""
CHIP = HardwareProfile(name="8 bit", converters=Converters.all(8))


def main() -> int:
    """Writes the files that are missing."""
    FOLDER.mkdir(exist_ok=True)
    for name, model in models():
        path = FOLDER / f"{name}.lmn"
        if not path.exists():
            print(f"{path}: {model().save(path).stat().st_size} bytes")
    return 0


def models() -> Iterator[tuple[str, Any]]:
    """Names, and who exports the network."""
    cnn, gpt = networks.resnet((2, 8, 4)), networks.prefill((12, 64, 32, 4, 2))
    for ending, fuse in (("", False), ("_fused", True)):
        yield f"cnn{ending}", functools.partial(of, cnn, fuse)
        yield f"gpt{ending}", functools.partial(of, gpt, fuse)
    yield "optical_cnn", optical_cnn


def of(network: networks.Network, fuse: bool) -> export.Model:
    """Logits, and which is the largest: a number that no rounding may change."""

    def function(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = network.function(params, x)
        return logits, jnp.argmax(logits, axis=-1)

    return export.export(
        function,
        *network.inputs,
        params=network.params,
        batch="batch",
        rtol=TOLERANCE,
        fuse=fuse,
    )


class OpticalCnn(nn.Module):
    """Converters and noise everywhere: all of it is the same on every CPU, to the bit."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits f32[n, 10] of images f32[n, 8, 8, 1]."""
        chip: dict[str, Any] = {"profile": CHIP, "noise": NoiseModel(relative=0.05)}
        x = nn.relu(layers.linen.OpticalConv(8, 3, **chip)(images))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(layers.linen.OpticalConv(16, 3, strides=2, **chip)(x))
        return layers.linen.OpticalDense(10, **chip)(x.reshape(x.shape[0], -1))


def optical_cnn() -> export.Model:
    """Of calibrated ranges, with the key of the noise as an argument."""
    images = np.random.default_rng(0).standard_normal((3, 8, 8, 1), np.float32)
    net, key = OpticalCnn(), jax.random.key(0)
    variables = net.init({"params": key, "noise": key}, images)
    _, ranges = net.apply(variables, images, rngs={"noise": key}, mutable=["ranges"])
    variables = {**variables, **ranges}

    def function(images: jax.Array, key: jax.Array) -> jax.Array:
        return net.apply(variables, images, rngs={"noise": key})

    # Nothing but the very bits.
    return export.export(function, images, key, batch="batch", rtol=0.0, atol=0.0)


if __name__ == "__main__":
    sys.exit(main())
