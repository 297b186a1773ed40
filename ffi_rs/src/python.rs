//! The Python module `lumina_jax._lumina`.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lumina_kernels::{
    Attr, DType, Data, DataMut, Error, Fact, FlushDenormals, OPS, ThreadPool, View, ViewMut,
    machine,
};
use lumina_runtime::bench::Bandwidth;
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::attrs::AttrList;
use crate::xla::{TARGETS, abi, panic_text};
#[cfg(debug_assertions)]
use crate::xla::{handler, probe::Probe};

#[pymodule]
mod _lumina {
    #[pymodule_export]
    use crate::file::{Session, bench, check_model, file_op_names, report, schedule, verify};

    #[pymodule_export]
    use super::{call, dtypes, machine_peak, op_names, read_bandwidth, registrations, version};

    /// What is looked up once is looked up now: a child that is forked meanwhile would wait for
    /// a thread that it does not have.
    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        #[cfg(debug_assertions)]
        super::add_oracles(module)?;
        super::numpy_types(module.py()).map(|_| ())
    }
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

/// The element types: name, name in NumPy, and number in `.lmn` files of each.
#[pyfunction]
fn dtypes() -> Vec<(&'static str, &'static str, u32)> {
    let row = |dtype: &DType| (dtype.name(), dtype.numpy_name(), dtype.file_number());
    DType::ALL.iter().map(row).collect()
}

/// Operations per second that so many threads reach together at most; ValueError where they have none of
/// these numbers: "float32", "bfloat16" or "int8".
#[pyfunction]
fn machine_peak(py: Python<'_>, numbers: &str, seconds: f64, threads: usize) -> PyResult<f64> {
    let (duration, pool) = (duration(seconds)?, pool_of(threads)?);
    py.detach(|| machine::peak(&pool, numbers, duration)).ok_or_else(|| {
        PyValueError::new_err(format!(
            "this CPU has no instructions for sums of {numbers} products"
        ))
    })
}

/// Bytes per second that so many threads together read from a buffer of that size, over and over; of no
/// more than lies beyond the caches.
#[pyfunction]
fn read_bandwidth(py: Python<'_>, bytes: usize, seconds: f64, threads: usize) -> PyResult<f64> {
    let (duration, pool) = (duration(seconds)?, pool_of(threads)?);
    Ok(py.detach(|| {
        let memory = Bandwidth::of_memory(&pool, duration);
        Bandwidth::of_working_set(&pool, bytes, memory, duration).rate
    }))
}

fn pool_of(threads: usize) -> PyResult<ThreadPool> {
    ThreadPool::new(threads).map_err(|error| {
        PyRuntimeError::new_err(format!("{threads} threads cannot be started: {error}"))
    })
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

/// Adds what tests of the edge to XLA ask for: structs and numbers of the mirror of its C API by their names in
/// C, and a handler that tells what it was called with.
#[cfg(debug_assertions)]
fn add_oracles(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let element_types = abi::DTYPE_NAMES
        .iter()
        .map(|(number, name)| (format!("XLA_FFI_DataType_{}", name.to_uppercase()), *number));
    let numbers = abi::NUMBERS.iter().map(|(name, number)| ((*name).to_owned(), *number));
    module.add("xla_layouts", abi::LAYOUTS.to_vec())?;
    module.add("xla_numbers", numbers.chain(element_types).collect::<Vec<_>>())?;
    module.add("xla_api_minor", abi::API_MINOR)?;
    module.add("xla_probe", capsule(module.py(), handler::<Probe>)?)
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
    let attrs: Vec<(String, Attribute)> =
        attrs.iter().map(|(name, value)| attribute(&name, &value)).collect::<PyResult<_>>()?;
    let attrs = attrs.iter().map(|(name, value)| (name.as_str(), value.borrow())).collect();
    let op = (entry.make)(&AttrList(attrs)).map_err(to_python)?;

    let strides = op.accepts_strides();
    let inputs: Vec<Input<'_>> = inputs
        .into_iter()
        .enumerate()
        .map(|(index, array)| Input::new(index, array, strides))
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
    py.detach(|| FlushDenormals::during(|| op.run(&views, &mut views_mut, &*pool)))
        .map_err(to_python)?;
    Ok(outputs.into_iter().map(|output| output.array.into_any()).collect())
}

/// One attribute of a call.
enum Attribute {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Ints(Vec<i64>),
}

impl Attribute {
    fn borrow(&self) -> Attr<'_> {
        match self {
            Self::Bool(value) => Attr::Bool(*value),
            Self::Int(value) => Attr::Int(*value),
            Self::Float(value) => Attr::Float(*value),
            Self::Str(value) => Attr::Str(value),
            Self::Ints(value) => Attr::Ints(value),
        }
    }
}

fn attribute(name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<(String, Attribute)> {
    let name: String = name.extract()?;
    // In this order: Python takes a bool for an integer, an integer for a float, and a string for
    // a sequence.
    let attribute = if let Ok(value) = value.extract() {
        Attribute::Bool(value)
    } else if let Ok(value) = value.extract() {
        Attribute::Int(value)
    } else if let Ok(value) = value.extract() {
        Attribute::Float(value)
    } else if let Ok(value) = value.extract() {
        Attribute::Str(value)
    } else if let Ok(value) = value.extract() {
        Attribute::Ints(value)
    } else {
        let got = value.get_type().name()?;
        let message = format!(
            "attribute `{name}` is a {got}, expected a bool, an int, a float, a str or a list of \
             ints"
        );
        return Err(PyTypeError::new_err(message));
    };
    Ok((name, attribute))
}

/// What a kernel refuses, as Python says it.
fn to_python(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::DType { .. } => PyTypeError::new_err(text),
        Error::Invalid { .. }
        | Error::Length { .. }
        | Error::NotRowMajor { .. }
        | Error::Strides { .. } => PyValueError::new_err(text),
    }
}

/// The thread pool of this process, made on first use.
///
/// Threads do not survive a fork, so a child process makes a pool of its own. The lock is held
/// only with the GIL, as a fork is: no child inherits it locked.
fn pool(_py: Python<'_>) -> PyResult<Arc<ThreadPool>> {
    static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let process = std::process::id();
    let mut slot = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = &*slot
        && *owner == process
    {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPool::new(0)
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start the threads: {error}")))?;
    // With the GIL, so that no child is forked before they are there.
    pool.wait_until_started();
    let pool = Arc::new(pool);
    // To drop the pool of the parent would be to talk to threads that are not there.
    std::mem::forget(slot.replace((process, Arc::clone(&pool))));
    Ok(pool)
}

/// An operand: an array, and its strides in elements.
pub(crate) struct Input<'py> {
    array: Bound<'py, PyUntypedArray>,
    dtype: DType,
    strides: Vec<isize>,
}

impl<'py> Input<'py> {
    pub(crate) fn new(
        index: usize,
        array: Bound<'py, PyAny>,
        accepts_strides: bool,
    ) -> PyResult<Self> {
        let Ok(array) = array.cast::<PyUntypedArray>() else {
            let got = array.get_type().name()?;
            let message = format!("input {index} is a {got}, expected a numpy.ndarray");
            return Err(PyTypeError::new_err(message));
        };
        let got = array.dtype();
        let Some(dtype) = numpy_types(array.py())?.find(&got) else {
            let expected: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            let expected = expected.join(", ");
            let message = format!("input {index} is of type {got}, expected one of {expected}");
            return Err(PyTypeError::new_err(message));
        };
        let size = dtype.size() as isize;
        let whole = array.strides().iter().all(|stride| stride % size == 0);
        if !array.is_aligned() || !(array.is_c_contiguous() || accepts_strides && whole) {
            let message = format!("input {index} must be C-contiguous and aligned");
            return Err(PyValueError::new_err(message));
        }
        let strides = array.strides().iter().map(|stride| stride / size).collect();
        Ok(Self { array: array.clone(), dtype, strides })
    }

    pub(crate) fn view(&self) -> PyResult<View<'_>> {
        let shape = self.array.shape();
        // How far the elements lie before and behind the first one.
        let reach = |sign: isize| -> usize {
            let axes = shape.iter().zip(&self.strides).filter(|(_, stride)| **stride * sign > 0);
            axes.map(|(&extent, stride)| (extent - 1) * stride.unsigned_abs()).sum()
        };
        let (below, len) = match self.array.len() {
            0 => (0, 0),
            _ => (reach(-1), reach(-1) + reach(1) + 1),
        };
        let first = first_element(&self.array).cast_const();
        // SAFETY: an array that is not empty holds every element that its strides reach, aligned,
        // as `new` checked. That nobody writes them meanwhile is the caller's part, as of all
        // functions of NumPy that release the GIL.
        let data =
            unsafe { Data::from_raw_parts(self.dtype, first.sub(below * self.dtype.size()), len) };
        View::strided(shape, &self.strides, below, data).map_err(to_python)
    }
}

/// A result: a new array.
pub(crate) struct Output<'py> {
    array: Bound<'py, PyUntypedArray>,
    dtype: DType,
}

impl<'py> Output<'py> {
    /// An array of any content: an op writes every element of its outputs.
    fn empty(py: Python<'py>, fact: &Fact) -> PyResult<Self> {
        let array = numpy_types(py)?.empty(py, fact)?;
        Ok(Self { array, dtype: fact.dtype })
    }

    /// A new array of the elements of `view`, which is row-major.
    pub(crate) fn copied(py: Python<'py>, view: &View<'_>) -> PyResult<Py<PyAny>> {
        let output = Self::empty(py, &view.fact())?;
        let bytes = view.bytes().map_err(to_python)?;
        // SAFETY: the array is new and so ours alone, and has room for as many elements of the type
        // as the view has.
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(first_element(&output.array), bytes.len()) };
        Ok(output.array.into_any().unbind())
    }

    fn view_mut<'a>(&'a mut self, shape: &'a [usize]) -> PyResult<ViewMut<'a>> {
        // SAFETY: the array is alive, new and so ours alone; `numpy.empty` made it row-major and
        // aligned, with as many elements as its shape says.
        let data = unsafe {
            DataMut::from_raw_parts(self.dtype, first_element(&self.array), self.array.len())
        };
        ViewMut::new(shape, data).map_err(to_python)
    }
}

fn first_element(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    // SAFETY: the array is alive, and its first fields are the same in every NumPy.
    unsafe { (*array.as_array_ptr()).fields.data.cast() }
}

/// NumPy's objects for our element types, looked up once.
struct NumpyTypes {
    /// Type, number in NumPy, and description, of the types that this NumPy has.
    known: Vec<(DType, c_int, Py<PyAny>)>,
    empty: Py<PyAny>,
}

impl NumpyTypes {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let numpy = py.import("numpy")?;
        // It gives NumPy the types that NumPy itself does not have.
        let _ = py.import("ml_dtypes");
        let describe = |&dtype: &DType| {
            let object = numpy.call_method1("dtype", (dtype.numpy_name(),)).ok()?;
            let number = object.cast::<PyArrayDescr>().ok()?.num();
            Some((dtype, number, object.unbind()))
        };
        Ok(Self {
            known: DType::ALL.iter().filter_map(describe).collect(),
            empty: numpy.getattr("empty")?.unbind(),
        })
    }

    /// The element type that an array of this description has.
    fn find(&self, descr: &Bound<'_, PyArrayDescr>) -> Option<DType> {
        let native = descr.is_native_byteorder() != Some(false);
        let by_number = self.known.iter().find(|(_, number, _)| native && *number == descr.num());
        // C has several integers of one size, each with a number of its own.
        let equal = |object: &Py<PyAny>| {
            object
                .bind(descr.py())
                .cast::<PyArrayDescr>()
                .is_ok_and(|known| known.is_equiv_to(descr))
        };
        by_number
            .or_else(|| self.known.iter().find(|(_, _, object)| equal(object)))
            .map(|&(dtype, ..)| dtype)
    }

    fn empty<'py>(&self, py: Python<'py>, fact: &Fact) -> PyResult<Bound<'py, PyUntypedArray>> {
        let Some((.., object)) = self.known.iter().find(|(dtype, ..)| *dtype == fact.dtype) else {
            let message =
                format!("this NumPy has no {}; install ml_dtypes", fact.dtype.numpy_name());
            return Err(PyTypeError::new_err(message));
        };
        let array = self.empty.bind(py).call1((fact.shape.as_slice(), object))?;
        Ok(array.cast_into::<PyUntypedArray>()?)
    }
}

fn numpy_types(py: Python<'_>) -> PyResult<&'static NumpyTypes> {
    static TYPES: PyOnceLock<NumpyTypes> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || NumpyTypes::new(py))
}
