//! Tensors in NumPy's .npy files.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use lumina_runtime::{DType, Fact, Tensor, View};
use npyz::{NpyHeader, Order};

/// Reads a tensor, or says why not.
pub(crate) fn read(path: &Path) -> Result<Tensor, String> {
    let fault = |message: String| format!("cannot read `{}`: {message}", path.display());
    let open = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        Ok((NpyHeader::from_reader(&mut reader)?, reader, length))
    };
    let (header, reader, length) = open().map_err(|error: io::Error| fault(error.to_string()))?;
    decode(&header, reader, length).map_err(fault)
}

/// The tensor that follows `header` in a file of `length` bytes.
fn decode(header: &NpyHeader, mut reader: impl Read, length: u64) -> Result<Tensor, String> {
    let text = header.dtype().descr();
    let text = text.trim_matches('\'');
    let known = || DType::ALL.iter().filter(|&&dtype| code(dtype).is_some());
    let unordered = text.trim_start_matches(['<', '>', '|', '=']);
    let Some(&dtype) = known().find(|&&dtype| code(dtype).as_deref() == Some(unordered)) else {
        let names: Vec<&str> = known().map(|dtype| dtype.numpy_name()).collect();
        return Err(format!("dtype {text} is not supported, only {}", names.join(", ")));
    };
    let size = header.shape().iter().try_fold(dtype.size() as u64, |n, &e| n.checked_mul(e));
    let Some(size) = size.filter(|&size| size <= length) else {
        let shape = header.shape();
        return Err(format!("truncated: {dtype} of shape {shape:?} in {length} bytes"));
    };
    let mut bytes = vec![0; size as usize];
    reader.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    if text.starts_with('>') {
        let is_complex = matches!(dtype, DType::C64 | DType::C128);
        let number = if is_complex { dtype.size() / 2 } else { dtype.size() };
        bytes.chunks_exact_mut(number).for_each(<[u8]>::reverse);
    }
    let shape: Vec<usize> = header.shape().iter().map(|&extent| extent as usize).collect();
    if header.order() == Order::Fortran {
        bytes = row_major(&shape, header.strides(), dtype.size(), &bytes);
    }
    Tensor::from_bytes(Fact::new(dtype, shape), &bytes).map_err(|error| error.to_string())
}

/// NumPy's code of a type without its byte order, such as "f4"; None for one that it does not have.
fn code(dtype: DType) -> Option<String> {
    let name = dtype.numpy_name().trim_end_matches(|character: char| character.is_ascii_digit());
    let kind = match name {
        "float" => 'f',
        "complex" => 'c',
        "int" => 'i',
        "uint" => 'u',
        "bool" => 'b',
        _ => return None,
    };
    Some(format!("{kind}{}", dtype.size()))
}

/// The elements of `size` bytes, which lie with these strides, in row-major order.
fn row_major(shape: &[usize], strides: &[u64], size: usize, bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for index in 0..bytes.len() / size {
        let (mut rest, mut position) = (index, 0);
        for (&extent, &stride) in shape.iter().zip(strides).rev() {
            position += rest % extent * stride as usize;
            rest /= extent;
        }
        result.extend_from_slice(&bytes[position * size..][..size]);
    }
    result
}

/// Writes a tensor beside `path` and renames it, so that there is a whole file or none.
pub(crate) fn write(path: &Path, view: &View<'_>) -> Result<(), String> {
    let scratch = scratch(path);
    let result = encode(&scratch, view).and_then(|()| fs::rename(&scratch, path));
    result.map_err(|error| {
        // What is left of a failed attempt is of no use; there may be nothing.
        let _ = fs::remove_file(&scratch);
        format!("cannot write `{}`: {error}", path.display())
    })
}

fn scratch(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Magic, version and length of the header; the text; zero or more spaces up to a multiple of 64
/// and the end of a line; the elements.
fn encode(path: &Path, view: &View<'_>) -> io::Result<()> {
    let code = code(view.dtype())
        .ok_or_else(|| io::Error::other(format!(".npy files have no type {}", view.dtype())))?;
    let order = if view.dtype().size() == 1 { '|' } else { '<' };
    let extents: String = view.shape().iter().map(|extent| format!("{extent},")).collect();
    let mut text =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({extents}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(length as u16).to_le_bytes())?;
    file.write_all(text.as_bytes())?;
    file.write_all(view.bytes().map_err(io::Error::other)?)?;
    file.flush()?;
    file.into_inner()?.sync_all()
}
