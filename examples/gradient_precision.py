"""Trains digit classifiers with gradients in float32, bfloat16 and 8 bits, and compares them.

Two MLPs, 64-64-64-10 and 64-512-512-10, on a chip with 8-bit converters and 10 % multiplicative
noise. Forward passes are the same for all; the matrix products of the backward pass are computed
in one of the three precisions. All start from the same weights, see the same images in the same
order, and the same noise.

    python examples/gradient_precision.py [--out DIR] [--seeds N] [--epochs N] [--draws N] [--quick]

writes gradient_precision.png and gradient_precision.json. Accuracies are percentages on the 450
images that no training saw, means over training seeds and draws of the noise; their spread is the
standard deviation over training seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import digits
import jax
import jax.numpy as jnp
import numpy as np
import plots
from tqdm import tqdm

from lumina_jax import NoiseModel, OpticalSpec
from lumina_jax.layers import OpticalDense
from lumina_jax.spec import GradPrecision

PRECISIONS: tuple[GradPrecision, ...] = get_args(GradPrecision)
NETWORKS = {"64-64-64-10": (64, 64, 10), "64-512-512-10": (512, 512, 10)}
NOISE = NoiseModel(relative=0.1)
BATCH = 64


class Result(NamedTuple):
    """Of one network at one precision."""

    loss: np.ndarray
    """Mean training loss of each epoch, f32[seeds, epochs]."""
    accuracy: np.ndarray
    """In percent on the test images, f32[seeds]."""


def network(widths: tuple[int, ...], precision: GradPrecision) -> digits.Mlp:
    """An MLP on the chip."""
    spec = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8, grad_precision=precision)
    return digits.Mlp(functools.partial(OpticalDense, profile=None, spec=spec, noise=NOISE), widths)


def trainer(
    model: digits.Mlp, data: digits.Split, epochs: int, progress: tqdm
) -> Callable[[int], tuple[digits.State, list[float]]]:
    """A function that trains from a seed: of the weights, the order of images, and the noise."""
    steps = len(data.digits) // BATCH
    update = digits.optimizer(epochs * steps, clip=False)
    images, labels = jnp.asarray(data.images), jnp.asarray(data.digits)

    @jax.jit
    def epoch(state: digits.State, key: jax.Array) -> tuple[digits.State, jax.Array]:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(labels))[: steps * BATCH]

        def body(state: digits.State, batch: tuple[jax.Array, jax.Array]) -> Any:
            rows, key = batch
            return digits.step(model, update, state, images[rows], labels[rows], key)

        batches = order.reshape(steps, BATCH), jax.random.split(noise_key, steps)
        state, losses = jax.lax.scan(body, state, batches)
        return state, losses.mean()

    def run(seed: int) -> tuple[digits.State, list[float]]:
        init_key, key = jax.random.split(jax.random.key(seed))
        state = digits.start(model, update, init_key)
        losses = []
        for i in range(epochs):
            state, loss = epoch(state, jax.random.fold_in(key, i))
            losses.append(float(loss))
            progress.update()
        return state, losses

    return run


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def accuracy(model: digits.Mlp, variables: Any, data: digits.Split, draws: int) -> jax.Array:
    """In percent, averaged over draws of the noise."""

    def of_key(key: jax.Array) -> jax.Array:
        logits = digits.predict(model, variables, data.images, key)
        return 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) == data.digits)

    return jax.vmap(of_key)(jax.random.split(jax.random.key(0), draws)).mean()


def table(results: dict[str, dict[str, Result]]) -> str:
    """Accuracy and last training loss, mean and spread, of each network and precision."""
    lines = [f"{'network':<15}{'gradient':<10}{'accuracy, %':>15}{'training loss':>20}"]
    for name, by_precision in results.items():
        for precision, (losses, accuracies) in by_precision.items():
            last = losses[:, -1]
            cells = (
                f"{accuracies.mean():.2f} ± {accuracies.std():.2f}",
                f"{last.mean():.4f} ± {last.std():.4f}",
            )
            lines.append(f"{name:<15}{precision:<10}{cells[0]:>15}{cells[1]:>20}")
    return "\n".join(lines)


def main() -> int:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="output folder")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per network and precision")
    parser.add_argument("--epochs", type=int, default=20, help="epochs per training")
    parser.add_argument("--draws", type=int, default=20, help="draws of the noise per test")
    parser.add_argument("--quick", action="store_true", help="one short training of each")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs, args.draws = 1, 3, 3
    args.out.mkdir(parents=True, exist_ok=True)

    train, test = digits.load()
    results: dict[str, dict[str, Result]] = {}
    trainings = len(NETWORKS) * len(PRECISIONS) * args.seeds
    with tqdm(total=trainings * args.epochs, unit="epoch") as progress:
        for name, widths in NETWORKS.items():
            results[name] = {}
            for precision in PRECISIONS:
                progress.set_description(f"{name}, {precision}")
                model = network(widths, precision)
                run = trainer(model, train, args.epochs, progress)
                states, losses = zip(*(run(seed) for seed in range(args.seeds)), strict=True)
                accuracies = [
                    float(accuracy(model, state.variables, test, args.draws)) for state in states
                ]
                results[name][precision] = Result(np.array(losses), np.array(accuracies))

    plots.gradient_precision(
        args.out / "gradient_precision.png",
        {name: {p: r.accuracy for p, r in of.items()} for name, of in results.items()},
        {name: {p: r.loss for p, r in of.items()} for name, of in results.items()},
    )
    report = {
        name: {p: {"accuracy": r.accuracy.tolist(), "loss": r.loss.tolist()} for p, r in of.items()}
        for name, of in results.items()
    }
    (args.out / "gradient_precision.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{table(results)}\n\n{args.seeds} trainings of {args.epochs} epochs each")
    print(f"{args.out / 'gradient_precision.png'}, {args.out / 'gradient_precision.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
