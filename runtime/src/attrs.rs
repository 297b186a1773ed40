//! The attributes of a node, as its op reads them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{Attr, Attrs};

use crate::dim::describe_shape;
use crate::proto::{self, attr::Value};

/// Attributes whose symbolic extents are resolved, and which of them were read.
pub(crate) struct NodeAttrs<'a> {
    attrs: &'a BTreeMap<String, proto::Attr>,
    shapes: BTreeMap<&'a str, Vec<i64>>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> NodeAttrs<'a> {
    /// The attributes where `symbols` have these values; or what is wrong with one of them.
    pub(crate) fn resolve(
        attrs: &'a BTreeMap<String, proto::Attr>,
        symbols: &[Option<usize>],
        names: &[String],
    ) -> Result<Self, String> {
        let mut shapes = BTreeMap::new();
        for (name, attr) in attrs {
            if let Some(Value::Shape(shape)) = &attr.value {
                let extents: Option<Vec<i64>> = shape
                    .dims
                    .iter()
                    .map(|dim| dim.eval(symbols).and_then(|extent| i64::try_from(extent).ok()))
                    .collect();
                let extents = extents.ok_or_else(|| {
                    let words = describe_shape(&shape.dims, names);
                    format!("attribute `{name}` is {words}, which is no shape for these inputs")
                })?;
                shapes.insert(name.as_str(), extents);
            }
        }
        Ok(Self { attrs, shapes, read: RefCell::default() })
    }

    /// The attributes that the op did not ask for: it does not know them, so it would not do what
    /// they say.
    pub(crate) fn unread(&self) -> Vec<&str> {
        let read = self.read.borrow();
        self.attrs.keys().filter(|name| !read.contains(*name)).map(String::as_str).collect()
    }
}

impl Attrs for NodeAttrs<'_> {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        let attr = self.attrs.get(name)?;
        self.read.borrow_mut().insert(name.to_owned());
        Some(match attr.value.as_ref()? {
            Value::Flag(value) => Attr::Bool(*value),
            Value::Integer(value) => Attr::Int(*value),
            Value::Number(value) => Attr::Float(*value),
            Value::Text(value) => Attr::Str(value),
            Value::Integers(value) => Attr::Ints(&value.values),
            Value::Shape(_) => Attr::Ints(self.shapes.get(name)?),
        })
    }
}

/// Whether an attribute depends on the shapes of the inputs.
pub(crate) fn is_symbolic(attr: &proto::Attr) -> bool {
    match &attr.value {
        Some(Value::Shape(shape)) => {
            shape.dims.iter().any(|dim| dim.terms.iter().any(|term| !term.factors.is_empty()))
        }
        _ => false,
    }
}
