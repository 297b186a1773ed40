//! Along which extent a run can be cut in pieces.

use crate::Error;
use crate::ir::dim::Dim;
use crate::ir::{Graph, Port};

/// The extent along which a run can be cut in pieces: axis 0 of the first input where that is a
/// symbol, and of every output.
///
/// That the pieces give what the whole gives is for the model to know: one that looks from row to
/// row, as a mean over the batch does, gives something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Name of the symbol.
    pub name: String,
    /// Which inputs have it. The others are the same for every piece.
    pub inputs: Vec<bool>,
}

impl Batch {
    pub(crate) fn of(graph: &Graph) -> Result<Self, Error> {
        if let Some(state) = graph.states.iter().find(|state| state.next.is_some()) {
            return Err(Error::Input(format!(
                "state `{}` goes from run to run, and rows must not depend on those before them",
                state.name
            )));
        }
        let first = graph.inputs.iter().find_map(|port| port.shape.first()?.symbol());
        let Some(symbol) = first else {
            let message = "no input has a symbol as axis 0, so no rows can be told apart";
            return Err(Error::Input(message.into()));
        };
        let name = graph.symbols[symbol].clone();
        let depends = depends(graph, symbol);
        let has = |what: &str, port: &Port| {
            let axes = port.shape.iter().enumerate();
            let mut axes = axes.filter(|(_, dim)| dim.has_any(&depends));
            match (axes.next(), axes.next()) {
                (None, _) => Ok(false),
                (Some((0, dim)), None) if dim.symbol() == Some(symbol) => Ok(true),
                _ => Err(Error::Input(format!(
                    "{what} `{}` is {}: where rows are cut, `{name}` must be axis 0 and no part of \
                     any other",
                    port.name,
                    port.describe(&graph.symbols)
                ))),
            }
        };
        let inputs =
            graph.inputs.iter().map(|port| has("input", port)).collect::<Result<_, _>>()?;
        for port in &graph.outputs {
            if !has("output", port)? {
                return Err(Error::Input(format!(
                    "output `{}` is {}, without `{name}` as axis 0: what pieces give cannot be \
                     put together",
                    port.name,
                    port.describe(&graph.symbols)
                )));
            }
        }
        Ok(Self { name, inputs })
    }
}

/// Which symbols are this one, or follow from it.
fn depends(graph: &Graph, symbol: usize) -> Vec<bool> {
    let mut depends = vec![false; graph.symbols.len()];
    depends[symbol] = true;
    for (index, derived) in graph.derived.iter().enumerate() {
        let is_any = |dim: &Dim| dim.has_any(&depends);
        depends[graph.bound() + index] = is_any(&derived.left) || is_any(&derived.right);
    }
    depends
}
