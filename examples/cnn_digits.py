"""Puts a plain Flax CNN for handwritten digits on a noisy 4-bit chip, with and without training.

The CNN knows nothing of optics. It is trained

    clean    in float32, then converted, its ranges calibrated
    NAT      converted, with the converters and 30 % multiplicative noise in the loop

and both meet 0 to 30 % noise on the 450 images that no training saw.

    python examples/cnn_digits.py [--out DIR] [--epochs N] [--seeds N]

writes cnn_digits.png and cnn_digits.json. Accuracies are percentages, means over training seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import plots

from lumina_jax import ConversionRule, HardwareProfile, NoiseModel, calibrate, convert
from lumina_jax.hardware import Converters

CHIP = HardwareProfile(name="4 bit", converters=Converters.all(4))
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
LABELS = {"clean": "trained clean, then calibrated", "nat": "trained with 30 % noise"}
BATCH = 64


class Cnn(nn.Module):
    """Two convolutions, of which the second one halves the image, and two dense layers."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits f32[n, 10] of images f32[n, 64]."""
        x = images.reshape(-1, 8, 8, 1)
        x = nn.relu(nn.Conv(16, (3, 3))(x))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def on_chip(noise: Any) -> nn.Module:
    """The CNN on the chip; the level of the noise may be traced, so that a sweep compiles once."""
    return convert(Cnn(), ConversionRule(profile=CHIP, noise=NoiseModel(relative=noise)))


@functools.partial(jax.jit, static_argnames="model")
def epoch(
    model: nn.Module, variables: Any, moments: Any, order: jax.Array, key: jax.Array, data: Any
) -> tuple[Any, Any]:
    """Variables and state of the optimizer after all batches that `order` i32[n, batch] names."""

    def step(state: Any, batch: Any) -> tuple[Any, None]:
        variables, moments = state
        index, key = batch

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, ranges = model.apply(
                {**variables, "params": params},
                data.images[index],
                rngs={"noise": key},
                mutable=["ranges"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.digits[index])
            return losses.mean(), ranges

        grads, ranges = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = OPTIMIZER.update(grads, moments, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, **ranges, "params": params}, moments), None

    keys = jax.random.split(key, len(order))
    return jax.lax.scan(step, (variables, moments), (order, keys))[0]


OPTIMIZER = optax.adam(2e-3)


def train(model: nn.Module, data: digits.Split, epochs: int, seed: int) -> Any:
    """Variables after so many epochs."""
    key = jax.random.key(seed)
    data = jax.tree.map(jnp.asarray, data)
    variables = model.init(key, data.images[:1])
    moments = OPTIMIZER.init(variables["params"])
    for i in range(epochs):
        shuffle, noise = jax.random.split(jax.random.fold_in(key, i))
        count = len(data.digits) // BATCH * BATCH
        order = jax.random.permutation(shuffle, len(data.digits))[:count].reshape(-1, BATCH)
        variables, moments = epoch(model, variables, moments, order, noise, data)
    return variables


@jax.jit
def accuracy(variables: Any, data: Any, level: jax.Array) -> jax.Array:
    """Percentage of right answers at a level of noise, over eight draws of it."""

    def of_draw(key: jax.Array) -> jax.Array:
        logits = on_chip(level).apply(variables, data.images, rngs={"noise": key})
        return jnp.mean((logits.argmax(-1) == data.digits).astype(jnp.float32))

    return 100 * jax.lax.map(of_draw, jax.random.split(jax.random.key(0), 8)).mean()


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/cnn_digits"))
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, test = digits.load()
    plain, chip = Cnn(), on_chip(0.3)

    rows: dict[str, list[Any]] = {name: [] for name in LABELS}
    in_float32 = []
    for seed in range(args.seeds):
        clean = train(plain, data, args.epochs, seed)
        logits = plain.apply(clean, test.images)
        in_float32.append(100 * np.mean(np.argmax(logits, -1) == test.digits))
        fresh = chip.init(jax.random.key(seed), data.images[:1])
        batches = np.split(data.images[:1280], 10)
        calibration = calibrate(
            chip, batches, variables={**fresh, **clean}, method="mse", progress=False
        )
        aware = train(chip, data, args.epochs, seed)
        for name, variables in (("clean", calibration.variables), ("nat", aware)):
            rows[name].append([float(accuracy(variables, test, level)) for level in LEVELS])
    print(f"{chip.report}\n\n{calibration}\n")

    table = {name: np.asarray(row) for name, row in rows.items()}
    print(f"trained clean, in float32: {np.mean(in_float32):.1f} %")
    print("noise".ljust(32), *(f"{100 * level:5.0f} %" for level in LEVELS))
    for name, label in LABELS.items():
        print(label.ljust(32), *(f"{value:5.1f} %" for value in table[name].mean(0)))
    plots.robustness(args.out / "cnn_digits.png", LEVELS, table, LABELS)
    report = {"float32": float(np.mean(in_float32)), "noise": LEVELS, **rows}
    (args.out / "cnn_digits.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
