"""Whole training steps as users write them: model, loss, gradient, optimizer, in one call.

A step begins with a batch that is on the device and ends when its loss is there. Everything is as
a user finds it: running ranges, and the allocator without settings.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from .. import _profile
from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import OURS, Program
from .._problem import ADC_ONLY, ALL_BITS, RELATIVE
from . import _train_problem
from ._train_problem import Method, Training
from .step import INT8

PEERS = ("jax", "torch")
MODEL = (784, 512, 512, 10)
"""Inputs, widths of the layers, classes."""
CNN = (32, 28, 1, 32, 64, 10)
"""Batch, side, channels, outputs of the convolutions, classes."""
GPT = (8, 128, 64, 128, 4, 512, 2)
"""Batch, length, vocabulary, width, heads, width within an MLP, blocks."""


class _Chosen(NamedTuple):
    """A method, and the shapes it is measured with."""

    method: Method
    full: tuple[Shape, ...]
    quick: tuple[Shape, ...] = ()


def _mlps(*batches: int) -> tuple[Shape, ...]:
    return tuple((batch, *MODEL) for batch in batches)


CHOICE = (
    _Chosen(Method(ADC_ONLY.name, ADC_ONLY), _mlps(1, 32, 128, 1024), _mlps(32, 128)),
    _Chosen(Method(ALL_BITS.name, ALL_BITS), _mlps(1, 32, 128, 1024), _mlps(32, 128)),
    _Chosen(Method(INT8.name, INT8), _mlps(32, 128, 1024), _mlps(128)),
    _Chosen(Method(f"{ALL_BITS.name}, Adam", ALL_BITS, optimizer="adam"), _mlps(128)),
    _Chosen(Method(f"{ALL_BITS.name}, learned ranges", ALL_BITS, ranges="learn"), _mlps(128)),
    _Chosen(Method(f"{ALL_BITS.name}, NNX", ALL_BITS, family="nnx"), _mlps(128)),
    _Chosen(Method("CNN, Adam", ALL_BITS, optimizer="adam", network="cnn"), (CNN,)),
    _Chosen(Method("GPT, Adam", ALL_BITS, optimizer="adam", network="gpt"), (GPT,)),
)
"""Batch sizes for those who choose converters, at one of them what other choices cost, and other
networks."""

LOSS = {"float32": 0.05, "int8": 0.2}
ADAM = 0.2
"""Difference of two losses, over what training changes of them, by the precision of our gradient.

A loss is compared when its batch comes first and when it comes again; what training changes is the
root mean square of the differences between the two. float32: sums in another order tip a code over
the middle between two now and then. The loss moves by far less, but twice as much with every step
that follows, which after eight of them is half of this with the largest models. int8: every product
of the gradient is 2 % of its norm off, at random, which in a small model is a tenth of what a few
steps change. Adam: its first steps are as long for the smallest gradients as for the largest, and
the smallest are those that a tipped code changes.
"""
DRAWS = 24
NOISE = 2.5
"""Factor between the noise of two losses, each a root mean square of 24 draws.

The ratio of two such mean squares is beyond 2.5² once in thirty thousand times.
"""


def cases(options: Options) -> list[Case]:
    """Shapes are the batch and the network; their rank says of which."""
    return [
        Case(method.name, shape, _runner(method, shape))
        for method, full, quick in CHOICE
        if quick or not options.quick
        for shape in options.shapes_of(len(full[0]), quick, full)
    ]


def _runner(method: Method, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, method, shape)


def _run(bench: Bench, method: Method, shape: Shape) -> Row:
    training = _train_problem.make(method, shape)
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]
    calls, notes, ours = bench.compare(
        peers,
        lambda name: program(training, name),
        lambda name, peer, ours: check(training, name, peer, ours),
    )
    results = bench.time(calls)
    profile = None
    if bench.options.profile and ours and ours.hlo:
        steps = min(100, max(8, round(1 / results[OURS]["median"])))
        try:
            profile = _profile.profile(calls[OURS], ours.hlo(RELATIVE), steps)
        except ValueError as error:
            notes[OURS] = f"no profile: {error}"
    params = sum(array.size for array in jax.tree.leaves(training.params))
    return bench.row(
        "train",
        method.name,
        shape,
        operations=_operations(training),
        # The batch once, and parameters once each way.
        size=4.0 * (training.batches[0][0].size + 2 * params),
        normals=training.normals,
        results=results,
        notes=notes,
        profile=profile,
    )


def program(training: Training, name: str) -> Program:
    """The training of ours or of a peer; a call is one step."""
    load(name)
    return importlib.import_module(f"._train_{name}", __package__).program(training)


def check(training: Training, name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the losses differ without noise, or how their noise does."""
    first = len(training.batches)
    expected, got = (_losses(one, 0.0, 2 * first) for one in (ours, peer))
    change = np.sqrt(np.mean((expected[first:] - expected[:first]) ** 2))
    share = LOSS[training.method.workload.grad_precision]
    allowed = change * (max(share, ADAM) if training.method.optimizer == "adam" else share)
    for step, (mine, theirs) in enumerate(zip(expected, got, strict=True)):
        if not abs(theirs - mine) <= allowed:
            raise ValueError(
                f"{name}: the loss of step {step + 1} is {theirs:.5g}, expected {mine:.5g} within "
                f"{allowed:.2g}, as training changes it by {change:.2g}"
            )
    mine, theirs = (_noise(one, expected[0]) for one in (ours, peer))
    if not mine / NOISE <= theirs <= NOISE * mine:
        raise ValueError(
            f"{name}: the noise of the first loss is {theirs:.3g}, expected {mine:.3g} within a "
            f"factor of {NOISE:g}"
        )


def _losses(one: Program, level: float, steps: int) -> np.ndarray:
    step = one.bind(level)
    return np.array([one.to_numpy(step())[0] for _ in range(steps)], np.float64)


def _noise(one: Program, quiet: float) -> float:
    noisy = np.concatenate([_losses(one, RELATIVE, 1) for _ in range(DRAWS)])
    return float(np.sqrt(np.mean((noisy - quiet) ** 2)))


def _operations(training: Training) -> dict[str, float]:
    """Two for each product and sum; images have no gradient, but a table of tokens has."""
    workload, products = training.method.workload, training.products
    kind = "int8" if workload.dac_bits else "float32"
    operations: dict[str, float] = {kind: sum(products)}
    gradient = workload.grad_precision
    backward = 2 * sum(products) - (products[0] if training.method.network != "gpt" else 0)
    operations[gradient] = operations.get(gradient, 0.0) + backward
    return operations
