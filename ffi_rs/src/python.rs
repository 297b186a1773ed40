//! The Python module `lumina_jax._lumina`.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lumina_kernels::{
    Attr, Complex32, DType, Data, DataMut, Error, Fact, OPS, RayonPool, View, ViewMut, machine,
};
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::attrs::AttrList;
use crate::xla::{TARGETS, abi, panic_text};

#[pymodule]
mod _lumina {
    #[pymodule_export]
    use super::{call, machine_peak, op_names, read_bandwidth, registrations, version};
}

/// The version of this build.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The names of the ops.
#[pyfunction]
fn op_names() -> Vec<&'static str> {
    OPS.iter().map(|entry| entry.name).collect()
}

/// Operations per second that the calling thread reaches at most; ValueError where it has none of
/// these numbers: "float32", "bfloat16" or "int8".
#[pyfunction]
fn machine_peak(py: Python<'_>, numbers: &str, seconds: f64) -> PyResult<f64> {
    let duration = duration(seconds)?;
    py.detach(|| machine::peak(numbers, duration)).ok_or_else(|| {
        PyValueError::new_err(format!(
            "this CPU has no instructions for sums of {numbers} products"
        ))
    })
}

/// Bytes per second that the calling thread reads from a buffer of that size.
#[pyfunction]
fn read_bandwidth(py: Python<'_>, bytes: usize, seconds: f64) -> PyResult<f64> {
    let duration = duration(seconds)?;
    Ok(py.detach(|| machine::read_bandwidth(bytes, duration)))
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("`seconds` is {seconds}: {error}")))
}

/// Name and handler of every XLA target, for `jax.ffi.register_ffi_target`.
#[pyfunction]
fn registrations(py: Python<'_>) -> PyResult<Vec<(String, Bound<'_, PyAny>)>> {
    TARGETS
        .iter()
        .map(|target| Ok((format!("lumina.{}.v1", target.op), capsule(py, target.handler)?)))
        .collect()
}

/// A capsule around the function itself: XLA takes the pointer in it for the handler.
fn capsule(py: Python<'_>, handler: abi::Handler) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a function pointer is not null and lives as long as the process; there is nothing
    // to free and no name to keep alive.
    unsafe {
        let pointer = handler as *mut c_void;
        Bound::from_owned_ptr_or_err(py, pyo3::ffi::PyCapsule_New(pointer, null(), None))
    }
}

/// Runs the op of that name on NumPy arrays, which must be C-contiguous and are not copied.
///
/// The GIL is released meanwhile. Raises ValueError for what the op refuses, TypeError for an
/// argument of the wrong type, RuntimeError for an internal fault.
#[pyfunction]
#[pyo3(signature = (op, attrs, inputs, /))]
fn call<'py>(
    py: Python<'py>,
    op: &str,
    attrs: &Bound<'py, PyDict>,
    inputs: Vec<Bound<'py, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    catch_unwind(AssertUnwindSafe(|| run(py, op, attrs, inputs))).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(PyRuntimeError::new_err(format!("{op}: internal fault: {text}")))
    })
}

fn run<'py>(
    py: Python<'py>,
    op: &str,
    attrs: &Bound<'py, PyDict>,
    inputs: Vec<Bound<'py, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let Some(entry) = OPS.iter().find(|entry| entry.name == op) else {
        let names = op_names().join(", ");
        return Err(PyValueError::new_err(format!("`op` is {op:?}, expected one of {names}")));
    };
    let attrs: Vec<_> = attrs.iter().collect();
    let attrs = attrs.iter().map(|(name, value)| attribute(name, value));
    let op = (entry.make)(&AttrList(attrs.collect::<PyResult<_>>()?)).map_err(to_python)?;

    let inputs: Vec<Input<'_>> = inputs
        .into_iter()
        .enumerate()
        .map(|(index, array)| Input::new(index, array))
        .collect::<PyResult<_>>()?;
    let views: Vec<View<'_>> = inputs.iter().map(Input::view).collect::<PyResult<_>>()?;
    let facts: Vec<Fact> = views.iter().map(View::fact).collect();
    let facts = op.output_shapes(&facts).map_err(to_python)?;
    let mut outputs: Vec<Output<'_>> =
        facts.iter().map(|fact| Output::empty(py, fact)).collect::<PyResult<_>>()?;
    let mut views_mut: Vec<ViewMut<'_>> = outputs
        .iter_mut()
        .zip(&facts)
        .map(|(output, fact)| output.view_mut(&fact.shape))
        .collect::<PyResult<_>>()?;

    let pool = pool(py)?;
    py.detach(|| pool.install(|| op.run(&views, &mut views_mut, &*pool))).map_err(to_python)?;
    outputs.into_iter().map(Output::into_array).collect()
}

fn attribute<'a>(
    name: &Bound<'_, PyAny>,
    value: &'a Bound<'_, PyAny>,
) -> PyResult<(String, Attr<'a>)> {
    let name: String = name.extract()?;
    // In this order: Python takes a bool for an integer, and an integer for a float.
    let attr = if let Ok(value) = value.extract() {
        Attr::Bool(value)
    } else if let Ok(value) = value.extract() {
        Attr::Int(value)
    } else if let Ok(value) = value.extract() {
        Attr::Float(value)
    } else if let Ok(value) = value.cast::<PyString>() {
        Attr::Str(value.to_str()?)
    } else {
        let got = value.get_type().name()?;
        let message =
            format!("attribute `{name}` is a {got}, expected a bool, an int, a float or a str");
        return Err(PyTypeError::new_err(message));
    };
    Ok((name, attr))
}

/// What a kernel refuses, as Python says it.
fn to_python(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::DType { .. } => PyTypeError::new_err(text),
        Error::Invalid { .. } | Error::Length { .. } => PyValueError::new_err(text),
    }
}

/// The thread pool of this process, made on first use.
///
/// Threads do not survive a fork, so a child process makes a pool of its own. The lock is held
/// only with the GIL, as a fork is: no child inherits it locked.
fn pool(_py: Python<'_>) -> PyResult<Arc<RayonPool>> {
    static POOL: Mutex<Option<(u32, Arc<RayonPool>)>> = Mutex::new(None);
    let process = std::process::id();
    let mut slot = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = &*slot
        && *owner == process
    {
        return Ok(Arc::clone(pool));
    }
    let pool = RayonPool::new(0)
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start the threads: {error}")))?;
    let pool = Arc::new(pool);
    // To drop the pool of the parent would be to talk to threads that are not there.
    std::mem::forget(slot.replace((process, Arc::clone(&pool))));
    Ok(pool)
}

/// One enum per role, with a variant per element type. Truth values are handled as the bytes they
/// are, through `ndarray.view`.
macro_rules! arrays {
    ($($variant:ident: $element:ty, $tag:ty, $numpy:literal;)*) => {
        enum Input<'py> {
            $($variant(PyReadonlyArrayDyn<'py, $element>),)*
        }

        enum Output<'py> {
            $($variant(PyReadwriteArrayDyn<'py, $element>),)*
        }

        impl<'py> Input<'py> {
            fn new(index: usize, array: Bound<'py, PyAny>) -> PyResult<Self> {
                let py = array.py();
                let Ok(untyped) = array.cast::<PyUntypedArray>() else {
                    let got = array.get_type().name()?;
                    let message = format!("input {index} is a {got}, expected a numpy.ndarray");
                    return Err(PyTypeError::new_err(message));
                };
                if !untyped.is_c_contiguous() || !untyped.is_aligned() {
                    let message = format!("input {index} must be C-contiguous and aligned");
                    return Err(PyValueError::new_err(message));
                }
                let got = untyped.dtype();
                $(if got.is_equiv_to(&dtype::<$tag>(py)) {
                    let array = match DType::$variant {
                        DType::Bool => array.call_method1("view", ($numpy,))?,
                        _ => array,
                    };
                    return Ok(Self::$variant(array.cast::<PyArrayDyn<$element>>()?.try_readonly()?));
                })*
                let expected = [$(DType::$variant.to_string()),*].join(", ");
                let message = format!("input {index} is of type {got}, expected one of {expected}");
                Err(PyTypeError::new_err(message))
            }

            fn view(&self) -> PyResult<View<'_>> {
                match self {
                    $(Self::$variant(array) => {
                        View::new(array.shape(), Data::$variant(array.as_slice()?))
                            .map_err(to_python)
                    })*
                }
            }
        }

        impl<'py> Output<'py> {
            /// An array of any content: an op writes every element of its outputs.
            fn empty(py: Python<'py>, fact: &Fact) -> PyResult<Self> {
                match fact.dtype {
                    $(DType::$variant => {
                        let shape = fact.shape.as_slice();
                        let array = py.import("numpy")?.call_method1("empty", (shape, $numpy))?;
                        let array = array.cast_into::<PyArrayDyn<$element>>()?;
                        Ok(Self::$variant(array.try_readwrite()?))
                    })*
                }
            }

            fn view_mut<'a>(&'a mut self, shape: &'a [usize]) -> PyResult<ViewMut<'a>> {
                match self {
                    $(Self::$variant(array) => {
                        ViewMut::new(shape, DataMut::$variant(array.as_slice_mut()?))
                            .map_err(to_python)
                    })*
                }
            }

            fn into_array(self) -> PyResult<Bound<'py, PyAny>> {
                match self {
                    $(Self::$variant(array) => match DType::$variant {
                        DType::Bool => array.as_any().call_method1("view", ("bool",)),
                        _ => Ok(array.as_any().clone()),
                    })*
                }
            }
        }
    };
}

arrays! {
    F32: f32, f32, "float32";
    C64: Complex32, Complex32, "complex64";
    U32: u32, u32, "uint32";
    I32: i32, i32, "int32";
    I8: i8, i8, "int8";
    Bool: u8, bool, "uint8";
}
