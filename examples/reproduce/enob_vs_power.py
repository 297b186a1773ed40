"""Effective bits of a photonic receiver over the optical power, and how far a link then scales.

Source: M. Al-Qadasi, L. Chrostowski, B. J. Shastri, S. Shekhar, "Scaling up silicon photonic-based
accelerators", APL Photonics 7, 020902 (2022), doi:10.1063/5.0070992: its receiver, the least power
for a whole number of bits to 0.1 dB, and the largest N of an N × N weight bank by its equation,
which is evaluated here once more, term by term, and tried for N = 1, 2, 3 … . The noise currents at
300 K in 10 GHz follow from the constants of nature.

    python examples/reproduce/enob_vs_power.py [--out DIR] [--json FILE] [--quick]
"""

from __future__ import annotations

import functools
import math
import sys

import numpy as np
from reporting import COLORS, Figures, finish, panels, parser

from lumina_jax import physics

BITS, RATES_HZ = (1, 2, 3, 4), (1e9, 5e9, 10e9)
PENALTY_DB = {"AMW": 5.8, "MAW": 4.8, "MWA": 1.8}
# Bits, symbols per second, least power in dBm.
SENSITIVITIES = ((2, 1e9, -24.0), (6, 1e9, -11.7), (3, 5e9, -17.5), (4, 5e9, -14.4))
NOISE = (
    ("shot noise of 1 mA", float(physics.shot_noise(1e-3, 10e9)), 1.790e-6),
    ("thermal noise of 50 Ω", float(physics.thermal_noise(50.0, 10e9)), 1.820e-6),
    ("intensity noise of 1 mA at -140 dB/Hz", float(physics.rin_noise(1e-3, -140.0, 10e9)), 1e-5),
)


def source_enob(dbm: float, rate_hz: float) -> float:
    """Effective bits by the equation of the source, with its rounded constants."""
    q, kt, r, dark, load, rin = 1.6e-19, 0.0259 * 1.6e-19, 1.2, 35e-9, 50.0, 1e-14
    current = r * 1e-3 * 10 ** (dbm / 10)
    lit = math.sqrt(2 * q * (current + dark) + 4 * kt / load + current**2 * rin)
    unlit = math.sqrt(2 * q * dark + 4 * kt / load)
    ratio = current / ((lit + unlit) * math.sqrt(rate_hz / math.sqrt(2)))
    return (20 * math.log10(ratio) - 1.76) / 6.02


def source_channels(organization: str, rate_hz: float, bits: int) -> int:
    """Largest N by the link budget of the source; sensitivities on its grid of 0.1 dB."""
    exact = np.arange(-40.0, 10.0, 0.001)
    need = exact[np.argmax([source_enob(dbm, rate_hz) >= bits for dbm in exact])]
    n = 0
    while True:
        n += 1
        losses = 1.6 + 0.3 * 0.02 * n + 4.0 + 0.01 * (n - 1) + 0.01 + 0.01 * (n - 1)
        splitting = 10 * math.log10(n) + 0.01 * math.log2(n)
        # Half of what the sums round to must not decide a tie.
        if 10.0 - losses - splitting - PENALTY_DB[organization] < round(need, 1) - 1e-6:
            return n - 1


def main() -> int:
    """Runs the script."""
    options = parser(__doc__).parse_args()
    rows = [Figures(name, 1e6 * ours, 1e6 * source, "µA", 0.005) for name, ours, source in NOISE]
    receiver = physics.published_receiver()
    link = functools.partial(physics.link_enob, receiver=receiver, elementary_charge_c=1.6e-19)
    for bits, rate, dbm in SENSITIVITIES:
        ours = float(link(physics.dbm_to_w(dbm), rate))
        # 0.05 dB of light are 0.1 dB of SINAD, or 0.017 bits.
        rows.append(Figures(f"ENOB at {dbm} dBm, {rate / 1e9:g} GS/s", ours, bits, "bits", 0.018))
    found = physics.scaling_table()
    source = {key: tuple(source_channels(*key, bits) for bits in BITS) for key in found}
    for organization, rate in found:
        rows += [
            Figures(f"N, {organization}, {rate / 1e9:g} GS/s, {bits} bits", ours, theirs, "", 0.0)
            for bits, ours, theirs in zip(
                BITS, found[organization, rate], source[organization, rate], strict=True
            )
        ]

    figure, (bits_axes, size_axes) = panels(2)
    dbm = np.linspace(-35.0, 5.0, 21 if options.quick else 201)
    watts = np.asarray(physics.dbm_to_w(dbm))
    for rate, color in zip(RATES_HZ, COLORS, strict=False):
        enob = link(watts, rate)
        bits_axes.plot(dbm, enob, color=color, label=f"{rate / 1e9:g} GS/s")
        limit = physics.sinad_db_to_enob(140.0 - 10 * np.log10(rate / np.sqrt(2)))
        bits_axes.axhline(float(limit), color=color, ls=":", lw=1)
    bits_axes.set_xlabel("optical power at the receiver, dBm")
    bits_axes.set_ylabel("ENOB, bits")
    bits_axes.set_title("dotted: what the noise of the laser leaves")
    least = [dbm for _, _, dbm in SENSITIVITIES]
    bits_axes.plot(least, [bits for bits, _, _ in SENSITIVITIES], "kx", label="source")
    bits_axes.set_ylim(0, None)
    bits_axes.legend(frameon=False)

    for organization, marker, color in zip(PENALTY_DB, "sDo", COLORS, strict=False):
        for rate, style in ((1e9, "-"), (5e9, "--"), (10e9, ":")):
            key = organization, rate
            size_axes.plot(BITS, found[key], style, color=color, lw=1)
            label = f"{organization}, source" if rate == 1e9 else None
            size_axes.plot(BITS, source[key], marker, color=color, mfc="none", label=label)
    size_axes.set_xticks(BITS)
    size_axes.set_xlabel("bits")
    size_axes.set_ylabel("largest N of an N × N weight bank")
    size_axes.set_title("lines: ours at 1 (solid), 5 (dashed), 10 GS/s (dotted)")
    size_axes.legend(frameon=False)
    return finish(options, "enob_vs_power", figure, rows)


if __name__ == "__main__":
    sys.exit(main())
