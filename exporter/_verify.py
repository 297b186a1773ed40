"""The test vectors of a file, recomputed by the runtime that is built into the Rust module."""

from __future__ import annotations

from collections.abc import Sequence

from lumina_jax._native import _lumina

from ._errors import VerifyError

# Outputs that a message lists.
_MOST = 3


def verify(chunks: Sequence[bytes | memoryview], title: str) -> None:
    """Raises VerifyError unless the runtime computes from the file what its test vectors say.

    Args:
      chunks: the file, in pieces.
      title: what the file is called in the message.
    """
    try:
        rows = _lumina.verify(chunks)
    except ValueError as fault:
        raise VerifyError(f"cannot save `{title}`: the runtime refuses it: {fault}") from fault
    wrong = [
        f"output `{name}` of test vector {vector} differs by up to {difference:g}"
        for vector, name, difference, passed in rows
        if not passed
    ]
    if wrong:
        more = f", and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
        raise VerifyError(
            f"cannot save `{title}`: the runtime does not compute what JAX did: "
            f"{', '.join(wrong[:_MOST])}{more}; if rounding explains it, export with a larger "
            "`rtol` or `atol`, else please report the function"
        )
