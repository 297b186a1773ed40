//! What a call through C costs over the same call in Rust, of blocks of calls that alternate.
//!
//! ```text
//! cargo run --release -p lumina-capi --example latency
//! ```

use std::ffi::CString;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use lumina::*;
use lumina_runtime::{Data, Model, Options, Session, View};

const BLOCKS: usize = 2_000;
/// Calls of a block, which find in the caches what the one before has left, as in a program.
const CALLS: u32 = 50;

/// The 10th percentile of the nanoseconds that a call of each of `tasks` takes, by blocks of calls.
fn measure<const N: usize>(mut tasks: [&mut dyn FnMut(); N]) -> [i128; N] {
    let mut times = [(); N].map(|()| Vec::with_capacity(BLOCKS));
    for _ in 0..BLOCKS {
        for (task, times) in tasks.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            (0..CALLS).for_each(|_| task());
            times.push((begin.elapsed() / CALLS).as_nanos() as i128);
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[BLOCKS / 10]
    })
}

fn main() -> Result<(), lumina_runtime::Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/format-1.0.lmn");
    let (x, key) = ([0.5f32; 6], [0u32, 7]);
    let (of_x, of_key) = ([1, 6], [2]);

    let options = Options { threads: 1, ..Options::default() };
    let mut session = Session::new(Arc::new(Model::load(&path)?), options)?;
    let views = [View::new(&of_x, Data::F32(&x))?, View::new(&of_key, Data::U32(&key))?];
    let mut in_rust = || drop(session.run(&views).expect("a run"));

    let path = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    let (mut model, mut c_session) = (ptr::null_mut(), ptr::null_mut());
    let c_options = SessionOptions {
        struct_size: size_of::<SessionOptions>(),
        threads: 1,
        memory_limit: options.memory_limit,
        trip_limit: options.trip_limit,
    };
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(lumina_model_load(path.as_ptr(), &mut model), Status::Success);
        assert_eq!(lumina_session_create(model, &c_options, &mut c_session), Status::Success);
    }
    let tensor = |data: *const u8, shape: &[usize], dtype: DType| Tensor {
        data: data.cast_mut().cast(),
        rank: shape.len(),
        shape: shape.as_ptr(),
        strides: ptr::null(),
        dtype: dtype as i32,
    };
    let inputs = [
        tensor(x.as_ptr().cast(), &of_x, DType::F32),
        tensor(key.as_ptr().cast(), &of_key, DType::U32),
    ];
    let nothing = tensor(ptr::null(), &[], DType::F32);
    let run = |outputs: &mut [Tensor; 2]| {
        // SAFETY: there are as many inputs and outputs.
        let status =
            unsafe { lumina_session_run(c_session, inputs.as_ptr(), 2, outputs.as_mut_ptr(), 2) };
        assert_eq!(status, Status::Success);
    };
    let mut views = [nothing; 2];
    let mut with_views = || run(&mut views);
    let (mut scores, mut class) = ([0f32; 3], [0i32; 1]);
    let mut places = [
        tensor(scores.as_mut_ptr().cast(), &[1, 3], DType::F32),
        tensor(class.as_mut_ptr().cast(), &[1], DType::I32),
    ];
    let mut with_memory = || run(&mut places);
    let [rust, views, memory] = measure([&mut in_rust, &mut with_views, &mut with_memory]);
    println!("Session::run                         {rust:8} ns");
    println!("lumina_session_run, views            {views:8} ns, {:+}", views - rust);
    println!("lumina_session_run, caller's memory  {memory:8} ns, {:+}", memory - rust);
    // SAFETY: both were made here.
    unsafe {
        assert_eq!(lumina_session_destroy(c_session), Status::Success);
        assert_eq!(lumina_model_free(model), Status::Success);
    }
    Ok(())
}
