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


def losses(
    path: Path,
    levels: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    labels: Mapping[str, str],
    in_float32: float,
) -> None:
    """Losses of a model that writes text over the level of noise."""
    figure, axes = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    noise = 100 * np.asarray(levels)
    axes.axhline(in_float32, color=STYLES[0][0], linestyle="--", label="tuned clean, float32")
    for (row, label), (color, marker) in zip(labels.items(), STYLES[-len(labels) :], strict=True):
        axes.plot(noise, curves[row], color=color, marker=marker, label=label, clip_on=False)
    axes.set_xlabel("multiplicative noise of the chip, % of each output")
    axes.set_ylabel("test loss, nats per character")
    axes.set_title("A character GPT on noisy optics")
    axes.set_xlim(noise[0], noise[-1])
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def robustness(
    path: Path,
    levels: Sequence[float],
    accuracy: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    title: str = "Handwritten digits on noisy optics",
) -> None:
    """Accuracy in percent, [seeds, levels], over the level of noise; bands are one deviation."""
    figure, axes = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    noise = 100 * np.asarray(levels)
    for (row, label), (color, marker) in zip(labels.items(), STYLES[-len(labels) :], strict=True):
        mean, spread = accuracy[row].mean(0), accuracy[row].std(0)
        axes.plot(noise, mean, color=color, marker=marker, label=label, clip_on=False)
        axes.fill_between(noise, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
    seeds = len(accuracy[next(iter(labels))])
    axes.set_xlabel("multiplicative noise of the chip, % of each output")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"{title}, mean ± std over {seeds} trainings")
    axes.set_xlim(noise[0], noise[-1])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def gradient_precision(
    path: Path,
    accuracy: Mapping[str, Mapping[str, np.ndarray]],
    loss: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Accuracy in percent [seeds], and training loss [seeds, epochs], by network and precision.

    Points are trainings, bars mean ± one deviation; curves are means, bands one deviation.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.0, 4.2), layout="constrained", width_ratios=(1.0, 1.25)
    )
    networks = list(accuracy)
    precisions = list(accuracy[networks[0]])
    for i, precision in enumerate(precisions):
        color, marker = STYLES[1 + i]
        for j, name in enumerate(networks):
            values = accuracy[name][precision]
            place = j + 0.26 * (i - (len(precisions) - 1) / 2)
            spread = place + np.linspace(-0.05, 0.05, len(values))
            left.plot(spread, values, marker, color=color, ms=3.5, alpha=0.6, lw=0)
            left.errorbar(
                place, values.mean(), values.std(), color=color, marker=marker, ms=8, capsize=5,
                label=None if j else precision,
            )  # fmt: skip
            mean, deviation = loss[name][precision].mean(0), loss[name][precision].std(0)
            epochs = np.arange(1, len(mean) + 1)
            style, label = ("--", None) if j else ("-", precision)
            # The curves cover each other: the first is the widest.
            right.plot(epochs, mean, style, color=color, label=label, lw=6 / (1 + i) ** 1.2)
            low, high = np.maximum(mean - deviation, mean / 10), mean + deviation
            right.fill_between(epochs, low, high, color=color, alpha=0.15, lw=0)
    seeds = len(accuracy[networks[0]][precisions[0]])
    left.set_xticks(range(len(networks)), networks)
    left.set_xlim(-0.5, len(networks) - 0.5)
    left.set_ylabel("test accuracy at 10 % noise, %")
    left.set_title(f"Mean ± std over {seeds} trainings")
    left.legend(title="gradient in", frameon=False, loc="lower right")
    right.set_yscale("log")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set_xlabel("epoch")
    right.legend(title="gradient in", frameon=False)
    right.set_ylabel("training loss")
    right.set_title(
        ", ".join(f"{n}: {s}" for n, s in zip(networks, ("solid", "dashed"), strict=True))
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def components(
    path: Path, counts: Sequence[int], table: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Variance kept and accuracy in percent, [counts, draws], over the number of components.

    Dashed is what PCA believes to keep; bands are one deviation over draws.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.2), layout="constrained")
    for (name, of), (color, marker) in zip(table.items(), STYLES[-len(table) :], strict=True):
        for axes, field in ((left, "variance"), (right, "accuracy")):
            mean, spread = of[field].mean(1), of[field].std(1)
            axes.plot(counts, mean, color=color, marker=marker, label=name, clip_on=False)
            axes.fill_between(counts, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
        left.plot(counts, of["claimed"].mean(1), color=color, linestyle="--")
    left.set_ylabel("variance explained, %")
    left.set_title("Kept of test images (solid), claimed by PCA (dashed)")
    right.set_ylabel("test accuracy, %")
    right.set_title("Digits by PCA and a ridge classifier, on the chip")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("principal components")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
