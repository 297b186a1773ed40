//! A file that has been checked.

use std::path::Path;

use crate::Error;
use crate::batch::Batch;
use crate::container::{Checksums, Container, Contents, Section, SectionKind, borrowed};
use crate::control::CONTROL;
use crate::decode::decode;
use crate::ir::{Graph, Port};
use crate::upgrade::upgrade;
use crate::validate::validate;

/// Names of the ops that a graph may use: the kernels and the graph ops.
pub fn op_names() -> impl Iterator<Item = &'static str> {
    let ops = lumina_kernels::OPS.iter().chain(crate::ops::entries()).map(|entry| entry.name);
    ops.chain(CONTROL.iter().map(|entry| entry.name))
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
        Self::new(Container::read(path.as_ref())?)
    }

    /// Checks a file of `length` bytes, of which `fill` writes those from an offset on.
    pub fn filled_by(length: usize, fill: impl FnMut(usize, &mut [u8])) -> Result<Self, Error> {
        Self::new(Container::filled_by(length, fill)?)
    }

    /// Checks the bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(Container::parse(bytes)?)
    }

    /// Checks the bytes of a file that stay where they are, such as memory that the file is mapped
    /// to: weights are used there, and come from the disk as they are needed.
    ///
    /// The bytes start at a multiple of 64, and are the same for as long as the model is there.
    pub fn in_place(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        checksums: Checksums,
    ) -> Result<Self, Error> {
        Self::new(Container::in_place(Box::new(bytes), checksums)?)
    }

    /// Checks the bytes of a file as [`Model::from_bytes`] does, without a copy of them.
    pub fn check(bytes: &[u8]) -> Result<(), Error> {
        borrowed(bytes, graph).map(drop)
    }

    fn new(container: Container) -> Result<Self, Error> {
        let graph = graph(container.contents())?;
        Ok(Self { container, graph })
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The inputs, in the order in which a run takes them.
    pub fn inputs(&self) -> &[Port] {
        &self.graph.inputs
    }

    /// The outputs, in the order in which a run returns them.
    pub fn outputs(&self) -> &[Port] {
        &self.graph.outputs
    }

    /// Along which extent a run can be cut in pieces, or why it cannot.
    pub fn batch(&self) -> Result<Batch, Error> {
        Batch::of(&self.graph)
    }

    /// Major and minor version of the file format.
    pub fn version(&self) -> (u16, u16) {
        self.container.version
    }

    /// The section table.
    pub fn sections(&self) -> &[Section] {
        &self.container.sections
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> usize {
        self.container.contents().len()
    }

    pub(crate) fn weights(&self) -> &[u8] {
        self.section(SectionKind::Weights)
    }

    pub(crate) fn section(&self, kind: SectionKind) -> &[u8] {
        self.container.contents().section(kind)
    }
}

/// The graph of a file, checked.
fn graph(contents: Contents<'_>) -> Result<Graph, Error> {
    let mut graph = decode(contents.section(SectionKind::Graph), contents.len())?;
    upgrade(&mut graph);
    validate(&graph, contents)?;
    Ok(graph)
}
