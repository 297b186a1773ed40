"""Writes files: whole or not at all where that can be, through what is no file where it cannot.

A regular file is replaced by renaming a temporary one over it, so a reader finds the old bytes or
the new ones. A symbolic link stays and its target is written. A device or a pipe is written to.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Puts a file of these bytes at `path`, which keeps the mode and, if it may, the owner it has.

    Raises:
        OSError: there is no such directory, `path` is a directory, or the system refuses to write.
            An older file is then as it was.
    """
    old = _stat(path)
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory; add a file name", str(path))
    target = Path(os.path.realpath(path))
    if old is not None and not _is_file_at(target, old):
        with path.open("wb") as stream:
            stream.writelines(chunks)
        return
    if not target.parent.is_dir():
        reason = f"there is no directory `{target.parent}`; make it"
        raise FileNotFoundError(errno.ENOENT, reason, str(path))
    # A name of its own length, since that of the target may be as long as names can be.
    temporary = target.with_name(f".lumina-{secrets.token_hex(8)}.tmp")
    # "x" follows no link and opens nothing that is there.
    with _removed_on_signals(temporary), temporary.open("xb") as file:
        try:
            if old is not None:
                _take_over(file.fileno(), old)
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_directory(target.parent)


def is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or a socket: what is written there is not read again."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _stat(path: Path) -> os.stat_result | None:
    """Of what `path` leads to; None where there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_file_at(target: Path, old: os.stat_result) -> bool:
    """Whether `old` is a regular file that has the name `target`.

    A link in /proc may lead to a file that has no name any more, and tells one all the same.
    """
    found = _stat(target)
    return stat.S_ISREG(old.st_mode) and found is not None and os.path.samestat(old, found)


def _take_over(descriptor: int, old: os.stat_result) -> None:
    """Gives a new file the owner and the mode of an old one."""
    if hasattr(os, "fchown"):
        new = os.fstat(descriptor)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            # To give a file away is a privilege; without it the file is ours.
            with suppress(PermissionError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


@contextmanager
def _removed_on_signals(path: Path) -> Iterator[None]:
    """Removes the file where a signal would end the process at once, which then ends as it would.

    Signals that the program ignores or handles stay as they are: a handler that raises lets the
    writer clean up. Threads but the main one cannot set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        path.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    deadly = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in deadly:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in deadly:
            signal.signal(number, signal.SIG_DFL)


def _sync_directory(folder: Path) -> None:
    """Makes the rename durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
