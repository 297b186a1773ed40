//! Bytes that start on a cache line, so that tensors in them can be used in place.

use std::ops::{Deref, DerefMut};

use bytemuck::allocation::try_zeroed_slice_box;

use crate::Error;

/// Alignment of sections, tensors and buffers.
pub(crate) const ALIGN: usize = 64;

/// From so many bytes on, memory is asked for in huge pages, where the system has them: to fill
/// fresh memory takes a fault for each page, and of small ones these take longer than the rest.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

/// Zeroed bytes of a fixed length, [`ALIGN`]ed.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    raw: Raw,
    start: usize,
    len: usize,
}

/// Memory that is never reallocated, so `start` stays right.
#[derive(Debug)]
enum Raw {
    /// [`ALIGN`] bytes longer than asked for.
    Allocated(Box<[u8]>),
    #[cfg(target_os = "linux")]
    Mapped(memmap2::MmapMut),
}

impl AlignedBytes {
    /// So many zeros, or an error where there is no memory for them.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Error> {
        #[cfg(target_os = "linux")]
        if len >= LARGE
            && let Ok(map) = memmap2::MmapMut::map_anon(len)
        {
            // A system without huge pages says so, and gives small ones.
            let _ = map.advise(memmap2::Advice::HugePage);
            return Ok(Self { raw: Raw::Mapped(map), start: 0, len });
        }
        let raw = len.checked_add(ALIGN).and_then(|size| try_zeroed_slice_box(size).ok());
        let raw: Box<[u8]> = raw.ok_or(Error::Allocation { bytes: len as u64 })?;
        let start = raw.as_ptr().align_offset(ALIGN).min(ALIGN);
        Ok(Self { raw: Raw::Allocated(raw), start, len })
    }

    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self, Error> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self::Allocated(Box::default())
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let raw: &[u8] = match &self.raw {
            Raw::Allocated(raw) => raw,
            #[cfg(target_os = "linux")]
            Raw::Mapped(raw) => raw,
        };
        &raw[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        let raw: &mut [u8] = match &mut self.raw {
            Raw::Allocated(raw) => raw,
            #[cfg(target_os = "linux")]
            Raw::Mapped(raw) => raw,
        };
        &mut raw[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line() {
        for len in [0, 1, 63, 64, 65, 1000, 9 << 20] {
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
