"""Trains a coherent network that reads code words from fields, where the phase is what matters.

A sender has 32 code words of 16 QPSK symbols, each one of four phases. The symbols fade at random,
the oscillator of the receiver has any phase, the channel, a random scattering medium that is the
same for all, mixes the modes, and the receiver adds noise. Two networks of as many real parameters
tell which word was sent:

    coherent      complex layers on the field: ComplexOpticalDense, modReLU, and detection |z|²
    magnitudes    real layers on |field|, as photodiodes before the network give: OpticalDense, ReLU

Both are trained on an 8-bit chip, with and without its noise, and meet 0 to 30 % noise on fields
that no training saw.

    python examples/complex_mlp.py [--out DIR] [--seeds N] [--epochs N] [--draws N] [--quick]

writes complex.png and complex.json. Accuracies are percentages, means over training seeds and draws
of the noise; their spread is the standard deviation over training seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import plots

from lumina_jax import HardwareProfile, NoiseModel
from lumina_jax.hardware import Converters
from lumina_jax.layers import ComplexOpticalDense, OpticalDense, detect, mod_relu, unitary

CHIP = HardwareProfile(name="coherent", converters=Converters.all(8), noise=NoiseModel())
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
WORDS, MODES, HIDDEN, BATCH = 32, 16, 24, 100
RECEIVER_NOISE = 0.4
ROWS = {
    "magnitudes": "magnitudes, trained without noise",
    "magnitudes_noisy": "magnitudes, trained with noise",
    "coherent": "coherent, trained without noise",
    "coherent_noisy": "coherent, trained with noise",
}


class Fields(NamedTuple):
    """What arrives, and what was sent."""

    fields: jax.Array
    """c64[fields, MODES]"""
    words: jax.Array
    """i32[fields]"""


def receive(key: jax.Array, count: int) -> Fields:
    """So many fields, through the one channel."""
    codes = jax.random.randint(jax.random.key(100), (WORDS, MODES), 0, 4)
    symbols = jnp.exp(1j * (math.pi / 4 + math.pi / 2 * codes))
    channel = unitary()(jax.random.key(101), (MODES, MODES), jnp.complex64)
    word_key, fading_key, phase_key, noise_key = jax.random.split(key, 4)
    words = jax.random.randint(word_key, (count,), 0, WORDS)
    fading = jax.random.rayleigh(fading_key, jnp.ones((count, MODES)))
    phase = jnp.exp(1j * jax.random.uniform(phase_key, (count, 1), maxval=2 * math.pi))
    noise = RECEIVER_NOISE * jax.random.normal(noise_key, (count, MODES), jnp.complex64)
    return Fields((phase * fading * symbols[words]) @ channel + noise, words)


class Coherent(nn.Module):
    """Fields in, powers out."""

    @nn.compact
    def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
        """Logits f32[..., WORDS]."""
        layer = functools.partial(ComplexOpticalDense, profile=CHIP, ranges="learn")
        threshold = self.param("threshold", nn.initializers.constant(-0.1), (HIDDEN,))
        x = mod_relu(layer(HIDDEN)(x, **options), threshold)
        return detect(layer(WORDS)(x, **options))


class Magnitudes(nn.Module):
    """The same of magnitudes, as wide as as many real parameters make it."""

    @nn.compact
    def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
        """Logits f32[..., WORDS]."""
        layer = functools.partial(OpticalDense, profile=CHIP, ranges="learn")
        x = nn.relu(layer(2 * HIDDEN)(jnp.abs(x), **options))
        return layer(WORDS)(x, **options)


KINDS: dict[str, Callable[[], nn.Module]] = {"coherent": Coherent, "magnitudes": Magnitudes}


def train(kind: str, data: Fields, level: float, epochs: int, seed: int) -> Any:
    """The variables after so many epochs at that relative noise."""
    model, noise = KINDS[kind](), NoiseModel(relative=level)
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = model.init(init_key, data.fields[:1], deterministic=True)
    steps = len(data.words) // BATCH
    optimizer = optax.contrib.split_real_and_imaginary(
        optax.adam(optax.cosine_decay_schedule(1e-2, epochs * steps))
    )

    def loss(params: Any, ranges: Any, batch: Fields, key: jax.Array) -> Any:
        logits, updated = model.apply(
            {"params": params, "ranges": ranges}, batch.fields, rngs={"noise": key},
            mutable=["ranges"], noise=noise,
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.words)
        return losses.mean(), updated["ranges"]

    def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        (params, ranges, state), (rows, key) = carry, batch
        batch_of = Fields(data.fields[rows], data.words[rows])
        gradients, ranges = jax.grad(loss, has_aux=True)(params, ranges, batch_of, key)
        # JAX gives the conjugate of the direction in which a complex parameter raises the loss.
        gradients = jax.tree.map(jnp.conj, gradients)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), ranges, state), None

    @jax.jit
    def epoch(carry: Any, key: jax.Array) -> Any:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(data.words))[: steps * BATCH]
        batches = order.reshape(steps, BATCH), jax.random.split(noise_key, steps)
        return jax.lax.scan(step, carry, batches)[0]

    carry = variables["params"], variables["ranges"], optimizer.init(variables["params"])
    for epoch_key in jax.random.split(key, epochs):
        carry = epoch(carry, epoch_key)
    return {"params": carry[0], "ranges": carry[1]}


@functools.partial(jax.jit, static_argnames=("kind", "draws"))
def sweep(kind: str, variables: Any, data: Fields, draws: int) -> jax.Array:
    """Accuracy in percent at each of LEVELS, f32[levels], averaged over draws of the noise."""

    def accuracy(level: jax.Array, key: jax.Array) -> jax.Array:
        logits = KINDS[kind]().apply(
            variables, data.fields, rngs={"noise": key}, noise=NoiseModel(relative=level)
        )
        return 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) == data.words)

    keys = jax.random.split(jax.random.key(0), draws)
    over_draws = jax.vmap(accuracy, (None, 0))
    return jax.vmap(over_draws, (0, None))(jnp.asarray(LEVELS), keys).mean(axis=1)


def main() -> int:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="output folder")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--epochs", type=int, default=20, help="epochs per training")
    parser.add_argument("--draws", type=int, default=3, help="draws of the noise per test")
    parser.add_argument("--quick", action="store_true", help="one short training of each kind")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs, args.draws = 1, 3, 1
    args.out.mkdir(parents=True, exist_ok=True)

    train_key, test_key = jax.random.split(jax.random.key(7))
    data, unseen = receive(train_key, 3000), receive(test_key, 2000)
    begin = time.perf_counter()
    accuracy: dict[str, np.ndarray] = {}
    for row in ROWS:
        kind, level = row.removesuffix("_noisy"), 0.2 if row.endswith("_noisy") else 0.0
        runs = [train(kind, data, level, args.epochs, seed) for seed in range(args.seeds)]
        accuracy[row] = np.stack([sweep(kind, run, unseen, args.draws) for run in runs])
    seconds = time.perf_counter() - begin

    title = "Code words from fields on noisy optics"
    plots.robustness(args.out / "complex.png", LEVELS, accuracy, ROWS, title)
    report = {
        "accuracy": {
            row: dict(zip(map(str, LEVELS), values.mean(0).round(2).tolist(), strict=True))
            for row, values in accuracy.items()
        },
        "accuracy_unit": "percent",
        "seeds": args.seeds,
        "noise_draws": args.draws,
        "seconds": round(seconds, 1),
    }
    (args.out / "complex.json").write_text(json.dumps(report, indent=2) + "\n")
    print("accuracy in % at a noise of" + "".join(f"{level:>8.0%}" for level in LEVELS))
    for row, label in ROWS.items():
        cells = zip(accuracy[row].mean(0), accuracy[row].std(0), strict=True)
        print(f"{label:<34}" + "".join(f"{mean:5.1f}±{std:.1f}" for mean, std in cells))
    print(f"{args.seeds} trainings each, {seconds:.0f} s; {args.out / 'complex.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
