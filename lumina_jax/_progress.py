"""How far a long computation is, by a bar of tqdm or by lines on the error output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

QUIET_S = 10.0
"""Between two lines that nobody has asked for."""

Bar = Callable[[str, str, int], AbstractContextManager[Callable[[int], Any]]]
"""`bar` of an op, a unit and a total."""


@contextmanager
def bar(
    op: str,
    unit: str,
    total: int,
    *,
    progress: bool | None,
    done: int = 0,
    delay: float = 0.0,
) -> Iterator[Callable[[int], Any]]:
    """A function that is told of every so many `unit`s that are done.

    Args:
        op: what computes.
        unit: what is counted, in the singular.
        total: how many there are.
        progress: True, False, or None: by a bar where someone watches, else by few lines.
        done: how many were done before.
        delay: seconds after which the bar is there, of what may be over at once.
    """
    if progress is False:
        yield lambda units: None
        return
    tqdm = None
    if progress or sys.stderr.isatty() or "ipykernel" in sys.modules:
        with suppress(ImportError):
            from tqdm import tqdm
    if tqdm is None:
        yield _lines(op, unit, total, done, 0.0 if progress else QUIET_S)
    else:
        with tqdm(total=total, initial=done, unit=unit, desc=op, delay=delay) as shown:
            yield shown.update


def _lines(op: str, unit: str, total: int, done: int, quiet: float) -> Callable[[int], None]:
    """Says how far it is, in a line now and then: into a log, or without tqdm."""
    begin = last = time.monotonic()

    def update(units: int) -> None:
        nonlocal done, last
        done += units
        now = time.monotonic()
        if now - last >= quiet or (done == total and last > begin):
            last = now
            elapsed = f"{now - begin:.0f} s"
            print(f"{op}: {done} of {total} {unit}s, {elapsed}", file=sys.stderr, flush=True)

    return update
