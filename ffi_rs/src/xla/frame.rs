//! A call frame as views and attributes. Whatever the frame holds, the answer is views that are
//! safe to use or an error that says what is wrong.
//!
//! What no check can see is trusted to XLA: a pointer that is not null points to as much as the
//! ABI says, and a result is written by nobody else during the call.

use std::ffi::{c_uint, c_void};
use std::fmt;
use std::mem::size_of;
use std::ops::Range;
use std::slice;

use lumina_kernels::{Attr, DType, Data, DataMut, Error, View, ViewMut};

use super::abi;
use crate::attrs::AttrList;

/// What a call computes on.
pub(super) struct Call<'a> {
    pub(super) inputs: Vec<View<'a>>,
    pub(super) outputs: Vec<ViewMut<'a>>,
    pub(super) attrs: AttrList<'a, &'a str>,
}

/// Reads the frame of a call of `op`.
///
/// # Safety
/// `frame` points to a call frame that XLA made, and what it points to outlives `'a`.
pub(super) unsafe fn decode<'a>(
    op: &'static str,
    frame: *const abi::CallFrame,
) -> Result<Call<'a>, Error> {
    let fail = |message: String| Error::invalid(op, message);
    // SAFETY: the caller vouches for the frame.
    let (stage, args, rets, attrs) =
        unsafe { ((*frame).stage, &(*frame).args, &(*frame).rets, &(*frame).attrs) };
    if stage != abi::STAGE_EXECUTE {
        return Err(fail(format!("called in stage {stage}, expected {}", abi::STAGE_EXECUTE)));
    }
    // SAFETY: as above, for what the frame points to.
    let (operands, results) = unsafe { (buffers(args, "operand"), buffers(rets, "result")) };
    let (operands, results) = (operands.map_err(fail)?, results.map_err(fail)?);
    check_overlaps(&operands, &results).map_err(fail)?;
    Ok(Call {
        // SAFETY: the buffers were checked one by one; the caller vouches for `'a`.
        inputs: operands.iter().map(|buffer| unsafe { buffer.view() }).collect::<Result<_, _>>()?,
        outputs: results
            .iter()
            // SAFETY: as above, and no result overlaps any other buffer.
            .map(|buffer| unsafe { buffer.view_mut() })
            .collect::<Result<_, _>>()?,
        // SAFETY: the caller vouches for the frame.
        attrs: unsafe { attributes(attrs) }.map_err(fail)?,
    })
}

/// Which buffer: "operand 3".
#[derive(Clone, Copy)]
struct Name {
    role: &'static str,
    index: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.index)
    }
}

/// A buffer whose fields have been checked.
struct Buffer<'a> {
    name: Name,
    dtype: DType,
    shape: &'a [usize],
    len: usize,
    data: *mut c_void,
}

/// # Safety
/// As [`decode`].
unsafe fn buffers<'a>(args: &abi::Args, role: &'static str) -> Result<Vec<Buffer<'a>>, String> {
    // SAFETY: the two arrays have `size` entries, says the ABI.
    let (types, pointers) = unsafe {
        (
            array(args.types, args.size, || format!("the types of each {role}"))?,
            array(args.args, args.size, || format!("the list of each {role}"))?,
        )
    };
    let mut buffers = Vec::with_capacity(types.len());
    for (index, (&kind, &pointer)) in types.iter().zip(pointers).enumerate() {
        let name = Name { role, index };
        if kind != abi::ARG_BUFFER {
            return Err(format!("{name} is of kind {kind}, expected a buffer"));
        }
        // SAFETY: the kind says what it points to.
        buffers.push(unsafe { Buffer::new(name, pointer.cast::<abi::Buffer>()) }?);
    }
    Ok(buffers)
}

impl<'a> Buffer<'a> {
    /// # Safety
    /// As [`decode`], for one buffer.
    unsafe fn new(name: Name, buffer: *const abi::Buffer) -> Result<Self, String> {
        // SAFETY: null or a buffer.
        let Some(buffer) = (unsafe { buffer.as_ref() }) else {
            return Err(format!("{name} is null"));
        };
        let Some(dtype) = DType::from_xla_number(buffer.dtype) else {
            let known =
                abi::DTYPE_NAMES.iter().filter(|(n, _)| DType::from_xla_number(*n).is_some());
            let known: Vec<&str> = known.map(|&(_, name)| name).collect();
            let (got, known) = (dtype_name(buffer.dtype), known.join(", "));
            return Err(format!("{name} is of type {got}, expected one of {known}"));
        };
        // SAFETY: `dims` has `rank` entries, says the ABI.
        let dims = unsafe { array(buffer.dims, buffer.rank, || format!("the shape of {name}")) }?;
        if dims.iter().any(|&extent| extent < 0) {
            return Err(format!("{name} has shape {dims:?}, expected no negative extent"));
        }
        const { assert!(size_of::<usize>() == size_of::<i64>()) };
        // SAFETY: i64 and usize have one layout, and none of the extents is negative.
        let shape = unsafe { slice::from_raw_parts(dims.as_ptr().cast::<usize>(), dims.len()) };
        let len = if shape.contains(&0) {
            0
        } else {
            shape
                .iter()
                .try_fold(1usize, |product, &extent| product.checked_mul(extent))
                .filter(|len| {
                    len.checked_mul(dtype.size()).is_some_and(|n| isize::try_from(n).is_ok())
                })
                .ok_or_else(|| format!("{name} has shape {dims:?}, which no memory can hold"))?
        };
        if len > 0 && buffer.data.is_null() {
            return Err(format!("{name} has no data"));
        }
        if len > 0 && !buffer.data.addr().is_multiple_of(dtype.align()) {
            return Err(format!("{name} is not aligned to its elements"));
        }
        Ok(Self { name, dtype, shape, len, data: buffer.data })
    }

    fn bytes(&self) -> Range<usize> {
        self.data.addr()..self.data.addr() + self.len * self.dtype.size()
    }

    /// # Safety
    /// The data outlives `'a` and is not written meanwhile.
    unsafe fn view(&self) -> Result<View<'a>, Error> {
        // SAFETY: `new` checked pointer, alignment and length; the caller vouches for the rest.
        View::new(self.shape, unsafe {
            Data::from_raw_parts(self.dtype, self.data.cast(), self.len)
        })
    }

    /// # Safety
    /// The data outlives `'a` and nobody else uses it meanwhile.
    unsafe fn view_mut(&self) -> Result<ViewMut<'a>, Error> {
        // SAFETY: `new` checked pointer, alignment and length; the caller vouches for the rest.
        ViewMut::new(self.shape, unsafe {
            DataMut::from_raw_parts(self.dtype, self.data.cast(), self.len)
        })
    }
}

/// XLA aliases a result with an operand only where the user asks for it; Rust never may.
fn check_overlaps(operands: &[Buffer<'_>], results: &[Buffer<'_>]) -> Result<(), String> {
    let disjoint = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
    for (index, result) in results.iter().enumerate().filter(|(_, result)| result.len > 0) {
        for other in operands.iter().chain(&results[..index]).filter(|other| other.len > 0) {
            if !disjoint(&result.bytes(), &other.bytes()) {
                return Err(format!(
                    "{} shares memory with {}, expected buffers of its own (no aliasing)",
                    result.name, other.name
                ));
            }
        }
    }
    Ok(())
}

/// # Safety
/// As [`decode`].
unsafe fn attributes<'a>(attrs: &abi::Attrs) -> Result<AttrList<'a, &'a str>, String> {
    // SAFETY: the three arrays have `size` entries, says the ABI.
    let (types, names, values) = unsafe {
        (
            array(attrs.types, attrs.size, || "the types of the attributes".into())?,
            array(attrs.names, attrs.size, || "the names of the attributes".into())?,
            array(attrs.attrs, attrs.size, || "the list of attributes".into())?,
        )
    };
    let mut list = Vec::with_capacity(types.len());
    for ((&kind, &name), &value) in types.iter().zip(names).zip(values) {
        // SAFETY: null or a span, which lives as long as the frame.
        let Some(span) = (unsafe { name.as_ref() }) else {
            return Err("the name of an attribute is null".into());
        };
        // SAFETY: the span is of the ABI.
        let name = unsafe { text(span, || "the name of an attribute".into()) }?
            .map_err(|name| format!("attribute `{}` is not named in UTF-8", name.escape_ascii()))?;
        // SAFETY: the kind says what it points to.
        let attr = unsafe {
            match kind {
                abi::ATTR_SCALAR => scalar(name, value.cast::<abi::Scalar>())?,
                abi::ATTR_STRING => string(name, value.cast::<abi::ByteSpan>())?,
                abi::ATTR_ARRAY => integers(name, value.cast::<abi::Array>())?,
                _ => {
                    return Err(format!(
                        "attribute `{name}` is of kind {kind}, expected an array, a scalar or a \
                         string"
                    ));
                }
            }
        };
        list.push((name, attr));
    }
    Ok(AttrList(list))
}

/// The text of `span`, or the bytes that are none.
///
/// # Safety
/// `ptr` has `len` bytes, which live for `'a`.
unsafe fn text<'a>(
    span: &abi::ByteSpan,
    what: impl Fn() -> String,
) -> Result<Result<&'a str, &'a [u8]>, String> {
    // SAFETY: as this function's.
    let bytes = unsafe { array(span.ptr.cast::<u8>(), span.len.try_into().unwrap_or(-1), what) }?;
    Ok(str::from_utf8(bytes).map_err(|_| bytes))
}

/// # Safety
/// As [`decode`], for one attribute.
unsafe fn string<'a>(name: &str, span: *const abi::ByteSpan) -> Result<Attr<'a>, String> {
    // SAFETY: null or a span.
    let Some(span) = (unsafe { span.as_ref() }) else {
        return Err(format!("attribute `{name}` is null"));
    };
    // SAFETY: the span is of the ABI.
    let text = unsafe { text(span, || format!("the text of attribute `{name}`")) }?;
    text.map(Attr::Str).map_err(|_| format!("attribute `{name}` is not UTF-8"))
}

/// # Safety
/// As [`decode`], for one attribute.
unsafe fn integers<'a>(name: &str, list: *const abi::Array) -> Result<Attr<'a>, String> {
    // SAFETY: null or an array.
    let Some(list) = (unsafe { list.as_ref() }) else {
        return Err(format!("attribute `{name}` is null"));
    };
    if list.dtype != abi::DTYPE_S64 {
        let got = dtype_name(list.dtype);
        return Err(format!("attribute `{name}` is a list of {got}, expected a list of s64"));
    }
    let len = list.size.try_into().unwrap_or(-1);
    // SAFETY: the type says what the numbers are; `size` is how many there are.
    let values = unsafe { array(list.data.cast::<i64>(), len, || format!("attribute `{name}`")) };
    values.map(Attr::Ints)
}

/// # Safety
/// As [`decode`], for one attribute.
unsafe fn scalar(name: &str, scalar: *const abi::Scalar) -> Result<Attr<'static>, String> {
    // SAFETY: null or a scalar.
    let Some(scalar) = (unsafe { scalar.as_ref() }).filter(|scalar| !scalar.value.is_null()) else {
        return Err(format!("attribute `{name}` is null"));
    };
    // SAFETY: the type says what the value is; a scalar need not be aligned.
    unsafe {
        Ok(match scalar.dtype {
            abi::DTYPE_PRED => Attr::Bool(scalar.value.cast::<u8>().read() != 0),
            abi::DTYPE_S32 => Attr::Int(scalar.value.cast::<i32>().read_unaligned().into()),
            abi::DTYPE_S64 => Attr::Int(scalar.value.cast::<i64>().read_unaligned()),
            abi::DTYPE_F32 => Attr::Float(scalar.value.cast::<f32>().read_unaligned().into()),
            abi::DTYPE_F64 => Attr::Float(scalar.value.cast::<f64>().read_unaligned()),
            other => {
                return Err(format!(
                    "attribute `{name}` is of type {}, expected pred, s32, s64, f32 or f64",
                    dtype_name(other)
                ));
            }
        })
    }
}

/// An array of the C API, where an empty one may have any pointer.
///
/// # Safety
/// `pointer` is null or points to `len` elements that live as long as `'a`.
unsafe fn array<'a, T>(
    pointer: *const T,
    len: i64,
    what: impl Fn() -> String,
) -> Result<&'a [T], String> {
    match usize::try_from(len) {
        Ok(0) => Ok(&[]),
        Err(_) => Err(format!("{} has length {len}", what())),
        Ok(_) if pointer.is_null() || !pointer.is_aligned() => {
            Err(format!("{} is a bad pointer", what()))
        }
        // SAFETY: not null, aligned, `len` elements.
        Ok(len) => Ok(unsafe { slice::from_raw_parts(pointer, len) }),
    }
}

fn dtype_name(dtype: c_uint) -> String {
    abi::DTYPE_NAMES
        .iter()
        .find(|&&(number, _)| number == dtype)
        .map_or_else(|| format!("number {dtype}"), |&(_, name)| name.to_owned())
}
