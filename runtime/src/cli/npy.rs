//! Arrays in NumPy's .npy files.
//!
//! Such a file is a magic number, the version and the length of a header, the header, and the
//! elements. The header is the text of a Python dictionary, `numpy.lib.format` tells which.

use std::io::{self, Read, Write};

use lumina_runtime::{DType, Fact, Tensor, View};

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
}

impl Array {
    /// Reads an array, of which no more is trusted than is there. What follows it is not read, as
    /// by NumPy.
    ///
    /// `length` is the number of bytes that there are, where that is known.
    pub(crate) fn read(reader: &mut dyn Read, length: Option<u64>) -> Result<Self, String> {
        let start: [u8; 8] = exactly(reader)?;
        if !start.starts_with(MAGIC) {
            let got = &start[..MAGIC.len()];
            return Err(format!(
                "it is no .npy or .npz file: it starts with {got:02x?}, expected {MAGIC:02x?} or \
                 \"PK\""
            ));
        }
        let (before, header_length) = match start[6..] {
            [1, 0] => (10, u16::from_le_bytes(exactly(reader)?).into()),
            [2 | 3, 0] => (12, u32::from_le_bytes(exactly(reader)?).into()),
            [major, minor] => {
                let expected = "expected 1.0, 2.0 or 3.0";
                return Err(format!("its .npy version is {major}.{minor}, {expected}"));
            }
            _ => unreachable!("two bytes of eight"),
        };
        if header_length > MAX_HEADER {
            let expected = format!("expected at most {MAX_HEADER}");
            return Err(format!("its header is {header_length} bytes long, {expected}"));
        }
        let text = at_most(reader, header_length, None)?;
        if (text.len() as u64) < header_length {
            let got = text.len();
            return Err(format!("truncated: its header takes {header_length} bytes, got {got}"));
        }
        let header = Header::parse(&String::from_utf8_lossy(&text))?;
        let left = length.map(|length| length.saturating_sub(before + header_length));
        Self::read_elements(header, reader, left)
    }

    fn read_elements(
        header: Header,
        reader: &mut dyn Read,
        left: Option<u64>,
    ) -> Result<Self, String> {
        let Header { element, is_big_endian, is_column_major, shape } = header;
        let size = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(element.size as u64, |size, &e| size.checked_mul(e)),
        };
        let truncated = |got: u64| {
            let size = size.map_or("more than 2^64".into(), |size| size.to_string());
            let of = format!("{} of shape {shape:?}", element.name);
            format!("truncated: {of} takes {size} bytes, got {got}")
        };
        let Some(size) = size.filter(|&size| left.is_none_or(|left| size <= left)) else {
            return Err(truncated(left.unwrap_or(0)));
        };
        let mut bytes = at_most(reader, size, left)?;
        if (bytes.len() as u64) < size {
            return Err(truncated(bytes.len() as u64));
        }
        if is_big_endian {
            bytes.chunks_exact_mut(element.word()).for_each(<[u8]>::reverse);
        }
        let shape: Vec<usize> = shape
            .iter()
            .map(|&extent| usize::try_from(extent))
            .collect::<Result<_, _>>()
            .map_err(|_| format!("its shape {shape:?} is larger than any memory"))?;
        if is_column_major {
            bytes = row_major(&shape, element.size, &bytes);
        }
        Ok(Self { element, shape, bytes })
    }

    /// A tensor of these elements, which become those of `dtype`: floats of another precision if
    /// they are to be `cast`.
    pub(crate) fn tensor(self, dtype: DType, cast: bool) -> Result<Tensor, String> {
        let Self { element, shape, bytes } = self;
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
                format!(
                    "{from} {value} at {:?} is no {to}: convert the array in NumPy, as by \
                     x.astype(\"{to}\")",
                    index_of(position, &shape)
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
fn at_most(reader: &mut dyn Read, size: u64, left: Option<u64>) -> Result<Vec<u8>, String> {
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

/// Writes a tensor in version 1.0: the header ends with spaces up to a multiple of 64 and the end
/// of a line.
pub(crate) fn write(sink: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let element = Element::of(view.dtype())
        .ok_or_else(|| io::Error::other(format!(".npy files have no type {}", view.dtype())))?;
    let order = if element.word() == 1 { '|' } else { '<' };
    let extents: Vec<String> = view.shape().iter().map(usize::to_string).collect();
    // A tuple of one has a comma of its own.
    let extents = extents.join(", ") + if extents.len() == 1 { "," } else { "" };
    let code = element.code();
    let mut text =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    sink.write_all(MAGIC)?;
    sink.write_all(&[1, 0])?;
    sink.write_all(&(length as u16).to_le_bytes())?;
    sink.write_all(text.as_bytes())?;
    sink.write_all(view.bytes().map_err(io::Error::other)?)
}

/// The element types that are read, for a message.
pub(crate) fn supported() -> String {
    let names: Vec<&str> = ELEMENTS.iter().map(|element| element.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of a column-major u16[2,3].
    fn file() -> Vec<u8> {
        let text = "{'descr': '>u2', 'fortran_order': True, 'shape': (2, 3), }";
        let text = format!("{text:<117}\n");
        let header = [MAGIC, &[1, 0][..], &(text.len() as u16).to_le_bytes(), text.as_bytes()];
        [&header.concat()[..], &[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6]].concat()
    }

    #[test]
    fn elements_come_in_row_major_order() {
        let bytes = file();
        for length in [None, Some(bytes.len() as u64)] {
            let array = Array::read(&mut &bytes[..], length).unwrap();
            assert_eq!((array.element.name, &array.shape[..]), ("uint16", &[2, 3][..]));
            let tensor = array.tensor(DType::I32, false).unwrap();
            assert_eq!(tensor.view().data::<i32>().unwrap(), [1, 2, 3, 4, 5, 6]);
        }
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(
            changes in proptest::collection::vec((0..140usize, any::<u8>()), 1..8),
            end in 0..140usize,
            is_length_known: bool,
        ) {
            let mut bytes = file();
            for (position, value) in changes {
                bytes[position] = value;
            }
            bytes.truncate(end);
            let length = is_length_known.then_some(bytes.len() as u64);
            if let Ok(array) = Array::read(&mut &bytes[..], length) {
                let elements = array.shape.iter().product::<usize>();
                prop_assert_eq!(array.bytes.len(), elements * array.element.size);
                let _ = array.tensor(DType::F32, true);
            }
        }
    }
}
