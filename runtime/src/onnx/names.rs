//! Names that each stand for one thing.

use std::collections::{BTreeMap, BTreeSet};

/// The names that are taken.
#[derive(Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// How often a name was asked for, so that the next one is found at once.
    asked: BTreeMap<String, usize>,
}

impl Names {
    /// That name, or the first of it with a number behind it that is free. ONNX has none that is empty.
    pub(super) fn take(&mut self, wish: &str) -> String {
        let wish = if wish.is_empty() { "value" } else { wish };
        let asked = self.asked.entry(wish.into()).or_insert(0);
        loop {
            let name = match *asked {
                0 => wish.to_owned(),
                number => format!("{wish}_{number}"),
            };
            *asked += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// The name that nodes of a source have: the path of the module, where "model.py:12 (Dense_0)" has one.
pub(super) fn path_of(source: &str) -> &str {
    let path = source.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    path.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once() {
        let mut names = Names::default();
        let wishes = ["a", "a_1", "a", "a", "", ""];
        let taken = wishes.map(|wish| names.take(wish));
        assert_eq!(taken, ["a", "a_1", "a_2", "a_3", "value", "value_1"]);
    }

    #[test]
    fn modules_are_what_parentheses_hold() {
        let sources = ["model.py:12 (Dense_0)", "model.py:12", "", "m.py:1 (a.<locals>.b)"];
        assert_eq!(sources.map(path_of), ["Dense_0", "", "", "a.<locals>.b"]);
    }
}
