//! The handler against frames made by hand: good ones, hostile ones, and thread pools that help
//! early, late, never, or refuse.

mod client;

use std::ffi::{c_char, c_uint, c_void};
use std::mem::size_of;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lumina_kernels::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

use super::pool::XlaPool;
use super::{TARGETS, abi, handler};
use client::{Mode, Pool, api};

/// `y = factor * x`, one chunk per element; panics where x is negative.
struct Scale(f32);

impl Op for Scale {
    const NAME: &'static str = "scale";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self(attrs.int(Self::NAME, "factor")? as f32))
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Ok(inputs[..1].to_vec())
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let x: &[f32] = inputs[0].data()?;
        let y = Mutex::new(outputs[0].data_mut::<f32>()?);
        pool.run(x.len(), &|chunk, worker| {
            assert!(worker < pool.width());
            assert!(x[chunk] >= 0.0, "x[{chunk}] is negative");
            y.lock().unwrap()[chunk] = self.0 * x[chunk];
        });
        Ok(())
    }
}

/// A call frame with all that it points to.
struct Frame {
    dims: Vec<i64>,
    x: Vec<f32>,
    y: Vec<f32>,
    buffers: [abi::Buffer; 2],
    pointers: [*mut c_void; 2],
    kinds: [c_uint; 2],
    name: abi::ByteSpan,
    names: [*mut abi::ByteSpan; 1],
    factor: i32,
    scalar: abi::Scalar,
    scalars: [*mut c_void; 1],
    attr_kinds: [c_uint; 1],
    text: abi::ByteSpan,
    numbers: Vec<i64>,
    list: abi::Array,
    pool: Pool,
    api: abi::Api,
    frame: abi::CallFrame,
}

impl Frame {
    fn new(x: &[f32], pool: Pool) -> Box<Self> {
        let buffer = || abi::Buffer {
            struct_size: size_of::<abi::Buffer>(),
            extension_start: null_mut(),
            dtype: abi::DTYPE_F32,
            data: null_mut(),
            rank: 1,
            dims: null_mut(),
        };
        let args = || abi::Args {
            struct_size: size_of::<abi::Args>(),
            extension_start: null_mut(),
            size: 1,
            types: null_mut(),
            args: null_mut(),
        };
        let attrs = abi::Attrs {
            struct_size: size_of::<abi::Attrs>(),
            extension_start: null_mut(),
            size: 1,
            types: null_mut(),
            names: null_mut(),
            attrs: null_mut(),
        };
        let mut this = Box::new(Self {
            dims: vec![x.len() as i64],
            x: x.to_vec(),
            y: vec![0.0; x.len()],
            buffers: [buffer(), buffer()],
            pointers: [null_mut(); 2],
            kinds: [abi::ARG_BUFFER; 2],
            name: abi::ByteSpan { ptr: c"factor".as_ptr(), len: 6 },
            names: [null_mut()],
            factor: 3,
            scalar: abi::Scalar { dtype: abi::DTYPE_S32, value: null_mut() },
            scalars: [null_mut()],
            attr_kinds: [abi::ATTR_SCALAR],
            text: abi::ByteSpan { ptr: null(), len: 0 },
            numbers: Vec::new(),
            list: abi::Array { dtype: abi::DTYPE_S64, size: 0, data: null_mut() },
            pool,
            api: api(),
            frame: abi::CallFrame {
                struct_size: size_of::<abi::CallFrame>(),
                extension_start: null_mut(),
                api: null(),
                ctx: null_mut(),
                stage: abi::STAGE_EXECUTE,
                args: args(),
                rets: args(),
                attrs,
            },
        });
        let this_ref = &mut *this;
        for (index, data) in [&mut this_ref.x, &mut this_ref.y].into_iter().enumerate() {
            this_ref.buffers[index].data = data.as_mut_ptr().cast();
            this_ref.buffers[index].dims = this_ref.dims.as_mut_ptr();
            this_ref.pointers[index] = (&raw mut this_ref.buffers[index]).cast();
        }
        this_ref.names[0] = &raw mut this_ref.name;
        this_ref.scalar.value = (&raw mut this_ref.factor).cast();
        this_ref.scalars[0] = (&raw mut this_ref.scalar).cast();
        let frame = &mut this_ref.frame;
        frame.api = &raw const this_ref.api;
        frame.ctx = (&raw mut this_ref.pool).cast();
        frame.args.types = &raw mut this_ref.kinds[0];
        frame.args.args = &raw mut this_ref.pointers[0];
        frame.rets.types = &raw mut this_ref.kinds[1];
        frame.rets.args = &raw mut this_ref.pointers[1];
        frame.attrs.types = &raw mut this_ref.attr_kinds[0];
        frame.attrs.names = &raw mut this_ref.names[0];
        frame.attrs.attrs = &raw mut this_ref.scalars[0];
        this
    }

    /// Makes the attribute a string.
    fn set_text(&mut self, ptr: *const c_char, len: usize) {
        self.text = abi::ByteSpan { ptr, len };
        self.attr_kinds[0] = abi::ATTR_STRING;
        self.scalars[0] = (&raw mut self.text).cast();
    }

    /// Makes the attribute a list of integers.
    fn set_list(&mut self, numbers: &[i64]) {
        self.numbers = numbers.to_vec();
        self.list.size = numbers.len();
        self.list.data = self.numbers.as_mut_ptr().cast();
        self.attr_kinds[0] = abi::ATTR_ARRAY;
        self.scalars[0] = (&raw mut self.list).cast();
    }

    /// Calls the handler: the result, or status code and text.
    fn call(&mut self) -> Result<Vec<f32>, (c_uint, String)> {
        // SAFETY: the frame is as bad as its test made it, and no worse than a check can see.
        let error = unsafe { handler::<Scale>(&raw mut self.frame) };
        if error.is_null() {
            return Ok(self.y.clone());
        }
        // SAFETY: made by `error_create` below.
        let error = unsafe { Box::from_raw(error.cast::<(c_uint, String)>()) };
        Err(*error)
    }
}

#[test]
fn every_op_has_a_handler() {
    let names: Vec<_> = lumina_kernels::OPS.iter().map(|entry| entry.name).collect();
    assert_eq!(TARGETS.iter().map(|target| target.op).collect::<Vec<_>>(), names);
}

#[test]
fn a_good_frame_is_computed_on_any_pool() {
    let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
    let expected: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
    for mode in [Mode::NoPool, Mode::Refuse, Mode::Inline, Mode::Threads, Mode::Keep] {
        for threads in [-1, 0, 1, 2, 7] {
            let mut frame = Frame::new(&x, Pool::new(mode, threads));
            assert_eq!(frame.call().unwrap(), expected);
            frame.pool.run_kept();
            assert_eq!(frame.y, expected);
        }
    }
}

#[test]
fn empty_buffers_may_have_any_pointer() {
    for pointer in [null_mut(), without_provenance_mut(1)] {
        let mut frame = Frame::new(&[], Pool::new(Mode::Threads, 2));
        frame.buffers[0].data = pointer;
        frame.buffers[1].data = pointer;
        assert!(frame.call().unwrap().is_empty());
    }
}

#[test]
fn attributes_of_every_type_are_read() {
    // Of so many bits that no narrower type holds them.
    let (mut s64, mut f64, mut pred) = (1_i64 << 40 | 1 << 20, 0.1_f64, 1_u8);
    let wrong = |got: &str| {
        let text = format!("scale: attribute `factor` must be an integer, got {got}");
        Err((abi::ERROR_INVALID_ARGUMENT, text))
    };
    let cases: [(c_uint, *mut c_void, _); 3] = [
        (abi::DTYPE_S64, (&raw mut s64).cast(), Ok(vec![(s64 * 2) as f32])),
        (abi::DTYPE_F64, (&raw mut f64).cast(), wrong("Float(0.1)")),
        (abi::DTYPE_PRED, (&raw mut pred).cast(), wrong("Bool(true)")),
    ];
    for (dtype, value, expected) in cases {
        let mut frame = Frame::new(&[2.0], Pool::new(Mode::NoPool, 1));
        frame.scalar = abi::Scalar { dtype, value };
        assert_eq!(frame.call(), expected);
    }
}

/// XLA calls signed integers and truth values otherwise than we do.
#[test]
fn an_unknown_element_type_is_refused_with_those_that_are_known() {
    let of_xla = |number| DType::ALL.iter().find(|&&t| DType::from_xla_number(number) == Some(t));
    let name = |dtype: &DType| match dtype {
        DType::Bool => "pred".to_string(),
        other => other.name().replacen('i', "s", 1),
    };
    let known: Vec<String> = (0..64).filter_map(of_xla).map(name).collect();
    assert_eq!(known.len(), DType::ALL.len());
    for (number, got) in [(17, "token"), (77, "number 77")] {
        let mut frame = Frame::new(&[1.0, 2.0], Pool::new(Mode::Threads, 2));
        frame.buffers[0].dtype = number;
        let text =
            format!("scale: operand 0 is of type {got}, expected one of {}", known.join(", "));
        assert_eq!(frame.call(), Err((abi::ERROR_INVALID_ARGUMENT, text)));
    }
}

#[test]
fn a_hostile_frame_is_an_error() {
    type Spoil = fn(&mut Frame);
    let cases: &[(Spoil, &str)] = &[
        (|f| f.frame.stage = 1, "called in stage 1, expected 3"),
        (|f| f.frame.args.size = -1, "the types of each operand has length -1"),
        (|f| f.frame.args.types = null_mut(), "the types of each operand is a bad pointer"),
        (|f| f.frame.rets.args = null_mut(), "the list of each result is a bad pointer"),
        (|f| f.kinds[0] = 9, "operand 0 is of kind 9, expected a buffer"),
        (|f| f.pointers[1] = null_mut(), "result 0 is null"),
        (|f| f.buffers[1].dtype = abi::DTYPE_S32, "result 0 is i32[2], expected f32[2]"),
        (|f| f.buffers[0].rank = -2, "the shape of operand 0 has length -2"),
        (|f| f.buffers[0].dims = null_mut(), "the shape of operand 0 is a bad pointer"),
        (|f| f.buffers[1].rank = 0, "result 0 is f32[], expected f32[2]"),
        (|f| f.dims[0] = -2, "operand 0 has shape [-2], expected no negative extent"),
        (
            |f| f.dims[0] = i64::MAX,
            "operand 0 has shape [9223372036854775807], which no memory can hold",
        ),
        (|f| f.buffers[0].data = null_mut(), "operand 0 has no data"),
        (
            |f| f.buffers[0].data = f.buffers[0].data.wrapping_byte_add(1),
            "operand 0 is not aligned to its elements",
        ),
        (
            |f| f.buffers[1].data = f.buffers[0].data,
            "result 0 shares memory with operand 0, expected buffers of its own (no aliasing)",
        ),
        (|f| f.frame.rets.size = 0, "got 0 results, expected 1"),
        (|f| f.frame.attrs.size = 0, "attribute `factor` is missing, expected an integer"),
        (|f| f.frame.attrs.names = null_mut(), "the names of the attributes is a bad pointer"),
        (|f| f.names[0] = null_mut(), "the name of an attribute is null"),
        (|f| f.name.ptr = null(), "the name of an attribute is a bad pointer"),
        (|f| f.name.ptr = c"fact\xffr".as_ptr(), "attribute `fact\\xffr` is not named in UTF-8"),
        (
            |f| f.attr_kinds[0] = 2,
            "attribute `factor` is of kind 2, expected an array, a scalar or a string",
        ),
        (|f| f.set_list(&[]), "attribute `factor` must be an integer, got Ints([])"),
        (|f| f.set_list(&[3, -1]), "attribute `factor` must be an integer, got Ints([3, -1])"),
        (
            |f| {
                f.set_list(&[3]);
                f.list.dtype = abi::DTYPE_F64;
            },
            "attribute `factor` is a list of f64, expected a list of s64",
        ),
        (
            |f| {
                f.set_list(&[3]);
                f.list.data = null_mut();
            },
            "attribute `factor` is a bad pointer",
        ),
        (
            |f| {
                f.set_list(&[3]);
                f.list.size = usize::MAX;
            },
            "attribute `factor` has length -1",
        ),
        (
            |f| f.set_text(c"three".as_ptr(), 5),
            "attribute `factor` must be an integer, got Str(\"three\")",
        ),
        (|f| f.set_text(c"thr\xff".as_ptr(), 4), "attribute `factor` is not UTF-8"),
        (|f| f.set_text(null(), 5), "the text of attribute `factor` is a bad pointer"),
        (|f| f.scalars[0] = null_mut(), "attribute `factor` is null"),
        (|f| f.scalar.value = null_mut(), "attribute `factor` is null"),
        (
            |f| f.scalar.dtype = 8,
            "attribute `factor` is of type u32, expected pred, s32, s64, f32 or f64",
        ),
    ];
    for (spoil, expected) in cases {
        let mut frame = Frame::new(&[1.0, 2.0], Pool::new(Mode::Threads, 2));
        spoil(&mut frame);
        let expected = (abi::ERROR_INVALID_ARGUMENT, format!("scale: {expected}"));
        assert_eq!(frame.call(), Err(expected));
    }
}

#[test]
fn a_panic_is_an_internal_error_whoever_panics() {
    for mode in [Mode::NoPool, Mode::Inline, Mode::Threads, Mode::Keep] {
        for index in 0..8 {
            let mut x = [1.0; 8];
            x[index] = -1.0;
            let mut frame = Frame::new(&x, Pool::new(mode, 3));
            let expected = format!("scale: internal fault: x[{index}] is negative");
            assert_eq!(frame.call(), Err((abi::ERROR_INTERNAL, expected)));
            frame.pool.run_kept();
        }
    }
}

#[test]
fn metadata_claims_no_later_version_than_the_api() {
    for (minor, struct_size, claimed, type_id) in
        [(None, 36, 1, -1), (Some(0), 36, 0, -1), (Some(2), 48, 2, 0), (Some(9), 56, 3, 0)]
    {
        let mut frame = Frame::new(&[], Pool::new(Mode::NoPool, 1));
        let mut metadata = abi::Metadata {
            struct_size,
            api_version: abi::ApiVersion {
                struct_size: size_of::<abi::ApiVersion>(),
                extension_start: null_mut(),
                major_version: -1,
                minor_version: -1,
            },
            traits: 7,
            state_type_id: abi::TypeId { type_id: -1 },
        };
        let mut extension = abi::MetadataExtension {
            extension_base: abi::ExtensionBase {
                struct_size: size_of::<abi::MetadataExtension>(),
                kind: abi::EXTENSION_METADATA,
                next: null_mut(),
            },
            metadata: &raw mut metadata,
        };
        match minor {
            Some(minor) => frame.api.api_version.minor_version = minor,
            None => frame.frame.api = null(),
        }
        frame.frame.extension_start = (&raw mut extension).cast();
        assert!(frame.call().unwrap().is_empty());
        assert_eq!(metadata.api_version.major_version, 0);
        assert_eq!(metadata.api_version.minor_version, claimed);
        assert_eq!(metadata.traits, 0);
        assert_eq!(metadata.state_type_id.type_id, type_id);
    }
}

#[test]
fn workers_are_unique_at_any_time_and_every_chunk_runs_once() {
    let frame = Frame::new(&[], Pool::new(Mode::Threads, 5));
    // SAFETY: the frame outlives the pool.
    let pool = unsafe { XlaPool::new(frame.frame.api, frame.frame.ctx) };
    let busy: Vec<AtomicUsize> = (0..pool.width()).map(|_| AtomicUsize::new(0)).collect();
    let runs: Vec<AtomicUsize> = (0..200).map(|_| AtomicUsize::new(0)).collect();
    pool.run(runs.len(), &|chunk, worker| {
        assert_eq!(busy[worker].fetch_add(1, Ordering::SeqCst), 0);
        thread::sleep(Duration::from_micros(50));
        runs[chunk].fetch_add(1, Ordering::SeqCst);
        busy[worker].fetch_sub(1, Ordering::SeqCst);
    });
    assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
}

#[test]
fn an_api_without_a_thread_pool_is_serial() {
    let mut frame = Frame::new(&[1.0, 2.0], Pool::new(Mode::Threads, 4));
    frame.api.struct_size = 136;
    // SAFETY: the frame outlives the pool.
    assert_eq!(unsafe { XlaPool::new(frame.frame.api, frame.frame.ctx) }.width(), 1);
    assert_eq!(frame.call().unwrap(), [3.0, 6.0]);
}
