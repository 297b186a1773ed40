//! Bytes that start on a cache line, so that tensors in them can be used in place.

use std::ops::{Deref, DerefMut};

/// Alignment of sections, tensors and buffers.
pub(crate) const ALIGN: usize = 64;

/// Zeroed bytes of a fixed length, [`ALIGN`]ed.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    /// Up to `ALIGN - 1` bytes longer than asked for; never reallocated, so `start` stays right.
    raw: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    pub(crate) fn zeroed(len: usize) -> Self {
        let raw = vec![0; len + ALIGN];
        let start = raw.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { raw, start, len }
    }

    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
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
            let bytes = AlignedBytes::copy_of(&vec![7; len]);
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.as_ptr() as usize % ALIGN, 0);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
    }
}
