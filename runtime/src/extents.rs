//! Shapes of the inputs where no run gives them: from values of the symbols that someone says.

use lumina_kernels::Fact;

use crate::bind::bind;
use crate::error::quoted;
use crate::infer::check_size;
use crate::ir::dim::Symbols;
use crate::ir::{Graph, TestVector};
use crate::{Error, Model};

/// Shapes of the inputs of an entry point.
pub(crate) struct Shapes {
    pub(crate) facts: Vec<Fact>,
    /// What was taken for each symbol.
    pub(crate) extents: Vec<Extent>,
    /// All symbols of the graph, as a run binds them.
    pub(crate) symbols: Symbols,
}

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

#[cfg(feature = "report")]
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

/// The shapes of the inputs of an entry point where each symbol is what `given` says, else what it is
/// in the first test vector of that entry point, else 1. Names in `given` that the entry point does not
/// have are left to [`check_given`].
pub(crate) fn shapes(
    model: &Model,
    entry: usize,
    given: &[(String, u64)],
) -> Result<Shapes, Error> {
    let graph = model.graph(entry)?;
    let test = model.module().tests.iter().find(|test| test.entry == entry);
    let tested = test.map(|test| bound_by(graph, test)).transpose()?;
    let names = &graph.symbols[..graph.bound()];
    let extent = |(index, name): (usize, &String)| {
        let said = given.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let tested = tested.as_ref().and_then(|symbols| u64::try_from(symbols[index]?).ok());
        let (value, origin) = match (said, tested) {
            (Some(value), _) => (value, Origin::Given),
            (None, Some(value)) => (value, Origin::TestVector),
            (None, None) => (1, Origin::Default),
        };
        Extent { name: name.clone(), value, origin }
    };
    let extents: Vec<Extent> = names.iter().enumerate().map(extent).collect();
    let values: Symbols = extents.iter().map(|extent| Some(extent.value.into())).collect();
    let facts = graph.inputs.iter().map(|port| {
        let fact = port.fact(&values).ok_or_else(|| "no shape".to_string());
        fact.and_then(|fact| check_size(&fact).map(|()| fact)).map_err(|message| {
            let (name, words) = (&port.name, port.describe(&graph.symbols));
            Error::Input(format!("input `{name}`, {words}: {message} {}", told(&extents)))
        })
    });
    let facts = facts.collect::<Result<Vec<Fact>, Error>>()?;
    let symbols = bind(graph, &facts).map_err(|error| unfit(error, &extents))?;
    Ok(Shapes { facts, extents, symbols })
}

/// Checks that each name is a symbol of one of these entry points, and has one value.
pub(crate) fn check_given<'a>(
    entries: impl Iterator<Item = &'a Graph>,
    given: &[(String, u64)],
) -> Result<(), Error> {
    let mut known: Vec<&str> = Vec::new();
    for graph in entries {
        known.extend(graph.symbols[..graph.bound()].iter().map(String::as_str));
    }
    known.sort_unstable();
    known.dedup();
    for (index, (name, value)) in given.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let known = quoted(known.into_iter());
            return Err(Error::Input(format!(
                "there is no symbol `{name}`; the model has {known}"
            )));
        }
        if let Some((_, other)) =
            given[..index].iter().find(|said| said.0 == *name && said.1 != *value)
        {
            return Err(Error::Input(format!(
                "symbol `{name}` is given two values, {other} and {value}"
            )));
        }
    }
    Ok(())
}

/// The fault of shapes that someone chose.
pub(crate) fn unfit(error: Error, extents: &[Extent]) -> Error {
    match extents {
        [] => error,
        _ => Error::Input(format!("{}: {error}; other values may do", told(extents))),
    }
}

/// The symbols in words: "with batch = 4, time = 7".
fn told(extents: &[Extent]) -> String {
    let each: Vec<String> =
        extents.iter().map(|extent| format!("{} = {}", extent.name, extent.value)).collect();
    format!("with {}", each.join(", "))
}

/// The symbols that the inputs of a test vector determine.
fn bound_by(graph: &Graph, test: &TestVector) -> Result<Symbols, Error> {
    let inputs: Vec<Fact> = test.inputs.iter().map(|stored| stored.fact.clone()).collect();
    bind(graph, &inputs)
}
