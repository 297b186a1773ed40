//! Tensors in NumPy's .npy files.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use lumina_runtime::{Bool, Complex32, DType, Tensor, View};
use npyz::{AutoSerialize, Deserialize, NpyFile, Order, WriterBuilder};

/// Reads a tensor, or says why not.
pub(crate) fn read(path: &Path) -> Result<Tensor, String> {
    let fault = |message: String| format!("cannot read `{}`: {message}", path.display());
    let open = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok((NpyFile::new(BufReader::new(file))?, length))
    };
    let (npy, length) = open().map_err(|error: io::Error| fault(error.to_string()))?;
    let dtype = dtype_of(&npy).map_err(fault)?;
    let bytes = npy.shape().iter().try_fold(dtype.size() as u64, |n, &e| n.checked_mul(e));
    if bytes.is_none_or(|bytes| bytes > length) {
        let shape = npy.shape();
        return Err(fault(format!("truncated: {dtype} of shape {shape:?} in {length} bytes")));
    }
    match dtype {
        DType::F32 => tensor(npy, |x: f32| x),
        DType::C64 => tensor(npy, |x: Complex32| x),
        DType::U32 => tensor(npy, |x: u32| x),
        DType::I32 => tensor(npy, |x: i32| x),
        DType::I8 => tensor(npy, |x: i8| x),
        DType::Bool => tensor(npy, |x: bool| Bool::from(x)),
        other => Err(format!("{other} is not supported")),
    }
    .map_err(fault)
}

fn dtype_of(npy: &NpyFile<BufReader<File>>) -> Result<DType, String> {
    let text = npy.dtype().descr();
    let text = text.trim_matches('\'');
    let dtype = match text.trim_start_matches(['<', '>', '|', '=']) {
        "f4" => DType::F32,
        "c8" => DType::C64,
        "u4" => DType::U32,
        "i4" => DType::I32,
        "i1" => DType::I8,
        "b1" => DType::Bool,
        _ => {
            let known = "float32, complex64, uint32, int32, int8 and bool";
            return Err(format!("dtype {text} is not supported, only {known}"));
        }
    };
    Ok(dtype)
}

fn tensor<T, U>(npy: NpyFile<BufReader<File>>, convert: fn(T) -> U) -> Result<Tensor, String>
where
    T: Deserialize,
    U: lumina_runtime::Element,
{
    let shape: Vec<usize> = npy.shape().iter().map(|&extent| extent as usize).collect();
    let (order, strides) = (npy.order(), npy.strides().to_vec());
    let data: Vec<T> = npy.into_vec().map_err(|error| error.to_string())?;
    let data: Vec<U> = data.into_iter().map(convert).collect();
    let data = if order == Order::Fortran { row_major(&shape, &strides, &data) } else { data };
    Tensor::new(&shape, &data).map_err(|error| error.to_string())
}

/// The elements, which lie with these strides, in row-major order.
fn row_major<T: Copy>(shape: &[usize], strides: &[u64], data: &[T]) -> Vec<T> {
    let position = |index: usize| {
        let (mut rest, mut position) = (index, 0);
        for (&extent, &stride) in shape.iter().zip(strides).rev() {
            position += rest % extent * stride as usize;
            rest /= extent;
        }
        position
    };
    (0..data.len()).map(|index| data[position(index)]).collect()
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

fn encode(path: &Path, view: &View<'_>) -> io::Result<()> {
    match view.dtype() {
        DType::F32 => encode_as(path, view, |x: f32| x),
        DType::C64 => encode_as(path, view, |x: Complex32| x),
        DType::U32 => encode_as(path, view, |x: u32| x),
        DType::I32 => encode_as(path, view, |x: i32| x),
        DType::I8 => encode_as(path, view, |x: i8| x),
        DType::Bool => encode_as(path, view, |x: Bool| x.get()),
        other => Err(io::Error::other(format!("{other} is not supported"))),
    }
}

fn encode_as<T, U>(path: &Path, view: &View<'_>, convert: fn(T) -> U) -> io::Result<()>
where
    T: lumina_runtime::Element,
    U: AutoSerialize,
{
    let data = view.data::<T>().map_err(io::Error::other)?;
    let shape: Vec<u64> = view.shape().iter().map(|&extent| extent as u64).collect();
    let mut file = BufWriter::new(File::create(path)?);
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut file).begin_nd()?;
    for &element in data {
        writer.push(&convert(element))?;
    }
    writer.finish()?;
    file.flush()?;
    file.into_inner()?.sync_all()
}
