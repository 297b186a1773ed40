//! The matrices of the groups, and several narrow groups as one product.
//!
//! A product of few columns takes longer for its rows than for its sums: noise is seeded, and a row is
//! converted, for each of them. So some groups are one product, whose matrix has zeros where the channels
//! of one group meet the columns of another. A sum does not change by zeros in between, as long as
//! every number is finite, a zero has the code 0, and no noise depends on the whole patch.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::geometry::Shape;
use super::operands::Operands;
use crate::ParFor;
use crate::isa::{Isa, for_each_isa};
use crate::ops::chain::Chain;
use crate::tuning::CONV_MERGED_PRODUCTS;

/// Values that one chunk looks at.
const CHUNK: usize = 1 << 17;
/// The square of what is below is finite, however many times it is added.
const SMALL: f32 = (1u64 << 48) as f32;

/// How many groups are one product, where that changes no sum.
pub(super) fn merged(shape: &Shape, chain: &Chain) -> usize {
    let products = shape.depth * shape.columns_of_group();
    // Of one bit, zero has no code. Two bits have the same largest code, and are taken for one.
    let has_zero = chain.weight.is_off() || chain.weight.largest_code() > 1;
    let fits = |count: &usize| {
        shape.groups.is_multiple_of(*count)
            && count * count * products <= CONV_MERGED_PRODUCTS
            && chain.is_integer(count * shape.depth) == chain.is_integer(shape.depth)
    };
    let most = shape.groups.min(CONV_MERGED_PRODUCTS.isqrt());
    // The inputs of a group are cut into arrays of their own.
    if has_zero && chain.array_rows.is_none() {
        (1..=most).filter(fits).max().unwrap_or(1)
    } else {
        1
    }
}

/// Whether no noise depends on the whole patch.
pub(super) fn is_by_output(chain: &Chain, operands: &Operands<'_>) -> bool {
    !(chain.noisy && operands.has_weight_noise())
}

/// Whether all values are finite, and so small that sums of products of two of them are, too.
pub(super) fn are_small(isa: Isa, values: &[f32], pool: &dyn ParFor) -> bool {
    let found = AtomicBool::new(false);
    pool.run(values.len().div_ceil(CHUNK), &|chunk, _| {
        let mut largest = 0;
        raise(isa, &mut largest, &values[chunk * CHUNK..values.len().min((chunk + 1) * CHUNK)]);
        if largest >= SMALL.to_bits() as i32 {
            found.store(true, Ordering::Relaxed);
        }
    });
    !found.load(Ordering::Relaxed)
}

#[inline(always)]
fn raise_body(largest: &mut i32, values: &[f32]) {
    // As integers, whose maximum vectorizes; the bits of magnitudes are in their order, NaN last.
    let bits = values.iter().map(|value| value.abs().to_bits() as i32);
    *largest = bits.fold(*largest, i32::max);
}

for_each_isa! {
    /// Raises the bits of the largest magnitude.
    fn raise(largest: &mut i32, values: &[f32]) = raise_body
}

/// The matrices of products of `count` groups each, one after the other.
pub(super) fn matrices<'a>(kernel: &'a [f32], shape: &Shape, count: usize) -> Cow<'a, [f32]> {
    if shape.groups == 1 || kernel.is_empty() {
        return Cow::Borrowed(kernel);
    }
    let mut matrices = vec![0.0; count * kernel.len()];
    for_each_block(shape, count, |of_kernel, of_matrices, width| {
        matrices[of_matrices..][..width].copy_from_slice(&kernel[of_kernel..][..width]);
    });
    matrices.into()
}

/// Adds the matrices of such products to `kernel`.
pub(super) fn add_matrices(kernel: &mut [f32], matrices: &[f32], shape: &Shape, count: usize) {
    for_each_block(shape, count, |of_kernel, of_matrices, width| {
        let sums = &mut kernel[of_kernel..][..width];
        for (sum, value) in sums.iter_mut().zip(&matrices[of_matrices..][..width]) {
            *sum += value;
        }
    });
}

/// Calls `block(of_kernel, of_matrices, width)` for each row of the matrix of each group: where it
/// starts in the kernel and in the matrices, and how many columns it has.
fn for_each_block(shape: &Shape, count: usize, mut block: impl FnMut(usize, usize, usize)) {
    let (width, channels) = (shape.columns_of_group(), shape.channels / shape.groups);
    let taps = shape.taps[0] * shape.taps[1];
    let size = count * shape.depth * count * width;
    for group in 0..shape.groups {
        let (product, index) = (group / count, group % count);
        for tap in 0..taps {
            for channel in 0..channels {
                let row = (tap * count + index) * channels + channel;
                block(
                    (tap * channels + channel) * shape.columns + group * width,
                    product * size + (row * count + index) * width,
                    width,
                );
            }
        }
    }
}
