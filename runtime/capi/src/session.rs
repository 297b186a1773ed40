//! Sessions: models that run.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lumina_runtime::CancelHandle;

use crate::handle::{Handle, destroyed, made, opened, put, taken, text};
use crate::model::Model;
use crate::options::SessionOptions;
use crate::run::Runner;
use crate::status::{Failure, Status, answer};
use crate::tensor::Tensor;

/// A model with threads, buffers and states of its own.
///
/// One thread at a time uses a session: a call while another is in one is LUMINA_STATUS_BUSY and does
/// nothing. Only `lumina_session_cancel` may come at any time. Sessions of one model share its
/// weights.
pub struct Session {
    is_busy: AtomicBool,
    cancel: CancelHandle,
    runner: UnsafeCell<Runner>,
}

impl Handle for Session {
    const NAME: &'static str = "session";
    const MAGIC: u64 = u64::from_le_bytes(*b"lmnsessn");
}

/// Makes `*session` a session of `model`, which may be freed meanwhile. Null options are what
/// `lumina_session_options_init` says. On failure, `*session` is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_create(
    model: *const Model,
    options: *const SessionOptions,
    session: *mut *mut Session,
) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the place.
        unsafe { put(session, "session", ptr::null_mut()) }?;
        // SAFETY: the caller vouches for the handle.
        let model = unsafe { opened(model) }?;
        let usual = SessionOptions::usual();
        let options = match options.is_null() {
            true => usual,
            // SAFETY: the caller vouches for the struct.
            false => unsafe { taken(options, usual) }?,
        };
        let (runner, cancel) = Runner::new(Arc::clone(&model.loaded), options.options())?;
        let new =
            Session { is_busy: AtomicBool::new(false), cancel, runner: UnsafeCell::new(runner) };
        // SAFETY: as above.
        unsafe { put(session, "session", made(new)) }
    })
}

/// Destroys a session and all memory that it lent; null is none. A session that is in a call stays,
/// and the answer is LUMINA_STATUS_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_destroy(session: *mut Session) -> Status {
    answer(|| {
        if session.is_null() {
            return Ok(());
        }
        // SAFETY: the caller vouches for the handle.
        std::mem::forget(Use::begin(unsafe { opened(session) }?)?);
        // SAFETY: nobody else is in a call, and the caller vouches that nobody comes any more.
        unsafe { destroyed(session) };
        Ok(())
    })
}

/// Runs entry point number `entry` from now on. Inputs that were set are forgotten, and so are the
/// outputs of the last run; states stay, which all entry points share.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_set_entry(session: *mut Session, entry: usize) -> Status {
    // SAFETY: the caller vouches for the handle.
    unsafe { with(session, |runner| runner.set_entry(entry)) }
}

/// Has each run read input number `index` from `tensor`, wherever the call of the run gives no other.
/// The struct, shape and strides are copied; the elements are read by each run and stay the caller's.
/// Null sets nothing any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_set_input(
    session: *mut Session,
    index: usize,
    tensor: *const Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle and tensor.
    unsafe { with(session, |runner| runner.set_input(index, tensor)) }
}

/// As `lumina_session_set_input`, of the input of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_set_named_input(
    session: *mut Session,
    name: *const c_char,
    tensor: *const Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle, name and tensor.
    unsafe {
        with(session, |runner| {
            let index = runner.input(text(name, "name")?)?;
            runner.set_input(index, tensor)
        })
    }
}

/// Draws the analog noise of each run from `seed`, as `jax.random.key(seed)` in training would,
/// wherever an input whose role is LUMINA_ROLE_NOISE_SEED is given no other way. Runs of one seed have
/// the same noise: give each run a seed of its own where it is to differ.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_set_noise_seed(session: *mut Session, seed: u64) -> Status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with(session, |runner| {
            runner.set_noise_seed(seed);
            Ok(())
        })
    }
}

/// Plans a run for inputs of these types and shapes, whose elements are not read, and allocates its
/// memory, so that the first run is as fast as those that follow. Inputs are given as to
/// `lumina_session_run`. Each of `outputs`, of which there are none or all, becomes the type and shape
/// of an output, without data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_prepare(
    session: *mut Session,
    inputs: *const Tensor,
    input_count: usize,
    outputs: *mut Tensor,
    output_count: usize,
) -> Status {
    // SAFETY: the caller vouches for the handle and both arrays.
    unsafe {
        with(session, |runner| runner.prepare((inputs, input_count), (outputs, output_count)))
    }
}

/// Runs the entry point on `inputs`, in the order of the model, and gives its `outputs`.
///
/// There are all inputs or none. One that is all zero, and each where there are none, is that of
/// `lumina_session_set_input`, or the seed of `lumina_session_set_noise_seed`. Row-major inputs are
/// read where they lie; others are copied first.
///
/// There are all outputs or none; `lumina_session_get_output` gives them later, too. One whose `data`
/// is null, or that of the view which the session gave before, becomes a view of memory of the session,
/// row-major, which is not to be written. It is valid until the next call that runs, prepares, changes
/// the entry point or destroys, and may be an input of that run. (Where the model passes an input on,
/// the view is of the memory of that input.) All others say type and shape of memory of the caller,
/// which gets the elements; it may be that of an input.
///
/// A run that fails or is cancelled before it computes changes nothing. One that fails or is cancelled
/// later leaves the states of the model half written, so the next one is refused until
/// `lumina_session_reset`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_run(
    session: *mut Session,
    inputs: *const Tensor,
    input_count: usize,
    outputs: *mut Tensor,
    output_count: usize,
) -> Status {
    // SAFETY: the caller vouches for the handle and both arrays.
    unsafe { with(session, |runner| runner.run((inputs, input_count), (outputs, output_count))) }
}

/// Gives output number `index` of the last run, in the way of `lumina_session_run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_get_output(
    session: *mut Session,
    index: usize,
    tensor: *mut Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle and tensor.
    unsafe { with(session, |runner| runner.get_output(index, tensor)) }
}

/// As `lumina_session_get_output`, of the output of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_get_named_output(
    session: *mut Session,
    name: *const c_char,
    tensor: *mut Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle, name and tensor.
    unsafe {
        with(session, |runner| {
            let index = runner.output(text(name, "name")?)?;
            runner.get_output(index, tensor)
        })
    }
}

/// Gives the state of that name as it is now: a view, valid until the next call that runs, prepares,
/// sets, resets or destroys, where `data` is null or that of the view before, and else the elements in
/// memory of the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_get_state(
    session: *mut Session,
    name: *const c_char,
    tensor: *mut Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle, name and tensor.
    unsafe { with(session, |runner| runner.get_state(text(name, "name")?, tensor)) }
}

/// Copies `tensor` to the state of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_set_state(
    session: *mut Session,
    name: *const c_char,
    tensor: *const Tensor,
) -> Status {
    // SAFETY: the caller vouches for handle, name and tensor.
    unsafe { with(session, |runner| runner.set_state(text(name, "name")?, tensor)) }
}

/// Gives all states the values again that they have in a new session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_reset(session: *mut Session) -> Status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with(session, |runner| {
            runner.reset();
            Ok(())
        })
    }
}

/// Ends the run that is going on in another thread, or else the next one, with
/// LUMINA_STATUS_CANCELLED. A run looks between its steps, so one that is in its last step ends as if
/// nobody had asked. The session must not be destroyed meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_session_cancel(session: *const Session) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the handle.
        unsafe { opened(session) }?.cancel.cancel();
        Ok(())
    })
}

/// Calls `body` with what runs the session, which no other call has meanwhile.
///
/// # Safety
/// As for [`opened`].
unsafe fn with(
    session: *const Session,
    body: impl FnOnce(&mut Runner) -> Result<(), Failure>,
) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the handle.
        let session = unsafe { opened(session) }?;
        let _use = Use::begin(session)?;
        // SAFETY: no other call has it until `_use` is dropped.
        body(unsafe { &mut *session.runner.get() })
    })
}

/// The one call that a session is in.
struct Use<'a>(&'a AtomicBool);

impl<'a> Use<'a> {
    fn begin(session: &'a Session) -> Result<Self, Failure> {
        if session.is_busy.swap(true, Ordering::Acquire) {
            let message = "another thread is in a call with the session, which takes one at a time";
            return Err(Failure::new(Status::Busy, message));
        }
        Ok(Self(&session.is_busy))
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
