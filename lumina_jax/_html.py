"""Tables for notebooks."""

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
