//! What crosses the ABI beside tensors: handles, texts, and structs that may grow.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use crate::status::{Failure, Status};

/// What a handle of the ABI stands for.
pub(crate) trait Handle {
    /// What it is called in messages.
    const NAME: &'static str;
    /// What no other type has, and nothing after it was destroyed.
    const MAGIC: u64;
}

/// What a handle points to.
#[repr(C)]
struct Marked<T> {
    magic: u64,
    value: T,
}

/// A handle of `value`.
pub(crate) fn made<T: Handle>(value: T) -> *mut T {
    Box::into_raw(Box::new(Marked { magic: T::MAGIC, value })).cast()
}

/// What `handle` stands for.
///
/// # Safety
/// The handle is null, or points to eight bytes which are the magic number only if it was [`made`] and
/// stays for as long as the caller uses what it stands for.
pub(crate) unsafe fn opened<'a, T: Handle>(handle: *const T) -> Result<&'a T, Failure> {
    if handle.is_null() {
        return Err(Failure::null(format_args!("the {}", T::NAME)));
    }
    // SAFETY: the caller vouches for eight bytes; they are read wherever they lie.
    let magic = unsafe { handle.cast::<u64>().read_unaligned() };
    if magic != T::MAGIC {
        let message = format!("the handle is no {}, or one that was destroyed", T::NAME);
        return Err(Failure::new(Status::BadParam, message));
    }
    // SAFETY: what begins with the magic number was made, as the caller vouches.
    Ok(unsafe { &(*handle.cast::<Marked<T>>()).value })
}

/// Frees what a handle stands for.
///
/// # Safety
/// It was [`opened`], and nobody uses it any more.
pub(crate) unsafe fn destroyed<T: Handle>(handle: *mut T) {
    let marked = handle.cast::<Marked<T>>();
    // SAFETY: the handle was made. The write is volatile, or it would be left out: the memory is
    // freed next.
    unsafe { (&raw mut (*marked).magic).write_volatile(0) };
    // SAFETY: the handle came from a box, and nobody uses it.
    drop(unsafe { Box::from_raw(marked) });
}

/// The place for a result, which is `value` from now on.
///
/// # Safety
/// The place is null, or memory for a `T`.
pub(crate) unsafe fn put<T>(place: *mut T, name: &str, value: T) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::null(format_args!("`{name}`")));
    }
    // SAFETY: the caller vouches for the memory, which holds nothing that needs to be dropped.
    unsafe { place.write(value) };
    Ok(())
}

/// A text in UTF-8.
///
/// # Safety
/// The pointer is null, or leads to bytes that end with NUL and stay for as long as the caller uses
/// them.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(format_args!("`{name}`")));
    }
    // SAFETY: the caller vouches for the bytes.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes
        .to_str()
        .map_err(|_| Failure::new(Status::BadParam, format!("`{name}` is no UTF-8: {bytes:?}")))
}

/// The path of a file: any bytes on Unix, UTF-8 elsewhere.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Failure> {
    #[cfg(unix)]
    {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        if pointer.is_null() {
            return Err(Failure::null(format_args!("`{name}`")));
        }
        // SAFETY: the caller vouches for the bytes.
        let bytes = unsafe { CStr::from_ptr(pointer) };
        Ok(Path::new(OsStr::from_bytes(bytes.to_bytes())))
    }
    #[cfg(not(unix))]
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        text(pointer, name).map(Path::new)
    }
}

/// A struct whose first field is its size in bytes, so that later versions can have more fields.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize`, and all bits of its fields are values.
pub(crate) unsafe trait Versioned: Copy {
    /// What it is called in messages.
    const NAME: &'static str;
    /// Bytes of its first version.
    const FIRST: usize;
}

/// The struct of the caller; fields that it does not have are those of `default`.
///
/// # Safety
/// The pointer is null, or leads to as many bytes as they say.
pub(crate) unsafe fn taken<T: Versioned>(pointer: *const T, default: T) -> Result<T, Failure> {
    // SAFETY: the caller vouches for it.
    let size = unsafe { size_of_caller(pointer) }?;
    // What a later version has behind what is known must ask for nothing.
    for at in size_of::<T>()..size {
        // SAFETY: the byte is one of the struct.
        if unsafe { pointer.cast::<u8>().add(at).read() } != 0 {
            let message = format!(
                "{} of {size} bytes has fields that this version of the library does not know",
                T::NAME
            );
            return Err(Failure::new(Status::BadParam, message));
        }
    }
    let mut value = MaybeUninit::new(default);
    let known = size.min(size_of::<T>());
    // SAFETY: both have so many bytes, and the struct on the stack is no part of the caller's.
    unsafe {
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
    }
    // SAFETY: it was initialized, and all bits of its fields are values.
    Ok(unsafe { value.assume_init() })
}

/// Fills the struct of the caller, as far as it has the fields.
///
/// # Safety
/// The pointer is null, or leads to as many bytes as they say.
pub(crate) unsafe fn filled<T: Versioned>(pointer: *mut T, value: T) -> Result<(), Failure> {
    // SAFETY: the caller vouches for it.
    let size = unsafe { size_of_caller(pointer) }?;
    // SAFETY: the struct has so many bytes.
    unsafe { fill(pointer, size, value) };
    Ok(())
}

/// Writes `value` to the first `size` bytes of a struct, zeros behind what is known, and the size.
///
/// # Safety
/// The struct has `size` bytes, which are at least those of a `usize`.
pub(crate) unsafe fn fill<T: Versioned>(pointer: *mut T, size: usize, value: T) {
    let known = size.min(size_of::<T>());
    // SAFETY: both have so many bytes, and the value on the stack is no part of the caller's struct.
    unsafe {
        ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), known);
    }
    // SAFETY: so many bytes are left of the struct.
    unsafe { pointer.cast::<u8>().add(known).write_bytes(0, size - known) };
    // SAFETY: the first field is a `usize`.
    unsafe { pointer.cast::<usize>().write(size) };
}

/// The size in the first field of the caller's struct.
///
/// # Safety
/// The pointer is null, or leads to a `usize`.
unsafe fn size_of_caller<T: Versioned>(pointer: *const T) -> Result<usize, Failure> {
    if pointer.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: the first field is a `usize`.
    let size = unsafe { pointer.cast::<usize>().read() };
    checked_size::<T>(size)
}

/// `size`, where a version of the struct may have it.
pub(crate) fn checked_size<T: Versioned>(size: usize) -> Result<usize, Failure> {
    // No struct is ever that large, and what is no size should not be taken for one.
    const MOST: usize = 4096;
    if !(T::FIRST..=MOST).contains(&size) {
        let name = T::NAME;
        let first = T::FIRST;
        let message = format!("`struct_size` of {name} must be from {first} to {MOST}, got {size}");
        return Err(Failure::new(Status::BadParam, message));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first version had no `added`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        struct_size: usize,
        first: u64,
        added: u64,
    }

    // SAFETY: it is `repr(C)`, begins with its size, and is made of numbers.
    unsafe impl Versioned for Grown {
        const NAME: &'static str = "grown";
        const FIRST: usize = 16;
    }

    const USUAL: Grown = Grown { struct_size: 24, first: 1, added: 2 };

    fn taken_of(words: &[usize]) -> Result<(u64, u64), String> {
        // SAFETY: the first word says how many bytes there are, or none that is a size.
        let grown = unsafe { taken(words.as_ptr().cast::<Grown>(), USUAL) };
        grown.map(|grown| (grown.first, grown.added)).map_err(|failure| failure.message)
    }

    #[test]
    fn older_and_newer_structs_are_taken() {
        assert_eq!(taken_of(&[16, 7]), Ok((7, 2)));
        assert_eq!(taken_of(&[24, 7, 8]), Ok((7, 8)));
        assert_eq!(taken_of(&[32, 7, 8, 0]), Ok((7, 8)));
        let unknown = "grown of 32 bytes has fields that this version of the library does not know";
        assert_eq!(taken_of(&[32, 7, 8, 1 << 40]), Err(unknown.into()));
        let small = "`struct_size` of grown must be from 16 to 4096, got 8";
        assert_eq!(taken_of(&[8, 7, 8]), Err(small.into()));
    }

    #[test]
    fn a_struct_is_filled_as_far_as_it_goes() {
        for (size, expected) in [(16, [16, 1, 9, 9]), (24, [24, 1, 2, 9]), (32, [32, 1, 2, 0])] {
            let mut words: [usize; 4] = [size, 9, 9, 9];
            // SAFETY: there are as many bytes as the first word says.
            unsafe { filled(words.as_mut_ptr().cast::<Grown>(), USUAL) }.ok().expect("a size");
            assert_eq!(words, expected);
        }
    }
}
