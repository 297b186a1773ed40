//! How a call ended, and what its thread is told of it.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use lumina_runtime::Error;

/// How a call ended. Numbers below 32 are those of infiniop.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All was done.
    Success = 0,
    /// A fault of the library.
    InternalError = 1,
    /// The library has no such operator.
    NotImplemented = 2,
    /// An argument is out of its range, or contradicts another.
    BadParam = 3,
    /// A pointer that must not be null is.
    NullPointer = 4,
    /// Devices of this type are not supported.
    DeviceTypeNotSupported = 5,
    /// There is no device of that number.
    DeviceNotFound = 6,
    /// The device was not initialized.
    DeviceNotInitialized = 7,
    /// The device is too old or too new.
    DeviceArchitectureNotSupported = 8,
    /// The operator does not take tensors of this element type.
    BadTensorDtype = 10,
    /// The shapes of the tensors do not fit the operator, or each other.
    BadTensorShape = 11,
    /// The strides of a tensor do not fit the operator.
    BadTensorStrides = 12,
    /// The workspace is smaller than the operator asked for.
    InsufficientWorkspace = 13,
    /// A file could not be read, or is no model that this library runs.
    BadFile = 32,
    /// More memory than there is, or than the caller allows.
    OutOfMemory = 33,
    /// The caller cancelled the run.
    Cancelled = 34,
    /// The loops of a run would make more trips than the session allows.
    TripLimit = 35,
    /// Another thread is in a call with the same session.
    Busy = 36,
}

/// Why a call failed.
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A pointer that is null and must not be.
    pub(crate) fn null(what: impl std::fmt::Display) -> Self {
        Self::new(Status::NullPointer, format!("{what} is null"))
    }

    /// What the runtime says, where `otherwise` is the status of what has none of its own.
    pub(crate) fn of(error: Error, otherwise: Status) -> Self {
        let status = match error {
            Error::Memory { .. } | Error::Allocation { .. } => Status::OutOfMemory,
            Error::Cancelled => Status::Cancelled,
            Error::Trips { .. } => Status::TripLimit,
            Error::Threads { .. } => Status::InternalError,
            _ => otherwise,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function of the ABI: a failure and a panic become a status, and a text of the
/// thread.
pub(crate) fn answer(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Success,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("no message");
            Failure::new(Status::InternalError, format!("internal error: {text}"))
        }
    };
    // A text with a NUL inside ends there for C, so none is kept.
    let text = CString::new(failure.message.replace('\0', "\\0")).unwrap_or_default();
    // A thread that ends has no text left to keep.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

/// What went wrong in the last call of this thread that failed; empty if none has. The text is valid
/// until the next call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn lumina_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last_error() -> String {
        // SAFETY: the text is that of this thread, and no call fails meanwhile.
        let text = unsafe { CStr::from_ptr(lumina_last_error()) };
        text.to_str().expect("texts are UTF-8").to_owned()
    }

    #[test]
    fn a_failure_and_a_panic_are_a_status_and_a_text() {
        assert_eq!(last_error(), "");
        assert_eq!(answer(|| Err(Failure::new(Status::BadParam, "no\0thing"))), Status::BadParam);
        assert_eq!(last_error(), "no\\0thing");
        assert_eq!(answer(|| panic!("index {}", 7)), Status::InternalError);
        assert_eq!(last_error(), "internal error: index 7");
        assert_eq!(answer(|| Ok(())), Status::Success);
        assert_eq!(last_error(), "internal error: index 7");
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().expect("no panic");
    }
}
