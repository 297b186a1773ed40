//! The convolution is the product with its patches, whoever computes how many of them at a time.

use lumina_kernels::{Attr, Serial, ThreadPool};

use crate::support::{
    Attributes, FORWARD, GRADIENT, NOISE, Tensor, attrs, bits_of, numbers, run, run_prepared, with,
};

const CONV: &str = "optical_conv";
const CONV_FORWARD: &str = "optical_conv_fwd";
const CONV_GRADIENT: &str = "optical_conv_grad";

/// A geometry, and the extents of x and of the kernel.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    x: [usize; 4],
    taps: [usize; 2],
    columns: usize,
    strides: &'static [i64; 2],
    padding: &'static [i64; 4],
    input_dilation: &'static [i64; 2],
    kernel_dilation: &'static [i64; 2],
    groups: usize,
}

const PLAIN: Geometry = Geometry {
    x: [3, 9, 11, 4],
    taps: [3, 3],
    columns: 6,
    strides: &[1, 1],
    padding: &[1, 1, 1, 1],
    input_dilation: &[1, 1],
    kernel_dilation: &[1, 1],
    groups: 1,
};

/// Few rows and many, an image of several units, several images of one, and a kernel without depth.
const GEOMETRIES: [Geometry; 7] = [
    PLAIN,
    Geometry { x: [2, 40, 33, 4], strides: &[1, 2], padding: &[0, 2, 3, 0], groups: 2, ..PLAIN },
    Geometry { x: [9, 6, 5, 4], input_dilation: &[2, 1], kernel_dilation: &[1, 2], ..PLAIN },
    Geometry { x: [2, 30, 31, 6], columns: 12, groups: 6, ..PLAIN },
    Geometry { x: [1, 3, 3, 4], padding: &[0, 0, 0, 0], ..PLAIN },
    Geometry { x: [0, 3, 3, 4], ..PLAIN },
    Geometry { x: [2, 3, 3, 0], ..PLAIN },
];

impl Geometry {
    fn attrs(&self, bits: [i64; 3], noisy: bool, residual: &'static str) -> Attributes {
        let mut attrs = attrs(bits, false, noisy, residual);
        attrs.retain(|(name, _)| *name != "transpose_weight");
        attrs.extend([
            ("window_strides", Attr::Ints(self.strides)),
            ("padding", Attr::Ints(self.padding)),
            ("input_dilation", Attr::Ints(self.input_dilation)),
            ("kernel_dilation", Attr::Ints(self.kernel_dilation)),
            ("feature_group_count", Attr::Int(self.groups as i64)),
        ]);
        attrs
    }

    fn places(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let [before, after] = [0, 1].map(|side| self.padding[2 * axis + side] as usize);
            let dilated = (self.x[1 + axis] - 1) * self.input_dilation[axis] as usize + 1;
            let reach = (self.taps[axis] - 1) * self.kernel_dilation[axis] as usize + 1;
            (dilated + before + after - reach) / self.strides[axis] as usize + 1
        })
    }

    /// Where in an image tap `tap` is at `place`, if it meets an element.
    fn element(&self, axis: usize, place: usize, tap: usize) -> Option<usize> {
        let number = |values: &[i64], index: usize| values[index];
        let at = place as i64 * number(self.strides, axis)
            + tap as i64 * number(self.kernel_dilation, axis)
            - number(self.padding, 2 * axis);
        let dilation = self.input_dilation[axis];
        let inside = at >= 0 && at % dilation == 0 && at / dilation < self.x[1 + axis] as i64;
        inside.then_some((at / dilation) as usize)
    }

    /// By row and number of the patches of a group: where in x it is from.
    fn sources(&self, group: usize) -> Vec<Vec<Option<usize>>> {
        let [images, height, width, channels] = self.x;
        let [down, across] = self.places();
        let depth = channels / self.groups;
        let mut rows = Vec::new();
        for image in 0..images {
            for place in 0..down * across {
                let mut patch = Vec::new();
                for tap in 0..self.taps[0] * self.taps[1] {
                    let y = self.element(0, place / across, tap / self.taps[1]);
                    let x = self.element(1, place % across, tap % self.taps[1]);
                    let pixel = y.zip(x).map(|(y, x)| (image * height + y) * width + x);
                    let at =
                        |channel| pixel.map(|pixel| pixel * channels + group * depth + channel);
                    patch.extend((0..depth).map(at));
                }
                rows.push(patch);
            }
        }
        rows
    }

    /// Operands of the convolution; full scales, noise and seeds differ by image.
    fn operands(&self) -> Vec<Tensor> {
        let [images, .., channels] = self.x;
        let kernel = vec![self.taps[0], self.taps[1], channels / self.groups, self.columns];
        let n = self.columns;
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        let spread = |count: usize, from: f32| (0..count).map(|i| from + 0.05 * i as f32).collect();
        let noise = (0..images).flat_map(|i| NOISE.map(|v| v * (1.0 + 0.1 * i as f32))).collect();
        vec![
            Tensor::F32(self.x.to_vec(), numbers(size(&self.x), 1)),
            Tensor::F32(kernel.clone(), numbers(size(&kernel), 2)),
            Tensor::F32(vec![n], numbers(n, 3)),
            Tensor::F32(vec![images], spread(images, 0.8)),
            Tensor::F32(vec![n], spread(n, 0.7)),
            Tensor::F32(vec![n], spread(n, 2.0)),
            Tensor::F32(vec![images, 4], noise),
            Tensor::U32(vec![images, 2], (0..2 * images as u32).map(|i| 7 * i + 1).collect()),
            Tensor::U32(vec![images], (0..images as u32).map(|i| 5000 * i + 3).collect()),
            Tensor::U32(vec![n], (0..n as u32).map(|i| i + 250).collect()),
        ]
    }

    /// The same without noise that depends on a whole patch, where narrow groups are one product.
    fn operands_by_output(&self) -> Vec<Tensor> {
        let mut operands = self.operands();
        let Tensor::F32(_, noise) = &mut operands[6] else { unreachable!() };
        noise.chunks_exact_mut(4).for_each(|noise| noise[3] = 0.0);
        operands
    }

    /// Operands of `optical_matmul` for the patches of a group.
    fn product(&self, operands: &[Tensor], group: usize) -> Vec<Tensor> {
        let sources = self.sources(group);
        let (rows, n) = (sources.len(), self.columns / self.groups);
        let positions: usize = self.places().iter().product();
        let depth = self.taps[0] * self.taps[1] * (self.x[3] / self.groups);
        let x = operands[0].f32();
        let patches = sources.iter().flatten().map(|at| at.map_or(0.0, |at| x[at])).collect();
        let column = |tensor: &Tensor| match tensor {
            Tensor::F32(_, data) if data.len() == self.columns => {
                Tensor::F32(vec![n], data[group * n..][..n].to_vec())
            }
            Tensor::U32(_, data) => Tensor::U32(vec![n], data[group * n..][..n].to_vec()),
            other => other.clone(),
        };
        let by_row = |tensor: &Tensor, width: usize| {
            let image = |row: usize| row / positions;
            let shape = |len: usize| if width == 1 { vec![len] } else { vec![len, width] };
            match tensor {
                Tensor::F32(_, data) if data.is_empty() && self.x[0] > 0 => tensor.clone(),
                Tensor::F32(_, data) => {
                    let of = |row| data[image(row) * width..][..width].to_vec();
                    Tensor::F32(shape(rows), (0..rows).flat_map(of).collect())
                }
                Tensor::U32(_, data) => {
                    let of = |row| data[image(row) * width..][..width].to_vec();
                    Tensor::U32(shape(rows), (0..rows).flat_map(of).collect())
                }
                other => other.clone(),
            }
        };
        let Tensor::U32(_, first) = &operands[8] else { unreachable!() };
        let id = |row: usize| first[row / positions] + (row % positions) as u32;
        let w = operands[1].f32().chunks_exact(self.columns);
        let w: Vec<f32> = w.flat_map(|row| row[group * n..][..n].to_vec()).collect();
        vec![
            Tensor::F32(vec![rows, depth], patches),
            Tensor::F32(vec![depth, n], w),
            column(&operands[2]),
            by_row(&operands[3], 1),
            column(&operands[4]),
            column(&operands[5]),
            by_row(&operands[6], 4),
            by_row(&operands[7], 2),
            Tensor::U32(vec![rows], (0..rows).map(id).collect()),
            column(&operands[9]),
        ]
    }

    /// What all groups give of the same result, side by side.
    fn joined(&self, of_groups: &[Vec<Tensor>], result: usize) -> Vec<u32> {
        let n = self.columns / self.groups;
        let rows = of_groups[0][result].bits().len() / n;
        let bits: Vec<Vec<u32>> = of_groups.iter().map(|tensors| tensors[result].bits()).collect();
        (0..rows)
            .flat_map(|row| bits.iter().flat_map(move |bits| bits[row * n..][..n].to_vec()))
            .collect()
    }
}

const BITS: [[i64; 3]; 4] = [[0, 0, 0], [8, 8, 8], [12, 9, 6], [1, 0, 4]];

#[test]
fn is_the_product_with_its_patches_for_any_number_of_threads() {
    let pools = [1, 2, 7].map(|threads| ThreadPool::new(threads).unwrap());
    for geometry in GEOMETRIES {
        for (operands, bits) in BITS.into_iter().flat_map(|bits| {
            [geometry.operands(), geometry.operands_by_output()].map(|operands| (operands, bits))
        }) {
            for residual in ["pre_noise", "slope", "signs"] {
                let attrs = geometry.attrs(bits, true, residual);
                let plain = with(attrs.clone(), &[("transpose_weight", Attr::Bool(false))]);
                let of_groups: Vec<Vec<Tensor>> = (0..geometry.groups)
                    .map(|group| geometry.product(&operands, group))
                    .map(|inputs| run(FORWARD, &plain, &inputs, &Serial).unwrap())
                    .collect();
                let expected = [0, 1].map(|result| geometry.joined(&of_groups, result));
                for pool in &pools {
                    let got = run(CONV_FORWARD, &attrs, &operands, pool).unwrap();
                    assert_eq!(bits_of(&got), expected, "{geometry:?} {bits:?} {residual}");
                }
                let deployed = run(CONV, &attrs, &operands, &pools[1]).unwrap();
                assert_eq!(deployed[0].bits(), expected[0], "{geometry:?} {bits:?}");
            }
        }
    }
}

#[test]
fn finds_the_ranges_of_its_patches() {
    // Of these images the last line and the last two columns are in no patch.
    let geometry = Geometry {
        x: [3, 8, 9, 4],
        taps: [2, 1],
        strides: &[3, 3],
        padding: &[0, 0, 0, 0],
        groups: 2,
        ..PLAIN
    };
    let mut operands = geometry.operands();
    let Tensor::F32(_, x) = &mut operands[0] else { unreachable!() };
    x[(7 * 9) * 4..8 * 9 * 4].fill(100.0);
    x[3 * 4 + 1] = f32::INFINITY;
    let found = Tensor::F32(vec![0], Vec::new());
    (operands[3], operands[4]) = (found.clone(), found);
    let peaks = ["with_peak", "with_x_peak", "with_w_peak"].map(|name| (name, Attr::Bool(true)));
    let attrs = with(geometry.attrs([6, 6, 8], true, "pre_noise"), &peaks);
    let got = run(CONV_FORWARD, &attrs, &operands, &ThreadPool::new(2).unwrap()).unwrap();

    let x = operands[0].f32();
    let mut of_x = vec![0.0f32; 3];
    let mut of_w = [0.0f32; 6];
    for group in 0..2 {
        let sources = geometry.sources(group);
        let positions = sources.len() / 3;
        for (row, patch) in sources.iter().enumerate() {
            let values = patch.iter().flatten().map(|at| x[*at].abs()).filter(|v| v.is_finite());
            of_x[row / positions] = values.fold(of_x[row / positions], f32::max);
        }
    }
    for (index, w) in operands[1].f32().iter().enumerate() {
        of_w[index % 6] = of_w[index % 6].max(w.abs());
    }
    let y = got[1].f32();
    let of_y: Vec<f32> = y
        .chunks_exact(y.len() / 3)
        .map(|y| y.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f32::max))
        .collect();
    assert_eq!(got[2].f32(), of_y);
    assert_eq!(got[3].f32(), of_x);
    assert_eq!(got[4].f32(), of_w);

    let range = of_x.iter().copied().fold(0.0, f32::max);
    operands[3] = Tensor::F32(vec![1], vec![range]);
    operands[4] = Tensor::F32(vec![6], of_w.to_vec());
    let given = run(CONV_FORWARD, &attrs, &operands, &Serial).unwrap();
    assert_eq!(bits_of(&got), bits_of(&given));
}

#[test]
fn what_is_not_finite_stays_in_its_rows_and_its_group() {
    let geometry = GEOMETRIES[1];
    for bits in BITS {
        let mut operands = geometry.operands_by_output();
        let attrs = geometry.attrs(bits, true, "none");
        let clean = run(CONV, &attrs, &operands, &Serial).unwrap();
        // Of the second group, in image 1.
        let at = ((40 + 20) * 33 + 16) * 4 + 3;
        for bad in [f32::NAN, f32::INFINITY] {
            let Tensor::F32(_, x) = &mut operands[0] else { unreachable!() };
            x[at] = bad;
            let got = run(CONV, &attrs, &operands, &ThreadPool::new(2).unwrap()).unwrap();
            let sources = geometry.sources(1);
            let met: Vec<bool> = sources.iter().map(|patch| patch.contains(&Some(at))).collect();
            assert_eq!(met.iter().filter(|met| **met).count(), 3);
            let rows = got[0].f32().chunks_exact(6).zip(clean[0].f32().chunks_exact(6));
            for ((got, clean), met) in rows.zip(met) {
                assert_eq!(got[..3], clean[..3]);
                assert!(
                    got[3..]
                        .iter()
                        .zip(&clean[3..])
                        .all(|(got, clean)| { if met { got.is_nan() } else { got == clean } })
                );
            }
        }
    }
}

#[test]
fn prepared_weights_give_the_same_bits() {
    for geometry in [GEOMETRIES[0], GEOMETRIES[1], GEOMETRIES[3], GEOMETRIES[4]] {
        let operands = geometry.operands();
        for (bits, operands, constants) in [
            ([8, 8, 8], geometry.operands(), &[1, 4][..]),
            ([0, 6, 0], geometry.operands_by_output(), &[1, 4, 6]),
        ] {
            let attrs = geometry.attrs(bits, true, "none");
            let expected = run(CONV, &attrs, &operands, &Serial).unwrap();
            let got = run_prepared(CONV, &attrs, &operands, constants, 1).expect("it has weights");
            assert_eq!(bits_of(&got), bits_of(&expected));
        }
        let attrs = geometry.attrs([8, 0, 8], true, "none");
        assert!(run_prepared(CONV, &attrs, &operands, &[1, 4], 1).is_none());
    }
}

#[test]
fn its_gradient_is_that_of_the_product_for_any_number_of_threads() {
    let pools = [1, 2, 7].map(|threads| ThreadPool::new(threads).unwrap());
    for geometry in GEOMETRIES {
        for (bits, residual, precision, operands) in [
            ([8, 8, 8], "pre_noise", "float32", geometry.operands()),
            ([6, 9, 8], "pre_noise", "float32", geometry.operands_by_output()),
            ([0, 0, 0], "slope", "bfloat16", geometry.operands_by_output()),
            ([12, 6, 0], "signs", "int8", geometry.operands_by_output()),
        ] {
            let of_y = residual == "pre_noise";
            let changes = [
                ("adc_bits", Attr::Int(if of_y { bits[2] } else { 0 })),
                ("noisy", Attr::Bool(residual != "slope")),
                ("with_ranges", Attr::Bool(of_y)),
                ("grad_precision", Attr::Str(precision)),
            ];
            let forward = geometry.attrs(bits, true, residual);
            let saved = run(CONV_FORWARD, &forward, &operands, &Serial).unwrap().remove(1);
            let attrs = with(forward, &changes);
            let shape = saved.shape().to_vec();
            let g = Tensor::F32(shape.clone(), numbers(shape.iter().product(), 9));
            let mut inputs =
                vec![g.clone(), saved.clone(), operands[0].clone(), operands[1].clone()];
            inputs.extend_from_slice(&operands[3..]);
            let got = run(CONV_GRADIENT, &attrs, &inputs, &Serial).unwrap();
            for pool in &pools {
                let other = run(CONV_GRADIENT, &attrs, &inputs, pool).unwrap();
                assert_eq!(bits_of(&other), bits_of(&got), "{geometry:?} {residual}");
            }
            if precision == "float32" {
                check_against_the_product(&geometry, &attrs, &operands, [&g, &saved], &got);
            }
        }
    }
}

/// Adds up, in f64, what `optical_matmul_grad` gives of all patches.
fn check_against_the_product(
    geometry: &Geometry,
    attrs: &Attributes,
    operands: &[Tensor],
    [g, saved]: [&Tensor; 2],
    got: &[Tensor],
) {
    let attrs = with(attrs.clone(), &[("transpose_weight", Attr::Bool(false))]);
    let (all, n) = (geometry.columns, geometry.columns / geometry.groups);
    let mut dx = vec![0.0f64; operands[0].f32().len()];
    let mut by_image = [vec![0.0f64; geometry.x[0]], vec![0.0f64; 4 * geometry.x[0]]];
    let mut of_groups = Vec::new();
    for group in 0..geometry.groups {
        let mut inputs = geometry.product(operands, group);
        let rows = inputs[0].shape()[0];
        let columns = |tensor: &Tensor| {
            let rows_of = tensor.f32().chunks_exact(all);
            let data = rows_of.flat_map(|row| row[group * n..][..n].to_vec()).collect();
            Tensor::F32(vec![rows, n], data)
        };
        inputs.remove(2);
        inputs.splice(0..0, [columns(g), columns(saved)]);
        let results = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
        let sources = geometry.sources(group);
        let positions = rows / geometry.x[0].max(1);
        for (at, value) in sources.iter().flatten().zip(results[0].f32()) {
            if let Some(at) = at {
                dx[*at] += f64::from(*value);
            }
        }
        for (sums, (values, width)) in
            by_image.iter_mut().zip([(results[3].f32(), 1), (results[6].f32(), 4)])
        {
            for (index, value) in values.iter().enumerate() {
                let image = index / width / positions;
                sums[image * width + index % width] += f64::from(*value);
            }
        }
        of_groups.push(results);
    }
    let close = |got: &[f32], expected: &[f64]| {
        assert_eq!(got.len(), expected.len());
        let scale = expected.iter().fold(1.0f64, |scale, value| scale.max(value.abs()));
        for (got, expected) in got.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() <= 2e-5 * scale, "{got} {expected}");
        }
    };
    close(got[0].f32(), &dx);
    for (result, of_product) in [(1, 1), (2, 2), (4, 4), (5, 5)] {
        let bits = geometry.joined(&of_groups, of_product);
        let expected: Vec<f64> = bits.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect();
        close(got[result].f32(), &expected);
    }
    close(got[3].f32(), &by_image[0]);
    close(got[6].f32(), &by_image[1]);
}

#[test]
fn refuses_what_it_does_not_accept() {
    let refuse = |geometry: Geometry, changes: &[(&'static str, Attr<'static>)], expected: &str| {
        let attrs = with(geometry.attrs([8, 8, 8], true, "none"), changes);
        let error = run(CONV, &attrs, &PLAIN.operands(), &Serial).unwrap_err();
        assert_eq!(error.to_string(), format!("optical_conv: {expected}"));
    };
    let ints = |values: &'static [i64]| Attr::Ints(values);
    for (name, value, expected) in [
        ("window_strides", ints(&[1]), "`window_strides` must have 2 integers, got 1"),
        ("window_strides", ints(&[1, 0]), "`window_strides` must be at least 1, got 0"),
        ("padding", ints(&[0, 0, -1, 0]), "`padding` must be at least 0, got -1"),
        ("kernel_dilation", ints(&[0, 1]), "`kernel_dilation` must be at least 1, got 0"),
        ("feature_group_count", Attr::Int(0), "`feature_group_count` must be at least 1, got 0"),
        (
            "feature_group_count",
            Attr::Int(2),
            "`kernel` must have 4 / 2 channels, those of `x` over `feature_group_count`, got 4",
        ),
        (
            "feature_group_count",
            Attr::Int(4),
            "`kernel` must have outputs that `feature_group_count` 4 divides, got 6",
        ),
        (
            "kernel_dilation",
            ints(&[6, 1]),
            "`kernel` f32[3,3,4,6] is bigger than the padded image, `x` f32[3,9,11,4]",
        ),
        (
            "kernel_dilation",
            ints(&[i64::MAX, 1]),
            "`kernel` f32[3,3,4,6] is bigger than the padded image, `x` f32[3,9,11,4]",
        ),
    ] {
        refuse(PLAIN, &[(name, value)], expected);
    }
    let mut operands = PLAIN.operands();
    operands[0] = Tensor::F32(vec![9, 11, 4], vec![0.0; 9 * 11 * 4]);
    let error = run(CONV, &PLAIN.attrs([0; 3], false, "none"), &operands, &Serial).unwrap_err();
    assert_eq!(error.to_string(), "optical_conv: `x` must be f32 with four axes, got f32[9,11,4]");
    let error = run(CONV, &PLAIN.attrs([0; 3], false, "none"), &operands[..2], &Serial);
    assert_eq!(error.unwrap_err().to_string(), "optical_conv: expected 10 operands, got 2");
}
