"""A namespace in words."""

from __future__ import annotations

from typing import Any

from ..hardware.noise import NoiseModel
from ._device import Device


def description(device: Device, key: Any, products: int) -> str:
    """What is optical on the device of a namespace, and how."""
    if device.profile is None:
        return (
            "array API on the ideal device: products are exact, and all is jax.numpy\n"
            "    pass a profile or the name of a preset for one that is real"
        )
    converters = device.profile.converters
    bits = ", ".join(
        f"{name} {'off' if count is None else f'{count} bits'}"
        for name, count in (
            ("DAC", converters.dac_bits),
            ("weights", converters.weight_bits),
            ("ADC", converters.adc_bits),
        )
    )
    if device.ranges:
        shapes = ", ".join(f"{number}[{k}, {n}]" for number, k, n in device.ranges)
        ranges = f"fixed by calibrate() for weights of {shapes}; else those of each product"
    else:
        ranges = "of each product the largest magnitudes; calibrate() fixes them"
    lines = {
        "optical": "matmul, @, vecdot, tensordot, linalg.matrix_power, of floats and complex\n"
        "numbers; the left factor is the signal, the right one the weights",
        "digital": "all else, as jax.numpy computes it; products of integers and bools",
        "precision": "float32 and complex64; of other types the product is computed in these,\n"
        "and the result has the promoted type",
        "converters": bits,
        "noise": _noise(device, key, products),
        "ranges": ranges,
    }
    width = max(map(len, lines)) + 2
    text = [f"array API on {device.name!r}"]
    for name, value in lines.items():
        first, *others = value.split("\n")
        text += [f"    {name:<{width}}{first}", *(" " * (width + 4) + line for line in others)]
    return "\n".join(text)


def _noise(device: Device, key: Any, products: int) -> str:
    assert device.profile is not None
    if not device.draws_noise:
        return "none"
    noise: NoiseModel = device.profile.noise
    numbers = [
        f"{name} {value:g}"
        for name in ("relative", "shot", "thermal", "weight")
        if (value := float(getattr(noise, name)))
    ]
    if noise.unit == "full_scale":
        numbers.append("in parts of the full scale")
    source = "no key yet" if key is None else f"products that have drawn from the key: {products}"
    return f"{', '.join(numbers)}; {source}"
