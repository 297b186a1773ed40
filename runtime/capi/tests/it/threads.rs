//! Several threads, and what they are told.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Mutex;
use std::thread;

use lumina::*;

use crate::call::*;
use crate::files::*;

/// A handle that crosses threads.
#[derive(Clone, Copy)]
struct Shared(*mut Session);

// SAFETY: what another thread may do with the handle is what these tests are about.
unsafe impl Send for Shared {}

impl Shared {
    fn cancel(self) {
        // SAFETY: the session is there.
        ok(unsafe { lumina_session_cancel(self.0) });
    }

    /// Runs, once no other call is in the way.
    fn run(self) -> (Status, String) {
        loop {
            // SAFETY: the session is there.
            let status = unsafe { lumina_session_run(self.0, ptr::null(), 0, ptr::null_mut(), 0) };
            if status != Status::Busy {
                return (status, told(lumina_last_error()));
            }
        }
    }
}

#[test]
fn one_model_serves_many_threads() {
    let model = load(&corpus());
    let runs: Vec<Run> = (0..8).map(|_| session_of(&model, &options())).collect();
    let x: Vec<f32> = (0..48).map(|n| n as f32 / 48.0).collect();
    let results: Vec<Vec<f32>> = thread::scope(|scope| {
        let start = |run: &Run| {
            let (shared, x) = (Shared(run.0), x.clone());
            scope.spawn(move || {
                let run = Run({ shared }.0);
                let mut last = Vec::new();
                for seed in 0..50u32 {
                    let mut view = [NONE; 2];
                    ok(run.run(&[tensor(&[8, 6], &x), tensor(&[2], &[0, seed])], &mut view));
                    last = elements(&view[0]);
                }
                std::mem::forget(run);
                last
            })
        };
        let threads: Vec<_> = runs.iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0] && result.len() == 24));
}

#[test]
fn a_session_takes_one_call_at_a_time_and_can_be_cancelled() {
    let run = session(&endless());
    let shared = Shared(run.0);
    thread::scope(|scope| {
        let running = scope.spawn(move || { shared }.run());
        // Until the run is there, these calls succeed.
        let status = loop {
            // SAFETY: the session is there.
            match unsafe { lumina_session_set_noise_seed(run.0, 1) } {
                Status::Success => thread::yield_now(),
                other => break other,
            }
        };
        let expected = "another thread is in a call with the session, which takes one at a time";
        refused(status, Status::Busy, expected);
        refused(run.run(&[], &mut []), Status::Busy, expected);
        // SAFETY: the session is there, and stays as it is busy.
        refused(unsafe { lumina_session_destroy(run.0) }, Status::Busy, expected);
        shared.cancel();
        let expected = (Status::Cancelled, "the run was cancelled".to_string());
        assert_eq!(running.join().unwrap(), expected);
    });
    // Whether the run had begun or not, the session goes on.
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_reset(run.0) });
    shared.cancel();
    refused(run.run(&[], &mut []), Status::Cancelled, "the run was cancelled");
}

#[test]
fn texts_are_those_of_a_thread() {
    // SAFETY: null is no handle.
    let status = unsafe { lumina_session_reset(ptr::null_mut()) };
    refused(status, Status::NullPointer, "the session is null");
    let other = thread::spawn(|| told(lumina_last_error())).join().unwrap();
    assert_eq!(other, "");
}

static MESSAGES: Mutex<Vec<(usize, i32, String)>> = Mutex::new(Vec::new());

unsafe extern "C" fn listen(user_data: *mut c_void, level: i32, message: *const c_char) {
    // A callback may call the library.
    assert_eq!(lumina_abi_version(), LUMINA_ABI_VERSION);
    MESSAGES.lock().unwrap().push((user_data.addr(), level, told(message)));
}

#[test]
fn whoever_listens_is_told() {
    let user_data = ptr::without_provenance_mut(77);
    // SAFETY: the callback is one.
    unsafe {
        let status = lumina_set_log_callback(Some(listen), user_data, 9);
        refused(status, Status::BadParam, "there is no log level 9");
        ok(lumina_set_log_callback(Some(listen), user_data, LogLevel::Debug as i32));
    }
    let file = negated(&[1, 2, 3, 1, 1, 1]).bytes();
    let run = session_of(&from_memory(&file), &options());
    run.output::<f32>(&[tensor(&[1, 2, 3, 1, 1, 1], &[0f32; 6])]);
    // SAFETY: no callback is none.
    ok(unsafe { lumina_set_log_callback(None, ptr::null_mut(), LogLevel::Debug as i32) });
    let silent = session_of(&from_memory(&file), &options());
    silent.output::<f32>(&[tensor(&[1, 2, 3, 1, 1, 1], &[0f32; 6])]);
    let messages = MESSAGES.lock().unwrap();
    // Other tests are heard too.
    let count = |beginning: &str, end: &str| {
        let is_it = |text: &str| text.starts_with(beginning) && text.contains(end);
        messages.iter().filter(|(_, _, text)| is_it(text)).count()
    };
    assert_eq!(count(&format!("loaded a model of {} bytes", file.len()), ": read in "), 1);
    assert!(count("planned 1 steps of entry point 0 in ", "") > 0);
    let taken = "the session takes 0 bytes for states, 24 for buffers, and 0 for what it keeps";
    assert!(count(taken, " of the weights") > 0);
    let debug = LogLevel::Debug as i32;
    assert!(messages.iter().all(|&(data, level, _)| data == 77 && level == debug));
}
