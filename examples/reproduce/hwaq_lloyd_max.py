"""Mean squared error of `WeightQuantizer` beside the best quantizers of known distributions.

Source: J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6, 7 (1960),
doi:10.1109/TIT.1960.1057548, whose tables I and II for Gaussian values are continued, by our own
calculation, to 8 bits and to other distributions of unit variance:
best levels at all (Lloyd-Max), best uniform 2^b levels, best 2^b - 1 levels with one at zero.
Ours are calibrated on draws of such values; their error is the integral over the density, so that a
draw of few outliers does not count for the distribution.

    python examples/reproduce/hwaq_lloyd_max.py [--out DIR] [--json FILE] [--quick]
"""

from __future__ import annotations

import sys

import numpy as np
from reporting import COLORS, Figures, finish, panels, parser

from lumina_jax import WeightQuantizer
from lumina_jax.quantizer import QuantizerParams

METHODS = {
    "Lloyd-Max": WeightQuantizer(method="lut"),
    "uniform": WeightQuantizer(method="optimal"),
    "mid-tread": WeightQuantizer(method="optimal", affine=False),
}
SOURCE = {
    ("Gauss", 2): (0.11748, 0.11885, 0.19017),
    ("Gauss", 3): (0.034548, 0.037440, 0.046860),
    ("Gauss", 4): (9.501e-3, 1.1543e-2, 1.2889e-2),
    ("Gauss", 6): (6.442e-4, 1.0400e-3, 1.0693e-3),
    ("Gauss", 8): (4.119e-5, 8.769e-5, 8.831e-5),
    ("Laplace", 4): (1.5373e-2, 2.5351e-2, 2.7395e-2),
    ("t5", 4): (1.9874e-2, 3.4823e-2, 3.7665e-2),
}


def draw(distribution: str, size: int, seed: int) -> np.ndarray:
    """Values of unit variance."""
    random = np.random.default_rng(seed)
    values = {
        "Gauss": lambda: random.normal(size=size),
        "Laplace": lambda: random.laplace(scale=np.sqrt(0.5), size=size),
        "t5": lambda: random.standard_t(5, size=size) * np.sqrt(3 / 5),
    }[distribution]()
    return values.astype(np.float32)


def density(distribution: str, x: np.ndarray) -> np.ndarray:
    """Of the same values."""
    if distribution == "Gauss":
        return np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)
    if distribution == "Laplace":
        return np.exp(-np.sqrt(2) * np.abs(x)) / np.sqrt(2)
    # Student's t of 5 degrees of freedom, whose variance is 5/3.
    return 8 / (3 * np.pi * np.sqrt(3)) * (1 + np.square(x) / 3) ** -3


def expected_error(quantizer: WeightQuantizer, params: QuantizerParams, distribution: str) -> float:
    """Mean squared error over the distribution, by the trapezoidal rule on x = sinh u."""
    u = np.linspace(-7.0, 7.0, 1 << 20)
    x = np.sinh(u).astype(np.float32)
    restored = np.asarray(quantizer.dequantize(quantizer.quantize(x, params), params), np.float64)
    weight = density(distribution, x.astype(np.float64)) * np.cosh(u)
    return float(np.trapezoid(weight * np.square(x - restored), u))


def main() -> int:
    """Runs the script."""
    options = parser(__doc__).parse_args()
    size = 1 << (16 if options.quick else 20)
    # Of few draws the best levels are less those of the distribution, most where they are many.
    share = 0.1 if options.quick else 0.01
    rows, ours = [], {}
    for (distribution, bits), source in SOURCE.items():
        values = draw(distribution, size, seed=0)
        for (method, quantizer), expected in zip(METHODS.items(), source, strict=True):
            params = quantizer.calibrate(values, bits=bits)
            mse = expected_error(quantizer, params, distribution)
            ours[distribution, bits, method] = mse
            name = f"{distribution}, {bits} bits, {method}"
            rows.append(Figures(name, mse, expected, "", share * expected))

    figure, axes = panels(2)
    resolutions = [bits for distribution, bits in SOURCE if distribution == "Gauss"]
    for i, (method, color) in enumerate(zip(METHODS, COLORS[1:], strict=False)):
        for one in axes:
            relative = one is axes[1]
            base = [SOURCE["Gauss", b][0] if relative else 1.0 for b in resolutions]
            found = [ours["Gauss", b, method] for b in resolutions]
            known = [SOURCE["Gauss", b][i] for b in resolutions]
            one.semilogy(
                resolutions, np.divide(known, base), color=color, label=f"{method}, source"
            )
            one.semilogy(
                resolutions, np.divide(found, base), "o", color=color, mfc="none", label="ours"
            )
            one.set_xlabel("bits")
            one.set_xticks(resolutions)
    axes[0].set_ylabel("mean squared error, unit variance")
    axes[1].set_ylabel("over that of Lloyd-Max")
    axes[1].set_yscale("linear")
    axes[0].set_title("Gaussian values")
    axes[0].legend(frameon=False)
    return finish(options, "hwaq_lloyd_max", figure, rows)


if __name__ == "__main__":
    sys.exit(main())
