//! A convolution as a product of two matrices: patches of the input times the kernel.
//!
//! - `geometry`: which element of the input meets which one of the kernel, as attributes say.
//! - `patches`: rows of patches, made of the input when they are needed, and added back to it.
//! - `groups`: their matrices, and several of them as one product.
//! - `operands`: what the operands by image and by column say of some rows and of one group.
//! - `forward`, `backward`: the passes, some rows at a time, each as the chain with one product runs.

mod backward;
mod forward;
mod geometry;
mod groups;
mod operands;
mod patches;

pub(super) use backward::{Backward, Gradients};
pub(super) use forward::{Forward, Outputs};

use crate::{Attr, Attrs};

/// The attributes of the product of one group, whose weights lie as (K, N).
struct OfProduct<'a>(&'a dyn Attrs);

impl Attrs for OfProduct<'_> {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        if name == "transpose_weight" { Some(Attr::Bool(false)) } else { self.0.get(name) }
    }
}
