//! Arrays of which the header has been read: to be had whole, or some rows at a time, whatever
//! their size is.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

use crate::npy::{Array, at_most};
use crate::npy_header::Header;

/// An array whose elements are still to be read.
pub(crate) struct Unread<'a> {
    header: Header,
    elements: Box<dyn Read + 'a>,
    /// Bytes that there are of the elements, where that is known.
    left: Option<u64>,
    /// The file and where in it the elements begin, where it is one.
    file: Option<(File, u64)>,
    /// Its name in an archive.
    member: Option<String>,
}

impl<'a> Unread<'a> {
    /// The array in a file of `length` bytes, read from its start on.
    pub(crate) fn of_file(mut file: File, length: u64) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let (header, start) = Header::read(&mut file)?;
        let handle = file.try_clone().map_err(text)?;
        let left = Some(length.saturating_sub(start));
        let elements = Box::new(file);
        Self { header, elements, left, file: Some((handle, start)), member: None }.checked()
    }

    /// The array that comes from a reader.
    pub(crate) fn of_stream(mut stream: Box<dyn Read + 'a>) -> Result<Self, String> {
        let (header, _) = Header::read(&mut stream)?;
        Self { header, elements: stream, left: None, file: None, member: None }.checked()
    }

    /// The array of that name, in an archive that tells at its end whether it was whole.
    pub(crate) fn of_member(name: &str, stream: Box<dyn Read + 'a>) -> Result<Self, String> {
        let array = Self::of_stream(stream).map_err(|message| in_member(name, message))?;
        Ok(Self { member: Some(name.into()), ..array })
    }

    fn checked(self) -> Result<Self, String> {
        match (self.header.size(), self.left) {
            (Some(size), Some(left)) if size > left => Err(self.header.truncated(left)),
            (None, left) => Err(self.header.truncated(left.unwrap_or(0))),
            _ => Ok(self),
        }
    }

    /// Bytes of its elements, as it says.
    fn size(&self) -> u64 {
        self.header.size().unwrap_or(u64::MAX)
    }

    /// Bytes of its elements, where they are known to be there.
    pub(crate) fn known_size(&self) -> u64 {
        if self.left.is_some() { self.size() } else { 0 }
    }

    /// All of it.
    pub(crate) fn whole(mut self) -> Result<Array, String> {
        let read = |array: &mut Self| {
            let size = array.size();
            let bytes = at_most(&mut array.elements, size, array.left)?;
            if (bytes.len() as u64) < size {
                return Err(array.header.truncated(bytes.len() as u64));
            }
            array.end()?;
            Ok(array.header.array(array.header.extents()?, bytes, 0))
        };
        let result = read(&mut self);
        result.map_err(|message| self.fault(message))
    }

    /// Its rows.
    pub(crate) fn rows(self) -> Result<Rows<'a>, String> {
        let read = || {
            let shape = self.header.extents()?;
            let Some((&count, rest)) = shape.split_first() else {
                return Err("it is a single element, which has no rows".into());
            };
            if self.header.is_column_major && self.file.is_none() {
                return Err("it is column-major, and can be read by rows from a .npy file alone: \
                            save it by numpy.save(path, numpy.ascontiguousarray(x))"
                    .into());
            }
            let row = rest.iter().try_fold(self.header.element.size, |n, &e| n.checked_mul(e));
            let row = row.ok_or("a row of it is larger than any memory")?;
            Ok((count, rest.to_vec(), row))
        };
        match read() {
            Ok((count, rest, row)) => Ok(Rows { array: self, count, rest, row, next: 0 }),
            Err(message) => Err(self.fault(message)),
        }
    }

    /// Reads what comes after it in an archive, which compares the checksum there.
    fn end(&mut self) -> Result<(), String> {
        if self.member.is_some() {
            io::copy(&mut self.elements, &mut io::sink()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn fault(&self, message: String) -> String {
        self.member.as_deref().map_or(message.clone(), |name| in_member(name, message))
    }
}

fn in_member(name: &str, message: String) -> String {
    format!("array `{name}`: {message}")
}

/// The rows of an array, which are what axis 0 counts.
pub(crate) struct Rows<'a> {
    array: Unread<'a>,
    count: usize,
    /// Shape of a row.
    rest: Vec<usize>,
    /// Bytes of a row.
    row: usize,
    /// The row that is read next.
    next: usize,
}

impl Rows<'_> {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// So many of the rows that are left.
    pub(crate) fn read(&mut self, count: usize) -> Result<Array, String> {
        self.piece(count).map_err(|message| self.array.fault(message))
    }

    fn piece(&mut self, count: usize) -> Result<Array, String> {
        let first = self.next;
        let size = count.checked_mul(self.row).ok_or("the rows are larger than any memory")?;
        let bytes = match &mut self.array {
            Unread { header, file: Some((file, start)), .. } if header.is_column_major => {
                let word = header.element.size;
                let columns = self.row / word;
                columns_of(file, *start, [first, count, self.count], word, columns)
                    .map_err(|error| error.to_string())?
            }
            Unread { elements, left, .. } => at_most(elements, size as u64, *left)?,
        };
        if bytes.len() < size {
            let got = (first as u64).saturating_mul(self.row as u64) + bytes.len() as u64;
            return Err(self.array.header.truncated(got));
        }
        self.next += count;
        if self.next == self.count {
            self.array.end()?;
        }
        let shape = [&[count], &self.rest[..]].concat();
        Ok(self.array.header.array(shape, bytes, first))
    }
}

/// `count` of the `all` rows from `first` on, of a column-major array whose elements take `word`
/// bytes: so much of each of its columns. The file begins with `start` other bytes.
fn columns_of(
    mut file: &File,
    start: u64,
    [first, count, all]: [usize; 3],
    word: usize,
    columns: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(count * word * columns)?;
    for column in 0..columns {
        let element = column as u64 * all as u64 + first as u64;
        file.seek(SeekFrom::Start(start + element * word as u64))?;
        file.take((count * word) as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
