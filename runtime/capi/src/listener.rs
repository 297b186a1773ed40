//! What the library tells of its work, to whoever asks.

use std::ffi::{CString, c_char, c_void};
use std::sync::{PoisonError, RwLock};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::status::{Failure, Status, answer};

/// How much is told. Each level has what those before it have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing, as long as nobody asks.
    Off = 0,
    /// What the caller did not ask for and may want to know.
    Warning = 1,
    /// What takes time or memory: models that are loaded, plans that are made, buffers that grow.
    Debug = 2,
}

/// Gets a message of that `lumina_log_level`, in UTF-8 and valid during the call. It is called by
/// the thread that does the work, by several at once where several work, and must return.
pub type LogCallback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char)>;

/// Whom to tell.
#[derive(Clone, Copy)]
struct Listener {
    callback: unsafe extern "C" fn(*mut c_void, i32, *const c_char),
    /// An address of the caller, which is passed on and never followed.
    user_data: usize,
}

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Calls `callback` with `user_data` for each message up to `level` from now on, in the whole program;
/// a null callback or LUMINA_LOG_LEVEL_OFF ends that. Without it the library says nothing.
///
/// A call that another thread has begun may still come after this function has returned, so
/// `user_data` stays valid for as long as any thread is in a call of the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_set_log_callback(
    callback: LogCallback,
    user_data: *mut c_void,
    level: i32,
) -> Status {
    answer(|| {
        let filter = match level {
            _ if level == LogLevel::Off as i32 => LevelFilter::Off,
            _ if level == LogLevel::Warning as i32 => LevelFilter::Warn,
            _ if level == LogLevel::Debug as i32 => LevelFilter::Debug,
            _ => {
                let message = format!("there is no log level {level}");
                return Err(Failure::new(Status::BadParam, message));
            }
        };
        let listener = callback.filter(|_| filter != LevelFilter::Off);
        let listener = listener.map(|callback| Listener { callback, user_data: user_data.addr() });
        // A program in Rust that links this library may have a logger of its own, which goes on.
        let _ = log::set_logger(&Logger);
        log::set_max_level(if listener.is_some() { filter } else { LevelFilter::Off });
        *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = listener;
        Ok(())
    })
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The lock is given back first: the callback may call the library.
        let listener = *LISTENER.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Listener { callback, user_data }) = listener else { return };
        let level = match record.level() {
            Level::Error | Level::Warn => LogLevel::Warning,
            Level::Info | Level::Debug | Level::Trace => LogLevel::Debug,
        };
        let text = CString::new(record.args().to_string().replace('\0', "\\0"));
        let text = text.unwrap_or_default();
        // SAFETY: whoever set the callback vouches for it and for its data.
        unsafe { callback(user_data as *mut c_void, level as i32, text.as_ptr()) };
    }

    fn flush(&self) {}
}
