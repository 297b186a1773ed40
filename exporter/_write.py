r"""Writes a model as a `.lmn` file.

    header   magic "LMN\x1a" | major u16 | minor u16 | header_len u32 | flags u32 | file_len u64
             | section_count u32 | header_crc32c u32
    table    {kind u32 | flags u32 | offset u64 | length u64 | align u32 | crc32c u32} x sections
    sections GRAPH (protobuf), WEIGHTS, META (test vectors), each at a multiple of 64, none empty

All numbers are little endian. The CRC-32C of the header covers header and table, taken with the
field itself as zero. Zero bytes fill the gaps.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from . import _lmn_pb2 as pb
from ._dim import Dim, Shape
from ._errors import SaveError
from ._graph import Attr, DType, Node, Port, Role, Tensor

if TYPE_CHECKING:
    from ._model import Model, TestVector

MAGIC = b"LMN\x1a"
MAJOR, MINOR = 1, 0
OPSET = 1
ALIGN = 64
GRAPH, WEIGHTS, META = 1, 2, 4
GRAPH_LIMIT = 64 << 20

_HEADER = struct.Struct("<4sHHIIQII")
_ENTRY = struct.Struct("<IIQQII")

_DTYPES = {
    DType.F32: pb.F32,
    DType.C64: pb.C64,
    DType.U32: pb.U32,
    DType.I32: pb.I32,
    DType.I8: pb.I8,
    DType.BOOL: pb.BOOL,
}
_ROLES = {Role.PLAIN: pb.PLAIN, Role.NOISE_SEED: pb.NOISE_SEED}


def save(model: Model, path: Path) -> Path:
    """Writes `model` to a temporary file beside `path`, then renames it."""
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
            for chunk in chunks(model):
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


def chunks(model: Model) -> Iterator[bytes | memoryview]:
    """The contents of the file, piece by piece."""
    weights, meta = _Section(), _Section()
    graph = _Section()
    graph.add(_graph(model, weights, meta))
    sections = [
        (kind, section)
        for kind, section in ((GRAPH, graph), (WEIGHTS, weights), (META, meta))
        if section.length
    ]

    table_end = _HEADER.size + _ENTRY.size * len(sections)
    offset, entries = table_end, []
    for kind, section in sections:
        offset = _aligned(offset)
        entries.append((kind, 0, offset, section.length, ALIGN, section.crc()))
        offset += section.length
    table = b"".join(_ENTRY.pack(*entry) for entry in entries)
    fields = (MAGIC, MAJOR, MINOR, table_end, 0, offset, len(sections))
    crc = google_crc32c.value(_HEADER.pack(*fields, 0) + table)
    yield _HEADER.pack(*fields, crc) + table
    written = table_end
    for (_, section), entry in zip(sections, entries, strict=True):
        yield bytes(entry[2] - written)
        yield from section.pieces
        written = entry[2] + section.length


class _Section:
    """Pieces of one section; each begins at a multiple of 64 within it."""

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self.length = 0

    def add(self, data: bytes | np.ndarray) -> int:
        """Appends `data` and returns its offset."""
        offset = _aligned(self.length)
        piece = data if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data
        self.pieces += [bytes(offset - self.length), piece]
        self.length = offset + len(piece)
        return offset

    def crc(self) -> int:
        crc = google_crc32c.Checksum()
        for piece in self.pieces:
            crc.update(bytes(piece))
        return int.from_bytes(crc.digest(), "big")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


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


def _graph(model: Model, weights: _Section, meta: _Section) -> bytes:
    graph = model.graph
    symbols = graph.symbols()
    message = pb.Graph(
        producer=model.producer,
        opset=OPSET,
        symbols=symbols,
        inputs=[_port(port, symbols) for port in graph.inputs],
        tensors=[_tensor(tensor, weights) for tensor in graph.tensors],
        nodes=[_node(node, symbols) for node in graph.nodes],
        outputs=[_port(port, symbols) for port in graph.outputs],
        tests=[_test(test, meta) for test in model.tests],
    )
    data = message.SerializeToString(deterministic=True)
    if len(data) > GRAPH_LIMIT:
        raise SaveError(
            errno.EFBIG,
            f"the graph takes {len(data)} bytes in the file, expected at most {GRAPH_LIMIT}; "
            "export fewer unrolled steps",
        )
    return data


def _port(port: Port, symbols: Sequence[str]) -> pb.Value:
    value = port.value
    return pb.Value(
        id=value.id,
        name=port.name,
        dtype=_DTYPES[value.dtype],
        shape=_dims(value.shape, symbols),
        role=_ROLES[port.role],
    )


def _tensor(tensor: Tensor, weights: _Section) -> pb.Tensor:
    return pb.Tensor(
        id=tensor.value.id,
        name=tensor.name,
        dtype=_DTYPES[tensor.value.dtype],
        shape=tensor.data.shape,
        offset=weights.add(tensor.data),
    )


def _node(node: Node, symbols: Sequence[str]) -> pb.Node:
    return pb.Node(
        op=node.op,
        inputs=[value.id for value in node.inputs],
        outputs=[value.id for value in node.outputs],
        attrs={name: _attr(node.attrs[name], symbols) for name in sorted(node.attrs)},
        source=node.source,
    )


def _attr(attr: Attr, symbols: Sequence[str]) -> pb.Attr:
    match attr:
        case bool():
            return pb.Attr(flag=attr)
        case int():
            return pb.Attr(integer=attr)
        case float():
            return pb.Attr(number=attr)
        case str():
            return pb.Attr(text=attr)
        case Shape():
            return pb.Attr(shape=pb.Shape(dims=_dims(attr, symbols)))
        case _:
            return pb.Attr(integers=pb.Integers(values=attr))


def _dims(shape: Shape, symbols: Sequence[str]) -> list[pb.Dim]:
    return [_dim(dim, symbols) for dim in shape]


def _dim(dim: Dim, symbols: Sequence[str]) -> pb.Dim:
    return pb.Dim(
        terms=[
            pb.Term(
                coefficient=coefficient,
                factors=[
                    pb.Factor(symbol=symbols.index(name), power=power) for name, power in monomial
                ],
            )
            for monomial, coefficient in dim.terms
        ]
    )


def _test(test: TestVector, meta: _Section) -> pb.TestVector:
    def tensors(arrays: Sequence[np.ndarray]) -> list[pb.TestTensor]:
        return [
            pb.TestTensor(dtype=_dtype(array), shape=array.shape, offset=meta.add(array))
            for array in arrays
        ]

    return pb.TestVector(
        inputs=tensors(test.inputs),
        outputs=tensors(test.outputs),
        absolute_tolerance=test.absolute_tolerance,
        relative_tolerance=test.relative_tolerance,
    )


def _dtype(array: np.ndarray) -> pb.DType:
    dtype = DType.of(array.dtype)
    assert dtype is not None, f"a test vector holds {array.dtype}"
    return _DTYPES[dtype]
