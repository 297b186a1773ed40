//! The container around the graph: a header with a section table, then aligned raw sections.
//!
//! ```text
//!  0 magic "LMN\x1a" | 4 major u16 | 6 minor u16 | 8 header_len u32 | 12 flags u32
//! 16 file_len u64 | 24 section_count u32 | 28 header_crc32c u32        little endian
//! 32 {kind u32, flags u32, offset u64, length u64, align u32, crc32c u32} x section_count
//! ```
//!
//! `header_crc32c` covers header and table, with itself as zero. Sections ascend, do not overlap,
//! are separated by zeros alone, and the last ends with the file.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use crate::Error;
use crate::bytes::{ALIGN, AlignedBytes};

const MAGIC: &[u8] = b"LMN\x1a";
/// The layouts that are read: the newest and, once there is one, that before it.
const MAJORS: RangeInclusive<u16> = 1..=1;
const HEADER: usize = 32;
const ENTRY: usize = 32;
const MAX_SECTIONS: u32 = 64;
const MAX_ALIGN: u32 = 4096;
/// Must-understand flags that this runtime knows, of the header and of sections.
const KNOWN_FLAGS: u32 = 0;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// The graph, as protobuf.
    Graph,
    /// The tensors of the graph.
    Weights,
    /// Look-up tables of quantized tensors.
    Luts,
    /// Test vectors.
    Meta,
}

impl SectionKind {
    const ALL: [Self; 4] = [Self::Graph, Self::Weights, Self::Luts, Self::Meta];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u32 + 1 == number)
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graph => "GRAPH",
            Self::Weights => "WEIGHTS",
            Self::Luts => "LUTS",
            Self::Meta => "META",
        })
    }
}

/// An entry of the section table.
#[derive(Clone, Debug)]
pub struct Section {
    /// What it holds; None is a kind newer than this runtime, which may be ignored.
    pub kind: Option<SectionKind>,
    /// Where in the file it lies.
    pub range: Range<usize>,
    /// Its offset is a multiple of this.
    pub align: u32,
    /// Checksum of its bytes.
    pub crc32c: u32,
}

/// A file whose header, section table and checksums are right.
#[derive(Debug)]
pub(crate) struct Container {
    bytes: AlignedBytes,
    pub(crate) version: (u16, u16),
    pub(crate) sections: Vec<Section>,
}

impl Container {
    pub(crate) fn parse(bytes: AlignedBytes) -> Result<Self, Error> {
        let (version, header_len) = check_header(&bytes)?;
        let mut sections: Vec<Section> = Vec::new();
        let mut end = header_len;
        for (index, entry) in bytes[HEADER..header_len].chunks_exact(ENTRY).enumerate() {
            let section = check_section(index, entry, &bytes, end)?;
            if section.kind.is_some() && sections.iter().any(|s| s.kind == section.kind) {
                return Err(section_error(index, section.kind, "appears twice"));
            }
            end = section.range.end;
            sections.push(section);
        }
        if end != bytes.len() {
            return Err(Error::Section {
                place: "section table".into(),
                message: format!(
                    "the last section must end with the file at {}, it ends at {end}",
                    bytes.len()
                ),
            });
        }
        Ok(Self { bytes, version, sections })
    }

    /// The bytes of a section; none if the file does not have it.
    pub(crate) fn section(&self, kind: SectionKind) -> &[u8] {
        let section = self.sections.iter().find(|section| section.kind == Some(kind));
        section.map_or(&[], |section| &self.bytes[section.range.clone()])
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Version and length of the header with its table.
fn check_header(bytes: &[u8]) -> Result<((u16, u16), usize), Error> {
    if !bytes.starts_with(&MAGIC[..MAGIC.len().min(bytes.len())]) {
        return Err(Error::Magic { got: bytes[..MAGIC.len().min(bytes.len())].to_vec() });
    }
    need("header", bytes, HEADER)?;
    let major = u16_at(bytes, 4);
    if !MAJORS.contains(&major) {
        let (oldest, newest) = MAJORS.into_inner();
        return Err(Error::Major { got: major, oldest, newest });
    }
    let section_count = u32_at(bytes, 24);
    if section_count > MAX_SECTIONS {
        return Err(field(
            "section_count",
            format!("at most {MAX_SECTIONS}"),
            section_count.into(),
        ));
    }
    let header_len = HEADER + ENTRY * section_count as usize;
    let got = u32_at(bytes, 8);
    if got as usize != header_len {
        let expected = format!("{header_len} for {section_count} sections");
        return Err(field("header_len", expected, got.into()));
    }
    need("section table", bytes, header_len)?;
    let expected = u32_at(bytes, 28);
    let crc = crc32c::crc32c(&bytes[..28]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    let got = crc32c::crc32c_append(crc, &bytes[HEADER..header_len]);
    if got != expected {
        return Err(Error::Checksum { place: "the header".into(), expected, got });
    }
    check_flags("the header".into(), u32_at(bytes, 12))?;
    let file_len = u64_at(bytes, 16);
    if file_len > bytes.len() as u64 {
        let got = bytes.len() as u64;
        return Err(Error::Truncated { what: "file", expected: file_len, got });
    }
    if file_len != bytes.len() as u64 {
        return Err(field("file_len", format!("{} as the file has", bytes.len()), file_len));
    }
    Ok(((major, u16_at(bytes, 6)), header_len))
}

/// The section of `entry`, which must start at `end` or after some zeros.
fn check_section(index: usize, entry: &[u8], file: &[u8], end: usize) -> Result<Section, Error> {
    let kind = SectionKind::of(u32_at(entry, 0));
    let (offset, length) = (u64_at(entry, 8), u64_at(entry, 16));
    let align = u32_at(entry, 24);
    check_flags(place(index, kind), u32_at(entry, 4))?;
    if !align.is_power_of_two() || !(ALIGN as u32..=MAX_ALIGN).contains(&align) {
        let message = format!("`align` must be a power of two from 64 to {MAX_ALIGN}, got {align}");
        return Err(section_error(index, kind, message));
    }
    if !offset.is_multiple_of(align.into()) {
        let message = format!("`offset` must be a multiple of {align}, got {offset}");
        return Err(section_error(index, kind, message));
    }
    let range = match offset.checked_add(length) {
        Some(stop) if stop <= file.len() as u64 => offset as usize..stop as usize,
        _ => {
            let message = format!(
                "`offset` {offset} and `length` {length} reach beyond the file of {} bytes",
                file.len()
            );
            return Err(section_error(index, kind, message));
        }
    };
    if range.start < end {
        let message = format!("`offset` {offset} overlaps what comes before it, up to {end}");
        return Err(section_error(index, kind, message));
    }
    if file[end..range.start].iter().any(|&byte| byte != 0) {
        let message = format!("the padding before it, from {end} to {offset}, must be zero");
        return Err(section_error(index, kind, message));
    }
    let crc32c = u32_at(entry, 28);
    let got = crc32c::crc32c(&file[range.clone()]);
    if got != crc32c {
        return Err(Error::Checksum { place: place(index, kind), expected: crc32c, got });
    }
    Ok(Section { kind, range, align, crc32c })
}

fn check_flags(place: String, flags: u32) -> Result<(), Error> {
    match flags & !KNOWN_FLAGS {
        0 => Ok(()),
        flags => Err(Error::Flags { place, flags }),
    }
}

fn need(what: &'static str, bytes: &[u8], length: usize) -> Result<(), Error> {
    if bytes.len() < length {
        let got = bytes.len() as u64;
        return Err(Error::Truncated { what, expected: length as u64, got });
    }
    Ok(())
}

fn field(field: &'static str, expected: String, got: u64) -> Error {
    Error::Header { field, expected, got }
}

fn place(index: usize, kind: Option<SectionKind>) -> String {
    match kind {
        Some(kind) => format!("section {kind}"),
        None => format!("section {index} of an unknown kind"),
    }
}

fn section_error(index: usize, kind: Option<SectionKind>, message: impl Into<String>) -> Error {
    Error::Section { place: place(index, kind), message: message.into() }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
