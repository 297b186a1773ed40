"""Pictures of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt

# Okabe and Ito, told apart by people of any color vision, and by the marker in print.
STYLES = (("#999999", "v"), ("#56B4E9", "s"), ("#E69F00", "D"), ("#D55E00", "o"))


def robustness(
    path: Path,
    levels: Sequence[float],
    accuracy: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
) -> None:
    """Accuracy in percent, [seeds, levels], over the level of noise; bands are one deviation."""
    figure, axes = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    noise = 100 * np.asarray(levels)
    for (row, label), (color, marker) in zip(labels.items(), STYLES, strict=True):
        mean, spread = accuracy[row].mean(0), accuracy[row].std(0)
        axes.plot(noise, mean, color=color, marker=marker, label=label, clip_on=False)
        axes.fill_between(noise, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
    seeds = len(accuracy[next(iter(labels))])
    axes.set_xlabel("multiplicative noise of the chip, % of each output")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"Handwritten digits on noisy optics, mean ± std over {seeds} trainings")
    axes.set_xlim(noise[0], noise[-1])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
