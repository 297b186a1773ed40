"""What can go wrong while exporting, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


class ScheduleWarning(UserWarning):
    """What a file says of its device differs from what the model computes, or from its plan."""


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
    """The line that it comes from."""
    scope: str = ""
    """The path of the module that it is in."""


# Modules that are listed for one line.
_MOST_SCOPES = 6


def faults_error(function: str, faults: Sequence[Fault]) -> ExportError:
    """One error that lists all `faults`, the same ones together, with how often each occurs."""
    kinds: dict[tuple[str, str], dict[str, list[str]]] = {}
    for fault in faults:
        lines = kinds.setdefault((fault.subject, fault.reason), {})
        lines.setdefault(fault.where, []).append(fault.scope)
    count = "1 thing has" if len(kinds) == 1 else f"{len(kinds)} things have"
    text = [f"cannot export `{function}`: {count} no counterpart in a .lmn file"]
    for (subject, reason), lines in kinds.items():
        text.append(f"  {subject} ({_times(sum(map(len, lines.values())))}): {reason}")
        for where, scopes in lines.items():
            times = f", {_times(len(scopes))}" if len(scopes) > 1 else ""
            text.append(f"    {where}{times}{_in(scopes)}")
    return ExportError("\n".join(text))


def _in(scopes: Sequence[str]) -> str:
    """The modules, by how often they occur: " in Net/Dense_0 (twice), Net/Dense_1 and 3 more"."""
    found = Counter(scope for scope in scopes if scope)
    if not found:
        return ""
    names = [
        name if times == 1 or len(found) == 1 else f"{name} ({_times(times)})"
        for name, times in found.items()
    ]
    more = f" and {len(names) - _MOST_SCOPES} more" if len(names) > _MOST_SCOPES else ""
    return f" in {', '.join(names[:_MOST_SCOPES])}{more}"


def quoted(names: Iterable[str]) -> str:
    """Names as messages list them: "`x`, `y`"."""
    return ", ".join(f"`{name}`" for name in names)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
