//! Where the kernels meet XLA and Python: one XLA handler and one NumPy entry for every op of
//! [`lumina_kernels::for_each_op!`].

mod attrs;
#[cfg(feature = "python")]
mod file;
#[cfg(feature = "python")]
mod python;
pub mod xla;
