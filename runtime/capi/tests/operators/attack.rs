//! Random calls of every operator, many of them wrong: each answers with a status, and one that is refused
//! writes nothing.
//!
//! `LUMINA_CALLS` says how many, for runs outside of the suite, and `LUMINA_SEED` where they begin.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use lumina::*;

use super::support::{Handle, Random, last_error};

const CALLS: u64 = 4000;

type Desc = *mut InfiniopTensorDescriptor;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

const I32: c_int = 5;
const U32: c_int = 9;
const F32: c_int = 13;
const C64: c_int = 17;

/// What the tensors of a call are to be, and its parameters, some of which are out of their range.
#[derive(Clone, Copy)]
struct Drawn {
    /// One of the types of floats.
    float: c_int,
    m: usize,
    n: usize,
    k: usize,
    number: f32,
    small: c_int,
    /// An axis and a number of elements or of axes, 0 or 1.
    count: usize,
    flag: bool,
    dims: [usize; 2],
    pads: [i64; 3],
    has_lists: bool,
}

impl Drawn {
    fn new(random: &mut Random) -> Self {
        Self {
            float: [F32, F32, 12, 19][random.below(4)],
            m: random.below(5),
            n: 1 + random.below(4),
            k: random.below(4),
            number: [1.0, 0.0, -1.0, f32::NAN, f32::INFINITY, 0.5][random.below(6)],
            small: random.below(6) as c_int - 2,
            count: random.below(2),
            flag: random.below(2) == 0,
            dims: [[0, 1], [0, 1], [1, 0], [2, 1], [usize::MAX, 0]][random.below(5)],
            pads: [[0, 1, 1], [1, 0, 0], [2, 2, 2], [-1, 0, 0], [i64::MAX, 0, 1]][random.below(5)],
            has_lists: random.below(4) > 0,
        }
    }

    /// Extent of the result of a convolution along an axis, if there is one.
    fn places(&self, axis: usize, extent: usize, taps: usize) -> usize {
        let pad = if self.has_lists { self.pads[axis] } else { 0 };
        usize::try_from(pad).map_or(0, |pad| (extent + 2 * pad.min(9) + 1).saturating_sub(taps))
    }

    fn list(&self, list: &[i64; 3]) -> *const i64 {
        if self.has_lists { list.as_ptr() } else { std::ptr::null() }
    }
}

/// A tensor of that type and shape in some layout, and now and then any other one, with strides that
/// may not fit it, or null.
fn tensor(random: &mut Random, dtype: c_int, shape: &[usize]) -> Desc {
    let mut desc = null_mut();
    let mut create = |shape: &[usize], strides: &[isize], dtype| {
        let strides = if strides.is_empty() { std::ptr::null() } else { strides.as_ptr() };
        // SAFETY: lists have as many numbers as there are axes.
        unsafe {
            infiniopCreateTensorDescriptor(&mut desc, shape.len(), shape.as_ptr(), strides, dtype)
        }
    };
    match random.below(30) {
        0 => {}
        1 => {
            let rank = [0, 1, 2, 2, 2, 3, 3, 4, 5, 9][random.below(10)];
            let extents = [0, 1, 2, 2, 3, 3, 4, usize::MAX];
            let shape: Vec<usize> = (0..rank).map(|_| extents[random.below(15) % 8]).collect();
            let steps = [0, 1, 2, 3, -1, -4, 12, isize::MAX];
            let strides: Vec<isize> = (0..rank).map(|_| steps[random.below(15) % 8]).collect();
            let dtype = [13, 13, 12, 19, 14, 5, 6, 9, 2, 17, 3, 0, 11, 77][random.below(14)];
            create(&shape, if random.below(2) == 0 { &[] } else { &strides }, dtype);
        }
        2 => {
            let dtype = [13, 12, 19, 14, 5, 6, 9, 7, 2, 17, 18][random.below(11)];
            create(shape, &[], dtype);
        }
        3 => {
            create(shape, &vec![0; shape.len()], dtype);
        }
        layout => {
            let (mut strides, mut next) = (vec![0; shape.len()], 1);
            for (stride, &extent) in strides.iter_mut().zip(shape).rev() {
                *stride = if layout < 8 { -next } else { next };
                next = next * extent.max(1) as isize + isize::from(layout < 12);
            }
            create(shape, if layout < 20 { &strides } else { &[] }, dtype);
        }
    }
    desc
}

fn free(tensor: Desc) {
    // SAFETY: it is null, or was made and is not used any more.
    unsafe { infiniopDestroyTensorDescriptor(tensor) };
}

/// Memory in which tensors of the attack lie, with room on both sides.
struct Arena(Vec<u64>);

const HALF: usize = 1 << 12;

impl Arena {
    /// Mostly zeros, which are indices and positions of any table.
    fn new(random: &mut Random) -> Self {
        let mut words = vec![0; 2 * HALF];
        if random.below(4) == 0 {
            words[HALF - 100..HALF + 700].iter_mut().for_each(|word| *word = random.bits());
        }
        Self(words)
    }

    /// Some of it is misaligned, and some calls get none.
    fn pointer(&mut self, random: &mut Random) -> *mut c_void {
        let at = HALF + random.below(600);
        let byte = if random.below(30) == 0 { 1 } else { 0 };
        match random.below(50) {
            0 => null_mut(),
            _ => self.0[at..].as_mut_ptr().wrapping_byte_add(byte).cast(),
        }
    }
}

/// What creation and call of an operator have answered.
type Answers = [Status; 2];

/// Creates an operator for the tensors, and calls it by `$call` on memory of the arena.
macro_rules! attack {
    ($op:ident, [$($tensor:ident: $dtype:expr, $shape:expr);+], [$($param:expr),*],
     |$desc:ident, $random:ident| $call:expr) => {
        |handle: *mut InfiniopHandle, $random: &mut Random, arena: &mut Arena| -> Answers {
            let tensors = [$(tensor($random, $dtype, &$shape)),+];
            let [$($tensor),+] = tensors;
            let handle = if $random.below(40) == 0 { null_mut() } else { handle };
            let mut $desc = null_mut();
            // SAFETY: handles are valid or null, and tensors lie in the arena.
            unsafe {
                let created = $op::create_descriptor(handle, &mut $desc, $($tensor,)+ $($param),*);
                tensors.into_iter().for_each(free);
                $(let $tensor = arena.pointer($random);)+
                let before = arena.0.clone();
                let status = $call;
                assert!(status == Status::Success || arena.0 == before, "{}", last_error());
                let destroyed = $op::destroy_descriptor($desc);
                assert_eq!(destroyed == Status::Success, created == Status::Success);
                assert!(created == Status::Success || status == Status::NullPointer);
                [created, status]
            }
        }
    };
    ($op:ident, [$($tensor:ident: $dtype:expr, $shape:expr);+], [$($param:expr),*], [$($of_call:expr),*]) => {
        attack!($op, [$($tensor: $dtype, $shape);+], [$($param),*], |desc, random| {
            let mut size = 0;
            $op::get_workspace_size(desc, &mut size);
            let mut workspace = vec![0u8; if random.below(20) == 0 { size / 2 } else { size }];
            let (room, size) = (workspace.as_mut_ptr().cast(), workspace.len());
            $op::run(desc, room, size, $($tensor,)+ $($of_call,)* null_mut())
        })
    };
}

/// Attacks operators of two tensors of one shape, or of three.
macro_rules! alike {
    ($run:ident, $float:ident, $shape:ident; $($op:ident($($tensor:ident),+))+) => {
        $($run(
            stringify!($op),
            &mut attack!($op, [$($tensor: $float, $shape);+], [], []),
        );)+
    };
}

#[test]
fn random_calls_answer_with_a_status() {
    let handle = Handle::new();
    let (first, calls) = (number("LUMINA_SEED", 0), number("LUMINA_CALLS", CALLS));
    let mut counts: BTreeMap<(&str, &str, i32), u64> = BTreeMap::new();
    // How many there are, the first call tells.
    let mut operators = 1;
    for seed in first..first + calls {
        let mut random = Random::new(seed);
        let d = Drawn::new(&mut random);
        let Drawn { float, m, n, k, number, small, count, flag, .. } = d;
        let (chosen, mut known) = (random.below(operators), 0);
        let mut run = |name,
                       attack: &mut dyn FnMut(
            *mut InfiniopHandle,
            &mut Random,
            &mut Arena,
        ) -> Answers| {
            known += 1;
            if known - 1 != chosen {
                return;
            }
            let mut arena = Arena::new(&mut random);
            let [created, called] = attack(handle.0, &mut random, &mut arena);
            assert!(called != Status::InternalError, "{name}: {}", last_error());
            *counts.entry((name, "created", created as i32)).or_default() += 1;
            if created == Status::Success {
                *counts.entry((name, "called", called as i32)).or_default() += 1;
            }
        };
        let shape = [m, n];
        alike! { run, float, shape;
            Add(c, a, b) Sub(c, a, b) Mul(c, a, b) SwiGLU(c, a, b) Clip(y, x, low, high)
            Relu(y, x) Gelu(y, x) GeluTanh(y, x) QuickGelu(y, x) Silu(y, x) Sigmoid(y, x) Tanh(y, x)
            Zeros(y, x) Ones(y, x)
        }
        run(
            "Softplus",
            &mut attack!(
                Softplus, [y: float, shape; x: float, shape], [number, 20.0], []
            ),
        );
        run(
            "Softmax",
            &mut attack!(
                Softmax, [y: float, shape; x: float, shape], [small], []
            ),
        );
        run(
            "LogSoftmax",
            &mut attack!(
                LogSoftmax, [y: float, shape; x: float, shape], [small], []
            ),
        );
        run(
            "CausalSoftmax",
            &mut attack!(
                CausalSoftmax, [y: float, [k, m, m + n]; x: float, [k, m, m + n]], [], []
            ),
        );
        run(
            "LayerNorm",
            &mut attack!(
                LayerNorm,
                [y: float, shape; z: float, shape; s: float, [m]; x: float, shape; w: float, [n]; b: float, [n]],
                [number], []
            ),
        );
        run(
            "RMSNorm",
            &mut attack!(
                RMSNorm, [y: float, shape; x: float, shape; w: F32, [n]], [number], []
            ),
        );
        run(
            "AddRMSNorm",
            &mut attack!(
                AddRMSNorm,
                [y: float, shape; r: float, shape; a: float, shape; b: float, shape; w: F32, [n]],
                [number], []
            ),
        );
        let table = [k + 1, n];
        run(
            "RoPE",
            &mut attack!(
                RoPE,
                [y: float, [m, k, 2 * n]; x: float, [m, k, 2 * n]; p: I32, [m]; s: float, table; c: float, table],
                [small], []
            ),
        );
        run(
            "Rearrange",
            &mut attack!(
                Rearrange, [y: float, shape; x: float, shape], [],
                |desc, _random| Rearrange::run(desc, y, x, null_mut())
            ),
        );
        run(
            "Embedding",
            &mut attack!(
                Embedding, [y: float, [m, k, n]; i: I32, [m, k]; w: float, [m + 1, n]], [],
                |desc, _random| Embedding::run(desc, y, i, w, null_mut())
            ),
        );
        let summed = match (count, flag) {
            (0, _) => vec![m, n],
            (_, true) => vec![1, n],
            (_, false) => vec![n],
        };
        let dims = d.dims.as_ptr();
        run(
            "Sum",
            &mut attack!(
                Sum, [y: float, summed; x: float, shape], [dims, count, flag], [dims, count, flag]
            ),
        );
        let found = if count == 0 { [0, n] } else { [m, 1] };
        run(
            "TopK",
            &mut attack!(
                TopK, [v: float, found; i: I32, found; x: float, shape],
                [count, count, flag, true], [count, count, flag, true]
            ),
        );
        run(
            "Gemm",
            &mut attack!(
                Gemm, [c: float, [m, n]; a: float, [m, k]; b: float, [k, n]], [],
                [number, if flag { 0.0 } else { number }]
            ),
        );
        let (pads, ones) = (d.list(&d.pads), d.list(&[1; 3]));
        let places = [d.places(0, 3, 2), d.places(1, n, 1)];
        run(
            "Conv",
            &mut attack!(
                Conv,
                [y: float, [m, n, places[0]]; x: float, [m, k, 3]; w: float, [n, k, 2]; b: float, [n]],
                [pads, ones, ones, 1 + usize::from(small == 3)], []
            ),
        );
        run(
            "ComplexMatmul",
            &mut attack!(
                ComplexMatmul, [c: C64, [m, n]; a: C64, [m, k]; b: C64, [k, n]], [], []
            ),
        );
        run(
            "OpticalMatmul",
            &mut attack!(
                OpticalMatmul,
                [o: F32, [m, n]; x: F32, [m, k]; w: F32, [k, n]; b: F32, [n]; p: F32, [1]; q: F32, [n]; r: F32, [1];
                 e: F32, [4]; s: U32, [2]],
                [small, 8, small, count], []
            ),
        );
        run(
            "OpticalConv",
            &mut attack!(
                OpticalConv,
                [o: F32, [m, places[0], places[1], n]; x: F32, [m, 3, n, k]; w: F32, [2, 1, k, n]; b: F32, [n];
                 p: F32, [1]; q: F32, [1]; r: F32, [1]; e: F32, [4]; s: U32, [2]],
                [small, 8, small, count, pads, ones, ones, 1], []
            ),
        );
        let one = [1, 1];
        run(
            "CausalAttention",
            &mut attack!(
                CausalAttention,
                [o: F32, [k, m, 2, 3]; q: F32, [k, m, 2, n]; u: F32, [k, m + n, 2, n]; v: F32, [k, m + n, 2, 3];
                 a: F32, one; b: F32, one; c: F32, one; d: F32, one; e: F32, one; f: F32, one; g: F32, [2, 4]; s: U32, [2]],
                [small, small, number], []
            ),
        );
        operators = known;
    }
    for ((name, what, status), count) in &counts {
        println!("{name} {what} {status}: {count}");
    }
    // Every operator has run, and every status was there that a call or a creation may have.
    let header = include_str!("../../include/lumina.h");
    let declared = header.lines().filter_map(|line| {
        // What there is not takes nothing, and a tensor no handle.
        let name =
            line.split_once("infiniopCreate")?.1.split_once("Descriptor(infiniopHandle_t")?.0;
        Some((name, "called", 0))
    });
    let missing: Vec<_> = declared.filter(|run| !counts.contains_key(run)).collect();
    assert!(missing.is_empty(), "{missing:?} of {operators}: {counts:?}");
    for (what, statuses) in [("created", &[0, 3, 4, 10, 11, 12][..]), ("called", &[0, 3, 4, 13])] {
        for status in statuses {
            let is_there = counts.keys().any(|&(_, of, known)| of == what && known == *status);
            assert!(is_there, "no {what} of status {status}: {counts:?}");
        }
    }
}
