//! Every convolution is the slow one.

use lumina_kernels::{Attr, Attrs, Data, ThreadPool};
use proptest::prelude::*;

use super::*;

/// The attributes of a convolution.
#[derive(Clone, Debug)]
struct Given {
    ints: Vec<(&'static str, Vec<i64>)>,
    groups: [i64; 2],
}

impl Attrs for Given {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        match name {
            "feature_group_count" => Some(Attr::Int(self.groups[0])),
            "batch_group_count" => Some(Attr::Int(self.groups[1])),
            _ => {
                let (_, list) = self.ints.iter().find(|(other, _)| *other == name)?;
                Some(Attr::Ints(list))
            }
        }
    }
}

/// Stride, padding before and behind, both dilations, extent and taps along a spatial axis.
type Axis = (i64, i64, i64, i64, i64, usize, usize);

/// A convolution and its operands; the axes of all in the order batch, channels, spatial axes.
#[derive(Clone, Debug)]
struct Case {
    attributes: Given,
    x: Vec<usize>,
    kernel: Vec<usize>,
}

/// The axes of a tensor in the order that `spec` says.
fn arranged(spec: &[i64], extents: &[usize]) -> Vec<usize> {
    let mut shape = vec![0; extents.len()];
    for (axis, extent) in spec.iter().zip(extents) {
        shape[*axis as usize] = *extent;
    }
    shape
}

fn list(given: &Given, name: &str) -> Vec<i64> {
    given.ints.iter().find(|(other, _)| *other == name).unwrap().1.clone()
}

/// As it is defined: the sum over all that lies under the kernel, in a padded and dilated image.
fn slow(case: &Case, x: &[i32], kernel: &[i32], out_shape: &[usize]) -> Vec<i32> {
    let given = &case.attributes;
    let names = ["lhs_spec", "rhs_spec", "out_spec"];
    let [lhs_spec, rhs_spec, out_spec] = names.map(|name| list(given, name));
    let (x_shape, kernel_shape) = (arranged(&lhs_spec, &case.x), arranged(&rhs_spec, &case.kernel));
    let spatial = case.x.len() - 2;
    let [groups, image_groups] = given.groups.map(|count| count as usize);
    let at = |spec: &[i64], shape: &[usize], index: &[usize]| {
        let axes = shape.iter().enumerate().map(|(axis, extent)| {
            (index[spec.iter().position(|&s| s as usize == axis).unwrap()], extent)
        });
        axes.fold(0, |sum, (index, extent)| sum * extent + index)
    };
    let outputs = case.kernel[0];
    let extents = |spec: &[i64], shape: &[usize]| -> Vec<usize> {
        spec.iter().map(|&axis| shape[axis as usize]).collect()
    };
    let mut out = vec![0; out_shape.iter().product()];
    for place in indices(&extents(&out_spec, out_shape)) {
        let (image, output) = (place[0], place[1]);
        let mut sum = 0i32;
        for tap in indices(&case.kernel[1..]) {
            let group = output / (outputs / groups);
            let image_group = output / (outputs / image_groups);
            let mut index = vec![
                image + image_group * (case.x[0] / image_groups),
                tap[0] + group * case.kernel[1],
            ];
            for axis in 0..spatial {
                let number = |name| list(given, name)[axis];
                let position = place[2 + axis] as i64 * number("window_strides")
                    + tap[1 + axis] as i64 * number("rhs_dilation")
                    - number("low");
                let dilation = number("lhs_dilation");
                if position >= 0
                    && position % dilation == 0
                    && position / dilation < case.x[2 + axis] as i64
                {
                    index.push((position / dilation) as usize);
                }
            }
            if index.len() == case.x.len() {
                let weight = kernel[at(&rhs_spec, &kernel_shape, &[&[output][..], &tap].concat())];
                sum += x[at(&lhs_spec, &x_shape, &index)] * weight;
            }
        }
        out[at(&out_spec, out_shape, &place)] = sum;
    }
    out
}

/// All indices of a shape, row-major.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |all, &extent| {
        let longer = |index: &Vec<usize>, last| [&index[..], &[last]].concat();
        all.iter().flat_map(|index| (0..extent).map(move |last| longer(index, last))).collect()
    })
}

fn run(op: &dyn DynOp, inputs: [View<'_>; 2], out_shape: &[usize], pool: &dyn ParFor) -> Vec<f32> {
    let mut out = vec![f32::NAN; out_shape.iter().product()];
    let view = ViewMut::new(out_shape, f32::data_mut(&mut out)).unwrap();
    op.run(&inputs, &mut [view], pool).unwrap();
    out
}

fn order(rank: usize) -> impl Strategy<Value = Vec<i64>> {
    let usual = (0..rank as i64).collect::<Vec<_>>();
    let last = [&[0, rank as i64 - 1][..], &(1..rank as i64 - 1).collect::<Vec<_>>()].concat();
    prop_oneof![2 => Just(last), 1 => Just(usual.clone()), 1 => Just(usual).prop_shuffle()]
}

fn case() -> impl Strategy<Value = Case> {
    let axis = (1..4i64, -2..3i64, -2..4i64, 1..5i64, 1..4i64, 1..8usize, 1..4usize);
    let groups = prop_oneof![Just([1, 1]), Just([3, 1]), Just([1, 2])];
    let counts = (0..4usize, 1..4usize, 1..4usize);
    (proptest::collection::vec(axis, 0..4), groups, counts)
        .prop_flat_map(|(axes, groups, counts)| {
            let rank = axes.len() + 2;
            // The kernel's outputs are its first axis, or usually its last.
            let kernel = prop_oneof![
                Just(
                    [
                        &[rank as i64 - 1, rank as i64 - 2][..],
                        &(0..rank as i64 - 2).collect::<Vec<_>>()
                    ]
                    .concat()
                ),
                order(rank),
            ];
            (Just(axes), Just(groups), Just(counts), order(rank), kernel, order(rank))
        })
        .prop_map(|(axes, groups, (images, channels, outputs), lhs, rhs, out)| {
            let column = |pick: fn(&Axis) -> i64| axes.iter().map(pick).collect::<Vec<i64>>();
            let [channel_groups, image_groups] = groups.map(|count| count as usize);
            let images = images * image_groups;
            let outputs = outputs * channel_groups * image_groups;
            let x = [images, channels * channel_groups].into_iter();
            let kernel = [outputs, channels].into_iter();
            Case {
                x: x.chain(axes.iter().map(|axis| axis.5)).collect(),
                kernel: kernel.chain(axes.iter().map(|axis| axis.6)).collect(),
                attributes: Given {
                    ints: vec![
                        ("window_strides", column(|axis| axis.0)),
                        ("low", column(|axis| axis.1)),
                        ("high", column(|axis| axis.2)),
                        ("lhs_dilation", column(|axis| axis.3)),
                        ("rhs_dilation", column(|axis| axis.4)),
                        ("lhs_spec", lhs),
                        ("rhs_spec", rhs),
                        ("out_spec", out),
                    ],
                    groups,
                },
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Of all types, of any layout, prepared or not, on any number of threads. Sums of these numbers
    /// are exact.
    #[test]
    fn a_convolution_is_the_slow_one(case in case(), seed in 1..1000usize) {
        let given = &case.attributes;
        let op = Convolution::from_attrs(given).unwrap();
        let x_shape = arranged(&list(given, "lhs_spec"), &case.x);
        let kernel_shape = arranged(&list(given, "rhs_spec"), &case.kernel);
        let facts = [&x_shape, &kernel_shape].map(|shape| Fact::new(DType::I32, shape.clone()));
        let Ok(out) = Op::output_shapes(&op, &facts) else { return Ok(()) };
        let out_shape = out[0].shape.clone();
        let numbers = |shape: &[usize]| -> Vec<i32> {
            let count: usize = shape.iter().product();
            (0..count).map(|i| (i * seed * 7919 % 19) as i32 - 9).collect()
        };
        let (x, kernel) = (numbers(&x_shape), numbers(&kernel_shape));
        let expected = slow(&case, &x, &kernel, &out_shape);

        let integers = [View::new(&x_shape, Data::I32(&x)), View::new(&kernel_shape, Data::I32(&kernel))];
        let mut got = vec![-1; expected.len()];
        let view = ViewMut::new(&out_shape, i32::data_mut(&mut got)).unwrap();
        Op::run(&op, &integers.map(Result::unwrap), &mut [view], &Serial).unwrap();
        prop_assert_eq!(&got, &expected);

        let floats = |numbers: &[i32]| numbers.iter().map(|&n| n as f32).collect::<Vec<f32>>();
        let (x, kernel, expected) = (floats(&x), floats(&kernel), floats(&expected));
        let of_x = View::new(&x_shape, Data::F32(&x)).unwrap();
        let of_kernel = View::new(&kernel_shape, Data::F32(&kernel)).unwrap();
        let pool = ThreadPool::new(3).unwrap();
        prop_assert_eq!(&run(&op, [of_x, of_kernel], &out_shape, &Serial), &expected);
        let parallel = run(&op, [of_x, of_kernel], &out_shape, &pool);
        prop_assert_eq!(&parallel, &expected);
        if let Some(prepared) = Op::prepare(&op, &[None, Some(of_kernel)]).unwrap() {
            prop_assert!(prepared.held_bytes() >= 4 * kernel.len());
            prop_assert_eq!(&run(&*prepared, [of_x, of_kernel], &out_shape, &Serial), &expected);
        }

        // Both backward, and x with gaps.
        let backward = |values: &[f32], gap: usize| -> Vec<f32> {
            let mut reversed = vec![f32::NAN; values.len() * gap];
            for (index, value) in values.iter().rev().enumerate() {
                reversed[index * gap] = *value;
            }
            reversed
        };
        let (reversed_x, reversed_kernel) = (backward(&x, 2), backward(&kernel, 1));
        let strides = |shape: &[usize], gap: isize| -> Vec<isize> {
            lumina_kernels::row_major_strides(shape).iter().map(|stride| -stride * gap).collect()
        };
        let (x_strides, kernel_strides) = (strides(&x_shape, 2), strides(&kernel_shape, 1));
        let last = |values: &[f32]| values.len().saturating_sub(1);
        let of_x = View::strided(&x_shape, &x_strides, last(&x) * 2, Data::F32(&reversed_x)).unwrap();
        let of_kernel = View::strided(
            &kernel_shape, &kernel_strides, last(&kernel), Data::F32(&reversed_kernel),
        ).unwrap();
        prop_assert_eq!(&run(&op, [of_x, of_kernel], &out_shape, &Serial), &expected);
    }
}

fn plain(changes: &[(&'static str, &[i64])]) -> Given {
    let mut ints = vec![
        ("window_strides", vec![1]),
        ("low", vec![0]),
        ("high", vec![0]),
        ("lhs_dilation", vec![1]),
        ("rhs_dilation", vec![1]),
        ("lhs_spec", vec![0, 2, 1]),
        ("rhs_spec", vec![2, 1, 0]),
        ("out_spec", vec![0, 2, 1]),
    ];
    for (name, list) in changes {
        ints.iter_mut().find(|(other, _)| other == name).unwrap().1 = list.to_vec();
    }
    Given { ints, groups: [1, 1] }
}

/// What is said of a convolution of these.
fn refusal(given: &Given, x: &[usize], kernel: &[usize]) -> String {
    let facts = [x, kernel].map(|shape| Fact::new(DType::F32, shape));
    let shapes = Convolution::from_attrs(given).and_then(|op| Op::output_shapes(&op, &facts));
    shapes.unwrap_err().to_string()
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let (x, kernel) = ([1, 5, 2], [3, 2, 4]);
    for (name, list, message) in [
        (
            "window_strides",
            &[0][..],
            "attribute `window_strides` must lie in 1..=1152921504606846976, got 0",
        ),
        (
            "lhs_dilation",
            &[-1],
            "attribute `lhs_dilation` must lie in 1..=1152921504606846976, got -1",
        ),
        (
            "low",
            &[i64::MIN],
            "attribute `low` must lie in -1152921504606846976..=1152921504606846976, got -9223372036854775808",
        ),
        (
            "high",
            &[0, 0],
            "attribute `high` must have as many integers as `window_strides`, 1, got 2",
        ),
        (
            "lhs_spec",
            &[0, 1, 1],
            "attribute `lhs_spec` must name different axes of rank 3, got [0, 1, 1]",
        ),
        ("out_spec", &[0, 1], "attribute `out_spec` must name all 3 axes, got [0, 1]"),
        ("rhs_spec", &[0, 1, -2], "attribute `rhs_spec` must not be negative, got -2"),
        (
            "low",
            &[-6],
            "an axis of 5 elements, dilated by 1, with padding -6 and 0 has -1 elements, which is no extent",
        ),
        (
            "lhs_dilation",
            &[1 << 60],
            "an axis of 5 elements, dilated by 1152921504606846976, with padding 0 and 0 has 4611686018427387905 elements, which is no extent",
        ),
    ] {
        let expected = format!("conv_general_dilated: {message}");
        assert_eq!(refusal(&plain(&[(name, list)]), &x, &kernel), expected);
    }
    let seven: Vec<i64> = vec![1; 7];
    let many = plain(
        &["window_strides", "low", "high", "lhs_dilation", "rhs_dilation"]
            .map(|name| (name, &seven[..])),
    );
    assert_eq!(
        refusal(&many, &x, &kernel),
        "conv_general_dilated: attribute `window_strides` must have at most 6 integers, got 7"
    );
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let (x, kernel) = ([4, 5, 2], [3, 2, 4]);
    for (groups, x, kernel, message) in [
        ([0, 1], x, kernel, "attribute `feature_group_count` must be at least 1, got 0"),
        ([1, -3], x, kernel, "attribute `batch_group_count` must be at least 1, got -3"),
        (
            [2, 1],
            x,
            kernel,
            "`rhs` must have 2 / 2 channels, those of `lhs` over `feature_group_count`, got 2",
        ),
        ([2, 1], x, [3, 1, 3], "`feature_group_count` 2 must divide the 3 outputs of `rhs`"),
        ([1, 3], x, [3, 2, 3], "`batch_group_count` 3 must divide the 4 images of `lhs`"),
        ([1, 3], x, kernel, "`batch_group_count` 3 must divide the 4 outputs of `rhs`"),
        (
            [2, 2],
            x,
            [3, 1, 4],
            "one of `feature_group_count` 2 and `batch_group_count` 2 must be 1",
        ),
    ] {
        let given = Given { groups, ..plain(&[]) };
        assert_eq!(refusal(&given, &x, &kernel), format!("conv_general_dilated: {message}"));
    }
    assert_eq!(
        refusal(&plain(&[]), &[4, 5], &kernel),
        "conv_general_dilated: `lhs` must have 3 axes, as the attributes have it, got f32[4,5]"
    );
    let op = Convolution::from_attrs(&plain(&[])).unwrap();
    let of = |left, right| Op::output_shapes(&op, &[Fact::new(left, x), Fact::new(right, kernel)]);
    assert_eq!(
        of(DType::F32, DType::I32).unwrap_err().to_string(),
        "conv_general_dilated: operands must have equal dtypes, got f32[4,5,2] and i32[3,2,4]"
    );
    assert_eq!(
        of(DType::F64, DType::F64).unwrap_err().to_string(),
        "conv_general_dilated: `operand` of dtype f64 is not supported"
    );
}

/// What attributes of any size make of extents, in the time of a few operations.
#[test]
fn numbers_that_reach_far_are_no_fault() {
    const FAR: i64 = 1 << 60;
    let (x, kernel) = ([1, 1, 1], [1, 1, 1]);
    let (ones, out_shape) = ([1.0], [1, 1, 1]);
    for changes in [
        vec![("low", &[FAR][..]), ("high", &[-FAR][..])],
        vec![("low", &[-FAR]), ("high", &[FAR])],
        vec![("lhs_dilation", &[FAR]), ("rhs_dilation", &[FAR])],
        vec![("window_strides", &[FAR]), ("high", &[FAR - 1])],
    ] {
        let op = Convolution::from_attrs(&plain(&changes)).unwrap();
        let facts = [x, kernel].map(|shape| Fact::new(DType::F32, shape));
        assert_eq!(Op::output_shapes(&op, &facts).unwrap()[0].shape, out_shape);
        let view = View::new(&x, Data::F32(&ones)).unwrap();
        let expected = if changes[0].0 == "low" { 0.0 } else { 1.0 };
        assert_eq!(run(&op, [view, view], &out_shape, &Serial), [expected], "{changes:?}");
    }
    // A kernel that no padding reaches.
    let op = Convolution::from_attrs(&plain(&[("rhs_dilation", &[FAR])])).unwrap();
    let facts = [[1, 9, 1], [9, 1, 1]].map(|shape| Fact::new(DType::F32, shape));
    assert_eq!(Op::output_shapes(&op, &facts).unwrap()[0].shape, [1, 0, 1]);
}

#[test]
fn the_work_is_that_of_the_sums() {
    let op = Convolution::from_attrs(&plain(&[])).unwrap();
    let facts = [[1, 5, 2], [3, 2, 4]].map(|shape| Fact::new(DType::F32, shape));
    assert_eq!(
        Op::work(&op, &facts).unwrap(),
        Work { flops: 2 * 12 * 6, bytes: 4 * (10 + 24 + 12) }
    );
}
