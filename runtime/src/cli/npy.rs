//! Arrays in NumPy's .npy files.
//!
//! Such a file is a magic number, the version and the length of a header, the header, and the
//! elements. The header is the text of a Python dictionary, `numpy.lib.format` tells which.

use std::io::{self, Read};

use lumina_runtime::{DType, Fact, Tensor};

use crate::element::{ELEMENTS, Element, convert};
use crate::npy_header::Header;

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header that is read, which is the longest of version 1. Those of arrays, as opposed
/// to records, take some hundred bytes at most.
const MAX_HEADER: u64 = 65_535;

/// An array, row-major and in the byte order of this machine.
pub(crate) struct Array {
    element: &'static Element,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    /// Where its rows begin in the array that they are of.
    first: usize,
    /// Which row of an array it is, without axis 0.
    step: Option<usize>,
}

impl Header {
    /// Reads what comes before the elements, and counts its bytes.
    pub(crate) fn read(reader: &mut dyn Read) -> Result<(Self, u64), String> {
        let start: [u8; 8] = exactly(reader)?;
        if !start.starts_with(MAGIC) {
            let got = &start[..MAGIC.len()];
            return Err(format!(
                "it is no .npy or .npz file: it starts with {got:02x?}, expected {MAGIC:02x?} or \
                 \"PK\""
            ));
        }
        let (before, length) = match start[6..] {
            [1, 0] => (10, u16::from_le_bytes(exactly(reader)?).into()),
            [2 | 3, 0] => (12, u32::from_le_bytes(exactly(reader)?).into()),
            [major, minor] => {
                let expected = "expected 1.0, 2.0 or 3.0";
                return Err(format!("its .npy version is {major}.{minor}, {expected}"));
            }
            _ => unreachable!("two bytes of eight"),
        };
        if length > MAX_HEADER {
            let expected = format!("expected at most {MAX_HEADER}");
            return Err(format!("its header is {length} bytes long, {expected}"));
        }
        let text = at_most(reader, length, None)?;
        if (text.len() as u64) < length {
            let got = text.len();
            return Err(format!("truncated: its header takes {length} bytes, got {got}"));
        }
        Ok((Self::parse(&String::from_utf8_lossy(&text))?, before + length))
    }

    /// Bytes of the elements; None where they are more than 2^64.
    pub(crate) fn size(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let size = self.element.size as u64;
        self.shape.iter().try_fold(size, |size, &extent| size.checked_mul(extent))
    }

    /// That there are fewer bytes of the elements than it says.
    pub(crate) fn truncated(&self, got: u64) -> String {
        let size = self.size().map_or("more than 2^64".into(), |size| size.to_string());
        let (name, shape) = (self.element.name, &self.shape);
        format!("truncated: {name} of shape {shape:?} takes {size} bytes, got {got}")
    }

    /// The shape, where memory could hold it.
    pub(crate) fn extents(&self) -> Result<Vec<usize>, String> {
        let extents = self.shape.iter().map(|&extent| usize::try_from(extent));
        extents
            .collect::<Result<_, _>>()
            .map_err(|_| format!("its shape {:?} is larger than any memory", self.shape))
    }

    /// The array of these bytes, whose rows begin at `first`.
    pub(crate) fn array(&self, shape: Vec<usize>, mut bytes: Vec<u8>, first: usize) -> Array {
        let element = self.element;
        if self.is_big_endian {
            bytes.chunks_exact_mut(element.word()).for_each(<[u8]>::reverse);
        }
        if self.is_column_major {
            bytes = row_major(&shape, element.size, &bytes);
        }
        Array { element, shape, bytes, first, step: None }
    }
}

impl Array {
    /// The array without axis 0, of which it has one row.
    pub(crate) fn only_row(self) -> Self {
        Self { step: Some(self.first), first: 0, shape: self.shape[1..].to_vec(), ..self }
    }

    /// A tensor of these elements, which become those of `dtype`: floats of another precision if
    /// they are to be `cast`.
    pub(crate) fn tensor(self, dtype: DType, cast: bool) -> Result<Tensor, String> {
        let Self { element, shape, bytes, first, step } = self;
        let (from, to) = (element.name, dtype.numpy_name());
        let is_precision = |to: &Element| to.is_float() && element.is_float() && from != to.name;
        if !cast && Element::of(dtype).is_some_and(is_precision) {
            return Err(format!(
                "{from} is not supported as it is, the input is {to}: pass --cast to round each \
                 value, or convert the array in NumPy, as by x.astype(\"{to}\")"
            ));
        }
        let bytes = if from == to {
            bytes
        } else {
            convert(element, &bytes, dtype).map_err(|position| {
                let value = (element.number)(&bytes[position * element.size..][..element.size]);
                let mut index = index_of(position, &shape);
                index.iter_mut().take(1).for_each(|row| *row += first);
                index.splice(0..0, step);
                format!(
                    "{from} {value} at {index:?} is no {to}: convert the array in NumPy, as by \
                     x.astype(\"{to}\")"
                )
            })?
        };
        Tensor::from_bytes(Fact::new(dtype, shape), &bytes).map_err(|error| error.to_string())
    }
}

/// The index of the element at a position in row-major order.
pub(crate) fn index_of(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = position;
    let mut index = vec![0; shape.len()];
    for (index, &extent) in index.iter_mut().zip(shape).rev() {
        *index = rest % extent;
        rest /= extent;
    }
    index
}

fn exactly<const N: usize>(reader: &mut dyn Read) -> Result<[u8; N], String> {
    let bytes = at_most(reader, N as u64, None)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| format!("truncated: expected {N} more bytes, got {got}"))
}

/// The next `size` bytes, or all where there are fewer. Where it is not known that they are `left`,
/// memory is taken as they come.
pub(crate) fn at_most(
    reader: &mut dyn Read,
    size: u64,
    left: Option<u64>,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if left.is_some() {
        bytes.try_reserve_exact(size as usize).map_err(|error| error.to_string())?;
    }
    reader.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The elements of `size` bytes of a column-major array, in row-major order.
fn row_major(shape: &[usize], size: usize, bytes: &[u8]) -> Vec<u8> {
    let strides: Vec<usize> = shape
        .iter()
        .scan(1, |next, &extent| Some(std::mem::replace(next, *next * extent)))
        .collect();
    let mut result = Vec::with_capacity(bytes.len());
    let (mut index, mut position) = (vec![0; shape.len()], 0);
    for _ in 0..bytes.len() / size {
        result.extend_from_slice(&bytes[position * size..][..size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= shape[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    result
}

/// What comes before the elements of an array, in version 1.0: it ends with spaces up to a multiple
/// of 64 and the end of a line.
pub(crate) fn header(dtype: DType, shape: &[usize]) -> io::Result<Vec<u8>> {
    let element = Element::of(dtype)
        .ok_or_else(|| io::Error::other(format!(".npy files have no type {dtype}")))?;
    let order = if element.word() == 1 { '|' } else { '<' };
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    // A tuple of one has a comma of its own.
    let extents = extents.join(", ") + if extents.len() == 1 { "," } else { "" };
    let code = element.code();
    let mut text =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    Ok([MAGIC, &[1, 0][..], &(length as u16).to_le_bytes(), text.as_bytes()].concat())
}

/// The element types that are read, for a message.
pub(crate) fn supported() -> String {
    let names: Vec<&str> = ELEMENTS.iter().map(|element| element.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use proptest::prelude::*;

    use super::*;
    use crate::rows::Unread;

    /// A file of a column-major u16[2,3].
    fn file() -> Vec<u8> {
        let text = "{'descr': '>u2', 'fortran_order': True, 'shape': (2, 3), }";
        let text = format!("{text:<117}\n");
        let header = [MAGIC, &[1, 0][..], &(text.len() as u16).to_le_bytes(), text.as_bytes()];
        [&header.concat()[..], &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6]].concat()
    }

    /// The array of these bytes, in a file or as it comes through a pipe.
    fn unread(bytes: &[u8], is_file: bool) -> Result<Unread<'_>, String> {
        if !is_file {
            return Unread::of_stream(Box::new(bytes));
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Unread::of_file(file, bytes.len() as u64)
    }

    #[test]
    fn elements_come_in_row_major_order() {
        let bytes = file();
        for is_file in [true, false] {
            let array = unread(&bytes, is_file).unwrap().whole().unwrap();
            assert_eq!((array.element.name, &array.shape[..]), ("uint16", &[2, 3][..]));
            let tensor = array.tensor(DType::I32, false).unwrap();
            assert_eq!(tensor.view().data::<i32>().unwrap(), [1, 2, 3, 4, 5, 6]);
        }
        let mut rows = unread(&bytes, true).unwrap().rows().unwrap();
        for expected in [[1, 2, 3], [4, 5, 6]] {
            let row = rows.read(1).unwrap().only_row().tensor(DType::I32, false).unwrap();
            assert_eq!(row.view().shape(), [3]);
            assert_eq!(row.view().data::<i32>().unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(
            changes in proptest::collection::vec((0..140usize, any::<u8>()), 1..8),
            end in 0..140usize,
            is_file: bool,
        ) {
            let mut bytes = file();
            for (position, value) in changes {
                bytes[position] = value;
            }
            bytes.truncate(end);
            let whole = unread(&bytes, is_file).and_then(Unread::whole);
            if let Ok(array) = &whole {
                let elements = array.shape.iter().product::<usize>();
                prop_assert_eq!(array.bytes.len(), elements * array.element.size);
            }
            // By rows there is the same, or nothing either.
            if let Ok(mut rows) = unread(&bytes, is_file).and_then(Unread::rows) {
                let count = rows.count();
                let pieces: Result<Vec<Array>, String> =
                    [count / 2, count - count / 2].into_iter().map(|n| rows.read(n)).collect();
                prop_assert_eq!(pieces.is_ok(), whole.is_ok());
                if let (Ok(pieces), Ok(whole)) = (pieces, &whole) {
                    let joined = [&pieces[0].bytes[..], &pieces[1].bytes].concat();
                    prop_assert_eq!(joined, &whole.bytes[..]);
                }
            }
            let _ = whole.and_then(|array| array.tensor(DType::F32, true));
        }
    }
}
