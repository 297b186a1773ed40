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
    pub(super) y_full_scale: &'a [f32],
    pub(super) noise: &'a [f32],
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

    /// Whether there is noise that depends on all of a patch.
    pub(super) fn has_weight_noise(&self) -> bool {
        self.noise.chunks_exact(4).any(|noise| noise[3] != 0.0)
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
