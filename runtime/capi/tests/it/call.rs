//! Calls of the C ABI in short.

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::ptr;

use lumina::*;
use lumina_runtime::Element;

use crate::build::File;

pub(crate) const NONE: Tensor =
    Tensor { data: ptr::null_mut(), rank: 0, shape: ptr::null(), strides: ptr::null(), dtype: 0 };

/// A file that every version reads: x f32[batch,6] and key u32[2] to y f32[batch,4], with noise.
pub(crate) fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/format-1.0.lmn")
}

pub(crate) fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A text that the library gave.
pub(crate) fn told(text: *const std::ffi::c_char) -> String {
    // SAFETY: texts of the library end with NUL.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

pub(crate) fn ok(status: Status) {
    assert_eq!(status, Status::Success, "{}", told(lumina_last_error()));
}

/// Asserts a status and its text.
#[track_caller]
pub(crate) fn refused(got: Status, status: Status, text: &str) {
    assert_eq!((got, &*told(lumina_last_error())), (status, text));
}

/// A model that is freed at the end.
pub(crate) struct Loaded(pub(crate) *mut Model);

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: it was made here.
        ok(unsafe { lumina_model_free(self.0) });
    }
}

pub(crate) fn load(path: &std::path::Path) -> Loaded {
    let mut model = ptr::null_mut();
    // SAFETY: both pointers are valid.
    ok(unsafe { lumina_model_load(c(path.to_str().unwrap()).as_ptr(), &mut model) });
    Loaded(model)
}

pub(crate) fn from_memory(bytes: &[u8]) -> Loaded {
    let mut model = ptr::null_mut();
    // SAFETY: all pointers are valid.
    ok(unsafe { lumina_model_from_memory(bytes.as_ptr().cast(), bytes.len(), &mut model) });
    Loaded(model)
}

/// A session that is destroyed at the end.
pub(crate) struct Run(pub(crate) *mut Session);

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: it was made here.
        ok(unsafe { lumina_session_destroy(self.0) });
    }
}

pub(crate) fn options() -> SessionOptions {
    let mut options = SessionOptions { struct_size: 0, threads: 0, memory_limit: 0, trip_limit: 0 };
    // SAFETY: the struct is as large as is said.
    ok(unsafe { lumina_session_options_init(&mut options, size_of::<SessionOptions>()) });
    SessionOptions { threads: 1, ..options }
}

pub(crate) fn session_of(model: &Loaded, options: &SessionOptions) -> Run {
    let mut session = ptr::null_mut();
    // SAFETY: all pointers are valid.
    ok(unsafe { lumina_session_create(model.0, options, &mut session) });
    Run(session)
}

/// A session of a file, on one thread.
pub(crate) fn session(file: &File) -> Run {
    session_of(&from_memory(&file.bytes()), &options())
}

/// A row-major tensor.
pub(crate) fn tensor<T: Element>(shape: &[usize], data: &[T]) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    Tensor {
        data: data.as_ptr().cast_mut().cast(),
        rank: shape.len(),
        shape: shape.as_ptr(),
        strides: ptr::null(),
        dtype: T::DTYPE.c_number(),
    }
}

/// A row-major tensor to be written.
pub(crate) fn tensor_mut<T: Element>(shape: &[usize], data: &mut [T]) -> Tensor {
    Tensor { data: data.as_mut_ptr().cast(), ..tensor(shape, data) }
}

impl Run {
    pub(crate) fn run(&self, inputs: &[Tensor], outputs: &mut [Tensor]) -> Status {
        // SAFETY: the slices are as long as is said, and the tensors are those of the test.
        unsafe {
            lumina_session_run(
                self.0,
                inputs.as_ptr(),
                inputs.len(),
                outputs.as_mut_ptr(),
                outputs.len(),
            )
        }
    }

    /// The only output.
    pub(crate) fn output<T: Element>(&self, inputs: &[Tensor]) -> Vec<T> {
        let mut output = [NONE];
        ok(self.run(inputs, &mut output));
        elements(&output[0])
    }
}

/// The elements of a view that the library gave.
pub(crate) fn elements<T: Element>(tensor: &Tensor) -> Vec<T> {
    assert_eq!(tensor.dtype, T::DTYPE.c_number());
    let shape = extents(tensor);
    // SAFETY: a view has as many strides as axes.
    let strides = unsafe { std::slice::from_raw_parts(tensor.strides, tensor.rank) };
    let mut dense = 1;
    for (&extent, &stride) in shape.iter().zip(strides).rev() {
        assert_eq!(stride, dense);
        dense *= extent.max(1) as isize;
    }
    // SAFETY: the view has as many elements.
    unsafe { std::slice::from_raw_parts(tensor.data.cast::<T>(), shape.iter().product()) }.to_vec()
}

pub(crate) fn extents(tensor: &Tensor) -> Vec<usize> {
    // SAFETY: a view has as many extents as axes.
    unsafe { std::slice::from_raw_parts(tensor.shape, tensor.rank) }.to_vec()
}
