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
GRAPH, WEIGHTS, LUTS, META = 1, 2, 3, 4

_NAMES = {GRAPH: "GRAPH", WEIGHTS: "WEIGHTS", LUTS: "LUTS", META: "META"}
_HEADER = struct.Struct("<4sHHIIQII")
_ENTRY = struct.Struct("<IIQQII")
_MOST_SECTIONS = 64
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
    """The sections of a file by kind, those of kinds that are newer than this reader left out.

    Raises ValueError where the bytes are not such a file, or not those that were written.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise ValueError(f"not a .lmn file: it starts with {data[:4]!r}, expected {MAGIC!r}")
    _need("header", data, _HEADER.size)
    magic, major, minor, header_len, flags, file_len, count, crc = _HEADER.unpack_from(data)
    if major != MAJOR:
        raise ValueError(f"file format version {major} is not supported, expected {MAJOR}")
    if count > _MOST_SECTIONS:
        raise ValueError(f"header: `section_count` is {count}, expected at most {_MOST_SECTIONS}")
    table_end = _HEADER.size + _ENTRY.size * count
    if header_len != table_end:
        raise ValueError(
            f"header: `header_len` is {header_len}, expected {table_end} for {count} sections"
        )
    _need("section table", data, table_end)
    table = data[_HEADER.size : table_end]
    fields = (magic, major, minor, header_len, flags, file_len, count)
    _check_crc("the header", _header_crc(fields, table), crc)
    _check_flags("the header", flags)
    _need("file", data, file_len)
    if file_len != len(data):
        raise ValueError(f"header: `file_len` is {file_len}, expected {len(data)} as the file has")
    found: dict[int, memoryview] = {}
    end = table_end
    for index, entry in enumerate(_ENTRY.iter_unpack(table)):
        kind, section_flags, offset, length, align, section_crc = entry
        name = _NAMES.get(kind)
        place = f"section {name}" if name else f"section {index} of an unknown kind"
        _check_flags(place, section_flags)
        if align < ALIGN or align & (align - 1) or offset % align:
            raise ValueError(
                f"{place}: `offset` is {offset} and `align` {align}, expected a multiple of `align`"
                f", a power of two from {ALIGN} on"
            )
        if offset < end:
            raise ValueError(f"{place}: `offset` {offset} overlaps what comes before, up to {end}")
        if offset + length > len(data):
            raise ValueError(
                f"{place}: `offset` {offset} and `length` {length} reach beyond the file of "
                f"{len(data)} bytes"
            )
        if any(data[end:offset]):
            raise ValueError(f"{place}: the bytes before it, from {end} to {offset}, are not zero")
        end = offset + length
        section = memoryview(data)[offset:end]
        _check_crc(place, google_crc32c.value(bytes(section)), section_crc)
        if kind in found:
            raise ValueError(f"{place} appears twice")
        if name:
            found[kind] = section
    if end != len(data):
        raise ValueError(
            f"the last section ends at {end}, expected the end of the file, {len(data)}"
        )
    return found


def _header_crc(fields: tuple[object, ...], table: bytes) -> int:
    return google_crc32c.value(_HEADER.pack(*fields, 0) + table)


def _check_crc(place: str, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(
            f"{place} is corrupt: its crc32c is {got:#010x}, the file says {expected:#010x}"
        )


def _check_flags(place: str, flags: int) -> None:
    if flags:
        raise ValueError(f"{place} sets must-understand flags {flags:#x}, which are not known")


def _need(what: str, data: bytes, length: int) -> None:
    if len(data) < length:
        raise ValueError(f"truncated file: the {what} needs {length} bytes, got {len(data)}")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
