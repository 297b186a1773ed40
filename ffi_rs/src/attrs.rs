//! Attributes as both front ends hand them to an op.

use lumina_kernels::{Attr, Attrs};

/// Attributes by name. An op has a handful of them, so a linear search is the fastest.
pub(crate) struct AttrList<'a, N>(pub(crate) Vec<(N, Attr<'a>)>);

impl<N: AsRef<str>> Attrs for AttrList<'_, N> {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        self.0.iter().find(|(key, _)| key.as_ref() == name).map(|&(_, value)| value)
    }
}
