//! From the shapes of the inputs to the values of the symbols.
//!
//! As one would write it down:
//!
//! ```text
//! until no axis tells more:
//!     for axis in axes of the inputs:
//!         if one symbol of it alone is unknown: solve it
//! ```
//!
//! Here an axis is looked at when but one of its symbols is left, so that the work is that of reading
//! the shapes, whatever their order.

use std::collections::VecDeque;

use lumina_kernels::Fact;

use crate::Error;
use crate::ir::dim::{Dim, Solution, Symbols};
use crate::ir::{Graph, Port};

/// The symbols for inputs of these facts, or which input does not fit.
pub(crate) fn bind(graph: &Graph, inputs: &[Fact]) -> Result<Symbols, Error> {
    if inputs.len() != graph.inputs.len() {
        let names: Vec<_> = graph.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        return Err(Error::Input(format!(
            "expected {} inputs ({}), got {}",
            names.len(),
            names.join(", "),
            inputs.len()
        )));
    }
    for (port, fact) in graph.inputs.iter().zip(inputs) {
        if port.dtype != fact.dtype || port.shape.len() != fact.shape.len() {
            return Err(Error::Input(format!(
                "input `{}` must be {}, got {fact}",
                port.name,
                port.describe(&graph.symbols)
            )));
        }
    }
    let axes = || {
        graph.inputs.iter().zip(inputs).flat_map(|(port, fact)| {
            port.shape.iter().zip(&fact.shape).enumerate().map(move |axis| (port, axis))
        })
    };
    let misfit = |port: &Port, axis: usize, expected: String, got: usize| {
        Error::Input(format!("input `{}`: axis {axis} must be {expected}, got {got}", port.name))
    };
    let symbolic: Vec<_> = axes().filter(|(_, (_, (dim, _)))| dim.is_symbolic()).collect();
    let dims: Vec<&Dim> = symbolic.iter().map(|(_, (_, (dim, _)))| *dim).collect();
    let symbols = solve(&dims, graph.bound(), |index, symbols| {
        let (port, (axis, (dim, &got))) = symbolic[index];
        match dim.solve(got, symbols) {
            Solution::Symbol(symbol, bound) => Ok(Some((symbol, bound))),
            Solution::Known | Solution::Open => Ok(None),
            Solution::Impossible => {
                Err(misfit(port, axis, dim.display(&graph.symbols).to_string(), got))
            }
        }
    })?;
    for (port, (axis, (dim, &got))) in axes() {
        let expected = dim.eval(&symbols);
        if expected != Some(got) {
            let words = dim.display(&graph.symbols).to_string();
            let expected = match expected {
                Some(extent) if extent.to_string() == words => words,
                Some(extent) => format!("{words} = {extent} as the other axes have it"),
                None => format!("{words}, which the other axes leave without a value"),
            };
            return Err(misfit(port, axis, expected, got));
        }
    }
    with_derived(graph, symbols)
}

/// The symbols with those that follow from them.
fn with_derived(graph: &Graph, mut symbols: Symbols) -> Result<Symbols, Error> {
    for (derived, words) in graph.derived.iter().zip(&graph.symbols[graph.bound()..]) {
        let value = derived.eval(&symbols).ok_or_else(|| {
            Error::Input(format!("{words}, an extent in the model, has no value for these shapes"))
        })?;
        symbols.push(Some(value));
    }
    Ok(symbols)
}

/// Checks that the input shapes will give every symbol a value.
pub(crate) fn check_symbols_are_bound(graph: &Graph) -> Result<(), Error> {
    let dims = graph.inputs.iter().flat_map(|port| &port.shape);
    let dims: Vec<&Dim> = dims.filter(|dim| dim.is_symbolic()).collect();
    let symbols = solve(&dims, graph.bound(), |index, symbols| {
        Ok::<_, Error>(dims[index].unknown(symbols).map(|symbol| (symbol as usize, 1)))
    })?;
    match symbols.iter().position(Option::is_none) {
        None => Ok(()),
        Some(open) => Err(Error::graph(
            "`symbols`",
            format!("no input shape determines `{}`", graph.symbols[open]),
        )),
    }
}

/// The values of `count` symbols. `one` says what the extent of that number tells, where it has one
/// symbol that is not known yet.
fn solve<E>(
    dims: &[&Dim],
    count: usize,
    mut one: impl FnMut(usize, &[Option<i128>]) -> Result<Option<(usize, usize)>, E>,
) -> Result<Symbols, E> {
    let sets: Vec<u64> = dims.iter().map(|dim| dim.symbols()).collect();
    let mut readers = vec![Vec::new(); count];
    for (index, &set) in sets.iter().enumerate() {
        let mut rest = set;
        while rest != 0 {
            readers[rest.trailing_zeros() as usize].push(index);
            rest &= rest - 1;
        }
    }
    let mut symbols = vec![None; count];
    let mut open = !0u64;
    let is_ready = |index: &usize, open: u64| (sets[*index] & open).count_ones() == 1;
    let mut ready: VecDeque<usize> =
        (0..dims.len()).filter(|index| is_ready(index, open)).collect();
    while let Some(index) = ready.pop_front() {
        if !is_ready(&index, open) {
            continue;
        }
        if let Some((symbol, value)) = one(index, &symbols)? {
            symbols[symbol] = Some(value as i128);
            open &= !(1 << symbol);
            ready.extend(readers[symbol].iter().copied().filter(|index| is_ready(index, open)));
        }
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::dim::{Factor, MAX_SYMBOLS, Term};

    /// Each extent but the first waits for the one before it, and is seen first.
    #[test]
    fn a_long_chain_is_followed() {
        let factor = |symbol: usize| Factor { symbol: symbol as u32, power: 1 };
        let product = |symbols: &[usize]| Dim {
            terms: vec![Term {
                coefficient: 1,
                factors: symbols.iter().map(|&s| factor(s)).collect(),
            }],
        };
        let mut dims: Vec<Dim> =
            (1..MAX_SYMBOLS).rev().map(|last| product(&[last - 1, last])).collect();
        dims.push(product(&[0]));
        let dims: Vec<&Dim> = dims.iter().collect();
        let mut visits = 0;
        let symbols = solve(&dims, MAX_SYMBOLS, |index, symbols| {
            visits += 1;
            Ok::<_, Error>(match dims[index].solve(6, symbols) {
                Solution::Symbol(symbol, value) => Some((symbol, value)),
                _ => None,
            })
        });
        let expected: Symbols = [6, 1].into_iter().cycle().take(MAX_SYMBOLS).map(Some).collect();
        assert_eq!(symbols.unwrap(), expected);
        assert_eq!(visits, MAX_SYMBOLS);
    }
}
