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
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use crate::Error;
use crate::bytes::{ALIGN, AlignedBytes};
use crate::checksum::{crc32c, threads};

const MAGIC: &[u8] = b"LMN\x1a";
/// The layouts that are read: the newest and, once there is one, that before it.
const MAJORS: RangeInclusive<u16> = 1..=1;
const HEADER: usize = 32;
const ENTRY: usize = 32;
const MAX_SECTIONS: u32 = 64;
/// Bytes of a header with the longest table.
const MAX_HEADER: u64 = (HEADER + ENTRY * MAX_SECTIONS as usize) as u64;
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

/// Which checksums are compared as a file is loaded. Everything else is always checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// All of them: every byte is known to be what was written.
    #[default]
    All,
    /// All but that of the weights, which are then not read before they are used. Weights that have
    /// changed give other numbers, without a word; no more than that.
    AllButWeights,
}

impl Checksums {
    fn skip(self, section: &Section) -> bool {
        self == Self::AllButWeights && section.kind == Some(SectionKind::Weights)
    }
}

/// The bytes of a file and its sections.
#[derive(Clone, Copy)]
pub(crate) struct Contents<'a> {
    bytes: &'a [u8],
    sections: &'a [Section],
}

impl<'a> Contents<'a> {
    /// The bytes of a section; none if the file does not have it.
    pub(crate) fn section(self, kind: SectionKind) -> &'a [u8] {
        let section = self.sections.iter().find(|section| section.kind == Some(kind));
        section.map_or(&[], |section| &self.bytes[section.range.clone()])
    }

    /// All bytes of the file.
    #[cfg(feature = "report")]
    pub(crate) fn all(self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the file.
    pub(crate) fn len(self) -> usize {
        self.bytes.len()
    }

    /// Checks what lies in the sections, and between them, of a header that ends at `end`.
    fn check(self, mut end: usize, checksums: Checksums) -> Result<(), Error> {
        for (index, section) in self.sections.iter().enumerate() {
            check_padding(index, section, self.bytes, end)?;
            if !checksums.skip(section) {
                check_bytes(index, section, self.bytes)?;
            }
            end = section.range.end;
        }
        Ok(())
    }
}

/// Calls `then` with the contents of the file that these bytes are, whose header, section table and
/// checksums are right. Nothing is copied.
pub(crate) fn borrowed<T>(
    bytes: &[u8],
    then: impl FnOnce(Contents<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (header, sections) = check_head(bytes, bytes.len() as u64)?;
    let contents = Contents { bytes, sections: &sections };
    contents.check(header.end, Checksums::All)?;
    then(contents)
}

/// A file whose header, section table and checksums are right.
#[derive(Debug)]
pub(crate) struct Container {
    bytes: Bytes,
    pub(crate) version: (u16, u16),
    pub(crate) sections: Vec<Section>,
}

/// The bytes of a file, read or where they were.
enum Bytes {
    Read(AlignedBytes),
    InPlace(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read(..)",
            Self::InPlace(_) => "InPlace(..)",
        })
    }
}

impl Container {
    /// Reads a file. Nothing but its header is read, nor room made for more, before that is checked.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        let mut head = Vec::new();
        (&mut file).take(MAX_HEADER).read_to_end(&mut head).map_err(fault)?;
        if !metadata.is_file() {
            // A pipe does not say how long it is; its header does.
            let rest = check_header(&head)?.file_len.saturating_sub(head.len() as u64);
            file.take(rest.saturating_add(1)).read_to_end(&mut head).map_err(fault)?;
            return Self::parse(&head);
        }
        Self::with_body(&head, metadata.len(), |rest| {
            read_exact_at(&file, head.len() as u64, rest).map_err(fault)
        })
    }

    /// The container in these bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (head, body) = bytes.split_at(bytes.len().min(MAX_HEADER as usize));
        Self::with_body(head, bytes.len() as u64, |rest| {
            rest.copy_from_slice(body);
            Ok(())
        })
    }

    /// The container of `length` bytes, of which `fill` writes those from an offset on.
    pub(crate) fn filled_by(
        length: usize,
        mut fill: impl FnMut(usize, &mut [u8]),
    ) -> Result<Self, Error> {
        let mut head = vec![0; length.min(MAX_HEADER as usize)];
        fill(0, &mut head);
        Self::with_body(&head, length as u64, |rest| {
            fill(head.len(), rest);
            Ok(())
        })
    }

    /// The container in bytes that stay where they are.
    pub(crate) fn in_place(
        bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
        checksums: Checksums,
    ) -> Result<Self, Error> {
        let file: &[u8] = (*bytes).as_ref();
        let (Header { version, end, .. }, sections) = check_head(file, file.len() as u64)?;
        if file.as_ptr().align_offset(ALIGN) != 0 {
            return Err(Error::Unaligned);
        }
        Contents { bytes: file, sections: &sections }.check(end, checksums)?;
        Ok(Self { bytes: Bytes::InPlace(bytes), version, sections })
    }

    /// The container that starts with `head` and has `length` bytes; `fill` writes those after `head`.
    fn with_body(
        head: &[u8],
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let size = usize::try_from(length).map_err(|_| Error::Allocation { bytes: length })?;
        let (Header { version, end, .. }, sections) = check_head(head, length)?;
        let mut bytes = AlignedBytes::zeroed(size)?;
        // The file may have grown since it was asked for its length.
        let head = &head[..head.len().min(size)];
        let (start, rest) = bytes.split_at_mut(head.len());
        start.copy_from_slice(head);
        fill(rest)?;
        let container = Self { bytes: Bytes::Read(bytes), version, sections };
        container.contents().check(end, Checksums::All)?;
        Ok(container)
    }

    pub(crate) fn contents(&self) -> Contents<'_> {
        let bytes: &[u8] = match &self.bytes {
            Bytes::Read(bytes) => bytes,
            Bytes::InPlace(bytes) => (**bytes).as_ref(),
        };
        Contents { bytes, sections: &self.sections }
    }
}

/// Fills `rest` with the bytes of a file from `offset` on, a part of them by each core where they
/// are many: what is in the memory of the system is copied no faster than a core copies.
#[cfg(unix)]
fn read_exact_at(file: &File, mut offset: u64, rest: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let part = rest.len().div_ceil(threads(rest.len()));
    if part == rest.len() {
        return file.read_exact_at(rest, offset);
    }
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for part in rest.chunks_mut(part) {
            let (start, length) = (offset, part.len() as u64);
            offset += length;
            let reader = move || file.read_exact_at(part, start);
            readers.push(std::thread::Builder::new().spawn_scoped(scope, reader)?);
        }
        let ended = |_| Err(io::Error::other("a thread that read it has ended"));
        readers.into_iter().try_for_each(|reader| reader.join().unwrap_or_else(ended))
    })
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, offset: u64, rest: &mut [u8]) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    file.read_exact(rest)
}

/// What the header says.
struct Header {
    version: (u16, u16),
    /// Where the section table ends.
    end: usize,
    file_len: u64,
}

/// The header and the section table of the file that starts with `head` and has `length` bytes.
fn check_head(head: &[u8], length: u64) -> Result<(Header, Vec<Section>), Error> {
    let header = check_header(head)?;
    let Header { end, file_len, .. } = header;
    if file_len > length {
        return Err(Error::Truncated { what: "file", expected: file_len, got: length });
    }
    if file_len != length {
        return Err(field("file_len", format!("{length} as the file has"), file_len));
    }
    let sections = check_table(&head[HEADER..end], end, length)?;
    Ok((header, sections))
}

/// Checks the header of the file that starts with `head`, and is longer only if the header is whole.
fn check_header(head: &[u8]) -> Result<Header, Error> {
    if !head.starts_with(&MAGIC[..MAGIC.len().min(head.len())]) {
        return Err(Error::Magic { got: head[..MAGIC.len().min(head.len())].to_vec() });
    }
    need("header", head, HEADER)?;
    let major = u16_at(head, 4);
    if !MAJORS.contains(&major) {
        let (oldest, newest) = MAJORS.into_inner();
        return Err(Error::Major { got: major, oldest, newest });
    }
    let section_count = u32_at(head, 24);
    if section_count > MAX_SECTIONS {
        return Err(field(
            "section_count",
            format!("at most {MAX_SECTIONS}"),
            section_count.into(),
        ));
    }
    let end = HEADER + ENTRY * section_count as usize;
    let got = u32_at(head, 8);
    if got as usize != end {
        let expected = format!("{end} for {section_count} sections");
        return Err(field("header_len", expected, got.into()));
    }
    need("section table", head, end)?;
    let expected = u32_at(head, 28);
    let crc = ::crc32c::crc32c(&head[..28]);
    let crc = ::crc32c::crc32c_append(crc, &[0; 4]);
    let got = ::crc32c::crc32c_append(crc, &head[HEADER..end]);
    if got != expected {
        return Err(Error::Checksum { place: "the header".into(), expected, got });
    }
    check_flags("the header".into(), u32_at(head, 12))?;
    Ok(Header { version: (major, u16_at(head, 6)), end, file_len: u64_at(head, 16) })
}

/// The sections of a table that ends at `end`, in a file of `length` bytes.
fn check_table(table: &[u8], mut end: usize, length: u64) -> Result<Vec<Section>, Error> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, entry) in table.chunks_exact(ENTRY).enumerate() {
        let section = check_entry(index, entry, length, end)?;
        if section.kind.is_some() && sections.iter().any(|s| s.kind == section.kind) {
            return Err(section_error(index, section.kind, "appears twice"));
        }
        end = section.range.end;
        sections.push(section);
    }
    if end as u64 != length {
        let message =
            format!("the last section must end with the file at {length}, it ends at {end}");
        return Err(Error::Section { place: "section table".into(), message });
    }
    if !sections.iter().any(|section| section.kind == Some(SectionKind::Graph)) {
        return Err(Error::Section { place: "section GRAPH".into(), message: "missing".into() });
    }
    Ok(sections)
}

/// The section of `entry`, which must start at `end` or later.
fn check_entry(index: usize, entry: &[u8], file_len: u64, end: usize) -> Result<Section, Error> {
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
        Some(stop) if stop <= file_len => offset as usize..stop as usize,
        _ => {
            let message = format!(
                "`offset` {offset} and `length` {length} reach beyond the file of {file_len} bytes"
            );
            return Err(section_error(index, kind, message));
        }
    };
    if range.start < end {
        let message = format!("`offset` {offset} overlaps what comes before it, up to {end}");
        return Err(section_error(index, kind, message));
    }
    Ok(Section { kind, range, align, crc32c: u32_at(entry, 28) })
}

/// Checks that the bytes before a section, from `end` on, are zero.
fn check_padding(index: usize, section: &Section, file: &[u8], end: usize) -> Result<(), Error> {
    let start = section.range.start;
    if file[end..start].iter().any(|&byte| byte != 0) {
        let message = format!("the padding before it, from {end} to {start}, must be zero");
        return Err(section_error(index, section.kind, message));
    }
    Ok(())
}

/// Checks the bytes of a section.
fn check_bytes(index: usize, section: &Section, file: &[u8]) -> Result<(), Error> {
    let &Section { kind, ref range, crc32c: expected, .. } = section;
    match crc32c(&file[range.clone()]) {
        got if got == expected => Ok(()),
        got => Err(Error::Checksum { place: place(index, kind), expected, got }),
    }
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
