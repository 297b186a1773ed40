"""4-bit SQNR of the weights of a ring bank, with crosstalk, and with its compensation.

Gaussian weights on channels one linewidth apart, 368 at a finesse of 368. No one has published such
a table; the source is an independent calculation of the authors, with a program that has nothing in
common with this one: 19.0 dB without crosstalk, 10.2 dB with it, 17.8 dB with the inverse folded
into the weights before rounding, 18.4 dB with error feedback. The bank is that of A. N. Tait et
al., IEEE J. Sel. Top. Quantum Electron. 22, 5900214 (2016), doi:10.1109/JSTQE.2016.2573583.

    python examples/reproduce/compensation_sqnr.py [--out DIR] [--json FILE] [--quick]
"""

from __future__ import annotations

import sys

import numpy as np
from reporting import COLORS, MARKERS, Figures, finish, panels, parser

from lumina_jax import compensate
from lumina_jax.hardware.crosstalk import RingComb

BITS = 4
SOURCE = {
    "no crosstalk": 19.0,
    "uncompensated": 10.2,
    "folded, rounded": 17.8,
    "error feedback": 18.4,
}


def rounded(w: np.ndarray, bits: int) -> np.ndarray:
    """Nearest levels, at the full scale of each column that has the least error."""
    return compensate(w, np.eye(1), "feedback", bits=bits).weights


def sqnr_db(w: np.ndarray, commanded: np.ndarray, matrix: np.ndarray) -> float:
    """Power of the weights over that of what acts in their place less them."""
    error = matrix.T @ commanded.astype(np.float64) - w
    return float(10 * np.log10(np.sum(w.astype(np.float64) ** 2) / np.sum(error**2)))


def measure(channels: int, columns: int, seeds: int, spacing: float = 1.0) -> dict[str, float]:
    """Mean SQNR over draws of the weights, dB."""
    comb = RingComb(channels=channels, spacing=spacing)
    found = {name: [] for name in SOURCE}
    for seed in range(seeds):
        w = np.random.default_rng(seed).normal(size=(channels, columns)).astype(np.float32)
        plain = rounded(w, BITS)
        commanded = {
            "no crosstalk": (plain, np.eye(channels)),
            "uncompensated": (plain, comb.matrix),
            "folded, rounded": (rounded(compensate(w, comb).weights, BITS), comb.matrix),
            "error feedback": (compensate(w, comb, "feedback", bits=BITS).weights, comb.matrix),
        }
        for name, (levels, matrix) in commanded.items():
            found[name].append(sqnr_db(w, levels, matrix))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> int:
    """Runs the script."""
    options = parser(__doc__).parse_args()
    channels, columns, seeds = 368, 64, 1 if options.quick else 4
    ours = measure(channels, columns, seeds)
    rows = [Figures(name, ours[name], SOURCE[name], "dB", 0.3) for name in SOURCE]

    figure, (bars, curves) = panels(2)
    places = np.arange(len(SOURCE))
    bars.bar(places - 0.2, [ours[name] for name in SOURCE], 0.4, color=COLORS[1], label="ours")
    bars.bar(places + 0.2, list(SOURCE.values()), 0.4, color=COLORS[0], label="source")
    bars.set_xticks(places, [name.replace(" ", "\n") for name in SOURCE])
    bars.set_ylabel(f"{BITS}-bit SQNR, dB")
    bars.set_title(f"{channels} channels one linewidth apart")
    bars.set_ylim(0, 24)
    bars.legend(frameon=False, ncols=2)

    spacings = (0.8, 1.5, 3.0) if options.quick else (0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    sweep = [measure(48, 32, 1, spacing) for spacing in spacings]
    for name, color, marker in zip(SOURCE, COLORS, MARKERS, strict=False):
        values = [point[name] for point in sweep]
        curves.plot(spacings, values, color=color, marker=marker, label=name)
    curves.set_xlabel("spacing of the channels, linewidths")
    curves.set_ylabel(f"{BITS}-bit SQNR, dB")
    curves.set_title("48 channels")
    curves.legend(frameon=False)
    return finish(options, "compensation_sqnr", figure, rows)


if __name__ == "__main__":
    sys.exit(main())
