r"""The container of a `.lmn` file.

    header   magic "LMN\x1a" | major u16 | minor u16 | header_len u32 | flags u32 | file_len u64
             | section_count u32 | header_crc32c u32
    table    {kind u32 | flags u32 | offset u64 | length u64 | align u32 | crc32c u32} x sections
    sections GRAPH (protobuf), WEIGHTS, META (test vectors), each at a multiple of 64, none empty

All numbers are little endian. The CRC-32C of the header covers header and table, taken with the
field itself as zero. Zero bytes fill the gaps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import google_crc32c
import numpy as np

MAGIC = b"LMN\x1a"
MAJOR, MINOR = 1, 0
ALIGN = 64
GRAPH, WEIGHTS, META = 1, 2, 4

_HEADER = struct.Struct("<4sHHIIQII")
_ENTRY = struct.Struct("<IIQQII")
_PART = 1 << 20


class Section:
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
        """The checksum of all pieces."""
        crc = google_crc32c.Checksum()
        for piece in self.pieces:
            # It takes bytes alone, so a weight is copied part by part rather than as a whole.
            for start in range(0, len(piece), _PART):
                crc.update(bytes(piece[start : start + _PART]))
        return int.from_bytes(crc.digest(), "big")


def pack(contents: Mapping[int, Section]) -> Iterator[bytes | memoryview]:
    """The file with these sections by kind, piece by piece."""
    sections = [(kind, contents[kind]) for kind in sorted(contents) if contents[kind].length]
    table_end = _HEADER.size + _ENTRY.size * len(sections)
    offset, entries = table_end, []
    for kind, section in sections:
        offset = _aligned(offset)
        entries.append((kind, 0, offset, section.length, ALIGN, section.crc()))
        offset += section.length
    table = b"".join(_ENTRY.pack(*entry) for entry in entries)
    fields = (MAGIC, MAJOR, MINOR, table_end, 0, offset, len(sections))
    yield _HEADER.pack(*fields, _header_crc(fields, table)) + table
    written = table_end
    for (_, section), entry in zip(sections, entries, strict=True):
        yield bytes(entry[2] - written)
        yield from section.pieces
        written = entry[2] + section.length


def unpack(data: bytes) -> dict[int, memoryview]:
    """The sections by kind of a file that the runtime has checked."""
    count = _HEADER.unpack_from(data)[6]
    table = data[_HEADER.size : _HEADER.size + _ENTRY.size * count]
    return {
        kind: memoryview(data)[offset : offset + length]
        for kind, _, offset, length, *_ in _ENTRY.iter_unpack(table)
    }


def _header_crc(fields: tuple[object, ...], table: bytes) -> int:
    return google_crc32c.value(_HEADER.pack(*fields, 0) + table)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
