"""Tables, for notebooks and as text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in HTML; `caption` may have several lines."""
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    lines = "<br>".join(map(html.escape, caption.splitlines()))
    return f"<table><caption>{lines}</caption><tr>{titles}</tr>{body}</table>"


def plain(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as lines of text, its columns aligned on the left."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
