//! CRC-32C of bytes, a part of them by each core where they are many.

use std::num::NonZero;
use std::thread;

/// Bytes for which a thread is worth its start.
const PART: usize = 8 << 20;

/// Threads that read a file of `length` bytes, or check it.
pub(crate) fn threads(length: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    (length / PART).clamp(1, cores)
}

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let parts = threads(bytes.len());
    if parts == 1 {
        return crc32c::crc32c(bytes);
    }
    let mut parts = bytes.chunks(bytes.len().div_ceil(parts));
    let mine = parts.next().unwrap_or_default();
    thread::scope(|scope| {
        // Where no thread can be had, its part is done here.
        let others: Vec<_> = parts
            .map(|part| {
                let work = move || crc32c::crc32c(part);
                (part, thread::Builder::new().spawn_scoped(scope, work))
            })
            .collect();
        others.into_iter().fold(crc32c::crc32c(mine), |crc, (part, thread)| {
            let done = thread.ok().and_then(|thread| thread.join().ok());
            let next = done.unwrap_or_else(|| crc32c::crc32c(part));
            crc32c::crc32c_combine(crc, next, part.len())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> =
            (0..3 * PART as u32 + 17).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for length in [0, 1, PART, 2 * PART - 1, 2 * PART, 2 * PART + 1, bytes.len()] {
            let bytes = &bytes[..length];
            assert_eq!(crc32c(bytes), crc32c::crc32c(bytes), "{length}");
        }
    }
}
