//! Random calls, most of them wrong: each answers with a status, and memory around stays as it was.
//!
//! `LUMINA_CALLS` says how many, for runs outside of the suite, and `LUMINA_SEED` where they begin.

use std::ffi::c_void;
use std::ptr::null_mut;

use lumina::*;

use super::support::{Handle, Random};

const CALLS: u64 = 4000;

type Desc = *mut InfiniopTensorDescriptor;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A tensor of few elements, with strides that may not fit it, or null.
fn tensor(random: &mut Random) -> Desc {
    let mut desc = null_mut();
    if random.below(40) == 0 {
        return desc;
    }
    let rank = [0, 1, 2, 2, 2, 3, 3, 4, 5, 9][random.below(10)];
    let shape: Vec<usize> =
        (0..rank).map(|_| [0, 1, 2, 2, 3, 3, 4, usize::MAX][random.below(15) % 8]).collect();
    let strides: Vec<isize> =
        (0..rank).map(|_| [0, 1, 2, 3, -1, -4, 12, isize::MAX][random.below(15) % 8]).collect();
    let dtype = [13, 13, 13, 12, 19, 14, 5, 6, 9, 2, 17, 3, 0, 11, 77][random.below(15)];
    let strides = if random.below(2) == 0 { std::ptr::null() } else { strides.as_ptr() };
    // SAFETY: lists have as many numbers as there are axes.
    unsafe { infiniopCreateTensorDescriptor(&mut desc, rank, shape.as_ptr(), strides, dtype) };
    desc
}

/// Memory in which tensors of the attack lie, with room on both sides; some of it is misaligned, and some
/// calls get none.
struct Arena(Vec<u64>);

const HALF: usize = 1 << 12;

impl Arena {
    fn pointer(&mut self, random: &mut Random) -> *mut c_void {
        let at = HALF + random.below(600);
        let byte = if random.below(30) == 0 { 1 } else { 0 };
        match random.below(50) {
            0 => null_mut(),
            _ => self.0[at..].as_mut_ptr().wrapping_byte_add(byte).cast(),
        }
    }
}

macro_rules! attack {
    ($random:ident, $arena:ident, $handle:ident, $op:ident, [$($tensor:ident),+], [$($param:expr),*], [$($of_call:expr),*]) => {{
        $(let mut $tensor = tensor(&mut $random);)+
        if $random.below(2) == 0 {
            // Tensors that are alike are more often right.
            let first = [$($tensor),+][0];
            let all = [$(&mut $tensor),+];
            for (index, tensor) in all.into_iter().enumerate() {
                if index > 0 && $random.below(8) > 0 {
                    free(*tensor);
                    *tensor = first;
                }
            }
        }
        let mut desc = null_mut();
        let handle = if $random.below(40) == 0 { null_mut() } else { $handle.0 };
        // SAFETY: handles are valid or null, and tensors lie in the arena.
        let created = unsafe {
            let created = $op::create_descriptor(handle, &mut desc, $($tensor,)+ $($param),*);
            let mut tensors = [$($tensor),+];
            tensors.sort();
            for index in 0..tensors.len() {
                if index == 0 || tensors[index - 1] != tensors[index] {
                    free(tensors[index]);
                }
            }
            let mut size = 0;
            if created == Status::Success {
                assert_eq!($op::get_workspace_size(desc, &mut size), Status::Success);
            }
            let wrong = $random.below(20) == 0;
            let mut workspace = vec![0u8; if wrong { size / 2 } else { size }];
            $(let $tensor = { let _ = $tensor; $arena.pointer(&mut $random) };)+
            let status = $op::run(
                desc,
                workspace.as_mut_ptr().cast(),
                workspace.len(),
                $($tensor,)+
                $($of_call,)*
                null_mut(),
            );
            assert!(created == Status::Success || status == Status::NullPointer);
            assert!(status != Status::InternalError, "{}", super::support::last_error());
            assert_eq!($op::destroy_descriptor(desc), created_of(desc));
            created
        };
        created
    }};
}

/// What destroying answers.
fn created_of(desc: *mut InfiniopDescriptor) -> Status {
    if desc.is_null() { Status::NullPointer } else { Status::Success }
}

fn free(tensor: Desc) {
    // SAFETY: it is null, or was made and is not used any more.
    unsafe { infiniopDestroyTensorDescriptor(tensor) };
}

#[test]
fn random_calls_answer_with_a_status() {
    let handle = Handle::new();
    let first = number("LUMINA_SEED", 0);
    let mut counts = [0u64; 36];
    for seed in first..first + number("LUMINA_CALLS", CALLS) {
        let mut random = Random::new(seed);
        let mut arena = Arena(vec![0; 2 * HALF]);
        let float = [1.0, 0.0, -1.0, f32::NAN, f32::INFINITY, 0.5][random.below(6)];
        let small = random.below(6) as i32 - 2;
        let lists = [1i64, 0, 2, -1, i64::MAX, 1, 1, 3];
        let list = lists[random.below(6)..].as_ptr();
        let ones = [1i64; 3].as_ptr();
        let dims = [0usize, 1, 2, usize::MAX, 1];
        let dims = dims[random.below(4)..].as_ptr();
        let (count, flag) = (random.below(4).min(1), random.below(2) == 0);
        let status = match random.below(25) {
            0 => attack!(random, arena, handle, Add, [c, a, b], [], []),
            1 => attack!(random, arena, handle, Mul, [c, a, b], [], []),
            2 => attack!(random, arena, handle, Gelu, [y, x], [], []),
            3 => attack!(random, arena, handle, Softplus, [y, x], [float, 20.0], []),
            4 => attack!(random, arena, handle, Clip, [y, x, l, h], [], []),
            5 => attack!(random, arena, handle, SwiGLU, [c, a, b], [], []),
            6 => attack!(random, arena, handle, Softmax, [y, x], [small], []),
            7 => attack!(random, arena, handle, LogSoftmax, [y, x], [small], []),
            8 => attack!(random, arena, handle, CausalSoftmax, [y, x], [], []),
            9 => attack!(random, arena, handle, LayerNorm, [y, s, d, x, w, b], [float], []),
            10 => attack!(random, arena, handle, RMSNorm, [y, x, w], [float], []),
            11 => attack!(random, arena, handle, AddRMSNorm, [y, r, a, b, w], [float], []),
            12 => attack!(random, arena, handle, RoPE, [y, x, p, s, c], [small], []),
            13 => attack!(random, arena, handle, Conv, [y, x, w, b], [list, ones, ones, count], []),
            14 => attack!(
                random,
                arena,
                handle,
                Sum,
                [y, x],
                [dims, count, flag],
                [dims, count, flag]
            ),
            15 => {
                attack!(
                    random,
                    arena,
                    handle,
                    TopK,
                    [v, i, x],
                    [count, count, flag, flag],
                    [count, count, flag, flag]
                )
            }
            16 => attack!(random, arena, handle, Zeros, [y, x], [], []),
            17 => attack!(random, arena, handle, Ones, [y, x], [], []),
            18 => attack!(
                random,
                arena,
                handle,
                OpticalMatmul,
                [o, x, w, b, xf, wf, yf, n, s],
                [small, 8, small, count],
                []
            ),
            19 => attack!(
                random,
                arena,
                handle,
                OpticalConv,
                [o, x, w, b, xf, wf, yf, n, s],
                [small, 8, small, count, list, ones, ones, 1],
                []
            ),
            20 => attack!(
                random,
                arena,
                handle,
                CausalAttention,
                [o, q, k, v, a, b, c, d, e, f, n, s],
                [small, small, float],
                []
            ),
            21 => attack!(random, arena, handle, ComplexMatmul, [c, a, b], [], []),
            _ => attack!(random, arena, handle, Gemm, [c, a, b], [], [float, 1.0]),
        };
        counts[status as usize] += 1;
    }
    // The attack is one of calls of all kinds.
    assert!(counts[0] > 0 && counts[10] > 0 && counts[11] > 0 && counts[12] > 0, "{counts:?}");
}
