//! XLA custom calls: one handler, generic over the op.

pub mod abi;
mod frame;
mod pool;
#[cfg(all(feature = "python", debug_assertions))]
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::ffi::CString;
use std::mem::{offset_of, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use lumina_kernels::{Error, Fact, FlushDenormals, Op, for_each_op};

use self::frame::Call;
use self::pool::XlaPool;

/// A handler under the name of its op.
pub struct Target {
    /// [`Op::NAME`]; XLA knows the handler as `lumina.NAME.v1`.
    pub op: &'static str,
    /// The handler.
    pub handler: abi::Handler,
}

impl Target {
    const fn of<O: Op>() -> Self {
        Self { op: O::NAME, handler: handler::<O> }
    }
}

macro_rules! targets {
    ($($op:ty),* $(,)?) => {
        /// The handler of every op.
        pub static TARGETS: &[Target] = &[$(Target::of::<$op>()),*];
    };
}

for_each_op!(targets);

/// Answers one call of XLA: a metadata query, or a run of `O`. Re-entrant; never unwinds.
///
/// # Safety
/// `call_frame` is null or a call frame as XLA makes it.
pub unsafe extern "C" fn handler<O: Op>(call_frame: *mut abi::CallFrame) -> *mut abi::Error {
    // SAFETY: the length is checked before anything else is read; the caller vouches for the rest.
    let (api, query) = unsafe {
        if call_frame.is_null() || (*call_frame).struct_size < size_of::<abi::CallFrame>() {
            unanswerable(O::NAME, "the call frame is null or too short");
        }
        ((*call_frame).api, metadata_query(call_frame))
    };
    if let Some(metadata) = query {
        // SAFETY: both are parts of the frame.
        unsafe { describe(api, metadata) };
        return null_mut();
    }
    if api.is_null() {
        unanswerable(O::NAME, "the call frame has no API");
    }
    // SAFETY: the frame is long enough, is no query and has an API.
    let (errc, message) = match catch_unwind(AssertUnwindSafe(|| unsafe {
        execute::<O>(call_frame)
    })) {
        Ok(Ok(())) => return null_mut(),
        Ok(Err(error)) => (abi::ERROR_INVALID_ARGUMENT, error.to_string()),
        Err(panic) => {
            (abi::ERROR_INTERNAL, format!("{}: internal fault: {}", O::NAME, panic_text(&*panic)))
        }
    };
    let message = CString::new(message.replace('\0', "?")).unwrap_or_default();
    // SAFETY: every version of the API has this function, and it copies the message.
    let error = unsafe {
        (*api).error_create.map(|create| {
            create(&mut abi::ErrorCreateArgs {
                struct_size: size_of::<abi::ErrorCreateArgs>(),
                extension_start: null_mut(),
                message: message.as_ptr(),
                errc,
            })
        })
    };
    error.unwrap_or_else(|| unanswerable(O::NAME, "the API cannot make errors"))
}

/// # Safety
/// As [`handler`], of a frame that has an API and is no query.
unsafe fn execute<O: Op>(call_frame: *mut abi::CallFrame) -> Result<(), Error> {
    let _flush = FlushDenormals::new();
    // SAFETY: the caller vouches; views and pool do not leave this function.
    let (Call { inputs, mut outputs, attrs }, pool) = unsafe {
        (frame::decode(O::NAME, call_frame)?, XlaPool::new((*call_frame).api, (*call_frame).ctx))
    };
    let op = O::from_attrs(&attrs)?;
    let facts: Vec<Fact> = inputs.iter().map(|input| input.fact()).collect();
    let expected = op.output_shapes(&facts)?;
    if outputs.len() != expected.len() {
        let message = format!("got {} results, expected {}", outputs.len(), expected.len());
        return Err(Error::invalid(O::NAME, message));
    }
    for (index, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
        let got = output.fact();
        if got != *expected {
            let message = format!("result {index} is {got}, expected {expected}");
            return Err(Error::invalid(O::NAME, message));
        }
    }
    op.run(&inputs, &mut outputs, &pool)
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// The metadata that the frame asks for, if it does.
///
/// # Safety
/// As [`handler`], of a frame that is not null.
unsafe fn metadata_query(call_frame: *mut abi::CallFrame) -> Option<*mut abi::Metadata> {
    // SAFETY: a list of extensions, whose kind says how long each is.
    unsafe {
        let mut extension = (*call_frame).extension_start;
        while !extension.is_null() {
            if (*extension).kind == abi::EXTENSION_METADATA {
                let metadata = (*extension.cast::<abi::MetadataExtension>()).metadata;
                return (!metadata.is_null()).then_some(metadata);
            }
            extension = (*extension).next;
        }
    }
    None
}

/// Fills in the metadata. XLA refuses a handler that claims a later API than its own, and takes
/// the whole CPU backend down with it; versions that pass no API here are 0.1.
///
/// # Safety
/// `metadata` is as long as it says, and `api` is null or the API.
unsafe fn describe(api: *const abi::Api, metadata: *mut abi::Metadata) {
    // SAFETY: the caller vouches.
    unsafe {
        (*metadata).api_version.major_version = abi::API_MAJOR;
        (*metadata).api_version.minor_version =
            if api.is_null() { 1 } else { abi::API_MINOR.min((*api).api_version.minor_version) };
        (*metadata).traits = 0;
        let reach = offset_of!(abi::Metadata, state_type_id) + size_of::<abi::TypeId>();
        if (*metadata).struct_size >= reach {
            (*metadata).state_type_id = abi::TypeId { type_id: 0 };
        }
    }
}

/// Without an API there is no way to say no, and to return null would be to say yes.
fn unanswerable(op: &str, why: &str) -> ! {
    eprintln!("lumina.{op}.v1: {why}");
    std::process::abort()
}
