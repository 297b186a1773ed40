//! Arguments `NAME=PATH`, or `PATH` alone.

use std::ffi::OsStr;
use std::path::Path;

use clap_lex::OsStrExt as _;

/// An argument: which of the inputs or outputs it names, if any, and the path.
#[derive(Debug, PartialEq)]
pub(crate) struct Assignment<'a> {
    pub(crate) port: Option<usize>,
    pub(crate) path: &'a Path,
}

impl<'a> Assignment<'a> {
    /// The longest name wins: where inputs are called `a` and `a=b`, `a=b=PATH` names the second.
    /// Where there is one name, a path alone goes with it.
    pub(crate) fn parse(argument: &'a OsStr, names: &[&str]) -> Self {
        let named = names.iter().enumerate().filter_map(|(port, name)| {
            let path = argument.strip_prefix(name)?.strip_prefix("=")?;
            Some((name.len(), Self { port: Some(port), path: Path::new(path) }))
        });
        let alone = || Self { port: (names.len() == 1).then_some(0), path: Path::new(argument) };
        named.max_by_key(|&(length, _)| length).map_or_else(alone, |(_, assignment)| assignment)
    }
}

/// That an argument names no input or output.
pub(crate) fn names_none(what: &str, argument: &OsStr, names: &[&str]) -> String {
    let argument = argument.to_string_lossy();
    format!(
        "--{what} {argument} names no {what} of the model: pass NAME=PATH, where NAME is one of {}",
        list(names)
    )
}

/// Names for a message.
pub(crate) fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_wins() {
        let names = ["a", "a=b", "c"];
        for (argument, port, path) in [
            ("a=x", Some(0), "x"),
            ("a=b=x", Some(1), "x"),
            ("a=./b=x", Some(0), "./b=x"),
            ("a=b", Some(0), "b"),
            ("c==", Some(2), "="),
            ("d=x", None, "d=x"),
            ("a", None, "a"),
        ] {
            let expected = Assignment { port, path: Path::new(path) };
            assert_eq!(Assignment::parse(OsStr::new(argument), &names), expected, "{argument}");
        }
    }

    #[test]
    fn a_path_alone_goes_with_the_only_name() {
        let parse = |argument| Assignment::parse(OsStr::new(argument), &["x"]);
        assert_eq!(parse("y=1.npy"), Assignment { port: Some(0), path: Path::new("y=1.npy") });
        assert_eq!(parse("x=1.npy"), Assignment { port: Some(0), path: Path::new("1.npy") });
    }
}
