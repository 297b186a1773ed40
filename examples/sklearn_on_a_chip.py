"""Runs PCA and a linear classifier of scikit-learn on photonic chips, without a change of either.

A pipeline of PCA and a ridge classifier learns the handwritten digits three times: on the ideal
device, on a chip with 8-bit converters and 1 % multiplicative noise, and on one with 4 bits and
10 %. Matrix products run on the chip, in the fit as in predictions; decompositions stay digital.
The converters keep the ranges that training showed them.

    python examples/sklearn_on_a_chip.py [--out DIR] [--components N ...] [--draws N]

writes sklearn_on_a_chip.png and sklearn_on_a_chip.json. `variance` is the share of the variance of
the 450 test images that the components of a chip keep, computed digitally; `claimed` is what PCA
believes it to be on the training images. Accuracies are those on the test images. All are
percentages, means over draws of the noise.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import NamedTuple

# SciPy, and scikit-learn with it, asks for this when it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"

import digits
import jax
import numpy as np
import plots
import sklearn
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from tqdm import tqdm

from lumina_jax import HardwareProfile, NoiseModel, array_api
from lumina_jax.hardware import Converters

CHIPS = {
    "ideal": None,
    "8 bit, 1 % noise": HardwareProfile(
        name="8 bit", converters=Converters.all(8), noise=NoiseModel(relative=0.01)
    ),
    "4 bit, 10 % noise": HardwareProfile(
        name="4 bit", converters=Converters.all(4), noise=NoiseModel(relative=0.1)
    ),
}


class Result(NamedTuple):
    """Of one fit, in percent."""

    variance: float
    claimed: float
    accuracy: float


def run(
    chip: HardwareProfile | None, components: int, draw: int, data: digits.Split, test: digits.Split
) -> Result:
    """Fits on the chip and classifies there; only the variance is found by other means."""
    xp = array_api.namespace(chip, key=jax.random.key(draw))
    pca = PCA(components, svd_solver="covariance_eigh")
    model = make_pipeline(pca, RidgeClassifier(alpha=30.0, solver="svd"))
    with sklearn.config_context(array_api_dispatch=True):
        images = xp.asarray(data.images)
        with xp.calibrate():
            model.fit(images, xp.asarray(data.digits))
            model.predict(images)
        predicted = np.asarray(model.predict(xp.asarray(test.images)))
    return Result(
        kept(np.asarray(pca.components_), data.images.mean(0), test.images),
        100 * float(np.sum(np.asarray(pca.explained_variance_ratio_))),
        100 * float(np.mean(predicted == test.digits)),
    )


def kept(components: np.ndarray, mean: np.ndarray, images: np.ndarray) -> float:
    """Percentage of the variance of `images` in the span of `components` f32[k, 64]."""
    basis = np.linalg.qr(components.T.astype(np.float64))[0]
    centered = images - mean
    return 100 * float(np.sum((centered @ basis) ** 2) / np.sum(centered**2))


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/sklearn_on_a_chip"))
    parser.add_argument("--components", type=int, nargs="+", default=[2, 4, 8, 16, 32, 48])
    parser.add_argument("--draws", type=int, default=3, help="fits with other noise")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, test = digits.load()

    results: dict[str, list[list[Result]]] = {name: [] for name in CHIPS}
    with tqdm(total=len(CHIPS) * len(args.components), unit="fit") as progress:
        for count in args.components:
            for name, chip in CHIPS.items():
                draws = range(1 if chip is None else args.draws)
                results[name].append([run(chip, count, draw, data, test) for draw in draws])
                progress.update()

    table = {
        name: {
            field: np.array([[getattr(of, field) for of in draws] for draws in rows])
            for field in Result._fields
        }
        for name, rows in results.items()
    }
    for field, title in (
        ("variance", "variance of the test images kept"),
        ("claimed", "the same, as PCA believes of the training images"),
        ("accuracy", "test accuracy"),
    ):
        print(f"\n{title}\ncomponents".ljust(20), *(f"{count:5}  " for count in args.components))
        for name, of in table.items():
            print(name.ljust(20), *(f"{value:5.1f} %" for value in of[field].mean(1)))
    plots.components(args.out / "sklearn_on_a_chip.png", args.components, table)
    report = {
        "components": args.components,
        **{
            name: {field: values.tolist() for field, values in of.items()}
            for name, of in table.items()
        },
    }
    (args.out / "sklearn_on_a_chip.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
