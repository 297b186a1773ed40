"""An optical matmul whose arrays have a limited number of inputs.

    y_t = quant(x)[tile t] · quant(w)[tile t]        out = Σ_t quant(y_t + relative·|y_t|·ε_t)

Tile t holds the inputs from t·R on, at most R of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import _problem
from .._options import Shape
from .._problem import Problem, Workload


@dataclass(frozen=True, kw_only=True)
class Tiled(Problem):
    """The operands of a shape (B, K, N, R)."""

    rows: int
    """R, the inputs of an array."""
    noisy: bool
    """Whether there is noise at all; where there is none, no one draws."""

    @property
    def tiles(self) -> list[slice]:
        """The inputs of each."""
        depth = self.x.shape[1]
        return [slice(start, start + self.rows) for start in range(0, depth, self.rows)]


def make(workload: Workload, shape: Shape, *, noisy: bool) -> Tiled:
    """That of `_problem.make`, with the full scale of the ADC that of the outputs of tiles."""
    *whole, rows = shape
    one = _problem.make(workload, tuple(whole))
    tiled = Tiled(**vars(one), rows=rows, noisy=noisy)
    x = _problem.quantized(one.x, one.x_full_scale, workload.dac_bits)
    w = _problem.quantized(one.w, one.w_full_scale, workload.weight_bits)
    y = np.stack([x[:, tile] @ w[tile] for tile in tiled.tiles])
    return Tiled(**{**vars(tiled), "y_full_scale": _problem.between_values(np.abs(y))})
