//! Checks of shapes, and operands of which one row may stand for all.

use crate::{DType, Error, Fact};

/// The two extents of a matrix of f32.
pub(crate) fn matrix<'a>(
    op: &'static str,
    name: &str,
    fact: &'a Fact,
) -> Result<&'a [usize; 2], Error> {
    match (fact.dtype, <&[usize; 2]>::try_from(fact.shape.as_slice())) {
        (DType::F32, Ok(shape)) => Ok(shape),
        _ => Err(Error::invalid(op, format!("`{name}` must be an f32 matrix, got {fact}"))),
    }
}

/// Checks that each axis of `fact` has one of the extents allowed for it.
pub(crate) fn extents(
    op: &'static str,
    name: &str,
    fact: &Fact,
    dtype: DType,
    allowed: &[&[usize]],
) -> Result<(), Error> {
    let fits = fact.dtype == dtype
        && fact.shape.len() == allowed.len()
        && fact.shape.iter().zip(allowed).all(|(extent, allowed)| allowed.contains(extent));
    if fits {
        return Ok(());
    }
    let mut axes = String::new();
    for (axis, allowed) in allowed.iter().enumerate() {
        let mut allowed = allowed.to_vec();
        allowed.dedup();
        let choices: Vec<String> = allowed.iter().map(usize::to_string).collect();
        axes += if axis == 0 { "" } else { "," };
        axes += &choices.join("|");
    }
    Err(Error::invalid(op, format!("`{name}` must be {dtype}[{axes}], got {fact}")))
}

/// A per-row or per-column operand, of which one row may stand for all.
#[derive(Clone, Copy)]
pub(crate) struct Broadcast<'a, T> {
    data: &'a [T],
    /// Elements from one row to the next; 0 where one stands for all.
    stride: usize,
}

impl<'a, T: Copy> Broadcast<'a, T> {
    /// Of `data` with `width` elements per row, for `extent` rows.
    pub(crate) fn new(data: &'a [T], width: usize, extent: usize) -> Self {
        Self { data, stride: if data.len() == width && extent != 1 { 0 } else { width } }
    }

    /// The elements of one row.
    #[inline(always)]
    pub(crate) fn row<const W: usize>(&self, index: usize) -> [T; W] {
        std::array::from_fn(|element| self.data[index * self.stride + element])
    }

    /// The first element of one row.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> T {
        self.data[index * self.stride]
    }
}
