"""What can go wrong while exporting, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COMPLEX = (
    "of complex numbers this is not in the format; take x.real and x.imag, and go on with real "
    "arrays"
)


class ExportError(ValueError):
    """The function cannot be exported; the message lists every reason, with its source lines."""


class VerifyError(ExportError):
    """The runtime does not compute from the file what JAX computed."""


class LoadError(ValueError):
    """The file holds no model, or not the one that was written."""


class SaveError(OSError):
    """The model cannot be written to the path."""


class Unsupported(Exception):  # noqa: N818 - control flow between a rule and the walker
    """Raised by a rule for an equation that it cannot express.

    Args:
      reason: why, and what to do instead; one clause, no full stop.
      subject: what has no counterpart, where that is not the primitive itself.
    """

    def __init__(self, reason: str, subject: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.subject = subject


@dataclass(frozen=True)
class Fault:
    """One equation that cannot be exported."""

    subject: str
    reason: str
    where: str


def faults_error(function: str, faults: Sequence[Fault]) -> ExportError:
    """One error that lists all `faults`, the same ones together, with how often each occurs."""
    kinds: dict[tuple[str, str], dict[str, int]] = {}
    for fault in faults:
        lines = kinds.setdefault((fault.subject, fault.reason), {})
        lines[fault.where] = lines.get(fault.where, 0) + 1
    count = "1 thing has" if len(kinds) == 1 else f"{len(kinds)} things have"
    text = [f"cannot export `{function}`: {count} no counterpart in a .lmn file"]
    for (subject, reason), lines in kinds.items():
        text.append(f"  {subject} ({_times(sum(lines.values()))}): {reason}")
        for where, times in lines.items():
            text.append(f"    {where}" + (f", {_times(times)}" if times > 1 else ""))
    return ExportError("\n".join(text))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
