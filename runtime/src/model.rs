//! A file that has been checked.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use prost::Message;

use crate::bytes::AlignedBytes;
use crate::container::{Container, Section, SectionKind};
use crate::infer::{describe_value, dtype};
use crate::proto::{Graph, Tensor, Value};
use crate::validate::validate;
use crate::{Error, wire};

/// Names of the ops that a graph may use: the kernels and the graph ops.
pub fn op_names() -> impl Iterator<Item = &'static str> {
    lumina_kernels::OPS.iter().chain(crate::ops::OPS).map(|entry| entry.name)
}

/// A `.lmn` file, all of which has been checked.
#[derive(Debug)]
pub struct Model {
    container: Container,
    graph: Graph,
}

impl Model {
    /// Reads and checks a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let read = || {
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            let mut bytes = AlignedBytes::zeroed(usize::try_from(length).unwrap_or(0));
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::new(bytes)
    }

    /// Checks the bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(AlignedBytes::copy_of(bytes))
    }

    fn new(bytes: AlignedBytes) -> Result<Self, Error> {
        let container = Container::parse(bytes)?;
        if !container.sections.iter().any(|section| section.kind == Some(SectionKind::Graph)) {
            let message = "missing".into();
            return Err(Error::Section { place: "section GRAPH".into(), message });
        }
        let encoded = container.section(SectionKind::Graph);
        wire::check(encoded)?;
        let graph = Graph::decode(encoded).map_err(|error| Error::Decode(error.to_string()))?;
        validate(&graph, &container)?;
        Ok(Self { container, graph })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Major and minor version of the file format.
    pub fn version(&self) -> (u16, u16) {
        self.container.version
    }

    /// The section table.
    pub fn sections(&self) -> &[Section] {
        &self.container.sections
    }

    /// An input or output in words: `f32[batch,64]`.
    pub fn describe_value(&self, value: &Value) -> String {
        describe_value(value, &self.graph.symbols)
    }

    /// A tensor in words: `f32[64,10]`.
    pub fn describe_tensor(&self, tensor: &Tensor) -> String {
        let extents: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        format!("{}[{}]", self.describe_dtype(tensor.dtype), extents.join(","))
    }

    /// An element type of the schema in words: `f32`.
    pub fn describe_dtype(&self, number: i32) -> String {
        dtype(number).map_or("?".into(), |dtype| dtype.to_string())
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> usize {
        self.container.len()
    }

    pub(crate) fn section(&self, kind: SectionKind) -> &[u8] {
        self.container.section(kind)
    }
}
