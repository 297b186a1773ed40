//! Results that do not lie in memory as they were computed.

use lumina_kernels::{DataMut, Element, Error as KernelError, ParFor, View};

use super::Operand;
use crate::ops::{Walk, chunked, element_arms, with_element};
use crate::tensor::length_error;

/// Elements per chunk.
const WORK: usize = 1 << 14;

/// Copies `x` to the memory of `target`, which is nested and has the fact of x.
pub(super) fn deliver(
    x: &View<'_>,
    target: &Operand,
    memory: &mut [u8],
    pool: &dyn ParFor,
) -> Result<(), KernelError> {
    with_element!(x.dtype(), T => {
        let length = memory.len();
        let mut data = DataMut::from_bytes(x.dtype(), memory)
            .ok_or_else(|| length_error(target.fact(), length))?;
        let got = data.dtype();
        let out = T::write(&mut data).ok_or(KernelError::DType { expected: T::DTYPE, got })?;
        scatter::<T>(x, target, out, pool)
    })
}

/// Writes memory from its start on, so that it is walked in order, and by several threads where the
/// widest axis divides it.
fn scatter<T: Element>(
    x: &View<'_>,
    target: &Operand,
    out: &mut [T],
    pool: &dyn ParFor,
) -> Result<(), KernelError> {
    let x = x.strided_data::<T>()?;
    let mut start = x.start;
    let mut axes = Vec::new();
    for (axis, extent, stride) in target.axes() {
        // Of an axis that runs backwards in memory, the last index comes first.
        let step = if stride < 0 {
            let last = x.strides[axis] * (extent as isize - 1);
            start = start.wrapping_add_signed(last);
            -x.strides[axis]
        } else {
            x.strides[axis]
        };
        axes.push((extent, [step, stride.unsigned_abs() as isize]));
    }
    if out.is_empty() {
        return Ok(());
    }
    let Some((&(extent, [step, apart]), inner)) = axes.split_first() else {
        out[0] = x.data[start];
        return Ok(());
    };
    let walk = Walk::new([0, 0], inner.iter().copied());
    let count = walk.count();
    let apart = apart.unsigned_abs();
    let rows = (WORK / count).clamp(1, extent);
    chunked(pool, out, rows * apart, |at, out| {
        for (row, out) in (at / apart..extent).zip(out.chunks_mut(apart)) {
            let start = start as isize + step * row as isize;
            walk.runs(0, count, |_, [from, to], [from_step, to_step], count| {
                let mut from = start + from as isize;
                let out = out[to..].iter_mut().step_by(to_step.unsigned_abs().max(1));
                for out in out.take(count) {
                    *out = x.data[from as usize];
                    from += from_step;
                }
            });
        }
    });
    Ok(())
}
