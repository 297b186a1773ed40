"""Where the operators come from: a library in `$INFINI_ROOT`, in `~/.infini`, or our own."""

from __future__ import annotations

import ctypes
import os
import sys
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from ._register import OpRegister

INFINI_ROOT = os.environ.get("INFINI_ROOT") or str(Path.home() / ".infini")
"""The folder whose `lib` has `libinfiniop.so` and `libinfinirt.so`, where it is there."""

_IS_MAC = sys.platform == "darwin"
_FILES = [f"lib{name}.{'dylib' if _IS_MAC else 'so'}" for name in ("infiniop", "infinirt")]
_OWN = Path(__file__).parent.parent / ("liblumina.1.dylib" if _IS_MAC else "liblumina.so.1")


class InfiniStatus(IntEnum):
    """How a call of the C ABI ended; numbers from 32 on are those of Lumina alone."""

    SUCCESS = 0
    INTERNAL_ERROR = 1
    NOT_IMPLEMENTED = 2
    BAD_PARAM = 3
    NULL_POINTER = 4
    DEVICE_TYPE_NOT_SUPPORTED = 5
    DEVICE_NOT_FOUND = 6
    DEVICE_NOT_INITIALIZED = 7
    DEVICE_ARCHITECTURE_NOT_SUPPORTED = 8
    BAD_TENSOR_DTYPE = 10
    BAD_TENSOR_SHAPE = 11
    BAD_TENSOR_STRIDES = 12
    INSUFFICIENT_WORKSPACE = 13
    BAD_FILE = 32
    OUT_OF_MEMORY = 33
    CANCELLED = 34


class InfiniError(Exception):
    """A call that failed; `status` is its number."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        name = InfiniStatus(status).name if status in set(InfiniStatus) else "unknown"
        super().__init__(f"status {status}, {name}" + (f": {text}" if text else ""))


class InfiniLib:
    """The functions of two libraries, `libop` before `librt`, as attributes of one object."""

    def __init__(self, librt: Any, libop: Any) -> None:
        self.librt = librt
        self.libop = libop

    def __getattr__(self, name: str) -> Any:
        for library in (self.libop, self.librt):
            function = getattr(library, name, None)
            if function is not None:
                # From now on it is found without this search.
                setattr(self, name, function)
                return function
        raise AttributeError(f"the library has no function `{name}`")


def open_lib(root: str | os.PathLike[str] | None = None) -> InfiniLib:
    """Opens the operator library and declares the argument types of what is registered.

    It is the one in the folder `lib` of `root`, of `$INFINI_ROOT` where there is no `root`, else of
    `~/.infini`; where that has none and neither `root` nor `$INFINI_ROOT` is given, the one that is
    installed with this package.

    Raises:
      OSError: there is none, or it cannot be loaded.
    """
    asked = root or os.environ.get("INFINI_ROOT")
    folder = Path(asked or Path.home() / ".infini", "lib")
    paths = [folder / name for name in _FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if not asked and missing and _OWN.is_file():
        paths, missing = [_OWN, _OWN], []
    if missing:
        raise OSError(f"open_lib: there is no {' and no '.join(missing)} in {folder}")
    operators, runtime = (ctypes.CDLL(str(path)) for path in paths)
    lib = InfiniLib(runtime, operators)
    OpRegister.register_lib(lib)
    return lib


@cache
def shared_lib() -> InfiniLib:
    """The library that all of this package calls, opened when it is first asked for."""
    return open_lib()


def check_error(status: int) -> None:
    """Raises InfiniError with the name of `status` and the text of the library, unless it is 0."""
    if status == 0:
        return
    lib = shared_lib()
    text = b""
    if hasattr(lib, "lumina_last_error"):
        lib.lumina_last_error.restype = ctypes.c_char_p
        text = lib.lumina_last_error() or b""
    raise InfiniError(status, text.decode("utf-8", "replace"))
