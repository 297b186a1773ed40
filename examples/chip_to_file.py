"""From measurements of a chip to a file that has all of it.

A table of readings says how noisy the chip is. On it goes a classifier of digits, 64-32-10:

    1  the noise of the chip is fitted to the table
    2  the wavelengths of each layer's inputs are planned, from the light that its images make
    3  each layer gets the bits of its weights, under one budget for all
    4  the network is tuned under the noise, the crosstalk and the converters, and calibrated
    5  one file: weights as codes of these bits, inputs in the order of their wavelengths, and the
       passes that the banks of the chip take, and what they cost

    python examples/chip_to_file.py [--out DIR] [--measurements CSV] [--epochs N] [--quick]

writes chip.csv (unless it is given), chip.toml, model.lmn and report.json, and prints the schedule.
The table has a column `signal` and either `noise` or `reading…`, see `lumina_jax.fit_noise`.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import deploy
import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import HardwareProfile, WDMPlanner, WeightQuantizer, allocate_bits, export
from lumina_jax.hardware import Converters, Microring, WavelengthGrid, WeightBank
from lumina_jax.layers import OpticalDense

FULL_SCALE = 2.0
"""What a detector of the chip reads at most, V."""
SLOTS = 16
MEAN_BITS = 3.5
BATCH = 64


def measure(path: Path) -> None:
    """Writes a table as a lab would: 40 readings at each of nine signals, of a simulated chip."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["signal", *(f"reading_{i}" for i in range(40))])
        for signal in np.linspace(0, FULL_SCALE, 9):
            sigma = np.hypot(0.01, 0.03 * signal)
            table.writerow([f"{v:.6f}" for v in (signal, *rng.normal(signal, sigma, 40))])


def network(layers: Sequence[Callable[..., nn.Module]]) -> digits.Mlp:
    """The classifier, of these kinds of layers."""

    def dense(width: int, name: str) -> nn.Module:
        return layers[int(name.removeprefix("layer"))](width, name=name)

    return digits.Mlp(dense, widths=(32, 10))


def train(model: digits.Mlp, data: digits.Split, epochs: int, params: Any = None) -> digits.State:
    """The network after some epochs, from fresh parameters or from these."""
    steps = len(data.digits) // BATCH
    update = digits.optimizer(epochs * steps, clip=True)
    state = digits.start(model, update, jax.random.key(0))
    if params is not None:
        state = state._replace(params=params, optimizer=update.init(params))
    images, labels = jnp.asarray(data.images), jnp.asarray(data.digits)

    @jax.jit
    def epoch(state: digits.State, key: jax.Array) -> digits.State:
        order_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(order_key, len(labels))[: steps * BATCH]

        def body(state: digits.State, batch: tuple[jax.Array, jax.Array]) -> Any:
            rows, key = batch
            return digits.step(model, update, state, images[rows], labels[rows], key)

        keys = jax.random.split(noise_key, steps)
        return jax.lax.scan(body, state, (order.reshape(steps, BATCH), keys))[0]

    for i in range(epochs):
        state = epoch(state, jax.random.key(i))
    return state


def accuracy(model: digits.Mlp, variables: Any, test: digits.Split) -> float:
    """Percent of the test images that are classified right, under one draw of the noise."""
    logits = digits.predict(model, variables, test.images, jax.random.key(7))
    return 100.0 * float(jnp.mean(jnp.argmax(logits, axis=-1) == test.digits))


def main() -> int:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/chip_to_file"), help="folder")
    parser.add_argument("--measurements", type=Path, help="a table of your chip; full scale 2")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each training")
    parser.add_argument("--quick", action="store_true", help="three epochs")
    args = parser.parse_args()
    epochs = 3 if args.quick else args.epochs
    runtime = deploy.find()
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.measurements
    if table is None:
        table = args.out / "chip.csv"
        measure(table)

    # 1. The chip: its noise from the table, everything else from its data sheet.
    chip = HardwareProfile.from_measurements(
        table,
        full_scale=FULL_SCALE,
        name="chip on the bench",
        converters=Converters(dac_bits=6, weight_bits=6, adc_bits=8, symbol_rate_hz=5e9),
        bank=WeightBank(rows=SLOTS, columns=SLOTS),
        ring=Microring(q=2e4, fsr_nm=20.0),
        grid=WavelengthGrid(channels=SLOTS, spacing_hz=100e9),
    )
    print(chip.fit)
    chip.save(args.out / "chip.toml")
    data, test = digits.load()
    batches = [data.images[i * BATCH : (i + 1) * BATCH] for i in range(4)]

    # 2. A network without converters says how much light each input gets.
    plain = train(network([nn.Dense, nn.Dense]), data, epochs)
    optical = network([lambda w, name: OpticalDense(w, profile=chip, name=name)] * 2)
    key = jax.random.key(1)
    _, ranges = digits.observe(optical, {"params": plain.params}, data.images, key)
    variables = {"params": plain.params, "ranges": ranges}
    plan = WDMPlanner(profile=chip).optimize_allocation(optical.bind(variables), batches)
    layers = list(dict.fromkeys(bus.layer for bus in plan.buses))
    print(plan)

    # 3. Bits, where they are worth most.
    weights = sum(kernel.size for kernel in jax.tree.leaves(plain.params) if kernel.ndim == 2)
    allocation = allocate_bits(
        network([nn.Dense, nn.Dense]),
        batches,
        budget=MEAN_BITS * weights,
        params={"params": plain.params},
        max_bits=6,
        min_bits=2,
    )
    print(allocation)

    # 4. Tuning on the chip as it is: noise, crosstalk of the plan, bits of each layer.
    def on_chip(layer: str, bits: int) -> Callable[..., nn.Module]:
        device = replace(
            chip,
            crosstalk=plan.crosstalk(layer),
            converters=replace(chip.converters, weight_bits=bits),
        )
        return lambda width, name: OpticalDense(width, profile=device, name=name)

    bits = [allocation.bits[f"layer{i}"] for i in range(2)]
    tuned = network([on_chip(layer, b) for layer, b in zip(layers, bits, strict=True)])
    state = train(tuned, data, epochs, plain.params)
    _, untuned = digits.observe(tuned, {"params": plain.params}, data.images, key)
    before = accuracy(tuned, {"params": plain.params, "ranges": untuned}, test)
    after = accuracy(tuned, state.variables, test)
    print(f"accuracy on the chip: {before:.1f} % before tuning, {after:.1f} % after")

    # 5. The file.
    def infer(variables: Any, images: jax.Array) -> jax.Array:
        return digits.predict(tuned, variables, images, deterministic=True)

    quantizer = WeightQuantizer(method="absmax", axis=1)  # levels of the converters
    model = export.export(
        infer,
        test.images[:4],
        params=state.variables,
        batch="batch",
        weights={f"layer{i}": (quantizer, b) for i, b in enumerate(bits)},
        profile=chip,
        plan=plan,
        by_slot=True,
    )
    path = model.save(args.out / "model.lmn")
    deploy.verify(runtime, path)
    print(model.weights_report())
    print(model.schedule({"batch": BATCH}))
    got = deploy.run(runtime, path, test.images)
    right = 100.0 * float(np.mean(got.argmax(axis=1) == test.digits))
    report = {
        "allocation": allocation.bits,
        "accuracy": {"before": before, "after": after, "file": right},
        "bytes": path.stat().st_size,
        "weights": {w.name: w.bits for w in model.weights_report().weights if w.scale},
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"`lumina run`, without noise: {right:.1f} % of {len(got)} images; {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
