//! `.lmn` files in the Python module: one is run before it is saved, and checked before it is read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use lumina_runtime::bench::Request;
use lumina_runtime::{Comparison, Error, Model, Options, ReportOptions, View};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::python::{Input, Output};
use crate::xla::panic_text;

/// How one output of a test vector compares: number of the vector, name of the output, largest
/// difference, and whether all of it is within the tolerances.
type Row = (usize, String, f64, bool);

/// Runs the test vectors of a file, whose bytes come in pieces, on the kernels of this module.
///
/// The GIL is released meanwhile. Raises ValueError where the runtime refuses the file, and
/// RuntimeError for an internal fault.
#[pyfunction]
#[pyo3(signature = (pieces, /))]
pub(crate) fn verify(py: Python<'_>, pieces: Vec<PyBuffer<u8>>) -> PyResult<Vec<Row>> {
    told("verify", || run(py, &pieces))
}

/// Makes every check of a file that the runtime makes when it loads one. The bytes are not copied.
///
/// The GIL is released meanwhile. Raises ValueError where the runtime refuses the file, and
/// RuntimeError for an internal fault.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(crate) fn check_model(py: Python<'_>, data: &[u8]) -> PyResult<()> {
    told("check_model", || py.detach(|| Model::check(data)).map_err(refused))
}

/// The page about a file, whose bytes come in pieces, that `lumina report` writes.
///
/// The GIL is released meanwhile. Raises ValueError where the runtime refuses the file, the entry point,
/// the symbols or the benchmark, and RuntimeError for an internal fault.
#[pyfunction]
#[pyo3(signature = (pieces, /, *, title, entry, symbols, bench))]
pub(crate) fn report(
    py: Python<'_>,
    pieces: Vec<PyBuffer<u8>>,
    title: String,
    entry: Option<String>,
    symbols: Vec<(String, u64)>,
    bench: Option<String>,
) -> PyResult<String> {
    told("report", || {
        py.detach(|| {
            let model = joined(&pieces)?;
            let entry = entry.map(|name| model.entry(Some(&name))).transpose().map_err(refused)?;
            let options =
                ReportOptions { title, entry, symbols, bench, ..ReportOptions::default() };
            lumina_runtime::report(&model, &options).map_err(refused)
        })
    })
}

/// Measures a file, whose bytes come in pieces: what `lumina bench` tells of it, as JSON and as text.
///
/// The GIL is released meanwhile, and signals are seen. Raises ValueError where the runtime refuses the
/// file or the request, RuntimeError for an internal fault, and what a handler of a signal raises.
#[pyfunction]
#[pyo3(signature = (pieces, /, *, entry, batch, symbols, seconds, nodes, threads, memory_limit=u64::MAX))]
#[expect(clippy::too_many_arguments, reason = "they are keywords")]
pub(crate) fn bench(
    py: Python<'_>,
    pieces: Vec<PyBuffer<u8>>,
    entry: Option<String>,
    batch: Option<u64>,
    symbols: Vec<(String, u64)>,
    seconds: f64,
    nodes: bool,
    threads: usize,
    memory_limit: u64,
) -> PyResult<(String, String)> {
    let options = Options { threads, memory_limit, ..Options::default() };
    let request = Request { entry, batch, symbols, seconds, nodes, options };
    told("bench", || {
        py.detach(|| {
            let model = Arc::new(joined(&pieces)?);
            let mut raised = None;
            let found = lumina_runtime::bench::bench(&model, &request, &mut |_| {
                raised = Python::attach(|py| py.check_signals()).err();
                raised.is_none()
            });
            match raised {
                Some(error) => Err(error),
                None => found
                    .map(|found| (found.to_json().to_string(), found.describe()))
                    .map_err(refused),
            }
        })
    })
}

/// What the processor of a file, whose bytes come in pieces, does in a call where its symbols have these
/// sizes: as JSON, and as text.
///
/// The GIL is released meanwhile. Raises ValueError where the runtime refuses the file or the sizes, and
/// RuntimeError for an internal fault.
#[pyfunction]
#[pyo3(signature = (pieces, symbols, /))]
pub(crate) fn schedule(
    py: Python<'_>,
    pieces: Vec<PyBuffer<u8>>,
    symbols: Vec<(String, u64)>,
) -> PyResult<(String, String)> {
    told("schedule", || {
        py.detach(|| {
            let schedule = joined(&pieces)?.schedule(&symbols).map_err(refused)?;
            Ok((schedule.to_json().to_string(), schedule.describe()))
        })
    })
}

/// A model that runs in this process, with threads and buffers of its own.
#[pyclass(frozen, module = "lumina_jax._lumina")]
pub(crate) struct Session(Mutex<lumina_runtime::Session>);

#[pymethods]
impl Session {
    /// Of the file whose bytes come in pieces. `threads` 0 is one per core.
    ///
    /// The GIL is released meanwhile. Raises ValueError where the runtime refuses the file, and
    /// RuntimeError for an internal fault.
    #[new]
    #[pyo3(signature = (pieces, /, *, threads=0, memory_limit=u64::MAX))]
    fn new(
        py: Python<'_>,
        pieces: Vec<PyBuffer<u8>>,
        threads: usize,
        memory_limit: u64,
    ) -> PyResult<Self> {
        told("Session", || {
            let session = py.detach(|| {
                let model = Arc::new(joined(&pieces)?);
                let options = Options { threads, memory_limit, ..Options::default() };
                lumina_runtime::Session::new(model, options).map_err(refused)
            })?;
            Ok(Self(Mutex::new(session)))
        })
    }

    /// The outputs of an entry point for these NumPy arrays, C-contiguous, in the order of the graph;
    /// calls wait for each other. Raises as the constructor does.
    #[pyo3(signature = (inputs, /, *, entry=0))]
    fn run(
        &self,
        py: Python<'_>,
        inputs: Vec<Bound<'_, PyAny>>,
        entry: usize,
    ) -> PyResult<Vec<Py<PyAny>>> {
        told("Session.run", || {
            let inputs: Vec<Input<'_>> = inputs
                .into_iter()
                .enumerate()
                .map(|(index, array)| Input::new(index, array, false))
                .collect::<PyResult<_>>()?;
            let views: Vec<View<'_>> = inputs.iter().map(Input::view).collect::<PyResult<_>>()?;
            self.locked(py, |session| {
                let outputs = session.run_entry(entry, &views).map_err(refused)?;
                Python::attach(|py| outputs.iter().map(|view| Output::copied(py, view)).collect())
            })
        })
    }

    /// A copy of the state of that name. Raises as the constructor does.
    #[pyo3(signature = (name, /))]
    fn state(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        told("Session.state", || {
            self.locked(py, |session| {
                let view = session.state(name).map_err(refused)?;
                Python::attach(|py| Output::copied(py, &view))
            })
        })
    }

    /// Gives the state of that name the value of an array, C-contiguous. Raises as the constructor does.
    #[pyo3(signature = (name, value, /))]
    fn set_state(&self, py: Python<'_>, name: &str, value: Bound<'_, PyAny>) -> PyResult<()> {
        told("Session.set_state", || {
            let value = Input::new(0, value, false)?;
            let view = value.view()?;
            self.locked(py, |session| session.set_state(name, &view).map_err(refused))
        })
    }

    /// Gives the states the values again that they have in a new session.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        told("Session.reset", || {
            self.locked(py, |session| {
                session.reset();
                Ok(())
            })
        })
    }
}

impl Session {
    /// What `task` returns, which has the session for itself.
    fn locked<T: Send>(
        &self,
        py: Python<'_>,
        task: impl FnOnce(&mut lumina_runtime::Session) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        // Whoever waits for the session does so without the GIL, which its owner takes.
        py.detach(|| task(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The names of the ops that a file may use.
#[pyfunction]
pub(crate) fn file_op_names() -> Vec<&'static str> {
    lumina_runtime::op_names().collect()
}

/// What `function` returns; a panic in it is an error.
fn told<T>(name: &str, function: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(PyRuntimeError::new_err(format!("{name}: internal fault: {text}")))
    })
}

/// What the runtime refuses, as Python says it.
fn refused(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn run(py: Python<'_>, pieces: &[PyBuffer<u8>]) -> PyResult<Vec<Row>> {
    let rows = py.detach(|| {
        let model = Arc::new(joined(pieces)?);
        lumina_runtime::verify(&model, Options::default()).map_err(refused)
    })?;
    let row = |row: Comparison| (row.vector, row.output, row.max_abs_diff, row.passed);
    Ok(rows.into_iter().map(row).collect())
}

/// The model in the joined pieces.
fn joined(pieces: &[PyBuffer<u8>]) -> PyResult<Model> {
    let length = pieces.iter().map(|piece| piece.item_count()).sum();
    let mut copied = Ok(());
    let model = Model::filled_by(length, |offset, bytes| {
        let done = copy(pieces, offset, bytes);
        copied = std::mem::replace(&mut copied, Ok(())).and(done);
    });
    copied?;
    model.map_err(refused)
}

/// `target` becomes the bytes of the joined pieces from `offset` on, read with the GIL.
fn copy(pieces: &[PyBuffer<u8>], mut offset: usize, target: &mut [u8]) -> PyResult<()> {
    Python::attach(|py| {
        let mut left = target;
        for piece in pieces {
            let length = piece.item_count();
            let skipped = offset.min(length);
            offset -= skipped;
            let (now, later) = left.split_at_mut((length - skipped).min(left.len()));
            if now.len() == length {
                piece.copy_to_slice(py, now)?;
            } else if !now.is_empty() {
                let whole = piece.to_vec(py)?;
                now.copy_from_slice(&whole[skipped..skipped + now.len()]);
            }
            left = later;
        }
        Ok(())
    })
}
