"""What the processor of a model does in a call, as the runtime tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lumina_jax._native import _lumina


@dataclass(frozen=True, repr=False)
class Schedule:
    """Passes, time and energy of a call; `print` shows what `lumina schedule` does."""

    data: Mapping[str, Any]
    """What `lumina schedule --json` prints: device, wavelengths, crosstalk, entry points."""
    text: str
    """The same as tables."""

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The products of the first entry point, in the order in which they run."""
        return self.data["entries"][0]["layers"]

    @property
    def totals(self) -> dict[str, Any]:
        """What a call of the first entry point takes."""
        return self.data["entries"][0]["totals"]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        name, count = self.data["device"]["name"], len(self.layers)
        return f"Schedule of {count} products on {name}: {self.totals['settings']} settings"


def schedule(chunks: Sequence[bytes | memoryview], symbols: Sequence[tuple[str, int]]) -> Schedule:
    """The schedule of a file, which comes in pieces, for extents of these sizes."""
    data, text = _lumina.schedule(chunks, symbols)
    return Schedule(json.loads(data), text)
