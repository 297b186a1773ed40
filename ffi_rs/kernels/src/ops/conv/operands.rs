//! What the operands say of some rows and of one group.

use std::borrow::Cow;
use std::ops::Range;

use super::geometry::Shape;
use crate::{Data, Error, View};

/// The operands from `x_full_scale` to `columns`: the first and those of the noise by image, the
/// others by column, or one for all. Rows are numbered from the id of their image on.
pub(super) struct Operands<'a> {
    pub(super) x_full_scale: Cow<'a, [f32]>,
    pub(super) w_full_scale: &'a [f32],
    y_full_scale: &'a [f32],
    noise: &'a [f32],
    seed: &'a [u32],
    rows: &'a [u32],
    columns: &'a [u32],
    /// Whether every row has an id.
    with_ids: bool,
}

impl<'a> Operands<'a> {
    pub(super) fn new(views: &[View<'a>], with_ids: bool) -> Result<Self, Error> {
        Ok(Self {
            x_full_scale: Cow::Borrowed(views[0].data()?),
            w_full_scale: views[1].data()?,
            y_full_scale: views[2].data()?,
            noise: views[3].data()?,
            seed: views[4].data()?,
            rows: views[5].data()?,
            columns: views[6].data()?,
            with_ids,
        })
    }

    /// The same operands of the product of one group, for `rows` of the convolution.
    pub(super) fn of(&self, shape: &Shape, rows: &Range<usize>, group: usize) -> Part<'_> {
        let ids = if self.with_ids {
            let id = |row: usize| {
                let (image, position) = (row / shape.positions(), row % shape.positions());
                self.rows[image].wrapping_add(position as u32)
            };
            rows.clone().map(id).collect()
        } else {
            vec![0]
        };
        let [x_full_scale, noise] = [(&*self.x_full_scale, 1), (self.noise, 4)]
            .map(|(values, width)| by_row(values, width, shape, rows));
        let seed = by_row(self.seed, 2, shape, rows);
        let [w_full_scale, y_full_scale] =
            [self.w_full_scale, self.y_full_scale].map(|values| of_group(values, shape, group));
        let shapes = [
            vec![x_full_scale.len()],
            vec![w_full_scale.len()],
            vec![y_full_scale.len()],
            vec![noise.len() / 4, 4],
            vec![seed.len() / 2, 2],
            vec![ids.len()],
            vec![of_group(self.columns, shape, group).len()],
        ];
        Part {
            x_full_scale,
            w_full_scale,
            y_full_scale,
            noise,
            seed,
            ids,
            columns: of_group(self.columns, shape, group),
            shapes,
        }
    }
}

/// The operands of one product.
pub(super) struct Part<'a> {
    x_full_scale: Cow<'a, [f32]>,
    w_full_scale: &'a [f32],
    y_full_scale: &'a [f32],
    noise: Cow<'a, [f32]>,
    seed: Cow<'a, [u32]>,
    ids: Vec<u32>,
    columns: &'a [u32],
    shapes: [Vec<usize>; 7],
}

impl Part<'_> {
    /// As the chain with one product takes them.
    pub(super) fn views(&self) -> Result<[View<'_>; 7], Error> {
        let [x, w, y, noise, seed, rows, columns] = &self.shapes;
        Ok([
            View::new(x, Data::F32(&self.x_full_scale))?,
            View::new(w, Data::F32(self.w_full_scale))?,
            View::new(y, Data::F32(self.y_full_scale))?,
            View::new(noise, Data::F32(&self.noise))?,
            View::new(seed, Data::U32(&self.seed))?,
            View::new(rows, Data::U32(&self.ids))?,
            View::new(columns, Data::U32(self.columns))?,
        ])
    }
}

/// What each of `rows` has of values by image, or the one that stands for all.
fn by_row<'a, T: Copy>(
    values: &'a [T],
    width: usize,
    shape: &Shape,
    rows: &Range<usize>,
) -> Cow<'a, [T]> {
    if values.len() <= width {
        return Cow::Borrowed(values);
    }
    let of = |row: usize| &values[row / shape.positions() * width..][..width];
    rows.clone().flat_map(|row| of(row).iter().copied()).collect()
}

/// What a group has of values by column, or the one that stands for all.
pub(super) fn of_group<'a, T>(values: &'a [T], shape: &Shape, group: usize) -> &'a [T] {
    let width = shape.columns_of_group();
    if values.len() == shape.columns { &values[group * width..][..width] } else { values }
}

/// The matrices of the groups, depth × columns of a group, one after the other; `kernel` is that of
/// the only one.
pub(super) fn by_group<'a>(kernel: &'a [f32], shape: &Shape) -> Cow<'a, [f32]> {
    if shape.groups == 1 {
        return Cow::Borrowed(kernel);
    }
    let width = shape.columns_of_group();
    let mut matrices = Vec::with_capacity(kernel.len());
    for group in 0..shape.groups {
        for row in kernel.chunks_exact(shape.columns.max(1)) {
            matrices.extend_from_slice(&row[group * width..][..width]);
        }
    }
    matrices.into()
}

/// Adds the matrices of the groups to `kernel`, where their columns stand side by side.
pub(super) fn add_groups(kernel: &mut [f32], matrices: &[f32], shape: &Shape) {
    let width = shape.columns_of_group();
    let groups = matrices.chunks_exact((shape.depth * width).max(1));
    for (group, matrix) in groups.enumerate() {
        let rows = kernel.chunks_exact_mut(shape.columns.max(1));
        for (row, values) in rows.zip(matrix.chunks_exact(width.max(1))) {
            for (sum, value) in row[group * width..][..width].iter_mut().zip(values) {
                *sum += value;
            }
        }
    }
}
