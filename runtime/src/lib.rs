//! Loads a `.lmn` file, checks all of it once, plans its buffers and runs it: no Python, no unsafe
//! code, and the optical ops are the kernels that training ran, to the bit.
//!
//! ```no_run
//! use std::sync::Arc;
//! use lumina_runtime::{Model, Options, Session, Tensor};
//!
//! let model = Arc::new(Model::load("m.lmn")?);
//! let mut session = Session::new(model, Options::default())?;
//! let x = Tensor::new(&[1, 3], &[0.1f32, 0.2, 0.3])?;
//! let outputs = session.run(&[x.view()])?;
//! println!("{:?}", outputs[0].data::<f32>()?);
//! # Ok::<(), lumina_runtime::Error>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the tensors of a .lmn file are little endian and used in place");

/// The code in the document runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/rust.md")]
mod document {}

#[cfg(test)]
extern crate self as lumina_runtime;

mod attrs;
mod batch;
pub mod bench;
mod bind;
mod bytes;
#[cfg(feature = "report")]
mod chain;
mod checksum;
mod codes;
mod container;
mod control;
mod decode;
#[cfg(feature = "report")]
mod diff;
mod error;
mod execute;
mod extents;
mod infer;
mod inspect;
mod ir;
mod kept;
mod memory;
mod model;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod operator;
mod ops;
mod plan;
mod profile;
#[cfg(feature = "report")]
mod report;
mod schedule;
mod session;
mod stored;
mod tensor;
#[cfg(test)]
mod tests;
mod upgrade;
mod validate;
mod vectors;
mod verify;
#[cfg(feature = "report")]
mod weights;

pub use batch::Batch;
pub use container::{Checksums, Section, SectionKind};
#[cfg(feature = "report")]
pub use diff::{Diff, diff};
pub use error::Error;
pub use inspect::printable;
pub use ir::{Device, Order, Port, Role};
pub use lumina_kernels::{Bool, Complex32, DType, Data, Element, Fact, View};
pub use model::{LoadTimes, Model, op_names};
#[doc(hidden)]
pub use ops::{Convert, Number, fold_in};
#[cfg(feature = "report")]
pub use report::{ReportOptions, report};
pub use schedule::{
    BusCrosstalk, Converter, Cost, Energy, EntrySchedule, FullScale, Layer, Pass, Schedule,
};
pub use session::{CancelHandle, MAX_THREADS, Options, Session};
pub use tensor::{MAX_RANK, Tensor};
pub use verify::{Comparison, verify};
