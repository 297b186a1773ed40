//! Copies between tensors of any layouts, on raw memory: that of the caller may have gaps which are
//! not ours to touch, so it becomes no slice.

use std::ptr;

use lumina_runtime::MAX_RANK;

/// An axis: its extent, and bytes from one index to the next in both tensors.
#[derive(Clone, Copy, Default)]
struct Axis {
    extent: usize,
    from: isize,
    to: isize,
}

/// Copies the elements, of `size` bytes each, of one tensor to the same indices of another. Strides
/// count elements; None is row-major.
///
/// As one would write it down, `for index in indices(shape): to[index·strides] = from[index·strides]`.
/// Here axes that are one in both layouts are, and a last axis without gaps is copied at once.
///
/// # Safety
/// There are at most [`MAX_RANK`] axes and as many strides. From the two pointers on lie elements at
/// all indices, those of `to` are to be written, and none of them lies in those of `from`.
pub(crate) unsafe fn copy(
    size: usize,
    shape: &[usize],
    (from, from_strides): (*const u8, Option<&[isize]>),
    (to, to_strides): (*mut u8, Option<&[isize]>),
) {
    if shape.contains(&0) {
        return;
    }
    let mut axes = [Axis::default(); MAX_RANK];
    let mut count = 0usize;
    let mut dense = size as isize;
    // From the last axis to the first, which is how they are kept.
    for axis in (0..shape.len()).rev() {
        let extent = shape[axis];
        // The stride of an axis of one element is never used, and may be any number.
        if extent == 1 {
            continue;
        }
        let step = |strides: Option<&[isize]>| strides.map_or(dense, |s| s[axis] * size as isize);
        let new = Axis { extent, from: step(from_strides), to: step(to_strides) };
        dense *= extent as isize;
        let inner = count.checked_sub(1).map(|last| &mut axes[last]);
        match inner {
            Some(inner)
                if new.from == inner.from.wrapping_mul(inner.extent as isize)
                    && new.to == inner.to.wrapping_mul(inner.extent as isize) =>
            {
                inner.extent *= extent;
            }
            _ => {
                axes[count] = new;
                count += 1;
            }
        }
    }
    let (mut run, mut axes) = (size, &axes[..count]);
    if let Some((first, rest)) = axes.split_first()
        && first.from == size as isize
        && first.to == size as isize
    {
        (run, axes) = (size * first.extent, rest);
    }
    // SAFETY: the axes are those of the caller, in fewer pieces.
    unsafe {
        match run {
            1 => walk::<1>(run, axes, from, to),
            2 => walk::<2>(run, axes, from, to),
            4 => walk::<4>(run, axes, from, to),
            8 => walk::<8>(run, axes, from, to),
            16 => walk::<16>(run, axes, from, to),
            _ => walk::<0>(run, axes, from, to),
        }
    }
}

/// Copies pieces of `run` bytes along `axes`, of which the first is the fastest; `RUN` is the same
/// number where it is known when this is compiled, and else 0.
///
/// # Safety
/// As for [`copy`].
unsafe fn walk<const RUN: usize>(run: usize, axes: &[Axis], from: *const u8, to: *mut u8) {
    let run = if RUN == 0 { run } else { RUN };
    let (fast, slow) =
        axes.split_first().map_or((Axis { extent: 1, from: 0, to: 0 }, axes), |f| (*f.0, f.1));
    let mut index = [0; MAX_RANK];
    let (mut from, mut to) = (from, to);
    loop {
        let (mut at, mut into) = (from, to);
        for _ in 0..fast.extent {
            // SAFETY: both pieces are elements at an index, and do not overlap.
            unsafe { ptr::copy_nonoverlapping(at, into, run) };
            // The last step may leave the tensor, and the pointer is not used then.
            (at, into) = (at.wrapping_offset(fast.from), into.wrapping_offset(fast.to));
        }
        let mut axis = 0;
        loop {
            let Some(&Axis { extent, from: step, to: into }) = slow.get(axis) else { return };
            index[axis] += 1;
            if index[axis] < extent {
                (from, to) = (from.wrapping_offset(step), to.wrapping_offset(into));
                break;
            }
            let back = extent as isize - 1;
            (from, to) = (from.wrapping_offset(-step * back), to.wrapping_offset(-into * back));
            index[axis] = 0;
            axis += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of all indices, row-major.
    fn offsets(shape: &[usize], strides: &[isize]) -> Vec<isize> {
        shape.iter().zip(strides).fold(vec![0], |offsets, (&extent, &stride)| {
            let next = |&at: &isize| (0..extent as isize).map(move |index| at + index * stride);
            offsets.iter().flat_map(next).collect()
        })
    }

    fn check<T: Copy + Default + PartialEq + std::fmt::Debug>(element: impl Fn(usize) -> T) {
        let cases: [(&[usize], &[isize], &[isize]); 9] = [
            (&[], &[], &[]),
            (&[5], &[1], &[3]),
            (&[2, 3], &[3, 1], &[3, 1]),
            (&[2, 3], &[1, 2], &[-3, -1]),
            (&[2, 3, 4], &[0, 4, 1], &[12, 4, 1]),
            (&[2, 3, 4], &[0, 0, 0], &[1, 2, 6]),
            (&[1, 3, 1, 2], &[99, -2, isize::MAX, 1], &[-7, 5, isize::MIN, 1]),
            (&[3, 0, 2], &[9, 9, 9], &[9, 9, 9]),
            (&[2, 2, 2, 2, 2, 2, 2], &[64, 1, 2, 4, 8, 16, 32], &[-64, -32, -16, 8, 4, 2, 1]),
        ];
        for (shape, from_strides, to_strides) in cases {
            let from: Vec<T> = (0..400).map(&element).collect();
            let mut to = vec![T::default(); 400];
            let mut expected = to.clone();
            let (used_from, used_to) = match shape.contains(&0) {
                true => (vec![], vec![]),
                false => (offsets(shape, from_strides), offsets(shape, to_strides)),
            };
            for (from_offset, to_offset) in used_from.iter().zip(&used_to) {
                expected[(200 + to_offset) as usize] = from[(200 + from_offset) as usize];
            }
            // SAFETY: all offsets lie within 200 elements.
            unsafe {
                let from = (from.as_ptr().add(200).cast(), Some(from_strides));
                let to = (to.as_mut_ptr().add(200).cast(), Some(to_strides));
                copy(size_of::<T>(), shape, from, to);
            }
            assert_eq!(to, expected, "{shape:?} {from_strides:?} {to_strides:?}");
        }
    }

    #[test]
    fn elements_come_to_their_indices_whatever_their_size() {
        check(|n| n as u8);
        check(|n| n as u16);
        check(|n| n as u32);
        check(|n| n as u64);
        check(|n| n as u128);
    }

    #[test]
    fn no_strides_are_row_major() {
        let from = [1u16, 2, 3, 4, 5, 6];
        let mut to = [0u16; 6];
        // SAFETY: six elements each.
        unsafe {
            let from = (from.as_ptr().cast(), Some(&[1, 2][..]));
            copy(2, &[2, 3], from, (to.as_mut_ptr().cast(), None));
        }
        assert_eq!(to, [1, 3, 5, 2, 4, 6]);
    }
}
