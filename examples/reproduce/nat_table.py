"""Noise-aware training of a 4-bit chip: which recipe survives how much noise.

The digits of scikit-learn, 1347 for training and 450 for the test, an MLP 64-64-64-10, 4-bit DAC,
weights and ADC with straight-through gradients, cross-entropy, Adam at 3e-3 along a cosine, 40
epochs in batches of 64. Two kinds of noise, each met by every recipe:

    multiplicative    σ = level·|y|               NAT trains at 20 %
    weight            σ_w = level·max|W|          NAT trains at 10 %

    fp32              trained without the chip
    QAT               with its converters
    NAT               with converters and noise, differentiated through the noise
    detached          the noise in the forward pass alone, as if it were a constant
    NAT + clip        NAT with weights clipped at 2.5 standard deviations after each step
    gradient only     the noise in the backward pass alone

The source is an independent calculation of the authors, unpublished, of 4 trainings, by a program
that has nothing in common with this one. What it leaves open: the full scales are the largest |x|
and |y'| of the batch and the largest |W| of the tensor, gradients reach that of the ADC, the logits
are read without an ADC; weight noise is one draw of the weights in each step of training, and one
for each image in the test; weights start as Gaussians of variance 1.75/K. Noise that is relative to
max|W| depends on that variance: with 1/K, fp32 and QAT gain 7 to 8 points at 20 % of it.

    python examples/reproduce/nat_table.py [--out DIR] [--json FILE] [--seeds N] [--draws N]
                                           [--epochs N] [--quick]

Accuracies are percentages, means over trainings and draws of the noise; their spread is the
standard deviation over trainings.
"""

from __future__ import annotations

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from reporting import COLORS, MARKERS, panels, parser, save
from tqdm import tqdm

from lumina_jax import NoiseModel, OpticalSpec, nat, optical_matmul, optical_noise, quantize

sys.path.append(str(Path(__file__).resolve().parents[1]))

import digits

Kind: TypeAlias = Literal["multiplicative", "weight"]
Pass: TypeAlias = Literal["both", "forward", "backward"]
Params: TypeAlias = list[dict[str, jax.Array]]

BITS, BATCH, RATE, SIGMAS, VARIANCE = 4, 64, 3e-3, 2.5, 1.75
WIDTHS = (64, 64, 64, 10)
PRODUCT = OpticalSpec(dac_bits=BITS, weight_bits=BITS)
LEVELS: dict[Kind, tuple[float, ...]] = {
    "multiplicative": (0.0, 0.1, 0.2, 0.3),
    "weight": (0.0, 0.1, 0.2),
}
SOURCE: dict[Kind, dict[str, tuple[float, ...]]] = {
    "multiplicative": {
        "fp32": (95.6, 94.9, 92.1, 87.2),
        "QAT": (96.1, 95.4, 93.3, 88.7),
        "NAT": (95.9, 95.7, 94.8, 92.7),
        "detached": (95.2, 95.3, 93.6, 89.9),
        "NAT + clip": (96.2, 95.9, 95.1, 93.1),
    },
    "weight": {
        "fp32": (95.6, 87.7, 62.1),
        "QAT": (96.1, 90.6, 67.7),
        "NAT": (96.6, 94.0, 78.8),
        "NAT + clip": (96.8, 95.2, 88.6),
    },
}


@dataclass(frozen=True)
class Recipe:
    """A way to train."""

    chip: bool = True
    level: float = 0.0
    noise_in: Pass = "both"
    clip: bool = False


def recipes(kind: Kind) -> dict[str, Recipe]:
    """All ways to train for a kind of noise."""
    level = 0.2 if kind == "multiplicative" else 0.1
    return {
        "fp32": Recipe(chip=False),
        "QAT": Recipe(),
        "NAT": Recipe(level=level),
        "detached": Recipe(level=level, noise_in="forward"),
        "NAT + clip": Recipe(level=level, clip=True),
        "gradient only": Recipe(level=level, noise_in="backward"),
    }


def start(key: jax.Array) -> Params:
    """Fresh weights."""
    layers = zip(WIDTHS, WIDTHS[1:], jax.random.split(key, 3), strict=False)
    return [
        {
            "kernel": jax.random.normal(key, (k, n)) * np.float32(np.sqrt(VARIANCE / k)),
            "bias": jnp.zeros(n),
        }
        for k, n, key in layers
    ]


def product(
    layer: dict[str, jax.Array], x: jax.Array, kind: Kind, recipe: Recipe, level: Any, key: Any
) -> jax.Array:
    """y' of a layer on the chip."""
    kernel, bias = layer["kernel"], layer["bias"]
    largest = jax.lax.stop_gradient(jnp.abs(kernel).max())
    chain = functools.partial(optical_matmul, x, kernel, bias, spec=PRODUCT, w_full_scale=largest)
    if kind == "weight" and recipe.level > 0:
        # One draw of the weights for all images; `NoiseModel` has one for each.
        drawn = quantize(kernel, bits=BITS, full_scale=largest)
        drawn += level * largest * optical_noise(key, kernel.shape)
        noisy = optical_matmul(x, drawn, bias, spec=OpticalSpec(dac_bits=BITS))
    else:
        one = NoiseModel(relative=1.0) if kind == "multiplicative" else NoiseModel(weight=largest)
        noisy = chain(noise=nat.scale_noise(one, level), key=key)
    if recipe.noise_in == "both":
        return noisy
    quiet = chain()
    seen, felt = (noisy, quiet) if recipe.noise_in == "forward" else (quiet, noisy)
    # The value of the one with the gradient of the other.
    return felt + jax.lax.stop_gradient(seen - felt)


def predict(
    params: Params, images: jax.Array, kind: Kind, recipe: Recipe, level: Any, key: jax.Array
) -> jax.Array:
    """Logits f32[n, 10]."""
    x = images
    for i, layer in enumerate(params):
        if not recipe.chip:
            x = x @ layer["kernel"] + layer["bias"]
        else:
            x = product(layer, x, kind, recipe, level, jax.random.fold_in(key, i))
            if i < len(params) - 1:
                x = quantize(x, bits=BITS, full_scale=jnp.abs(x).max())
        x = jax.nn.relu(x) if i < len(params) - 1 else x
    return x


@functools.partial(jax.jit, static_argnames=("kind", "recipe", "epochs"))
def train(key: jax.Array, data: digits.Split, kind: Kind, recipe: Recipe, epochs: int) -> Params:
    """Trained weights; the seed is that of weights, order of images, and noise."""
    images, labels = jnp.asarray(data.images), jnp.asarray(data.digits)
    steps = len(labels) // BATCH
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, epochs * steps))
    if recipe.clip:
        optimizer = optax.chain(optimizer, nat.clip_weights(sigma=SIGMAS))

    def step(state: Any, batch: Any) -> Any:
        params, opt = state
        rows, key = batch

        def loss(params: Params) -> jax.Array:
            logits = predict(params, images[rows], kind, recipe, recipe.level, key)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        updates, opt = optimizer.update(jax.grad(loss)(params), opt, params)
        return (optax.apply_updates(params, updates), opt), None

    def epoch(state: Any, key: jax.Array) -> Any:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(labels))[: steps * BATCH]
        batches = (order.reshape(steps, BATCH), jax.random.split(noise_key, steps))
        return jax.lax.scan(step, state, batches)

    init_key, key = jax.random.split(key)
    params = start(init_key)
    state = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(epoch, state, jax.random.split(key, epochs))
    return params


def accuracies(
    models: dict[str, list[Params]], test: digits.Split, kind: Kind, draws: int
) -> dict[str, np.ndarray]:
    """Accuracy on the chip in percent of each recipe, f64[trainings, levels]: means over draws."""
    labels = jnp.asarray(test.digits)

    def metric(given: Any, key: jax.Array, *, level: jax.Array) -> dict[str, jax.Array]:
        stacked, images = given

        def one(params: Params) -> jax.Array:
            logits = predict(params, images, kind, Recipe(), level, key)
            return 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) == labels)

        found = jax.lax.map(one, stacked)
        return {str(i): found[i] for i in range(len(found))}

    # Models of all recipes are of one form, so that one program tests them all.
    every = [params for trained in models.values() for params in trained]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *every)
    # With images that are a constant, XLA would begin to compute while it compiles.
    given = stacked, jnp.asarray(test.images)
    found = nat.evaluate(metric, given, {"level": LEVELS[kind]}, draws, progress=False)
    means = iter([found[str(i)].mean for i in range(len(every))])
    return {name: np.stack([next(means) for _ in trained]) for name, trained in models.items()}


def run(seeds: int, epochs: int, draws: int) -> dict[Kind, dict[str, np.ndarray]]:
    """Accuracies of every recipe, f64[trainings, levels]."""
    data, test = digits.load()
    keys = [jax.random.key(seed) for seed in range(seeds)]
    trained: dict[tuple[Kind, Recipe], list[Params]] = {}
    found: dict[Kind, dict[str, np.ndarray]] = {}
    with tqdm(total=sum(len(recipes(kind)) for kind in LEVELS) * seeds, unit="training") as bar:
        for kind in LEVELS:
            models: dict[str, list[Params]] = {}
            for name, recipe in recipes(kind).items():
                bar.set_description(f"{kind}, {name}")
                # Without noise in training both kinds have the same models.
                about = ("multiplicative" if recipe.level == 0 else kind), recipe
                for key in keys[len(trained.setdefault(about, [])) :]:
                    trained[about].append(jax.block_until_ready(train(key, data, *about, epochs)))
                bar.update(seeds)
                models[name] = trained[about]
            found[kind] = accuracies(models, test, kind, draws)
    return found


def table(kind: Kind, found: dict[str, np.ndarray]) -> str:
    """Mean and spread of each cell, with the difference to the source."""
    lines = [f"{kind} noise" + " " * (18 - len(kind))]
    lines[0] += "".join(f"{level:>19.0%}" for level in LEVELS[kind])
    for name, cells in found.items():
        source = SOURCE[kind].get(name)
        text = f"{name:<24}"
        for i, (mean, std) in enumerate(zip(cells.mean(0), cells.std(0), strict=True)):
            beside = "" if source is None else f"{source[i]:.1f} {mean - source[i]:+.1f}"
            text += f"{mean:5.1f}±{std:.1f} {beside:<9}"
        lines.append(text.rstrip())
    return "\n".join(lines)


def claims(found: dict[Kind, dict[str, np.ndarray]]) -> dict[str, tuple[float, bool]]:
    """What the source says of the cells, with our number and whether it holds."""
    mean = {kind: {n: v.mean(0) for n, v in rows.items()} for kind, rows in found.items()}
    worst = max(
        abs(float(d))
        for kind, rows in SOURCE.items()
        for name, cells in rows.items()
        for d in mean[kind][name] - np.asarray(cells)
    )
    one, other = mean["multiplicative"], mean["weight"]
    by_nat = float(one["NAT"][-1] - one["QAT"][-1])
    by_clip = float(other["NAT + clip"][-1] - other["QAT"][-1])
    alone = float(one["gradient only"][-1] - one["QAT"][-1])
    alone_weight = float(other["gradient only"][-1] - other["QAT"][-1])
    return {
        "largest difference to a cell of the source, at most 2": (worst, worst <= 2),
        "NAT over QAT at 30 % multiplicative noise, at least 3": (by_nat, by_nat >= 3),
        "NAT + clip over QAT at 20 % weight noise, at least 15": (by_clip, by_clip >= 15),
        "gradient only over QAT at 30 %, at most 1.5": (alone, alone <= 1.5),
        "gradient only over QAT at 20 % weight noise, at most 2": (alone_weight, alone_weight <= 2),
    }


def draw(found: dict[Kind, dict[str, np.ndarray]]) -> Any:
    """Accuracy over the level, a panel for each kind; the source as crosses."""
    figure, axes = panels(2)
    for one, (kind, rows) in zip(axes, found.items(), strict=True):
        levels = 100 * np.asarray(LEVELS[kind])
        for (name, cells), color, marker in zip(rows.items(), COLORS, MARKERS, strict=True):
            mean, std = cells.mean(0), cells.std(0)
            one.plot(levels, mean, color=color, marker=marker, label=name)
            one.fill_between(levels, mean - std, mean + std, color=color, alpha=0.2, lw=0)
            if name in SOURCE[kind]:
                one.plot(levels, SOURCE[kind][name], "x", color=color)
        one.set_xlabel("noise, % of " + ("|y|" if kind == "multiplicative" else "max |W|"))
        one.set_ylabel("test accuracy, %")
        one.set_title(f"{kind} noise; bands: ± 1 standard deviation; crosses: source")
        one.legend(frameon=False, loc="lower left")
    return figure


def main() -> int:
    """Runs the script."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=24, help="trainings of each recipe")
    options.add_argument("--draws", type=int, default=15, help="draws of the noise in each test")
    options.add_argument("--epochs", type=int, default=40, help="of each training")
    given: argparse.Namespace = options.parse_args()
    if given.quick:
        given.seeds, given.draws, given.epochs = 1, 2, 2
    found = run(given.seeds, given.epochs, given.draws)
    print("accuracy in %: mean±std of ours, the source, the difference")
    for kind, rows in found.items():
        print(f"\n{table(kind, rows)}")
    checked = claims(found)
    print()
    if given.quick:
        print("a quick run, of one training and 2 epochs: it shows that all parts work, no more")
    for text, (value, holds) in checked.items():
        verdict = "" if holds or given.quick else ", FAILS"
        print(f"{text}: {value:.1f}{verdict}")
    report = {
        "seeds": given.seeds,
        "draws": given.draws,
        "epochs": given.epochs,
        "levels": LEVELS,
        "source": SOURCE,
        "mean": {k: {n: v.mean(0).tolist() for n, v in rows.items()} for k, rows in found.items()},
        "std": {k: {n: v.std(0).tolist() for n, v in rows.items()} for k, rows in found.items()},
        "claims": {text: {"value": v, "holds": bool(h)} for text, (v, h) in checked.items()},
    }
    save(given, "nat_table", draw(found), report)
    return 0 if given.quick or all(holds for _, holds in checked.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
