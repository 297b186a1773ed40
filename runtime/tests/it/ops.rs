//! Integers, truth values, choices, sums of products and keys.

use lumina_runtime::{Complex32, DType, Fact, Tensor};
use proptest::prelude::*;

use crate::build::*;

const MIN: i32 = i32::MIN;

#[test]
fn integers_wrap_and_never_trap() {
    let a = i32s(&[4], &[7, -7, MIN, 5]);
    let b = i32s(&[4], &[2, 2, -1, 0]);
    check("div", &[], &[&a, &b], &i32s(&[4], &[3, -3, MIN, -1]));
    check("rem", &[], &[&a, &b], &i32s(&[4], &[1, -1, 0, 5]));
    check("add", &[], &[&a, &a], &i32s(&[4], &[14, -14, 0, 10]));
    check("sub", &[], &[&b, &a], &i32s(&[4], &[-5, 9, i32::MAX, -5]));
    check("mul", &[], &[&a, &b], &i32s(&[4], &[14, -14, MIN, 0]));
    check("neg", &[], &[&a], &i32s(&[4], &[-7, 7, MIN, -5]));
    check("abs", &[], &[&a], &i32s(&[4], &[7, 7, MIN, 5]));
    check("sign", &[], &[&a], &i32s(&[4], &[1, -1, -1, 1]));
    check("square", &[], &[&a], &i32s(&[4], &[49, 49, 0, 25]));
    check("max", &[], &[&a, &b], &i32s(&[4], &[7, 2, -1, 5]));
    check("min", &[], &[&a, &b], &i32s(&[4], &[2, -7, MIN, 0]));
    let (a, b) = (u32s(&[2], &[5, 9]), u32s(&[2], &[0, 4]));
    check("div", &[], &[&a, &b], &u32s(&[2], &[u32::MAX, 2]));
    check("rem", &[], &[&a, &b], &u32s(&[2], &[5, 1]));
    check("neg", &[], &[&a], &u32s(&[2], &[5u32.wrapping_neg(), 9u32.wrapping_neg()]));
    let small = |data: &[i8]| Tensor::new(&[data.len()], data).unwrap();
    check("div", &[], &[&small(&[-128, 1]), &small(&[-1, 0])], &small(&[-128, -1]));
    check("rem", &[], &[&small(&[-128, 1]), &small(&[-1, 0])], &small(&[0, 1]));
}

#[test]
fn bits() {
    let (a, b) = (i32s(&[2], &[0b1100, -1]), i32s(&[2], &[0b1010, 7]));
    check("and", &[], &[&a, &b], &i32s(&[2], &[0b1000, 7]));
    check("or", &[], &[&a, &b], &i32s(&[2], &[0b1110, -1]));
    check("xor", &[], &[&a, &b], &i32s(&[2], &[0b0110, -8]));
    check("not", &[], &[&a], &i32s(&[2], &[!0b1100, 0]));
    let (t, f) = (bools(&[4], &[0, 0, 1, 1]), bools(&[4], &[0, 1, 0, 1]));
    check("and", &[], &[&t, &f], &bools(&[4], &[0, 0, 0, 1]));
    check("or", &[], &[&t, &f], &bools(&[4], &[0, 1, 1, 1]));
    check("xor", &[], &[&t, &f], &bools(&[4], &[0, 1, 1, 0]));
    check("not", &[], &[&t], &bools(&[4], &[1, 1, 0, 0]));
    let one = u32s(&[3], &[1, 1, 1]);
    check("shift_left", &[], &[&one, &u32s(&[3], &[31, 32, 40])], &u32s(&[3], &[1 << 31, 0, 0]));
    let (a, b) = (i32s(&[4], &[-1, -1, -8, -8]), i32s(&[4], &[31, 32, 1, -1]));
    check("shift_right_logical", &[], &[&a, &b], &i32s(&[4], &[1, 0, 0x7fff_fffc, 0]));
    check("shift_right_arithmetic", &[], &[&a, &b], &i32s(&[4], &[-1, -1, -4, -1]));
}

#[test]
fn scalars_stand_for_all_elements() {
    let (x, two) = (f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), f32s(&[], &[2.0]));
    check("div", &[], &[&x, &two], &f32s(&[2, 2], &[0.5, 1.0, 1.5, 2.0]));
    check("sub", &[], &[&two, &x], &f32s(&[2, 2], &[1.0, 0.0, -1.0, -2.0]));
    check("mul", &[], &[&two, &two], &f32s(&[], &[4.0]));
    check("mul", &[], &[&two, &f32s(&[0], &[])], &f32s(&[0], &[]));
}

#[test]
fn operands_that_do_not_fit() {
    let f = |dtype, shape: &[usize]| Fact::new(dtype, shape);
    assert_eq!(
        refusal("add", &[], &[f(DType::F32, &[1])]),
        "node 0 (`add`): add: expected 2 operands, got 1"
    );
    assert_eq!(
        refusal("add", &[], &[f(DType::F32, &[1]), f(DType::I32, &[1])]),
        "node 0 (`add`): add: operands must have equal dtypes, got f32[1] and i32[1]"
    );
    assert_eq!(
        refusal("add", &[], &[f(DType::Bool, &[1]), f(DType::Bool, &[1])]),
        "node 0 (`add`): add: `operand` of dtype bool is not supported"
    );
    assert_eq!(
        refusal("exp", &[], &[f(DType::I32, &[1])]),
        "node 0 (`exp`): exp: `operand` of dtype i32 is not supported"
    );
    let wide = f(DType::F64, &[2]);
    let search = [("axes", ints(&[0])), ("index_dtype", text("i32"))];
    assert_eq!(
        refusal("argmax", &search, std::slice::from_ref(&wide)),
        "node 0 (`argmax`): argmax: `operand` of dtype f64 is not supported"
    );
    assert_eq!(
        refusal("clamp", &[], &[wide.clone(), wide.clone(), wide]),
        "node 0 (`clamp`): clamp: `operand` of dtype f64 is not supported"
    );
}

#[test]
fn conversions() {
    let to = |dtype: &str| [("new_dtype", text(dtype))];
    let x = f32s(&[6], &[f32::NAN, 1e20, -1e20, -1.5, 3e9, 127.9]);
    let op = "convert_element_type";
    check(op, &to("i32"), &[&x], &i32s(&[6], &[0, i32::MAX, MIN, -1, i32::MAX, 127]));
    check(op, &to("u32"), &[&x], &u32s(&[6], &[0, u32::MAX, 0, 0, 3_000_000_000, 127]));
    let small = Tensor::new(&[6], &[0i8, 127, -128, -1, 127, 127]).unwrap();
    check(op, &to("i8"), &[&x], &small);
    check(op, &to("bool"), &[&f32s(&[3], &[f32::NAN, -0.0, 0.5])], &bools(&[3], &[1, 0, 1]));
    let x = i32s(&[3], &[300, -1, 128]);
    check(op, &to("i8"), &[&x], &Tensor::new(&[3], &[44i8, -1, -128]).unwrap());
    check(op, &to("u32"), &[&x], &u32s(&[3], &[300, u32::MAX, 128]));
    check(op, &to("f32"), &[&u32s(&[1], &[u32::MAX])], &f32s(&[1], &[4_294_967_296.0]));
    let complex = Tensor::new(&[1], &[Complex32::new(2.0, 0.0)]).unwrap();
    check(op, &to("c64"), &[&f32s(&[1], &[2.0])], &complex);
    check(op, &to("c64"), &[&complex], &complex);
    assert_eq!(
        refusal(op, &to("f32"), &[complex.view().fact()]),
        "node 0 (`convert_element_type`): convert_element_type: a c64 operand cannot become f32"
    );
    let known: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
    assert_eq!(
        refusal(op, &to("f8"), &[complex.view().fact()]),
        format!(
            "node 0 (`convert_element_type`): convert_element_type: attribute `new_dtype` must be \
             one of {}, got `f8`",
            known.join(", ")
        )
    );
}

#[test]
fn select_n() {
    let (a, b) = (f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[3.0, 4.0]));
    check("select_n", &[], &[&bools(&[2], &[0, 1]), &a, &b], &f32s(&[2], &[1.0, 4.0]));
    check("select_n", &[], &[&bools(&[], &[1]), &a, &b], &f32s(&[2], &[3.0, 4.0]));
    let cases: Vec<Tensor> = (0..3).map(|n| i32s(&[4], &[n; 4])).collect();
    let which = i32s(&[4], &[-1, 0, 1, 5]);
    check("select_n", &[], &[&which, &cases[0], &cases[1], &cases[2]], &i32s(&[4], &[0, 0, 1, 2]));
    let f = |dtype, shape: &[usize]| Fact::new(dtype, shape);
    let wrong = |facts: &[Fact]| refusal("select_n", &[], facts);
    assert_eq!(
        wrong(&[f(DType::Bool, &[])]),
        "node 0 (`select_n`): select_n: expected `which` and cases, got 1 operands"
    );
    assert_eq!(
        wrong(&[f(DType::Bool, &[]), f(DType::F32, &[1]), f(DType::F32, &[2])]),
        "node 0 (`select_n`): select_n: cases must be alike, got f32[1] and f32[2]"
    );
    assert_eq!(
        wrong(&[f(DType::F32, &[]), f(DType::F32, &[1]), f(DType::F32, &[1])]),
        "node 0 (`select_n`): select_n: `which` must be bool for 2 cases, else i32, got f32[] for 2"
    );
    assert_eq!(
        wrong(&[f(DType::Bool, &[3]), f(DType::F32, &[1]), f(DType::F32, &[1])]),
        "node 0 (`select_n`): select_n: `which` must have the shape of the cases or rank 0, got \
         bool[3] for f32[1]"
    );
}

#[test]
fn integer_reductions() {
    let x = i32s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let axes = |axes: &[i64]| [("axes", ints(axes))];
    check("reduce_sum", &axes(&[0]), &[&x], &i32s(&[3], &[5, 7, 9]));
    check("reduce_sum", &axes(&[1, 0]), &[&x], &i32s(&[], &[21]));
    check("reduce_sum", &axes(&[]), &[&x], &x);
    check("reduce_prod", &axes(&[1]), &[&x], &i32s(&[2], &[6, 120]));
    check("reduce_max", &axes(&[1]), &[&x], &i32s(&[2], &[3, 6]));
    check("reduce_min", &axes(&[0, 1]), &[&x], &i32s(&[], &[1]));
    let x = bools(&[2, 2], &[1, 1, 0, 1]);
    check("reduce_and", &axes(&[1]), &[&x], &bools(&[2], &[1, 0]));
    check("reduce_or", &axes(&[0]), &[&x], &bools(&[2], &[1, 1]));
    check("reduce_xor", &axes(&[0]), &[&x], &bools(&[2], &[1, 0]));
    let bits = i32s(&[3], &[0b1100, 0b1010, -1]);
    check("reduce_and", &axes(&[0]), &[&bits], &i32s(&[], &[0b1000]));
    check("reduce_or", &axes(&[0]), &[&bits], &i32s(&[], &[-1]));
    check("reduce_xor", &axes(&[0]), &[&bits], &i32s(&[], &[-1 ^ 0b0110]));
    check("population_count", &[], &[&bits], &i32s(&[3], &[2, 2, 32]));
    check("clz", &[], &[&bits], &i32s(&[3], &[28, 28, 0]));
    assert_eq!(
        refusal("reduce_sum", &axes(&[0, 0]), &[x.view().fact()]),
        "node 0 (`reduce_sum`): reduce_sum: attribute `axes` must name different axes of rank 2, \
         got [0, 0]"
    );
    assert_eq!(
        refusal("reduce_sum", &axes(&[-1]), &[x.view().fact()]),
        "node 0 (`reduce_sum`): reduce_sum: attribute `axes` must not be negative, got -1"
    );
}

/// An operand with two axes of each kind: batch, free and contracted.
struct Operand {
    /// Which of the six each axis is.
    order: [usize; 6],
    /// In the order of the kinds.
    extents: [usize; 6],
    /// The axis that is turned around before the product.
    reversed: Option<usize>,
}

impl Operand {
    fn shape(&self) -> Vec<usize> {
        self.order.iter().map(|&which| self.extents[which]).collect()
    }

    /// Where some of the six lie.
    fn places(&self, which: impl IntoIterator<Item = usize>) -> Vec<i64> {
        let place = |which| self.order.iter().position(|&other| other == which).unwrap() as i64;
        which.into_iter().map(place).collect()
    }

    /// The element at an index in the order of the kinds: a small integer, whose sums are exact.
    fn element(&self, index: [usize; 6]) -> i32 {
        let position = self.order.iter().fold(0, |position, &which| {
            let (extent, index) = (self.extents[which], index[which]);
            let index = if self.reversed == Some(which) { extent - 1 - index } else { index };
            position * extent + index
        });
        number(position)
    }

    fn tensor(&self, dtype: DType) -> Tensor {
        let shape = self.shape();
        let numbers = (0..shape.iter().product()).map(number);
        match dtype {
            DType::F32 => f32s(&shape, &numbers.map(|n| n as f32).collect::<Vec<_>>()),
            _ => i32s(&shape, &numbers.collect::<Vec<_>>()),
        }
    }
}

/// The free axes of a result are in the order in which they lie in the operand.
fn free_axes_in_order(mut order: [usize; 6]) -> [usize; 6] {
    let free = |&place: &usize| [2, 3].contains(&order[place]);
    let places: Vec<usize> = (0..6).filter(free).collect();
    (order[places[0]], order[places[1]]) = (2, 3);
    order
}

fn number(position: usize) -> i32 {
    (position * 7 % 11) as i32 - 5
}

/// The indices of these extents, the last the fastest.
fn indices<const N: usize>(extents: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    (0..extents.iter().product()).map(move |mut rest: usize| {
        let mut index = [0; N];
        for (index, extent) in index.iter_mut().zip(extents).rev() {
            (*index, rest) = (rest % extent, rest / extent);
        }
        index
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against the sum that its definition says, with every order of the axes of both operands, on
    /// any number of threads.
    #[test]
    fn dot_general_is_a_sum_of_products(
        mut extents in [1..4usize, 1..3usize, 1..4usize, 1..3usize, 1..4usize, 1..3usize, 1..4usize, 1..3usize],
        empty in 0..32usize,
        orders in [Just([0, 1, 2, 3, 4, 5]).prop_shuffle(), Just([0, 1, 2, 3, 4, 5]).prop_shuffle()],
        reversed in [0..12usize, 0..12usize],
        is_float in any::<bool>(),
        threads in 1..5usize,
    ) {
        if let Some(extent) = extents.get_mut(empty) {
            *extent = 0;
        }
        let [b0, b1, m0, m1, n0, n1, k0, k1] = extents;
        let [lhs, rhs] = [(0, [m0, m1]), (1, [n0, n1])].map(|(side, [f0, f1])| Operand {
            order: free_axes_in_order(orders[side]),
            extents: [b0, b1, f0, f1, k0, k1],
            reversed: Some(reversed[side]).filter(|&which| which < 6),
        });
        let dtype = if is_float { DType::F32 } else { DType::I32 };
        let mut file = File::new();
        let ids = [("lhs", &lhs), ("rhs", &rhs)].map(|(name, operand)| {
            let id = file.input(name, dtype, &fixed(&operand.shape()));
            let attrs = [("dimensions", ints(&operand.places(operand.reversed)))];
            file.node("rev", &[id], &attrs)
        });
        let attrs = dot(&lhs.places([4, 5]), &rhs.places([4, 5]), &lhs.places([0, 1]), &rhs.places([0, 1]));
        let product = file.node("dot_general", &ids, &attrs);
        let shape = [b0, b1, m0, m1, n0, n1];
        file.output(product, "product", dtype, &fixed(&shape));
        let sum = |[b0, b1, m0, m1, n0, n1]: [usize; 6]| {
            let products = indices([k0, k1]).map(|[k0, k1]| {
                lhs.element([b0, b1, m0, m1, k0, k1]) * rhs.element([b0, b1, n0, n1, k0, k1])
            });
            products.sum::<i32>()
        };
        let expected = indices(shape).map(sum);
        let expected = match dtype {
            DType::F32 => f32s(&shape, &expected.map(|n| n as f32).collect::<Vec<_>>()),
            _ => i32s(&shape, &expected.collect::<Vec<_>>()),
        };
        let mut session = session(&file, threads);
        let [lhs, rhs] = [lhs, rhs].map(|operand| operand.tensor(dtype));
        same("product", &session.run(&[lhs.view(), rhs.view()]).unwrap()[0], &expected.view());
    }
}

#[test]
fn dot_general_of_integers_and_of_wrong_operands() {
    let (a, b) = (i32s(&[2, 2], &[1, 2, 3, MIN]), i32s(&[2, 1], &[5, 2]));
    check("dot_general", &dot(&[1], &[0], &[], &[]), &[&a, &b], &i32s(&[2, 1], &[9, 15]));
    let wrong =
        |attrs: Attrs<'_>| refusal("dot_general", attrs, &[a.view().fact(), b.view().fact()]);
    assert_eq!(
        wrong(&dot(&[0], &[1], &[], &[])),
        "node 0 (`dot_general`): dot_general: contracting axes must have equal extents, got [2] of \
         i32[2,2] and [1] of i32[2,1]"
    );
    assert_eq!(
        wrong(&dot(&[0], &[0], &[0], &[1])),
        "node 0 (`dot_general`): dot_general: attribute `lhs_batch` and `lhs_contracting` must \
         name different axes of rank 2, got [0, 0]"
    );
}

#[test]
fn keys_are_those_of_jax() {
    let key = u32s(&[2], &[0, 42]);
    check("threefry_fold_in", &[], &[&key, &u32s(&[], &[7])], &u32s(&[2], &FOLD_IN_42_7));
    let split = u32s(&[3, 2], &SPLIT_42_3);
    check("threefry_split", &[("num", int(3))], &[&key], &split);
    let key = u32s(&[2], &[0xdead_beef, 0x1234_5678]);
    let data = u32s(&[], &[u32::MAX]);
    check("threefry_fold_in", &[], &[&key, &data], &u32s(&[2], &FOLD_IN_BIG));
    let wrong = Fact::new(DType::U32, [3]);
    assert_eq!(
        refusal("threefry_split", &[("num", int(3))], std::slice::from_ref(&wrong)),
        "node 0 (`threefry_split`): threefry_split: `key` must be u32[2], got u32[3]"
    );
    assert_eq!(
        refusal("threefry_fold_in", &[], &[key.view().fact(), wrong]),
        "node 0 (`threefry_fold_in`): threefry_fold_in: `data` must be u32[], got u32[3]"
    );
}

// jax.random.key_data(jax.random.fold_in(jax.random.key(42), 7)), jax 0.10.2
const FOLD_IN_42_7: [u32; 2] = [2547012911, 1371500959];
// jax.random.key_data(jax.random.split(jax.random.key(42), 3))
const SPLIT_42_3: [u32; 6] = [1832780943, 270669613, 64467757, 2916123636, 2465931498, 255383827];
// of jax.random.wrap_key_data([0xdeadbeef, 0x12345678]), folded with 2**32 - 1
const FOLD_IN_BIG: [u32; 2] = [854091232, 2970712560];
