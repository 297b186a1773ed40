//! Lines of codes, and what becomes of them, many at a time.

use super::{Field, Fields};
use crate::isa::for_each_isa;

/// Calls `line` with the code of each column, in a loop for as many planes as there are.
#[inline(always)]
fn for_each_code(fields: &Fields<'_>, count: usize, mut line: impl FnMut(usize, u32)) {
    let [a, b, c] = fields.of_plane.map(|field| Field { words: of(field.words, count), ..field });
    match fields.planes {
        1 => (0..count).for_each(|column| line(column, a.part(column))),
        2 => (0..count).for_each(|column| line(column, a.part(column) | b.part(column))),
        _ => (0..count)
            .for_each(|column| line(column, a.part(column) | b.part(column) | c.part(column))),
    }
}

/// As many words, unless there are none: a loop that knows so has no checks.
#[inline(always)]
fn of(words: &[u32], count: usize) -> &[u32] {
    if words.is_empty() { words } else { &words[..count] }
}

#[inline(always)]
fn write_levels_body(out: &mut [f32], fields: &Fields<'_>) {
    for_each_code(fields, out.len(), |column, code| out[column] = code as i32 as f32);
}

for_each_isa! {
    /// Writes codes as numbers.
    pub(super) fn write_levels(out: &mut [f32], fields: &Fields<'_>) = write_levels_body
}

#[inline(always)]
fn look_up_body(out: &mut [f32], fields: &Fields<'_>, levels: &[f32; 256]) {
    for_each_code(fields, out.len(), |column, code| out[column] = levels[usize::from(code as u8)]);
}

for_each_isa! {
    /// Writes what codes stand for.
    pub(super) fn look_up(out: &mut [f32], fields: &Fields<'_>, levels: &[f32; 256]) = look_up_body
}

#[inline(always)]
fn scale_body(out: &mut [f32], zero_points: &[f32], scales: &[f32]) {
    for ((out, zero_point), scale) in out.iter_mut().zip(zero_points).zip(scales) {
        *out = (*out - zero_point) * scale;
    }
}

for_each_isa! {
    /// `(level - zero_point) · scale`, rounded twice, in place of levels.
    pub(super) fn scale(out: &mut [f32], zero_points: &[f32], scales: &[f32]) = scale_body
}

#[inline(always)]
fn raise_body(most: &mut u32, fields: &Fields<'_>) {
    let count = fields.of_plane[0].words.len();
    let mut largest = *most;
    for_each_code(fields, count, |_, code| largest = largest.max(code));
    *most = largest;
}

for_each_isa! {
    /// Raises `most` to the largest of the codes.
    pub(super) fn raise(most: &mut u32, fields: &Fields<'_>) = raise_body
}
