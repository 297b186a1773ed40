//! A file that has been checked.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use lumina_kernels::Fact;

use crate::Error;
use crate::batch::Batch;
use crate::container::{Checksums, Container, Contents, Section, SectionKind, borrowed};
use crate::control::CONTROL;
use crate::decode::decode;
use crate::error::quoted;
use crate::ir::{Graph, Module, Port, State};
use crate::schedule::check;
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
    module: Module,
    states: Vec<State>,
    times: LoadTimes,
}

/// How long it took to load a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadTimes {
    /// To read the bytes, and to compare their checksums.
    pub read: Duration,
    /// To decode the graph and to check all of it.
    pub check: Duration,
}

impl Model {
    /// Reads and checks a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(|| Container::read(path.as_ref()))
    }

    /// Checks a file of `length` bytes, of which `fill` writes those from an offset on.
    pub fn filled_by(length: usize, fill: impl FnMut(usize, &mut [u8])) -> Result<Self, Error> {
        Self::new(|| Container::filled_by(length, fill))
    }

    /// Checks the bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::new(|| Container::parse(bytes))
    }

    /// Checks the bytes of a file that stay where they are, such as memory that the file is mapped
    /// to: weights are used there, and come from the disk as they are needed.
    ///
    /// The bytes start at a multiple of 64, and are the same for as long as the model is there.
    pub fn in_place(
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        checksums: Checksums,
    ) -> Result<Self, Error> {
        Self::new(|| Container::in_place(Box::new(bytes), checksums))
    }

    /// Checks the bytes of a file as [`Model::from_bytes`] and [`Model::check_condition_number`] do,
    /// without a copy of them.
    pub fn check(bytes: &[u8]) -> Result<(), Error> {
        check_condition_number(&borrowed(bytes, module)?)
    }

    /// Checks that the condition number of the crosstalk, if the file has one, is that of its matrix.
    /// Loading leaves this out, as no run asks for the number: [`Model::schedule`] does it.
    pub fn check_condition_number(&self) -> Result<(), Error> {
        check_condition_number(&self.module)
    }

    fn new(read: impl FnOnce() -> Result<Container, Error>) -> Result<Self, Error> {
        let begin = Instant::now();
        let container = read()?;
        let read = begin.elapsed();
        let module = module(container.contents())?;
        let states = distinct(&module.entries);
        let times = LoadTimes { read, check: begin.elapsed().saturating_sub(read) };
        log::debug!(
            "loaded a model of {} bytes: read in {:?}, checked in {:?}",
            container.contents().len(),
            times.read,
            times.check
        );
        Ok(Self { container, module, states, times })
    }

    /// How long it took to load the model.
    pub fn load_times(&self) -> LoadTimes {
        self.times
    }

    /// The number of the entry point of that name; the first one where there is no name.
    pub fn entry(&self, name: Option<&str>) -> Result<usize, Error> {
        let Some(name) = name else { return Ok(0) };
        self.entries().position(|entry| entry == name).ok_or_else(|| {
            let known = quoted(self.entries().filter(|name| !name.is_empty()));
            Error::Input(format!("there is no entry point `{name}`; the file has {known}"))
        })
    }

    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    /// The entry point of that number.
    pub(crate) fn graph(&self, entry: usize) -> Result<&Graph, Error> {
        let entries = &self.module.entries;
        entries.get(entry).ok_or_else(|| {
            Error::Input(format!("there is no entry point {entry}, the file has {}", entries.len()))
        })
    }

    /// The states of all entry points, each once.
    pub(crate) fn states(&self) -> &[State] {
        &self.states
    }

    /// The names of the entry points, by number; the only one of a file may have none.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &str> {
        self.module.entries.iter().map(|graph| graph.name.as_str())
    }

    /// The inputs of the first entry point, in the order in which a run takes them.
    pub fn inputs(&self) -> &[Port] {
        &self.module.entries[0].inputs
    }

    /// The outputs of the first entry point, in the order in which a run returns them.
    pub fn outputs(&self) -> &[Port] {
        &self.module.entries[0].outputs
    }

    /// The inputs of the entry point of that number.
    pub fn inputs_of(&self, entry: usize) -> Result<&[Port], Error> {
        Ok(&self.graph(entry)?.inputs)
    }

    /// The outputs of the entry point of that number.
    pub fn outputs_of(&self, entry: usize) -> Result<&[Port], Error> {
        Ok(&self.graph(entry)?.outputs)
    }

    /// The extents of `port`, one of that entry point, in words: a number, or what the shapes of a run
    /// decide, such as `batch` or `2*batch`.
    pub fn extents_in_words(&self, entry: usize, port: &Port) -> Result<Vec<String>, Error> {
        let symbols = &self.graph(entry)?.symbols;
        Ok(port.shape.iter().map(|dim| dim.display(symbols).to_string()).collect())
    }

    /// Names and types of the values that a session keeps from one run to the next.
    pub fn state_facts(&self) -> impl ExactSizeIterator<Item = (&str, &Fact)> {
        self.states.iter().map(|state| (state.name.as_str(), &state.fact))
    }

    /// Along which extent a run of the first entry point can be cut in pieces, or why it cannot.
    pub fn batch(&self) -> Result<Batch, Error> {
        self.batch_of(0)
    }

    /// As [`Model::batch`], of the entry point of that number.
    pub fn batch_of(&self, entry: usize) -> Result<Batch, Error> {
        Batch::of(self.graph(entry)?)
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

    /// Whether both files are the same to the last byte.
    #[cfg(feature = "report")]
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        self.container.contents().all() == other.container.contents().all()
    }

    pub(crate) fn weights(&self) -> &[u8] {
        self.section(SectionKind::Weights)
    }

    pub(crate) fn section(&self, kind: SectionKind) -> &[u8] {
        self.container.contents().section(kind)
    }
}

/// The graphs of a file, checked.
fn module(contents: Contents<'_>) -> Result<Module, Error> {
    let mut module = decode(contents.section(SectionKind::Graph), contents.len())?;
    upgrade(&mut module);
    validate(&module, contents)?;
    Ok(module)
}

fn check_condition_number(module: &Module) -> Result<(), Error> {
    module.crosstalk.as_ref().map_or(Ok(()), check::check_condition_number)
}

/// The states of these entry points, each once.
fn distinct(entries: &[Graph]) -> Vec<State> {
    let mut seen = BTreeSet::new();
    let all = entries.iter().flat_map(|graph| &graph.states);
    all.filter(|state| seen.insert(state.name.as_str())).cloned().collect()
}
