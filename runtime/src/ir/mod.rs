//! The graph as everything after decoding sees it.

mod attributes;
pub(crate) mod dim;
mod hardware;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use lumina_kernels::{DType, Fact};

pub(crate) use attributes::{Attribute, Attributes};
pub(crate) use dim::{Derived, Dim};
pub(crate) use hardware::{Crosstalk, Execution, Product, Wdm};
pub use hardware::{Device, Order};

use crate::Error;
use crate::tensor::byte_size;
use dim::describe_shape;

/// What is in a file: entry points that share constants.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub(crate) producer: String,
    /// Version of the op set that the file was written for.
    pub(crate) opset: u32,
    /// At least one; the first is the one that runs where none is named.
    pub(crate) entries: Vec<Graph>,
    pub(crate) tests: Vec<TestVector>,
    /// The processor that the file was written for; its slots, and the crosstalk among them.
    pub(crate) device: Option<Device>,
    pub(crate) wdm: Option<Wdm>,
    pub(crate) crosstalk: Option<Crosstalk>,
}

/// An entry point: what goes in and out, constants, and nodes in topological order.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// May be empty where it is the only one.
    pub(crate) name: String,
    /// Names of the symbolic dimensions, and behind them those of `derived` in words.
    pub(crate) symbols: Vec<String>,
    /// The last symbols, which follow from those before them.
    pub(crate) derived: Vec<Derived>,
    pub(crate) inputs: Vec<Port>,
    pub(crate) states: Vec<State>,
    /// The constants of the file, the same ones for each entry point.
    pub(crate) tensors: Arc<[Tensor]>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<Port>,
}

/// A value that a session keeps from one run to the next.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Path of the leaf: "cache\['layer_0'\]\['key'\]". Entry points share the states of one name.
    pub(crate) name: String,
    /// The value before the run.
    pub(crate) id: u32,
    pub(crate) fact: Fact,
    /// The value after the run; None: the one before.
    pub(crate) next: Option<u32>,
    /// The tensor with the value in a new session, or with one element that fills it; None: zeros.
    pub(crate) initial: Option<u32>,
}

/// An input or an output of the graph.
#[derive(Clone, Debug)]
pub struct Port {
    /// Path of the argument or result: "x", "args\[0\]\['image'\]".
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// What the value means beyond its type.
    pub role: Role,
    pub(crate) id: u32,
    pub(crate) shape: Vec<Dim>,
}

/// What an input means beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Plain,
    /// u32\[2\], high word first: the seed of the analog noise.
    NoiseSeed,
}

/// A constant, whose bytes lie in the WEIGHTS section.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) id: u32,
    /// Path in the parameters; empty for a folded constant.
    pub(crate) name: String,
    pub(crate) stored: Stored,
    pub(crate) quantization: Option<Quantization>,
}

/// A tensor in a section of the file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) fact: Fact,
    /// Byte offset within the section.
    pub(crate) offset: u64,
}

/// value = scale\[channel\] * (code - zero_point\[channel\]), or lut\[code\].
#[derive(Clone, Debug)]
pub(crate) struct Quantization {
    pub(crate) bits: u32,
    /// Channel axis; None: one scale for the whole tensor.
    pub(crate) axis: Option<u32>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zero_points: Vec<f32>,
    /// Byte offset and number of f32 entries of a table in the LUTS section.
    pub(crate) lut: Option<(u64, u32)>,
}

/// One op applied to values defined before it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) op: String,
    pub(crate) inputs: Vec<u32>,
    pub(crate) outputs: Vec<u32>,
    pub(crate) attributes: Attributes,
    /// Where the node comes from: "model.py:12 (Dense_0)".
    pub(crate) source: String,
    /// What an exporter put the node together from, in words.
    pub(crate) fused: Vec<String>,
    /// How the device runs the products of an optical node.
    pub(crate) execution: Option<Execution>,
}

/// Nodes of their own scope, which an op repeats or chooses. Its values have the ids 0, 1, ...:
/// first the captures, then the inputs, then what the nodes define. It reads nothing else of the
/// scope around it.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Values of the enclosing scope that this one reads.
    pub(crate) captures: Vec<u32>,
    /// Number of values that the op gives it.
    pub(crate) inputs: usize,
    pub(crate) nodes: Vec<Node>,
    /// What the op gets from it.
    pub(crate) outputs: Vec<u32>,
}

/// Inputs and the outputs that training computed for them, in the META section.
#[derive(Clone, Debug)]
pub(crate) struct TestVector {
    pub(crate) inputs: Vec<Stored>,
    pub(crate) outputs: Vec<Stored>,
    pub(crate) absolute_tolerance: f64,
    pub(crate) relative_tolerance: f64,
    /// Index of the entry point.
    pub(crate) entry: usize,
    /// Whether it begins with the states that the one before has left.
    pub(crate) continues: bool,
}

impl Port {
    /// The extent of each axis; None for one that depends on the shapes of a run.
    pub fn extents(&self) -> Vec<Option<usize>> {
        self.shape.iter().map(|dim| dim.eval(&[])).collect()
    }

    /// In words: `f32[batch,64]`.
    pub(crate) fn describe(&self, symbols: &[String]) -> String {
        format!("{}{}", self.dtype, describe_shape(&self.shape, symbols))
    }

    /// The fact where `symbols` have these values, and the shape is one.
    pub(crate) fn fact(&self, symbols: &[Option<i128>]) -> Option<Fact> {
        let shape: Option<Vec<usize>> = self.shape.iter().map(|dim| dim.eval(symbols)).collect();
        Some(Fact::new(self.dtype, shape?))
    }
}

impl Graph {
    /// Number of symbols that the shapes of the inputs determine.
    pub(crate) fn bound(&self) -> usize {
        self.symbols.len() - self.derived.len()
    }

    /// Number of values that are not results of its nodes.
    pub(crate) fn given(&self) -> usize {
        self.inputs.len() + self.states.len() + self.tensors.len()
    }

    /// The constants by their ids.
    pub(crate) fn tensors_by_id(&self) -> BTreeMap<u32, &Tensor> {
        self.tensors.iter().map(|tensor| (tensor.id, tensor)).collect()
    }
}

impl State {
    /// Where a fault is: "state `cache`".
    pub(crate) fn place(&self) -> String {
        format!("state `{}`", self.name)
    }
}

impl Stored {
    /// Where it lies in its section.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start + byte_size(&self.fact).unwrap_or(0)
    }
}

impl Tensor {
    /// Where a fault is: "tensor 3 `w`".
    pub(crate) fn place(&self) -> String {
        format!("tensor {} `{}`", self.id, self.name)
    }
}

impl Node {
    /// Where a fault is, for node number `index` of its scope: "node 3 (`add`, model.py:12)".
    pub(crate) fn place(&self, index: usize) -> String {
        match self.source.as_str() {
            "" => format!("node {index} (`{}`)", self.op),
            source => format!("node {index} (`{}`, {source})", self.op),
        }
    }

    /// The regions by name.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (&str, &Region)> {
        self.attributes.iter().filter_map(|(name, attribute)| match attribute {
            Attribute::Region(region) => Some((name, &**region)),
            _ => None,
        })
    }
}

impl Region {
    /// Number of values that are not results of its nodes.
    pub(crate) fn given(&self) -> usize {
        self.captures.len() + self.inputs
    }
}

/// Puts the node around a region in front of the place of a fault in it.
pub(crate) fn in_region(node: &Node, index: usize, name: &str, error: Error) -> Error {
    error.within(&format!("{}, region `{name}`", node.place(index)))
}

/// The file and the module in the source of a node: ("model.py:12", "Mlp/Dense_0") of
/// "model.py:12 (Mlp/Dense_0)".
#[cfg(feature = "report")]
pub(crate) fn place_of(source: &str) -> (&str, &str) {
    let parts = source.strip_suffix(')').and_then(|source| source.rsplit_once(" ("));
    parts.unwrap_or((source, ""))
}

#[cfg(all(test, feature = "report"))]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_file_and_a_module() {
        assert_eq!(place_of("m.py:1 (A/B)"), ("m.py:1", "A/B"));
        assert_eq!(place_of("m.py:1"), ("m.py:1", ""));
        assert_eq!(place_of("my (old) m.py:1 (f.<locals>.g)"), ("my (old) m.py:1", "f.<locals>.g"));
        assert_eq!(place_of(""), ("", ""));
        assert_eq!(place_of(")"), (")", ""));
    }
}
