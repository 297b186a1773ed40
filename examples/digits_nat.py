"""Trains digit classifiers for a noisy 4-bit optical chip, and runs the best kind without Python.

Three trainings of the same MLP, 64-64-64-10, which differ in what the forward pass goes through:

    fp32    float32 matmuls
    QAT     the 4-bit converters of the chip (quantization-aware)
    NAT     converters and 50 % multiplicative noise, four draws per image, with the weights
            clipped at 2.5 standard deviations (noise-aware)

The loss is the plain cross-entropy, the optimizer and the images are the same for all; smoothed
labels would make each of them more robust, and the lead of NAT over QAT smaller.

All meet 0 to 30 % noise on the 450 images that no training saw. The weights of fp32 are tested in
two ways: with noise alone, so that 0 % is the float32 accuracy, and on the chip, its converters
calibrated after training. The NAT model is then exported, and run by the `lumina` binary.

    python examples/digits_nat.py [--out DIR] [--seeds N] [--epochs N] [--draws N] [--quick]

writes model.lmn, robustness.png and report.json. Accuracies are percentages, means over training
seeds and draws of the noise; their spread is the standard deviation over training seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import deploy
import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import plots
from tqdm import tqdm

from lumina_jax import HardwareProfile, NoiseModel, export
from lumina_jax.hardware import Converters
from lumina_jax.layers import OpticalDense

CHIP = HardwareProfile(name="digits", converters=Converters.all(4), noise=NoiseModel(relative=0.3))
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
BATCH = 64

LEARNED = functools.partial(OpticalDense, profile=CHIP, ranges="learn")
CALIBRATED = functools.partial(OpticalDense, profile=CHIP)
NOISE_ALONE = functools.partial(OpticalDense, profile=None)


class Recipe(NamedTuple):
    """A way to train."""

    layer: Callable[..., nn.Module]
    noise: float = 0.0
    draws: int = 1
    clip: bool = False


RECIPES = {
    "fp32": Recipe(nn.Dense),
    "qat": Recipe(LEARNED),
    "nat": Recipe(LEARNED, noise=0.5, draws=4, clip=True),
}
ROWS = {
    "fp32": "fp32, no DAC/ADC",
    "fp32_4bit": "fp32, 4-bit chip",
    "qat": "QAT, 4-bit chip",
    "nat": "NAT, 4-bit chip",
}


def trainer(
    recipe: Recipe, data: digits.Split, epochs: int, progress: tqdm
) -> Callable[[int], digits.State]:
    """A function that trains from a seed: of the weights, the order of images, and the noise."""
    model = digits.Mlp(recipe.layer)
    steps = len(data.digits) // BATCH
    update = digits.optimizer(epochs * steps, clip=recipe.clip)
    options = {} if recipe.layer is nn.Dense else {"noise": NoiseModel(relative=recipe.noise)}
    images, labels = jnp.asarray(data.images), jnp.asarray(data.digits)

    @jax.jit
    def epoch(state: digits.State, key: jax.Array) -> digits.State:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(labels))[: steps * BATCH]

        def body(state: digits.State, batch: tuple[jax.Array, jax.Array]) -> Any:
            rows, key = batch
            return digits.step(
                model, update, state, images[rows], labels[rows], key, recipe.draws, **options
            )

        keys = jax.random.split(noise_key, steps)
        return jax.lax.scan(body, state, (order.reshape(steps, BATCH), keys))[0]

    def run(seed: int) -> digits.State:
        init_key, key = jax.random.split(jax.random.key(seed))
        state = digits.start(model, update, init_key)
        for i in range(epochs):
            state = jax.block_until_ready(epoch(state, jax.random.fold_in(key, i)))
            progress.update()
        return state

    return run


def calibrate(params: Any, data: digits.Split) -> dict[str, Any]:
    """Weights trained in float32, with the ranges that the training images need on the chip."""
    variables, key = {"params": params}, jax.random.key(0)
    model = digits.Mlp(CALIBRATED)
    _, ranges = digits.observe(model, variables, data.images, key, noise=NoiseModel())
    return {**variables, "ranges": ranges}


@functools.partial(jax.jit, static_argnames=("layer", "draws"))
def sweep(
    layer: Callable[..., nn.Module],
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    draws: int,
) -> jax.Array:
    """Accuracy in percent at each of LEVELS, f32[levels], averaged over draws of the noise."""

    def accuracy(level: jax.Array, key: jax.Array) -> jax.Array:
        noise = NoiseModel(relative=level)
        logits = digits.predict(digits.Mlp(layer), variables, images, key, noise=noise)
        return 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) == labels)

    over_draws = jax.vmap(accuracy, (None, 0))
    keys = jax.random.split(jax.random.key(0), draws)
    return jax.vmap(over_draws, (0, None))(jnp.asarray(LEVELS), keys).mean(axis=1)


def evaluate(
    states: dict[str, list[digits.State]], train: digits.Split, test: digits.Split, draws: int
) -> dict[str, np.ndarray]:
    """For each of ROWS, accuracies in percent: f32[seeds, levels]."""
    fp32 = [{"params": state.params} for state in states["fp32"]]
    tested = {
        "fp32": (NOISE_ALONE, fp32),
        "fp32_4bit": (CALIBRATED, [calibrate(v["params"], train) for v in fp32]),
        "qat": (LEARNED, [state.variables for state in states["qat"]]),
        "nat": (LEARNED, [state.variables for state in states["nat"]]),
    }
    return {
        row: np.stack([sweep(layer, v, test.images, test.digits, draws) for v in variables])
        for row, (layer, variables) in tested.items()
    }


def table(accuracy: dict[str, np.ndarray]) -> str:
    """Mean and spread of each row at each level."""
    lines = [
        "accuracy in % at a multiplicative noise of",
        " " * 17 + "".join(f"{level:>9.0%}" for level in LEVELS),
    ]
    for row, label in ROWS.items():
        cells = zip(accuracy[row].mean(0), accuracy[row].std(0), strict=True)
        lines.append(f"{label:<17}" + "".join(f"{m:5.1f}±{s:.1f}" for m, s in cells))
    return "\n".join(lines)


def by_level(values: np.ndarray) -> dict[str, float]:
    """Values by the level of noise: {"0.0": ..., "0.3": ...}."""
    return {str(level): round(float(v), 3) for level, v in zip(LEVELS, values, strict=True)}


def main() -> int:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="output folder")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per recipe")
    parser.add_argument("--epochs", type=int, default=40, help="epochs per training")
    parser.add_argument("--draws", type=int, default=20, help="draws of the noise per test")
    parser.add_argument("--quick", action="store_true", help="one short training per recipe")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs, args.draws = 1, 4, 3
    runtime = deploy.find()
    args.out.mkdir(parents=True, exist_ok=True)

    train, test = digits.load()
    begin = time.perf_counter()
    states: dict[str, list[digits.State]] = {}
    with tqdm(total=len(RECIPES) * args.seeds * args.epochs, unit="epoch") as progress:
        for name, recipe in RECIPES.items():
            progress.set_description(f"training {name}")
            run = trainer(recipe, train, args.epochs, progress)
            states[name] = [run(seed) for seed in range(args.seeds)]
    train_s = time.perf_counter() - begin
    accuracy = evaluate(states, train, test, args.draws)

    network, variables = digits.Mlp(LEARNED), states["nat"][0].variables

    def infer(variables: Any, images: jax.Array) -> jax.Array:
        return digits.predict(network, variables, images, deterministic=True)

    model = export.export(infer, test.images[:16], params=variables, batch="batch")
    path = model.save(args.out / "model.lmn")
    deploy.verify(runtime, path)
    expected = np.asarray(jax.jit(infer)(variables, test.images))
    got = deploy.run(runtime, path, test.images)
    parity = {
        "images": len(got),
        "max_abs_diff": float(np.abs(got - expected).max()),
        "argmax_agreement": float(np.mean(got.argmax(1) == expected.argmax(1))),
    }
    start_ms = deploy.start_ms(runtime, path, test.images[:1])

    plots.robustness(args.out / "robustness.png", LEVELS, accuracy, ROWS)
    mean = {row: values.mean(0) for row, values in accuracy.items()}
    report = {
        "accuracy": {row: by_level(values) for row, values in mean.items()},
        "accuracy_std": {row: by_level(values.std(0)) for row, values in accuracy.items()},
        "accuracy_unit": "percent",
        "seeds": args.seeds,
        "noise_draws": args.draws,
        "parity": parity,
        "lmn_bytes": path.stat().st_size,
        "runtime_start_ms": round(start_ms, 2),
        "train_s": round(train_s, 2),
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")

    print(f"\n{table(accuracy)}\n")
    print(
        f"{args.seeds} trainings each, {args.draws} draws of the noise, {train_s:.0f} s\n"
        f"NAT against QAT at 30 % noise: {mean['nat'][-1] - mean['qat'][-1]:+.1f} points; "
        f"against fp32 without noise: {mean['nat'][0] - mean['fp32'][0]:+.1f} points\n"
        f"`lumina run` against JAX, {parity['images']} images: "
        f"argmax agreement {parity['argmax_agreement']}, max |Δ| {parity['max_abs_diff']:.1e}\n"
        f"{path}: {report['lmn_bytes']} bytes, verified, one image in {start_ms:.1f} ms "
        "with the start of the process\n"
        f"{args.out / 'robustness.png'}, {args.out / 'report.json'}"
    )
    if parity["argmax_agreement"] < 1.0 or parity["max_abs_diff"] > 1e-5:
        print("the runtime and JAX differ by more than 1e-5", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
