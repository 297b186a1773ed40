"""The edge to XLA against the headers of the installed jaxlib.

The mirror of the C API has the layout that a compiler gives the header, and our decoder reads from
a call what the decoder of XLA reads from the same one.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import _lumina

INCLUDE = Path(jax.ffi.include_dir())
HEADER = (INCLUDE / "xla/ffi/api/c_api.h").read_text()
COMPILER = shutil.which(os.environ.get("CXX", "c++"))

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler: set CXX"),
    pytest.mark.skipif(
        not hasattr(_lumina, "xla_probe"), reason="the Rust module is no debug build"
    ),
]


def compiled(source: Path, folder: Path) -> ctypes.CDLL:
    library = folder / "oracle.so"
    flags = ["-std=c++17", "-shared", "-fPIC", "-w", f"-I{INCLUDE}", "-o", str(library)]
    subprocess.run([COMPILER, *flags, str(source)], check=True, timeout=120)
    return ctypes.CDLL(str(library))


# In jaxlib 0.12, of version 0.5 of the API.
RENAMED = {
    "XLA_FFI_Extension_Base": "XLA_FFI_InternalExtension",
    "XLA_FFI_Error_GetMessage": "XLA_FFI_Error_GetDetails",
    "XLA_FFI_ExecutionContext_Get": "XLA_FFI_InvokeContext_Get",
}


def test_the_mirror_has_the_layout_and_the_numbers_of_the_header(tmp_path):
    layouts = [(struct, size, dict(fields)) for struct, size, fields in _lumina.xla_layouts]
    ((_, size, fields),) = (layout for layout in layouts if layout[0] == "XLA_FFI_Args")
    fields = {{"args": "rets"}.get(name, name): at for name, at in fields.items()}
    layouts.append(("XLA_FFI_Rets", size, fields))
    want = dict(_lumina.xla_numbers)
    for struct, size, fields in layouts:
        want |= {f"offsetof({struct}, {field})": at for field, at in fields.items()}
        # What later versions append is not in the mirror.
        appended = {"XLA_FFI_CallFrame": "future"}.get(struct)
        want[f"offsetof({struct}, {appended})" if appended else f"sizeof({struct})"] = size

    named = set(re.findall(r"\w+", HEADER))
    for name, new_name in RENAMED.items():
        if name not in named:
            want = {re.sub(rf"\b{name}\b", new_name, what): at for what, at in want.items()}

    minor = int(re.search(r"#define XLA_FFI_API_MINOR (\d+)", HEADER)[1])
    unknown = [what for what in want if not named.issuperset(re.findall(r"\w+", what)[-1:])]
    # Of an earlier version the header lacks what the mirror has of later ones; of a later one,
    # structs may have grown.
    if minor >= _lumina.xla_api_minor:
        assert unknown == []
    if minor != _lumina.xla_api_minor:
        unknown += [what for what in want if what.startswith("sizeof")]
    want = {what: number for what, number in want.items() if what not in unknown}

    source = tmp_path / "layout.cc"
    source.write_text(
        '#include <cstddef>\n#include "xla/ffi/api/c_api.h"\n'
        f'extern "C" const long long numbers[] = {{{", ".join(want)}}};\n'
    )
    library = compiled(source, tmp_path)
    got = (ctypes.c_longlong * len(want)).in_dll(library, "numbers")
    assert dict(zip(want, got, strict=True)) == want
    assert len(want) > 100


SHAPES = [(), (3,), (2, 3), (0,), (2, 0, 3), (2, 1, 3, 2), (1, 1, 2, 1, 2, 1)]
LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
NAMES = ("flag", "short", "long", "single", "double", "text", "list")
ATTRIBUTES = [
    (True, -1, 1 << 40, 0.1, 0.1, "none", [1, 2, 3]),
    (False, (1 << 31) - 1, LEAST, -0.0, 5e-324, "", []),
    (True, -(1 << 31), MOST, 1e-45, -np.inf, 'λ "q"\n\\', [MOST, LEAST, 0, -1]),
]


def random(dtype: np.dtype, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Of any bits, so that NaN and subnormals are among them."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape)) * dtype.itemsize
    return rng.integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def test_both_decoders_read_the_same_from_a_call(tmp_path):
    library = compiled(Path(__file__).with_name("ffi_oracle.cc"), tmp_path)
    jax.ffi.register_ffi_target("lumina_test.ours", _lumina.xla_probe, platform="cpu")
    jax.ffi.register_ffi_target(
        "lumina_test.theirs", jax.ffi.pycapsule(library.probe), platform="cpu"
    )
    rng = np.random.default_rng(0)
    for _, name, _ in _lumina.dtypes():
        dtype = jnp.dtype(name)
        operands = [random(dtype, shape, rng) for shape in SHAPES]
        for given in (dict(zip(NAMES, values, strict=True)) for values in ATTRIBUTES):
            told, copies = called(operands, given)
            assert told[0] == told[1]
            lines = told[0].split("\n")
            assert len(lines) == 7 + len(SHAPES) + 1 + len(SHAPES) + 1
            assert lines[1] == f"short {given['short']}"
            assert lines[5:7] == [
                f"text {given['text'].encode().hex()}",
                f"list {''.join(f'{number},' for number in given['list'])}",
            ]
            for copy, operand in zip(copies, 2 * operands, strict=True):
                assert copy.dtype == operand.dtype
                assert copy.shape == operand.shape
                assert copy.tobytes() == operand.tobytes()


def called(operands, given):
    """The texts of both, from one program, and all copies of the operands."""
    size = 1 << 14
    attributes = given | {
        "short": np.int32(given["short"]),
        "long": np.int64(given["long"]),
        "single": np.float32(given["single"]),
        "double": np.float64(given["double"]),
        "list": np.array(given["list"], np.int64),
        "size": np.int64(size),
    }

    def both(*operands):
        results = [
            jax.ShapeDtypeStruct((size,), jnp.uint8),
            *(jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in operands),
        ]
        return [
            jax.ffi.ffi_call(f"lumina_test.{whose}", results)(*operands, **attributes)
            for whose in ["ours", "theirs"]
        ]

    with jax.enable_x64(True):
        ours, theirs = jax.tree.map(np.asarray, jax.jit(both)(*operands))
    texts = [results[0].tobytes().rstrip(b"\0").decode() for results in (ours, theirs)]
    return texts, [*ours[1:], *theirs[1:]]
