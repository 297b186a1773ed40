//! The graph ops: JAX primitives by name and meaning. One file for each family of them, whose ops
//! its `OPS` lists; one list of families.

mod argmax;
mod binary;
mod common;
mod contraction;
mod convert;
mod convolution;
mod cumsum;
mod dynamic;
mod gather;
mod join;
mod power;
mod reduce;
mod reduce_precision;
mod reduce_window;
mod round;
mod scatter;
mod select;
mod shape;
mod source;
mod strided;
mod threefry;
mod unary;
mod window_axis;
mod windows;

pub(crate) use common::{element_arms, with_element};
pub use convert::{Convert, Number};
use lumina_kernels::Entry;
pub(crate) use strided::copy;

static FAMILIES: &[&[Entry]] = &[
    argmax::OPS,
    binary::OPS,
    contraction::OPS,
    convert::OPS,
    convolution::OPS,
    cumsum::OPS,
    dynamic::OPS,
    gather::OPS,
    join::OPS,
    power::OPS,
    reduce::OPS,
    reduce_precision::OPS,
    reduce_window::OPS,
    round::OPS,
    scatter::OPS,
    select::OPS,
    shape::OPS,
    source::OPS,
    threefry::OPS,
    unary::OPS,
    #[cfg(test)]
    crate::tests::prepared::OPS,
];

/// The ops of this crate; those of the kernels are beside them in a graph.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().copied().flatten()
}
