//! Lines of codes, and what becomes of them, many at a time.

use super::{Field, Fields, MOST_PLANES};
use crate::isa::for_each_isa;

/// Calls `line` with the code of each column, of codes with so many planes.
#[inline(always)]
fn for_each_code<const PLANES: usize>(
    fields: &Fields<'_>,
    count: usize,
    mut line: impl FnMut(usize, u32),
) {
    // Of slices that are as long as the loop there are no checks, and it takes many columns at a time.
    let planes: [Field<'_>; PLANES] = std::array::from_fn(|index| {
        let field = fields.of_plane[index];
        Field { words: &field.words[..count], ..field }
    });
    for column in 0..count {
        line(column, planes.iter().fold(0, |code, field| code | field.part(column)));
    }
}

/// Calls a function that is generic over the number of planes: what it does with a code is compiled for each, as
/// a compiler that calls it from several loops would leave a call in them.
macro_rules! by_planes {
    ($fields:ident, $function:ident($($arg:expr),*)) => {
        match $fields.planes {
            1 => $function::<1>($($arg),*),
            2 => $function::<2>($($arg),*),
            _ => $function::<MOST_PLANES>($($arg),*),
        }
    };
}

/// By column, the zero points and the scales.
pub(super) type OfColumns<'a> = [&'a [f32]; 2];

/// Writes `(level(column, code) - zero_point) · scale`.
#[inline(always)]
fn write(
    out: &mut [f32],
    fields: &Fields<'_>,
    of_columns: OfColumns<'_>,
    level: impl Fn(usize, u32) -> f32,
) {
    by_planes!(fields, write_planes(out, fields, of_columns, level));
}

#[inline(always)]
fn write_planes<const PLANES: usize>(
    out: &mut [f32],
    fields: &Fields<'_>,
    of_columns: OfColumns<'_>,
    level: impl Fn(usize, u32) -> f32,
) {
    let [zero_points, scales] = of_columns.map(|all| &all[..out.len()]);
    for_each_code::<PLANES>(fields, out.len(), |column, code| {
        out[column] = (level(column, code) - zero_points[column]) * scales[column];
    });
}

#[inline(always)]
fn of_codes_body(out: &mut [f32], fields: &Fields<'_>, of_columns: OfColumns<'_>) {
    write(out, fields, of_columns, |_, code| code as i32 as f32);
}

for_each_isa! {
    /// Writes numbers whose levels are the codes.
    pub(super) fn of_codes(
        out: &mut [f32],
        fields: &Fields<'_>,
        of_columns: OfColumns<'_>,
    ) = of_codes_body
}

#[inline(always)]
fn of_table_body(
    out: &mut [f32],
    fields: &Fields<'_>,
    of_columns: OfColumns<'_>,
    levels: &[f32; 256],
) {
    write(out, fields, of_columns, |_, code| levels[usize::from(code as u8)]);
}

for_each_isa! {
    /// Writes numbers of these levels.
    pub(super) fn of_table(
        out: &mut [f32],
        fields: &Fields<'_>,
        of_columns: OfColumns<'_>,
        levels: &[f32; 256],
    ) = of_table_body
}

/// Writes numbers whose levels are those of their column.
pub(super) fn of_tables<'a>(
    out: &mut [f32],
    fields: &Fields<'_>,
    of_columns: OfColumns<'_>,
    levels: impl Fn(usize) -> &'a [f32],
) {
    write(out, fields, of_columns, |column, code| levels(column)[code as usize]);
}

#[inline(always)]
fn write_words_body(out: &mut [u32], fields: &Fields<'_>) {
    by_planes!(fields, write_words_of(out, fields));
}

#[inline(always)]
fn write_words_of<const PLANES: usize>(out: &mut [u32], fields: &Fields<'_>) {
    for_each_code::<PLANES>(fields, out.len(), |column, word| out[column] = word);
}

for_each_isa! {
    /// Writes words of four codes, a byte each.
    pub(super) fn write_words(out: &mut [u32], fields: &Fields<'_>) = write_words_body
}

#[inline(always)]
fn raise_body(most: &mut u32, fields: &Fields<'_>) {
    by_planes!(fields, raise_of(most, fields));
}

#[inline(always)]
fn raise_of<const PLANES: usize>(most: &mut u32, fields: &Fields<'_>) {
    let count = fields.of_plane[0].words.len();
    let mut largest = *most;
    for_each_code::<PLANES>(fields, count, |_, code| largest = largest.max(code));
    *most = largest;
}

for_each_isa! {
    /// Raises `most` to the largest of the codes.
    pub(super) fn raise(most: &mut u32, fields: &Fields<'_>) = raise_body
}
