"""What a run is asked to do: parsed once, then sent to the workers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run."""

    suites: tuple[str, ...]
    quick: bool = False
    """Fewer shapes and peers, and less time for each."""
    peers: tuple[str, ...] = ()
    """Names to compare with; empty is the choice of each suite."""
    shapes: tuple[Shape, ...] = ()
    """Each goes to the suites whose shapes have its rank; empty is the choice of each suite."""
    profile: bool = False
    """Whether suites that can say where the time of ours goes do so."""

    def shapes_of(self, rank: int, quick: Sequence[Shape], full: Sequence[Shape]) -> list[Shape]:
        """The shapes of a suite: those given that have its rank, else its own."""
        given = [shape for shape in self.shapes if len(shape) == rank]
        return given or list(quick if self.quick else full)

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """The options that `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            suites=tuple(raw["suites"]),
            quick=raw["quick"],
            peers=tuple(raw["peers"]),
            shapes=tuple(tuple(shape) for shape in raw["shapes"]),
            profile=raw["profile"],
        )


def parse_shape(text: str) -> Shape:
    """`32x784x512` as (32, 784, 512); a ValueError for anything else."""
    parts = text.lower().split("x")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"benchmarks: shape must be extents such as 32x784x512 (B, K, N), got {text!r}"
        )
    return tuple(int(part) for part in parts)


def shape_text(shape: Shape) -> str:
    """(32, 784, 512) as `32x784x512`."""
    return "x".join(map(str, shape))
