"""Trains a small character GPT for a noisy chip, on the manual that Python ships.

The text is that of `help()`, the topics of `pydoc_data` in the standard library; the model is the
plain `Gpt` of `linen_models`. It is trained in float32 and converted, and training then goes on

    clean    in float32 still; the ranges of the converters are calibrated at the end
    NAT      on the chip, with 6-bit converters and 10 % multiplicative noise in the loop

Both read text that no training saw, at 0 to 20 % noise. The NAT model then writes some, on the
noisy chip.

    python examples/gpt_nat.py [--out DIR] [--steps N] [--tuning N] [--width N] [--depth N]

writes gpt_nat.png and gpt_nat.json. Losses are cross-entropies in nats for each character.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from pydoc_data import topics
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import linen_models
import numpy as np
import optax
import plots
from tqdm import tqdm

from lumina_jax import ConversionRule, HardwareProfile, NoiseModel, calibrate, convert
from lumina_jax.hardware import Converters

CHIP = HardwareProfile(name="6 bit", converters=Converters.all(6))
NOISE = 0.1
LEVELS = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2)
LABELS = {"clean": "tuned clean, then calibrated", "nat": "tuned with 10 % noise"}
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
CONTEXT, BATCH = 64, 32


def text() -> tuple[np.ndarray, np.ndarray]:
    """The characters of the manual as their places in `CHARACTERS`, for training and for tests."""
    known = {character: i for i, character in enumerate(CHARACTERS)}
    whole = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    codes = np.array([known[c] for c in whole if c in known], np.int32)
    cut = len(codes) * 9 // 10
    return codes[:cut], codes[cut:]


def on_chip(plain: nn.Module, noise: Any) -> nn.Module:
    """The model on the chip; the noise may be traced, so that a sweep over it compiles once."""
    return convert(plain, ConversionRule(profile=CHIP, noise=NoiseModel(relative=noise)))


def windows(codes: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """As many places of the text, one character longer than the context."""
    begin = jax.random.randint(key, (count, 1), 0, len(codes) - CONTEXT)
    return codes[begin + jnp.arange(CONTEXT + 1)]


def loss_of(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Mean cross-entropy of the next characters."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def train(
    name: str, model: nn.Module, variables: Any, codes: jax.Array, rate: float, steps: int
) -> tuple[Any, list[float]]:
    """Variables after so many steps, and the loss of each."""
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps))
    moments = optimizer.init(variables["params"])

    @jax.jit
    def step(variables: Any, moments: Any, key: jax.Array) -> Any:
        of_text, of_noise = jax.random.split(key)
        tokens = windows(codes, of_text, BATCH)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, ranges = model.apply(
                {**variables, "params": params},
                tokens[:, :-1],
                train=True,
                rngs={"noise": of_noise},
                mutable=["ranges"],
            )
            return loss_of(logits, tokens), ranges

        (value, ranges), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(grads, moments, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {**variables, **ranges, "params": params}, moments, value

    losses = []
    for key in tqdm(jax.random.split(jax.random.key(steps), steps), desc=name):
        variables, moments, value = step(variables, moments, key)
        losses.append(float(value))
    return variables, losses


@functools.partial(jax.jit, static_argnames="plain")
def test_loss(plain: nn.Module, variables: Any, tokens: jax.Array, level: jax.Array) -> jax.Array:
    """Loss at a level of noise, over four draws of it."""

    def of_draw(key: jax.Array) -> jax.Array:
        model = on_chip(plain, level)
        return loss_of(model.apply(variables, tokens[:, :-1], rngs={"noise": key}), tokens)

    return jax.lax.map(of_draw, jax.random.split(jax.random.key(0), 4)).mean()


def written(model: nn.Module, variables: Any, start: str, count: int) -> str:
    """What the model writes after `start`, at temperature 0.7, on the noisy chip."""
    codes = [CHARACTERS.index(c) for c in start]

    @jax.jit
    def following(tokens: jax.Array, last: Any, key: jax.Array) -> jax.Array:
        of_noise, of_choice = jax.random.split(key)
        logits = model.apply(variables, tokens, rngs={"noise": of_noise})
        return jax.random.categorical(of_choice, logits[0, last] / 0.7)

    for key in jax.random.split(jax.random.key(2), count):
        seen = codes[-CONTEXT:]
        # Causal attention does not see what fills the rest.
        tokens = np.zeros((1, CONTEXT), np.int32)
        tokens[0, : len(seen)] = seen
        codes.append(int(following(tokens, len(seen) - 1, key)))
    return "".join(CHARACTERS[code] for code in codes)


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/gpt_nat"))
    parser.add_argument("--steps", type=int, default=400, help="in float32")
    parser.add_argument("--tuning", type=int, default=150, help="steps after that")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--depth", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    training, held_out = map(jnp.asarray, text())
    plain = linen_models.Gpt(
        vocabulary=len(CHARACTERS), context=CONTEXT, width=args.width, heads=4, depth=args.depth
    )
    chip = on_chip(plain, NOISE)

    tokens = windows(held_out, jax.random.key(3), 64)
    fresh = jax.jit(chip.init)(jax.random.key(0), tokens[:, :-1])
    begin = {"params": fresh["params"]}
    learned, _ = train("float32", plain, begin, training, 3e-3, args.steps)
    clean, clean_losses = train("clean", plain, learned, training, 1e-3, args.tuning)
    aware, aware_losses = train("NAT", chip, {**fresh, **learned}, training, 1e-3, args.tuning)
    batches = [windows(training, key, 16)[:, :-1] for key in jax.random.split(jax.random.key(4), 4)]
    calibrated = calibrate(chip, batches, variables={**fresh, **clean}, method="mse").variables

    print(f"\n{chip.report}\n")
    in_float32 = float(loss_of(plain.apply(clean, tokens[:, :-1]), tokens))
    print(f"tuned clean, in float32: {in_float32:.3f}")
    losses = {
        name: [float(test_loss(plain, variables, tokens, level)) for level in LEVELS]
        for name, variables in (("clean", calibrated), ("nat", aware))
    }
    print("noise".ljust(32), *(f"{100 * level:6.3g} %" for level in LEVELS))
    for name, label in LABELS.items():
        print(label.ljust(32), *(f"{value:8.3f}" for value in losses[name]))
    sample = written(chip, aware, "The ", 300)
    print(f"\nwritten at {100 * NOISE:.0f} % noise:\n\n{sample}")

    plots.losses(args.out / "gpt_nat.png", LEVELS, losses, LABELS, in_float32)
    report = {"float32": in_float32, "noise": LEVELS, **losses, "written": sample}
    report["training"] = {"clean": clean_losses, "nat": aware_losses}
    (args.out / "gpt_nat.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
