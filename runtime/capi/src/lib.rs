//! The C ABI of Lumina-JAX: models, sessions, and operators on tensors of the caller.
//!
//! Every function answers with a [`Status`]. It checks its arguments for null and for lengths, a panic
//! inside is a status, and what went wrong is told by `lumina_last_error`, for each thread apart.
//!
//! What no function can check is the caller's to keep: a pointer that is not null leads to as much
//! memory as the function says, and a handle is one that was made here and not destroyed yet.

// All functions have the same contract, that above.
#![allow(clippy::missing_safety_doc)]

mod handle;
mod lent;
mod listener;
mod model;
mod operators;
mod options;
mod run;
mod session;
mod status;
mod strided;
mod tensor;

use std::ffi::{CStr, c_char};

pub use listener::*;
pub use model::*;
pub use operators::*;
pub use options::*;
pub use session::*;
pub use status::{Status, lumina_last_error};
pub use tensor::*;

/// The version of the ABI. A program that was compiled for one runs with every library of the same
/// one.
pub const LUMINA_ABI_VERSION: u32 = 1;

/// The version of the ABI that this library has: LUMINA_ABI_VERSION of its header.
#[unsafe(no_mangle)]
pub extern "C" fn lumina_abi_version() -> u32 {
    LUMINA_ABI_VERSION
}

/// The version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn lumina_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}
