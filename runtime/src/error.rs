//! The one error type of the runtime.

use std::path::PathBuf;

/// Why a file was refused or could not be run. The text names what is wrong, in lowercase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first bytes are not those of a `.lmn` file.
    #[error("not a .lmn file: it starts with {got:02x?}, expected [4c, 4d, 4e, 1a] (\"LMN\\x1a\")")]
    Magic {
        /// The first bytes.
        got: Vec<u8>,
    },
    /// The layout is older or newer than what this runtime reads.
    #[error("file format version {got} is not supported, this runtime reads {oldest} to {newest}")]
    Major {
        /// Version of the file.
        got: u16,
        /// Oldest version that can be read.
        oldest: u16,
        /// Newest version that can be read.
        newest: u16,
    },
    /// The file ends before one of its parts does.
    #[error("truncated file: the {what} needs {expected} bytes, got {got}")]
    Truncated {
        /// The part.
        what: &'static str,
        /// Bytes up to the end of the part.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// A must-understand flag of a feature that this runtime does not have.
    #[error("{place} sets must-understand flags {flags:#x}, which this runtime does not know")]
    Flags {
        /// The header or a section.
        place: String,
        /// The unknown flags.
        flags: u32,
    },
    /// A field of the header that contradicts another or the file.
    #[error("header: `{field}` must be {expected}, got {got}")]
    Header {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        got: u64,
    },
    /// Bytes that are not those which were written.
    #[error("{place} is corrupt: its crc32c is {got:#010x}, the file says {expected:#010x}")]
    Checksum {
        /// The header or a section.
        place: String,
        /// The checksum in the file.
        expected: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// Bytes that are to stay where they are, and lie so that tensors in them cannot be used.
    #[error("the bytes of the file start at no multiple of 64, as mapped memory does")]
    Unaligned,
    /// A section that lies where it must not, or is missing.
    #[error("{place}: {message}")]
    Section {
        /// The section.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// The GRAPH section is no protobuf message of the schema.
    #[error("section GRAPH cannot be decoded: {0}")]
    Decode(String),
    /// Ops that this runtime does not have; all of them.
    #[error("unknown ops: {}", .0.join(", "))]
    UnknownOps(Vec<String>),
    /// A part of the graph that contradicts another, or the file.
    #[error("{place}: {message}")]
    Graph {
        /// The part: "node 3 (`add`, model.py:12)".
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// An op refused its attributes, the shapes of its operands, or its data.
    #[error("{place}: {source}")]
    Op {
        /// The node: "node 3 (`add`, model.py:12)".
        place: String,
        /// What the op said.
        source: lumina_kernels::Error,
    },
    /// Arguments of a run that do not fit the inputs of the graph.
    #[error("{0}")]
    Input(String),
    /// The buffers would take more memory than allowed.
    #[error("these input shapes need {needed} bytes of buffers, the limit is {limit}")]
    Memory {
        /// Bytes that the run needs.
        needed: u128,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The loops of a run would make more trips than allowed.
    #[error("the loops of this run make more than {limit} trips together, the limit")]
    Trips {
        /// Trips that they may make.
        limit: u64,
    },
    /// The caller cancelled the run.
    #[error("the run was cancelled")]
    Cancelled,
    /// There is no room for a file, a tensor or a buffer.
    #[error("there is no memory for {bytes} bytes")]
    Allocation {
        /// Bytes that were asked for at once.
        bytes: u64,
    },
    /// A tensor whose data does not fit its shape or type.
    #[error("{0}")]
    Tensor(#[from] lumina_kernels::Error),
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        message: String,
    },
    /// There is nothing to verify.
    #[error("the file has no test vectors, so there is nothing to verify")]
    NoTestVectors,
    /// The file was written for no processor.
    #[error(
        "the file has no schedule, as it was exported for no device: name one when it is exported, \
         `export(..., profile=\"lumina_nano_v1\")`"
    )]
    NoSchedule,
}

impl Error {
    pub(crate) fn graph(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Graph { place: place.into(), message: message.into() }
    }

    /// The same fault, where what its place names lies in `outer`.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::Graph { place, message } => {
                Self::Graph { place: format!("{outer}: {place}"), message }
            }
            Self::Op { place, source } => Self::Op { place: format!("{outer}: {place}"), source },
            other => other,
        }
    }
}

/// Names for a message: "`a`, `b`", or "none".
pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
