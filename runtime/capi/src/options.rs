//! How sessions run.

use lumina_runtime::Options;

use crate::handle::{Versioned, checked_size, fill};
use crate::status::{Failure, Status, answer};

/// How a session runs. `lumina_session_options_init` fills it with what is usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// `sizeof` of this struct.
    pub struct_size: usize,
    /// Threads, at most 1024; 0 is one per core, and usual.
    pub threads: usize,
    /// Most bytes that the buffers of the session may take, what it keeps of the weights in another
    /// form, and, apart from those, its copies of inputs. Usual are 4 GiB.
    pub memory_limit: u64,
    /// Most trips that all loops of a run may make together. Usual are 2^32.
    pub trip_limit: u64,
}

// SAFETY: it is `repr(C)`, begins with its size, and is made of numbers.
unsafe impl Versioned for SessionOptions {
    const NAME: &'static str = "lumina_session_options";
    const FIRST: usize = size_of::<Self>();
}

impl SessionOptions {
    pub(crate) fn usual() -> Self {
        let Options { threads, memory_limit, trip_limit } = Options::default();
        Self { struct_size: size_of::<Self>(), threads, memory_limit, trip_limit }
    }

    pub(crate) fn options(self) -> Options {
        let Self { struct_size: _, threads, memory_limit, trip_limit } = self;
        Options { threads, memory_limit, trip_limit }
    }
}

/// Fills `*options` with what is usual; `struct_size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_options_init(
    options: *mut SessionOptions,
    struct_size: usize,
) -> Status {
    answer(|| {
        if options.is_null() {
            return Err(Failure::null("`options`"));
        }
        let size = checked_size::<SessionOptions>(struct_size)?;
        // SAFETY: the caller vouches for as many bytes.
        unsafe { fill(options, size, SessionOptions::usual()) };
        Ok(())
    })
}
