//! The graph ops: JAX primitives by name and meaning. One file for each family of them, whose ops
//! its `OPS` lists; one list of families.

mod activations;
mod argmax;
mod attention;
mod binary;
mod bitcast;
mod common;
mod complex;
mod contraction;
mod convert;
mod convolution;
mod cumulative;
mod dynamic;
mod fft;
mod float;
mod fused;
mod gather;
mod join;
mod lines;
mod order;
mod power;
mod reduce;
mod reduce_precision;
mod reduce_window;
mod reductions;
mod round;
mod rows;
mod scatter;
mod select;
mod shape;
mod sort;
mod source;
mod special;
mod strided;
mod threefry;
mod unary;
mod window_axis;
mod windows;

pub(crate) use common::{chunked, element_arms, with_element};
pub use convert::{Convert, Number};
use lumina_kernels::Entry;
pub(crate) use strided::{Walk, copy};
pub use threefry::fold_in;

static FAMILIES: &[&[Entry]] = &[
    activations::OPS,
    argmax::OPS,
    attention::OPS,
    binary::OPS,
    bitcast::OPS,
    contraction::OPS,
    convert::OPS,
    convolution::OPS,
    cumulative::OPS,
    dynamic::OPS,
    fft::OPS,
    fused::OPS,
    gather::OPS,
    join::OPS,
    power::OPS,
    reduce::OPS,
    reduce_precision::OPS,
    reduce_window::OPS,
    round::OPS,
    rows::OPS,
    scatter::OPS,
    select::OPS,
    shape::OPS,
    sort::OPS,
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
