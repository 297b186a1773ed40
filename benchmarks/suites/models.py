"""Whole networks in inference, as files in our runtime and under `jax.jit`.

ResNet-18   images f32[batch, side, side, 3], channels last, batch norm from running averages
GPT-2       prefill: the logits of all tokens of a prompt; decode: those of one more token, whose
            keys and values are written among those of all before
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import jax
import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import ONNX_RUNTIME, Program, Unsupported
from . import _models_networks as networks

PEERS = ("jax", ONNX_RUNTIME)
RESNET = ((1, 32, 64), (32, 32, 64))
"""Batch, side of an image, outputs of the first convolution."""
GPT = (50257, 768, 12, 12)
"""Vocabulary, width, heads and blocks of GPT-2, the small one."""
CHOICE = {
    "ResNet-18": (RESNET, RESNET[:1]),
    "GPT-2, prefill": (((128, *GPT),), ((32, 512, 128, 4, 2),)),
    "GPT-2, decode": (((1024, *GPT),), ((64, 512, 128, 4, 2),)),
}
"""All shapes and those of a quick run. A GPT attends to as many tokens as its first extent says."""
TOLERANCE = 1e-4
"""Relative to the largest output: sums in another order, through all layers."""


def cases(options: Options) -> list[Case]:
    """Every network in its shapes."""
    return [
        Case(name, shape, _runner(name, shape))
        for name, (full, quick) in CHOICE.items()
        for shape in options.shapes_of(len(full[0]), quick, full)
    ]


def _runner(name: str, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, name, shape)


def _run(bench: Bench, name: str, shape: Shape) -> Row:
    network = networks.NETWORKS[name](shape)
    peers = [peer for peer in bench.peers(PEERS, PEERS) if peer in PEERS]
    calls, notes, _ = bench.compare(
        peers, lambda peer: program(network, peer, bench.threads), check
    )
    arrays = jax.tree.leaves((network.params, network.inputs, network.state))
    return bench.row(
        "models",
        name,
        shape,
        operations={"float32": 2 * network.products},
        size=float(sum(array.nbytes for array in arrays)),
        results=bench.time(calls),
        notes=notes,
    )


def program(network: networks.Network, name: str, threads: int) -> Program:
    """The network by ours or by a peer."""
    if name != ONNX_RUNTIME:
        load(name)
    elif importlib.util.find_spec(name) is None:
        raise Unsupported(f"there is no {name}: pip install '.[onnx]'")
    return importlib.import_module(f"._models_{name}", __package__).program(network, threads)


def check(name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the outputs differ."""
    (expected,), (got,) = (one.to_numpy(one.bind(0.0)()) for one in (ours, peer))
    if got.shape != expected.shape or got.dtype != np.float32:
        raise ValueError(
            f"{name}: returned {got.dtype}{list(got.shape)}, expected float32{list(expected.shape)}"
        )
    apart = float(np.abs(got - expected).max()) / float(np.abs(expected).max())
    if not apart <= TOLERANCE:
        raise ValueError(f"{name}: is {apart:.2g} off, expected at most {TOLERANCE:.2g}")
