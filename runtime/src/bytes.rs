//! Bytes that start on a cache line, so that tensors in them can be used in place.

use std::ops::{Deref, DerefMut};

use bytemuck::allocation::try_zeroed_slice_box;

use crate::Error;

/// Alignment of sections, tensors and buffers.
pub(crate) const ALIGN: usize = 64;

/// Zeroed bytes of a fixed length, [`ALIGN`]ed.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    /// `ALIGN` bytes longer than asked for; never reallocated, so `start` stays right.
    raw: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// So many zeros, or an error where there is no memory for them.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Error> {
        let raw = len.checked_add(ALIGN).and_then(|size| try_zeroed_slice_box(size).ok());
        let raw: Box<[u8]> = raw.ok_or(Error::Allocation { bytes: len as u64 })?;
        let start = raw.as_ptr().align_offset(ALIGN).min(ALIGN);
        Ok(Self { raw, start, len })
    }

    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self, Error> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let bytes = AlignedBytes::copy_of(&vec![7; len]).unwrap();
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.as_ptr() as usize % ALIGN, 0);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        for len in [usize::MAX, usize::MAX - ALIGN, isize::MAX as usize, 1 << 62] {
            assert_eq!(
                AlignedBytes::zeroed(len).unwrap_err().to_string(),
                format!("there is no memory for {len} bytes")
            );
        }
    }
}
