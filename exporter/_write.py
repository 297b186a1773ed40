"""Puts a file where an older one may be, whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ._errors import SaveError


def write(chunks: Iterable[bytes | memoryview], path: Path) -> Path:
    """Writes `chunks` to a temporary file beside `path`, then renames it."""
    folder = path.parent
    if not folder.is_dir():
        raise SaveError(
            errno.ENOENT, f"cannot save `{path.name}`: there is no directory `{folder}`; make it"
        )
    if path.is_dir():
        raise SaveError(errno.EISDIR, f"cannot save `{path}`: it is a directory; add a file name")
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as fault:
        raise SaveError(fault.errno, f"cannot save `{path}`: {fault.strerror}") from fault
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _sync_directory(folder)
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_directory(folder: Path) -> None:
    """Makes the rename durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
