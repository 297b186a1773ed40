//! The attributes of a node.

use super::{Dim, Region};

/// An attribute of a node.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Ints(Vec<i64>),
    /// A shape, whose extents may be symbolic; the op sees integers.
    Shape(Vec<Dim>),
    Region(Box<Region>),
}

impl Attribute {
    /// Whether it depends on the shapes of the inputs.
    pub(crate) fn is_symbolic(&self) -> bool {
        match self {
            Self::Shape(dims) => dims.iter().any(Dim::is_symbolic),
            _ => false,
        }
    }
}

/// Attributes by name, sorted. A node has few, so that a list is less than a map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<(String, Attribute)>);

impl Attributes {
    /// Of these names, of which the last of equal ones counts.
    pub(crate) fn new(mut attributes: Vec<(String, Attribute)>) -> Self {
        attributes.reverse();
        attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
        attributes.dedup_by(|(a, _), (b, _)| a == b);
        Self(attributes)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Attribute> {
        self.position(name).ok().map(|index| &self.0[index].1)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Attribute> {
        self.position(name).ok().map(|index| &mut self.0[index].1)
    }

    pub(crate) fn set(&mut self, name: &str, attribute: Attribute) {
        match self.position(name) {
            Ok(index) => self.0[index].1 = attribute,
            Err(index) => self.0.insert(index, (name.into(), attribute)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(index) = self.position(name) {
            self.0.remove(index);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, attribute)| (name.as_str(), attribute))
    }

    pub(crate) fn regions_mut(&mut self) -> impl Iterator<Item = &mut Region> {
        self.0.iter_mut().filter_map(|(_, attribute)| match attribute {
            Attribute::Region(region) => Some(&mut **region),
            _ => None,
        })
    }

    /// Whether one of them depends on the shapes of the inputs.
    pub(crate) fn are_symbolic(&self) -> bool {
        self.iter().any(|(_, attribute)| attribute.is_symbolic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_a_map() {
        let all = [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("b", 5)];
        let list = all.map(|(name, value)| (name.to_string(), Attribute::Int(value)));
        let mut attributes = Attributes::new(list.into());
        let text = |attributes: &Attributes| {
            let words = attributes.iter().map(|(name, value)| format!("{name} {value:?}"));
            words.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text(&attributes), "a Int(2), b Int(5), c Int(4)");
        attributes.set("bb", Attribute::Bool(true));
        attributes.set("a", Attribute::Bool(false));
        attributes.remove("c");
        attributes.remove("d");
        assert_eq!(text(&attributes), "a Bool(false), b Int(5), bb Bool(true)");
        assert!(matches!(attributes.get_mut("bb"), Some(Attribute::Bool(true))));
        assert!(attributes.get("c").is_none());
    }
}
