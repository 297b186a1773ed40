//! The attributes of a node, as its op reads them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{Attr, Attrs};

use crate::ir::dim::describe_shape;
use crate::ir::{Attribute, Attributes, Node};

/// Attributes whose symbolic extents are resolved, and which of them were read. The op does not see
/// regions.
pub(crate) struct NodeAttrs<'a> {
    attributes: &'a Attributes,
    shapes: BTreeMap<&'a str, Vec<i64>>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> NodeAttrs<'a> {
    /// The attributes where `symbols` have these values; or what is wrong with one of them.
    pub(crate) fn resolve(
        node: &'a Node,
        symbols: &[Option<i128>],
        names: &[String],
    ) -> Result<Self, String> {
        let mut shapes = BTreeMap::new();
        for (name, attribute) in node.attributes.iter() {
            if let Attribute::Shape(dims) = attribute {
                let extents: Option<Vec<i64>> = dims
                    .iter()
                    .map(|dim| dim.eval(symbols).and_then(|extent| i64::try_from(extent).ok()))
                    .collect();
                let extents = extents.ok_or_else(|| {
                    let words = describe_shape(dims, names);
                    format!("attribute `{name}` is {words}, which is no shape for these inputs")
                })?;
                shapes.insert(name, extents);
            }
        }
        Ok(Self { attributes: &node.attributes, shapes, read: RefCell::default() })
    }

    /// The attributes that the op did not ask for: it does not know them, so it would not do what
    /// they say. `regions` are those that it has been given.
    pub(crate) fn unread(&self, regions: &[&str]) -> Vec<&str> {
        let read = self.read.borrow();
        let is_known = |name: &&str| read.contains(*name) || regions.contains(name);
        self.attributes.iter().map(|(name, _)| name).filter(|name| !is_known(name)).collect()
    }
}

impl Attrs for NodeAttrs<'_> {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        let attr = match self.attributes.get(name)? {
            Attribute::Bool(value) => Attr::Bool(*value),
            Attribute::Int(value) => Attr::Int(*value),
            Attribute::Float(value) => Attr::Float(*value),
            Attribute::Str(value) => Attr::Str(value),
            Attribute::Ints(value) => Attr::Ints(value),
            Attribute::Shape(_) => Attr::Ints(self.shapes.get(name)?),
            Attribute::Region(_) => return None,
        };
        self.read.borrow_mut().insert(name.to_owned());
        Some(attr)
    }
}
