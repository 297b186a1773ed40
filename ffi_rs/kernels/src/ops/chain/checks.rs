//! Checks of shapes, and operands of which one row may stand for all.

use std::borrow::Cow;

use super::attributes::Chain;
use crate::{Complex32, DType, Error, Fact, View, ViewMut};

/// The two extents of a matrix of f32.
pub(crate) fn matrix<'a>(
    op: &'static str,
    name: &str,
    fact: &'a Fact,
) -> Result<&'a [usize; 2], Error> {
    matrix_of(op, name, DType::F32, fact)
}

/// The two extents of a matrix of that type.
pub(crate) fn matrix_of<'a>(
    op: &'static str,
    name: &str,
    dtype: DType,
    fact: &'a Fact,
) -> Result<&'a [usize; 2], Error> {
    match <&[usize; 2]>::try_from(fact.shape.as_slice()) {
        Ok(shape) if fact.dtype == dtype => Ok(shape),
        _ => {
            let article = if dtype == DType::F32 { "an" } else { "a" };
            let message = format!("`{name}` must be {article} {dtype} matrix, got {fact}");
            Err(Error::invalid(op, message))
        }
    }
}

/// The f32 of numbers, which are real or complex.
pub(crate) fn floats<'a>(view: &View<'a>) -> Result<&'a [f32], Error> {
    match view.dtype() {
        DType::C64 => view.data::<Complex32>().map(bytemuck::cast_slice),
        _ => view.data(),
    }
}

/// The same, to write.
pub(crate) fn floats_mut<'a>(view: &'a mut ViewMut<'_>) -> Result<&'a mut [f32], Error> {
    match view.dtype() {
        DType::C64 => view.data_mut::<Complex32>().map(bytemuck::cast_slice_mut),
        _ => view.data_mut(),
    }
}

/// Values by column, for each f32 of the numbers there, unless all columns share what there is.
pub(crate) fn by_column<'a>(chain: &Chain, values: &'a [f32]) -> Cow<'a, [f32]> {
    if !chain.complex || values.len() <= 1 {
        return values.into();
    }
    values.iter().flat_map(|value| [*value; 2]).collect()
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
