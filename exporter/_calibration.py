"""Converters whose ranges were never calibrated, which an export tells of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ._program import Constant, Equation, Program


class UncalibratedRangesWarning(UserWarning):
    """The model converts each batch at its own ranges: its layers were never calibrated."""

    @staticmethod
    def of(function: str, layers: Sequence[str]) -> UncalibratedRangesWarning:
        """The warning that names the layers."""
        listed = ", ".join(f"`{name}`" for name in layers)
        return UncalibratedRangesWarning(
            f"`{function}`: converters have ranges that are not calibrated\n"
            f"  {listed}: an output would depend on the other rows of its batch; run "
            "training batches with mutable=['ranges'] (Linen) or after model.train() (NNX) first, "
            "or pass allow_uncalibrated=True"
        )


def uncalibrated(program: Program) -> list[str]:
    """The layers that take the range of each batch, for they have none of their own."""
    return list(dict.fromkeys(_layers(program)))


def _layers(program: Program) -> Iterator[str]:
    for equation in program.equations:
        if equation.primitive == "uncalibrated_range":
            yield _layer(equation)
        for body in equation.bodies:
            yield from _layers(body)


def _layer(equation: Equation) -> str:
    running = equation.inputs[0]
    name = running.name if isinstance(running, Constant) else ""
    # The path of the module; NNX keeps none, but the range has one.
    path = equation.source.scope if equation.source else ""
    return path or re.sub(r"(\.|\[')[xy]_full_scale.*", "", name) or "a layer"
