//! Calls at random: each is a status with a text, and none does more than it says.

use std::ptr;

use lumina::*;
use lumina_runtime::DType as Element;
use proptest::prelude::*;

use crate::call::*;
use crate::files::*;

/// A tensor in the making.
#[derive(Clone, Debug)]
struct Any {
    dtype: i32,
    shape: Vec<usize>,
    strides: Option<Vec<isize>>,
    /// Where in the memory it begins, in bytes; None: nowhere.
    start: Option<usize>,
    has_shape: bool,
}

#[derive(Clone, Debug)]
enum Call {
    Run(Vec<Any>, Vec<Any>),
    Prepare(Vec<Any>, Vec<Any>),
    SetInput(usize, Option<Any>),
    SetNamed(usize, Option<Any>),
    Output(usize, Option<Any>),
    NamedOutput(usize, Option<Any>),
    GetState(usize, Option<Any>),
    SetState(usize, Option<Any>),
    Entry(usize),
    Seed(u64),
    Cancel,
    Reset,
    Null,
}

/// More than the tensors reach to both sides of the middle.
const MEMORY: usize = 1 << 14;

const NAMES: [&str; 9] = ["x", "key", "total", "y", "a", "b", "c", "output[0]", ""];

fn tensor_of_any() -> impl Strategy<Value = Any> {
    let dtype = prop_oneof![4 => Just(DType::F32 as i32), 1 => -2..24i32, 1 => any::<i32>()];
    let extent = || prop_oneof![8 => 0..5usize, 4 => Just(2usize), 4 => Just(6usize)];
    let shape = prop_oneof![
        8 => proptest::collection::vec(extent(), 0..4),
        1 => proptest::collection::vec(0..2usize, 0..12),
        1 => Just(vec![usize::MAX, 2]),
    ];
    let stride = prop_oneof![8 => -9..9isize, 1 => Just(1isize), 1 => Just(isize::MIN / 2)];
    let strides = proptest::option::of(proptest::collection::vec(stride, 12));
    let start = prop_oneof![1 => Just(None), 4 => (0..64usize).prop_map(Some)];
    (dtype, shape, strides, start, prop::bool::weighted(0.95)).prop_map(
        |(dtype, shape, strides, start, has_shape)| Any { dtype, shape, strides, start, has_shape },
    )
}

/// A tensor that some model takes.
fn likely() -> impl Strategy<Value = Any> {
    let shape = prop_oneof![
        (0..4usize).prop_map(|batch| (DType::F32, vec![batch, 6])),
        Just((DType::U32, vec![2])),
        Just((DType::F32, vec![2])),
        Just((DType::I32, vec![4])),
    ];
    (shape, proptest::option::of(-2..3isize), 0..64usize).prop_map(
        |((dtype, shape), step, start)| {
            let strides = step.map(|step| vec![step * 6, step]);
            Any { dtype: dtype as i32, shape, strides, start: Some(start), has_shape: true }
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let one = || prop_oneof![tensor_of_any(), likely()];
    let many = move || proptest::collection::vec(one(), 0..4);
    let maybe = move || proptest::option::weighted(0.9, one());
    let number = || 0..NAMES.len();
    prop_oneof![
        8 => (many(), many()).prop_map(|(inputs, outputs)| Call::Run(inputs, outputs)),
        2 => (many(), many()).prop_map(|(inputs, outputs)| Call::Prepare(inputs, outputs)),
        2 => (0..4usize, maybe()).prop_map(|(index, tensor)| Call::SetInput(index, tensor)),
        2 => (number(), maybe()).prop_map(|(name, tensor)| Call::SetNamed(name, tensor)),
        2 => (0..4usize, maybe()).prop_map(|(index, tensor)| Call::Output(index, tensor)),
        1 => (number(), maybe()).prop_map(|(name, tensor)| Call::NamedOutput(name, tensor)),
        2 => (number(), maybe()).prop_map(|(name, tensor)| Call::GetState(name, tensor)),
        2 => (number(), maybe()).prop_map(|(name, tensor)| Call::SetState(name, tensor)),
        1 => (0..3usize).prop_map(Call::Entry),
        1 => any::<u64>().prop_map(Call::Seed),
        1 => Just(Call::Cancel),
        1 => Just(Call::Reset),
        1 => Just(Call::Null),
    ]
}

/// The tensor, in the middle of this memory.
fn made(any: &Any, memory: &mut [u8]) -> Tensor {
    let middle = memory.as_mut_ptr().wrapping_add(MEMORY / 2);
    // Strides are as many as the axes, of which there may be more than tensors have.
    let rank = any.shape.len();
    Tensor {
        data: any.start.map_or(ptr::null_mut(), |start| middle.wrapping_add(start).cast()),
        rank,
        shape: if any.has_shape { any.shape.as_ptr() } else { ptr::null() },
        strides: match &any.strides {
            Some(strides) if strides.len() >= rank => strides.as_ptr(),
            _ => ptr::null(),
        },
        dtype: any.dtype,
    }
}

/// Makes one call.
fn perform(run: &Run, call: &Call, memory: &mut [u8]) -> Status {
    let name = |number: usize| c(NAMES[number]);
    let one = |any: &Option<Any>, memory: &mut [u8]| any.as_ref().map(|any| made(any, memory));
    let session = run.0;
    // SAFETY: pointers are null or valid, and the memory is as large as the tensors say.
    unsafe {
        match call {
            Call::Run(inputs, outputs) | Call::Prepare(inputs, outputs) => {
                let inputs: Vec<_> = inputs.iter().map(|any| made(any, memory)).collect();
                let mut outputs: Vec<_> = outputs.iter().map(|any| made(any, memory)).collect();
                let (from, to) = (inputs.as_ptr(), outputs.as_mut_ptr());
                match call {
                    Call::Run(..) => {
                        lumina_session_run(session, from, inputs.len(), to, outputs.len())
                    }
                    _ => lumina_session_prepare(session, from, inputs.len(), to, outputs.len()),
                }
            }
            Call::SetInput(index, tensor) => {
                let tensor = one(tensor, memory);
                let tensor = tensor.as_ref().map_or(ptr::null(), ptr::from_ref);
                lumina_session_set_input(session, *index, tensor)
            }
            Call::SetNamed(number, tensor) => {
                let tensor = one(tensor, memory);
                let tensor = tensor.as_ref().map_or(ptr::null(), ptr::from_ref);
                lumina_session_set_named_input(session, name(*number).as_ptr(), tensor)
            }
            Call::Output(index, tensor) => {
                let mut tensor = one(tensor, memory);
                let tensor = tensor.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
                lumina_session_get_output(session, *index, tensor)
            }
            Call::NamedOutput(number, tensor) => {
                let mut tensor = one(tensor, memory);
                let tensor = tensor.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
                lumina_session_get_named_output(session, name(*number).as_ptr(), tensor)
            }
            Call::GetState(number, tensor) => {
                let mut tensor = one(tensor, memory);
                let tensor = tensor.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
                lumina_session_get_state(session, name(*number).as_ptr(), tensor)
            }
            Call::SetState(number, tensor) => {
                let tensor = one(tensor, memory);
                let tensor = tensor.as_ref().map_or(ptr::null(), ptr::from_ref);
                lumina_session_set_state(session, name(*number).as_ptr(), tensor)
            }
            Call::Entry(entry) => lumina_session_set_entry(session, *entry),
            Call::Seed(seed) => lumina_session_set_noise_seed(session, *seed),
            Call::Cancel => lumina_session_cancel(session),
            Call::Reset => lumina_session_reset(session),
            Call::Null => lumina_session_run(ptr::null_mut(), ptr::null(), 1, ptr::null_mut(), 1),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_are_a_status(
        calls in proptest::collection::vec(call(), 0..40),
        which in 0..4usize,
    ) {
        let model = match which {
            0 => load(&corpus()),
            1 => from_memory(&total().bytes()),
            2 => from_memory(&swapped().bytes()),
            _ => from_memory(&passed(Element::F32, &[2, 2]).bytes()),
        };
        let run = session_of(&model, &options());
        let mut memory = vec![0u8; MEMORY];
        for call in &calls {
            let status = perform(&run, call, &mut memory);
            prop_assert_ne!(status, Status::InternalError, "{}", told(lumina_last_error()));
            prop_assert!(status == Status::Success || !told(lumina_last_error()).is_empty());
        }
    }
}
