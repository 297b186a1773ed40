//! Checks of test vectors, and of the graphs that they show to be right.

use lumina_kernels::Fact;

use crate::Error;
use crate::bind::bind;
use crate::container::Contents;
use crate::infer::infer;
use crate::ir::{Graph, Module, TestVector};
use crate::schedule::check::check_shapes;
use crate::stored::check_tests;
use crate::validate::of_entry;

const MAX_TESTS: usize = 64;

/// Checks the test vectors, and with them that the nodes of a graph fit each other.
pub(crate) fn check_vectors(module: &Module, contents: Contents<'_>) -> Result<(), Error> {
    if module.tests.len() > MAX_TESTS {
        let message = format!("at most {MAX_TESTS}, got {}", module.tests.len());
        return Err(Error::graph("`tests`", message));
    }
    let entries = module.entries.len();
    for (index, test) in module.tests.iter().enumerate() {
        let fault = |message| Err(Error::graph(format!("test vector {index}"), message));
        if test.entry >= entries {
            return fault(format!("entry point {} is not one of the {entries}", test.entry));
        }
        if test.continues && index == 0 {
            return fault("continues, but is the first".to_string());
        }
        for (name, tolerance) in [
            ("absolute_tolerance", test.absolute_tolerance),
            ("relative_tolerance", test.relative_tolerance),
        ] {
            if !(tolerance.is_finite() && tolerance >= 0.0) {
                return fault(format!("`{name}` must be finite and not negative, got {tolerance}"));
            }
        }
    }
    check_tests(module, contents)?;
    for (entry, graph) in module.entries.iter().enumerate() {
        let mut tests = (0..module.tests.len()).filter(|&test| module.tests[test].entry == entry);
        // One vector shows that the nodes fit each other; the others are inferred when they are run.
        // A graph of fixed shapes can be inferred without a vector too.
        let done = match tests.next() {
            Some(first) => {
                check_test_shapes(graph, first, &module.tests[first], true).and_then(|()| {
                    tests.try_for_each(|index| {
                        check_test_shapes(graph, index, &module.tests[index], false)
                    })
                })
            }
            None if graph.symbols.is_empty() => {
                let facts: Option<Vec<Fact>> =
                    graph.inputs.iter().map(|input| input.fact(&[])).collect();
                facts.map_or(Ok(()), |facts| check_all(graph, &[], &facts))
            }
            None => Ok(()),
        };
        done.map_err(|error| of_entry(module, graph, error))?;
    }
    Ok(())
}

/// Checks the shapes of test vector number `index`, and, with `all`, those of all values.
fn check_test_shapes(
    graph: &Graph,
    index: usize,
    test: &TestVector,
    all: bool,
) -> Result<(), Error> {
    let vector = |error: Error| Error::graph(format!("test vector {index}"), error.to_string());
    let inputs: Vec<Fact> = test.inputs.iter().map(|stored| stored.fact.clone()).collect();
    let symbols = bind(graph, &inputs).map_err(vector)?;
    if all {
        check_all(graph, &symbols, &inputs)?;
    }
    for (port, stored) in graph.outputs.iter().zip(&test.outputs) {
        let fact = port.fact(&symbols);
        if fact.as_ref() != Some(&stored.fact) {
            let words = port.describe(&graph.symbols);
            let fact = fact.map_or(words, |fact| fact.to_string());
            let place = format!("test vector {index}, output `{}`", port.name);
            let message = format!("expected {fact}, got shape {:?}", stored.fact.shape);
            return Err(Error::graph(place, message));
        }
    }
    Ok(())
}

/// Checks the types of all values, and the products of which the file says how they run.
fn check_all(graph: &Graph, symbols: &[Option<i128>], inputs: &[Fact]) -> Result<(), Error> {
    let inference = infer(graph, symbols, inputs)?;
    check_shapes(&graph.nodes, symbols, &inference)
}
