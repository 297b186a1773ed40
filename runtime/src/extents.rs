//! Shapes of the inputs where no run gives them: from values of the symbols that someone says.

use lumina_kernels::Fact;

use crate::bind::bind;
use crate::error::quoted;
use crate::infer::check_size;
use crate::ir::dim::Symbols;
use crate::ir::{Graph, TestVector};
use crate::{Error, Model};

/// The value of a symbol, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) name: String,
    pub(crate) value: u64,
    pub(crate) origin: Origin,
}

/// Where the value of a symbol comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Given,
    TestVector,
    Default,
}

impl Origin {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Given => "as given",
            Self::TestVector => "as in the test vector",
            Self::Default => "as nothing says otherwise",
        }
    }
}

/// The facts of the inputs of an entry point, and what its symbols stand for: what `given` says, else
/// what the first test vector of that entry point has, else 1. Names in `given` that the entry point
/// does not have are left to [`check_names`].
pub(crate) fn input_facts(
    model: &Model,
    entry: usize,
    given: &[(String, u64)],
) -> Result<(Vec<Fact>, Vec<Extent>), Error> {
    let graph = model.graph(entry)?;
    let test = model.module().tests.iter().find(|test| test.entry == entry);
    let tested = test.map(|test| bound_by(graph, test)).transpose()?;
    let names = &graph.symbols[..graph.bound()];
    let extent = |(index, name): (usize, &String)| {
        // The last one counts, as elsewhere on a command line.
        let said = given.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value);
        let tested = tested.as_ref().and_then(|symbols| u64::try_from(symbols[index]?).ok());
        let (value, origin) = match (said, tested) {
            (Some(value), _) => (value, Origin::Given),
            (None, Some(value)) => (value, Origin::TestVector),
            (None, None) => (1, Origin::Default),
        };
        Extent { name: name.clone(), value, origin }
    };
    let extents: Vec<Extent> = names.iter().enumerate().map(extent).collect();
    let symbols: Symbols = extents.iter().map(|extent| Some(extent.value.into())).collect();
    let facts = graph.inputs.iter().map(|port| {
        let fact = port.fact(&symbols).ok_or_else(|| "is no shape".to_string());
        fact.and_then(|fact| check_size(&fact).map(|()| fact)).map_err(|message| {
            let (name, words) = (&port.name, port.describe(&graph.symbols));
            Error::Input(format!("input `{name}`: {words} {message} {}", told(&extents)))
        })
    });
    let facts = facts.collect::<Result<Vec<Fact>, Error>>()?;
    Ok((facts, extents))
}

/// Checks that each name is a symbol of one of these entry points.
pub(crate) fn check_names<'a>(
    entries: impl Iterator<Item = &'a Graph>,
    given: &[(String, u64)],
) -> Result<(), Error> {
    let mut known: Vec<&str> = Vec::new();
    for graph in entries {
        known.extend(graph.symbols[..graph.bound()].iter().map(String::as_str));
    }
    known.sort_unstable();
    known.dedup();
    match given.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let known = quoted(known.into_iter());
            Err(Error::Input(format!("there is no symbol `{name}`; the model has {known}")))
        }
    }
}

/// The symbols in words: "with batch = 4, time = 7".
pub(crate) fn told(extents: &[Extent]) -> String {
    let each: Vec<String> =
        extents.iter().map(|extent| format!("{} = {}", extent.name, extent.value)).collect();
    format!("with {}", each.join(", "))
}

/// The symbols that the inputs of a test vector determine.
fn bound_by(graph: &Graph, test: &TestVector) -> Result<Symbols, Error> {
    let inputs: Vec<Fact> = test.inputs.iter().map(|stored| stored.fact.clone()).collect();
    bind(graph, &inputs)
}
