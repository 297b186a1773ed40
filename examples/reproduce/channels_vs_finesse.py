"""How many wavelength channels a ring weight bank carries, over the finesse of its rings.

Source: A. N. Tait et al., "Microring weight banks", IEEE J. Sel. Top. Quantum Electron. 22,
5900214 (2016), doi:10.1109/JSTQE.2016.2573583: 108 channels at a finesse of 368, a spacing of 3.41
linewidths, where crosstalk is put up with. Where it is undone, channels may come as close as the
condition number of the crosstalk matrix permits: cosh(π/(2s)) at a spacing of s linewidths, 2.509
at one.

    python examples/reproduce/channels_vs_finesse.py [--out DIR] [--json FILE] [--quick]
"""

from __future__ import annotations

import math
import sys

import numpy as np
from reporting import COLORS, Figures, finish, panels, parser

from lumina_jax import physics
from lumina_jax.hardware.crosstalk import RingComb

FINESSE, PUBLISHED = 368, 108


def channels(finesse: float, condition: float) -> int:
    """Largest even N that fills the FSR and whose matrix has at most that condition number."""
    rho = physics.rho_of_finesse(finesse)
    low, high = 1, 2
    while float(physics.comb_condition(2 * high, rho)) <= condition:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = float(physics.comb_condition(2 * middle, rho)) <= condition
        low, high = (middle, high) if fits else (low, middle)
    return 2 * low


def main() -> int:
    """Runs the script."""
    options = parser(__doc__).parse_args()
    spacing = FINESSE / PUBLISHED
    rho = physics.rho_of_finesse(FINESSE)
    matrix = RingComb(channels=FINESSE, spacing=1.0).matrix
    at_source = float(physics.comb_condition(PUBLISHED, rho))
    rows = [
        Figures("condition number, 368 channels", float(np.linalg.cond(matrix)), 2.509, "", 1e-3),
        Figures("closed form of it", float(physics.comb_condition(FINESSE, rho)), 2.509, "", 1e-3),
        Figures("channels at a condition number of 2.51", channels(FINESSE, 2.51), 368, "", 0),
        Figures("channels at that of the source", channels(FINESSE, at_source), 108, "", 0),
        Figures(
            "crosstalk at one linewidth, sum over j",
            float(matrix[0].sum() - 1),
            float(physics.comb_total(FINESSE, rho)),
            "",
            1e-4,
        ),
        Figures(
            f"crosstalk at {spacing:.2f} linewidths",
            float(RingComb(channels=PUBLISHED, spacing=spacing).matrix[0].sum() - 1),
            math.pi / (2 * spacing) / math.tanh(math.pi / (2 * spacing)) - 1,
            "",
            1e-3,
        ),
    ]

    figure, (count_axes, cost_axes) = panels(2)
    finesses = np.geomspace(20, 1000, 6 if options.quick else 40)
    for condition, color in zip((at_source, 1.5, 2.51, 10.0), COLORS, strict=False):
        counts = [channels(float(finesse), condition) for finesse in finesses]
        label = f"condition number {condition:.3g}"
        count_axes.loglog(finesses, counts, color=color, label=label)
    count_axes.plot(FINESSE, PUBLISHED, "k*", ms=11, label="Tait et al. 2016, 108 channels")
    count_axes.plot(FINESSE, channels(FINESSE, 2.51), "kD", mfc="none", label="compensated, 368")
    count_axes.set_xlabel("finesse of the rings")
    count_axes.set_ylabel("channels in one free spectral range")
    count_axes.legend(frameon=False)

    spacings = np.linspace(0.4, 5.0, 100)
    cost_axes.semilogy(spacings, np.cosh(np.pi / (2 * spacings)), color=COLORS[3])
    cost_axes.plot(1.0, rows[0].ours, "kD", mfc="none", label="matrix of 368 channels")
    cost_axes.plot(spacing, at_source, "k*", ms=11, label="Tait et al. 2016")
    cost_axes.set_xlabel("spacing of the channels, linewidths")
    cost_axes.set_ylabel("condition number of the crosstalk")
    cost_axes.legend(frameon=False)
    return finish(options, "channels_vs_finesse", figure, rows)


if __name__ == "__main__":
    sys.exit(main())
