//! Ops that move elements, against index arithmetic written out.

use lumina_runtime::{DType, Fact, Tensor};
use proptest::prelude::*;

use crate::build::*;

fn counted(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() as i32;
    i32s(shape, &(0..count).collect::<Vec<_>>())
}

/// The tensor whose element at each index is `element(index)`.
fn tabulated(shape: &[usize], element: impl Fn(&[usize]) -> i32) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<i32> = (0..count)
        .map(|position| {
            let mut rest = position;
            let mut index = vec![0; shape.len()];
            for axis in (0..shape.len()).rev() {
                index[axis] = rest % shape[axis];
                rest /= shape[axis];
            }
            element(&index)
        })
        .collect();
    i32s(shape, &data)
}

/// The element of `counted(shape)` at `index`.
fn at(shape: &[usize], index: &[usize]) -> i32 {
    index.iter().zip(shape).fold(0, |position, (&i, &extent)| position * extent + i) as i32
}

fn longs(values: &[usize]) -> crate::proto::Attr {
    ints(&values.iter().map(|&value| value as i64).collect::<Vec<_>>())
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..5usize, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn transpose((shape, order) in shapes().prop_flat_map(|shape| {
        let axes: Vec<usize> = (0..shape.len()).collect();
        (Just(shape), Just(axes).prop_shuffle())
    })) {
        let result: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let expected = tabulated(&result, |index| {
            let mut from = vec![0; shape.len()];
            for (&axis, &i) in order.iter().zip(index) {
                from[axis] = i;
            }
            at(&shape, &from)
        });
        check("transpose", &[("permutation", longs(&order))], &[&counted(&shape)], &expected);
    }

    #[test]
    fn slice(axes in proptest::collection::vec((0..6usize, 0..6usize, 0..6usize, 1..4usize), 0..4)) {
        let extents: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
        let starts: Vec<usize> = axes.iter().map(|axis| axis.1.min(axis.0)).collect();
        let limits: Vec<usize> =
            axes.iter().zip(&starts).map(|(axis, &start)| axis.2.clamp(start, axis.0.max(start))).collect();
        let steps: Vec<usize> = axes.iter().map(|axis| axis.3).collect();
        let result: Vec<usize> =
            (0..axes.len()).map(|i| (limits[i] - starts[i]).div_ceil(steps[i])).collect();
        let expected = tabulated(&result, |index| {
            let from: Vec<usize> =
                index.iter().enumerate().map(|(i, &at)| starts[i] + at * steps[i]).collect();
            at(&extents, &from)
        });
        let attrs = [
            ("start_indices", longs(&starts)),
            ("limit_indices", longs(&limits)),
            ("strides", longs(&steps)),
        ];
        check("slice", &attrs, &[&counted(&extents)], &expected);
    }

    #[test]
    fn rev((shape, mask) in (shapes(), any::<[bool; 5]>())) {
        let dimensions: Vec<usize> = (0..shape.len()).filter(|&axis| mask[axis]).collect();
        let expected = tabulated(&shape, |index| {
            let mut from = index.to_vec();
            for &axis in &dimensions {
                from[axis] = shape[axis] - 1 - from[axis];
            }
            at(&shape, &from)
        });
        check("rev", &[("dimensions", longs(&dimensions))], &[&counted(&shape)], &expected);
    }

    #[test]
    fn broadcast_in_dim((shape, kept, single) in (shapes(), any::<[bool; 5]>(), any::<[bool; 5]>())) {
        let dimensions: Vec<usize> = (0..shape.len()).filter(|&axis| kept[axis]).collect();
        let operand: Vec<usize> =
            dimensions.iter().map(|&axis| if single[axis] { 1 } else { shape[axis] }).collect();
        let expected = tabulated(&shape, |index| {
            let from: Vec<usize> = dimensions
                .iter()
                .zip(&operand)
                .map(|(&axis, &extent)| if extent == 1 { 0 } else { index[axis] })
                .collect();
            at(&operand, &from)
        });
        let attrs = [("shape", longs(&shape)), ("broadcast_dimensions", longs(&dimensions))];
        check("broadcast_in_dim", &attrs, &[&counted(&operand)], &expected);
    }

    #[test]
    fn split_undoes_concatenate(
        (shape, sizes, axis) in (
            proptest::collection::vec(0..4usize, 1..4),
            proptest::collection::vec(0..4usize, 1..4),
            any::<prop::sample::Index>(),
        )
    ) {
        let axis = axis.index(shape.len());
        let parts: Vec<Tensor> = sizes
            .iter()
            .enumerate()
            .map(|(number, &size)| {
                let mut shape = shape.clone();
                shape[axis] = size;
                tabulated(&shape, |index| at(&shape, index) + 1000 * number as i32)
            })
            .collect();
        let mut whole = shape.clone();
        whole[axis] = sizes.iter().sum();
        let whole = Fact::new(DType::I32, whole);
        let operands: Vec<&Tensor> = parts.iter().collect();
        let joined = run("concatenate", &[("dimension", int(axis as i64))], &operands, &[whole]);
        let facts: Vec<Fact> = parts.iter().map(|part| part.view().fact()).collect();
        let attrs = [("sizes", longs(&sizes)), ("axis", int(axis as i64))];
        for (got, part) in run("split", &attrs, &[&joined[0]], &facts).iter().zip(&parts) {
            same("split", &got.view(), &part.view());
        }
    }

    #[test]
    fn pad(axes in proptest::collection::vec((0..4usize, -3..4i64, -3..4i64, 0..3usize), 0..4)) {
        let extents: Vec<usize> = axes.iter().map(|axis| axis.0).collect();
        let spread = |&(extent, low, high, interior): &(usize, i64, i64, usize)| {
            (extent + extent.saturating_sub(1) * interior) as i64 + low + high
        };
        let result: Vec<i64> = axes.iter().map(spread).collect();
        prop_assume!(result.iter().all(|&extent| extent >= 0));
        let result: Vec<usize> = result.into_iter().map(|extent| extent as usize).collect();
        let expected = tabulated(&result, |index| {
            let mut from = Vec::new();
            for (&(extent, low, _, interior), &i) in axes.iter().zip(index) {
                let own = i as i64 - low;
                let step = interior as i64 + 1;
                if own < 0 || own % step != 0 || own / step >= extent as i64 {
                    return -1;
                }
                from.push((own / step) as usize);
            }
            at(&extents, &from)
        });
        let attrs = [
            ("low", ints(&axes.iter().map(|axis| axis.1).collect::<Vec<_>>())),
            ("high", ints(&axes.iter().map(|axis| axis.2).collect::<Vec<_>>())),
            ("interior", ints(&axes.iter().map(|axis| axis.3 as i64).collect::<Vec<_>>())),
        ];
        check("pad", &attrs, &[&counted(&extents), &i32s(&[], &[-1])], &expected);
    }

    #[test]
    fn iota((shape, axis) in (proptest::collection::vec(0..5usize, 1..4), any::<prop::sample::Index>())) {
        let axis = axis.index(shape.len());
        let expected = tabulated(&shape, |index| index[axis] as i32);
        let attrs = [("dtype", text("i32")), ("shape", longs(&shape)), ("dimension", int(axis as i64))];
        check("iota", &attrs, &[], &expected);
    }

    #[test]
    fn reduce_sum((shape, mask) in (shapes(), any::<[bool; 5]>())) {
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| mask[axis]).collect();
        let kept: Vec<usize> = (0..shape.len()).filter(|&axis| !mask[axis]).collect();
        let result: Vec<usize> = kept.iter().map(|&axis| shape[axis]).collect();
        let x = counted(&shape);
        let expected = tabulated(&result, |index| {
            let all: Vec<usize> = shape.clone();
            let matches = |from: &[usize]| kept.iter().zip(index).all(|(&axis, &i)| from[axis] == i);
            let sum = std::cell::Cell::new(0);
            tabulated(&all, |from| {
                if matches(from) {
                    sum.set(sum.get() + at(&shape, from));
                }
                0
            });
            sum.get()
        });
        check("reduce_sum", &[("axes", longs(&axes))], &[&x], &expected);
    }
}

#[test]
fn large_tensors_are_cut_into_chunks() {
    let shape = [130, 7, 300];
    let expected = tabulated(&[300, 7, 130], |index| at(&shape, &[index[2], index[1], index[0]]));
    check("transpose", &[("permutation", ints(&[2, 1, 0]))], &[&counted(&shape)], &expected);
    let attrs = [("dimension", int(0))];
    let x = counted(&shape);
    let whole = run("concatenate", &attrs, &[&x, &x], &[Fact::new(DType::I32, [260, 7, 300])]);
    let view = whole[0].view();
    let data = view.data::<i32>().unwrap();
    assert_eq!(data[..273_000], data[273_000..]);
}

#[test]
fn reshape_and_squeeze_keep_the_order() {
    let x = counted(&[2, 1, 3]);
    check("reshape", &[("new_sizes", ints(&[3, 2]))], &[&x], &counted(&[3, 2]));
    check("squeeze", &[("dimensions", ints(&[1]))], &[&x], &counted(&[2, 3]));
    check("copy", &[], &[&x], &x);
    let facts = [x.view().fact()];
    assert_eq!(
        refusal("reshape", &[("new_sizes", ints(&[4]))], &facts),
        "node 0 (`reshape`): reshape: i32[2,1,3] has not as many elements as `new_sizes` [4]"
    );
    assert_eq!(
        refusal("reshape", &[("new_sizes", ints(&[i64::MAX, i64::MAX]))], &facts),
        format!(
            "node 0 (`reshape`): reshape: i32[2,1,3] has not as many elements as `new_sizes` \
             [{0}, {0}]",
            i64::MAX
        )
    );
    assert_eq!(
        refusal("squeeze", &[("dimensions", ints(&[0]))], &facts),
        "node 0 (`squeeze`): squeeze: `dimensions` [0] of i32[2,1,3] must have extent 1"
    );
}

#[test]
fn attributes_that_do_not_fit() {
    let matrix = [Fact::new(DType::F32, [2, 3])];
    let wrong = |op: &str, attrs: Attrs<'_>| {
        let text = refusal(op, attrs, &matrix);
        text.strip_prefix(&format!("node 0 (`{op}`): {op}: ")).unwrap().to_owned()
    };
    assert_eq!(
        wrong("transpose", &[("permutation", ints(&[1]))]),
        "`permutation` [1] must name each axis of f32[2,3]"
    );
    assert_eq!(
        wrong(
            "broadcast_in_dim",
            &[("shape", ints(&[2, 4])), ("broadcast_dimensions", ints(&[0, 1]))]
        ),
        "f32[2,3] does not fit `shape` [2, 4] with `broadcast_dimensions` [0, 1]"
    );
    let slice = |limit: i64, stride: i64| {
        wrong(
            "slice",
            &[
                ("start_indices", ints(&[0, 0])),
                ("limit_indices", ints(&[2, limit])),
                ("strides", ints(&[1, stride])),
            ],
        )
    };
    assert_eq!(
        slice(4, 1),
        "`start_indices` [0, 0] to `limit_indices` [2, 4] by `strides` [1, 1] does not lie in \
         f32[2,3]"
    );
    assert_eq!(slice(3, 0), "attribute `strides` must be positive, got [1, 0]");
    assert_eq!(
        wrong("split", &[("sizes", ints(&[1, 1])), ("axis", int(1))]),
        "`sizes` [1, 1] must add up to axis 1 of f32[2,3]"
    );
    assert_eq!(
        wrong("iota", &[("dtype", text("bool")), ("shape", ints(&[1])), ("dimension", int(0))]),
        "`result` of dtype bool is not supported"
    );
    assert_eq!(
        wrong("iota", &[("dtype", text("f32")), ("shape", ints(&[1])), ("dimension", int(1))]),
        "attribute `dimension` must be below the rank 1, got 1"
    );
    assert_eq!(
        wrong("dim_as_value", &[("dim", ints(&[1, 2]))]),
        "attribute `dim` must have one extent, got 2"
    );
    assert_eq!(
        refusal("concatenate", &[("dimension", int(0))], &[]),
        "node 0 (`concatenate`): concatenate: expected at least 1 operand, got 0"
    );
    let facts = [Fact::new(DType::F32, [2, 3]), Fact::new(DType::F32, [3, 3])];
    assert_eq!(
        refusal("concatenate", &[("dimension", int(1))], &facts),
        "node 0 (`concatenate`): concatenate: operands must be alike but along axis 1, got \
         f32[2,3] and f32[3,3]"
    );
    let pad = [("low", ints(&[0, -9])), ("high", ints(&[0, 0])), ("interior", ints(&[0, 0]))];
    let facts = [Fact::new(DType::F32, [2, 3]), Fact::new(DType::F32, [])];
    assert_eq!(
        refusal("pad", &pad, &facts),
        "node 0 (`pad`): pad: `low` [0, -9], `high` [0, 0], `interior` [0, 0] do not fit f32[2,3]"
    );
    assert_eq!(
        refusal("pad", &pad, &[facts[0].clone(), facts[0].clone()]),
        "node 0 (`pad`): pad: `padding` must be f32[], got f32[2,3]"
    );
}
