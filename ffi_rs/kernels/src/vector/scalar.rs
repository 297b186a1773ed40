//! One word at a time, on every other CPU.

use super::code_isa::{CodeIsa, code_isa};
use super::dot_isa::{DotIsa, dot_isa};

dot_isa! {
    /// One f32.
    BaselineF32: 1 words, f32 => f32, true {
        zero: 0.0,
        sums: |from: *const f32| *from,
        words: |from: *const f32| *from,
        splat: f32::from_bits,
        add: |sums: f32, left: f32, right: f32| left * right + sums,
        store: |sums, to: *mut f32| *to = sums,
        store_scaled: |sums: f32, scale: *const f32, add_to: bool, to: *mut f32| {
            *to = sums * *scale + if add_to { *to } else { 0.0 };
        },
    }
}

dot_isa! {
    /// Two i16.
    BaselineI16: 1 words, u32 => i32, false {
        zero: 0,
        sums: |from: *const i32| *from,
        words: |from: *const u32| *from,
        splat: |word: u32| word,
        add: |sums: i32, left: u32, right: u32| {
            let low = i32::from(left as i16) * i32::from(right as i16);
            let high = i32::from((left >> 16) as i16) * i32::from((right >> 16) as i16);
            sums.wrapping_add(low).wrapping_add(high)
        },
        store: |sums: i32, to: *mut f32| *to = sums as f32,
        store_scaled: |sums: i32, scale: *const f32, add_to: bool, to: *mut f32| {
            *to = sums as f32 * *scale + if add_to { *to } else { 0.0 };
        },
    }
}

code_isa! {
    BaselineI16: pairs true {
        field: |words: u32, shift: u32, mask: u32| words >> shift & mask,
        bytes: |words: u32| words,
        save: |sums: i32, to: *mut i32| *to = sums,
    }
}
