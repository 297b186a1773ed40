//! The C ABI of Lumina-JAX: models, sessions, and operators on tensors of the caller.
//!
//! Every function answers with a [`Status`]. It checks its arguments for null and for lengths, a panic
//! inside is a status, and what went wrong is told by `lumina_last_error`, for each thread apart.

mod status;

pub use status::{Status, lumina_last_error};
