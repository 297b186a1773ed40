//! Functions of floats against f64, and their special values as XLA has them.

use crate::build::*;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Distance in units of the last place of `expected`, as f32 has them.
fn ulps(got: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if got.to_bits() == rounded.to_bits() || got.is_nan() && expected.is_nan() {
        return 0.0;
    }
    let spacing = f64::from(rounded.abs().next_up()) - f64::from(rounded.abs());
    (f64::from(got) - expected).abs() / spacing
}

fn numbers(low: f32, high: f32) -> Vec<f32> {
    (0..1000).map(|n| low + (high - low) * n as f32 / 999.0).collect()
}

#[test]
fn functions_are_right_to_two_units_of_the_last_place() {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    type Case = (&'static str, fn(f64) -> f64, f32, f32);
    let cases: [Case; 33] = [
        ("exp", f64::exp, -80.0, 80.0),
        ("exp2", f64::exp2, -120.0, 120.0),
        ("log", f64::ln, 1e-30, 1e30),
        ("log1p", f64::ln_1p, -0.99, 10.0),
        ("expm1", f64::exp_m1, -5.0, 5.0),
        ("tanh", f64::tanh, -9.0, 9.0),
        ("logistic", logistic, -15.0, 15.0),
        ("erf", libm::erf, -4.0, 4.0),
        ("erfc", libm::erfc, -4.0, 9.0),
        ("sin", f64::sin, -30.0, 30.0),
        ("cos", f64::cos, -30.0, 30.0),
        ("tan", f64::tan, -1.5, 1.5),
        ("asin", f64::asin, -1.0, 1.0),
        ("acos", f64::acos, -1.0, 1.0),
        ("atan", f64::atan, -9.0, 9.0),
        ("sinh", f64::sinh, -20.0, 20.0),
        ("cosh", f64::cosh, -20.0, 20.0),
        ("asinh", f64::asinh, -9.0, 9.0),
        ("acosh", f64::acosh, 1.0, 9.0),
        ("atanh", f64::atanh, -0.999, 0.999),
        ("lgamma", libm::lgamma, -9.4, 20.0),
        ("exp", f64::exp, -1.0, 1.0),
        ("log", f64::ln, 0.5, 2.0),
        ("tanh", f64::tanh, -0.7, 0.7),
        ("sqrt", f64::sqrt, 0.0, 1e9),
        ("rsqrt", |x| 1.0 / x.sqrt(), 1e-6, 1e6),
        ("cbrt", f64::cbrt, -1e9, 1e9),
        ("floor", f64::floor, -9.0, 9.0),
        ("ceil", f64::ceil, -9.0, 9.0),
        ("neg", |x| -x, -9.0, 9.0),
        ("abs", f64::abs, -9.0, 9.0),
        ("square", |x| x * x, -9.0, 9.0),
        ("sign", |x| if x == 0.0 { x } else { x.signum() }, -9.0, 9.0),
    ];
    for (op, exact, low, high) in cases {
        let x = numbers(low, high);
        let x = f32s(&[x.len()], &x);
        let got = run(op, &[], &[&x], &[x.view().fact()]);
        let view = got[0].view();
        let pairs = view.data::<f32>().unwrap().iter().zip(x.view().data::<f32>().unwrap());
        for (&got, &x) in pairs {
            let off = ulps(got, exact(x.into()));
            assert!(off <= 2.0, "{op}({x:e}) = {got:e} is {off} units off {:e}", exact(x.into()));
        }
    }
}

#[test]
fn special_values() {
    let cases: &[(&str, &[f32], &[f32])] = &[
        ("exp", &[INF, -INF, NAN, 1000.0], &[INF, 0.0, NAN, INF]),
        ("log", &[0.0, -0.0, -1.0, INF], &[-INF, -INF, NAN, INF]),
        ("log1p", &[-1.0, -2.0, 0.0], &[-INF, NAN, 0.0]),
        ("tanh", &[1e9, -1e9, NAN, -0.0], &[1.0, -1.0, NAN, -0.0]),
        ("logistic", &[-1e9, 1e9, NAN], &[0.0, 1.0, NAN]),
        ("erf", &[INF, -INF, NAN], &[1.0, -1.0, NAN]),
        ("sqrt", &[-1.0, -0.0, INF], &[NAN, -0.0, INF]),
        ("rsqrt", &[0.0, INF, -1.0], &[INF, 0.0, NAN]),
        ("sign", &[0.0, -0.0, NAN, -INF, 3.0], &[0.0, -0.0, NAN, -1.0, 1.0]),
        ("neg", &[0.0, -INF], &[-0.0, INF]),
        ("floor", &[-0.5, 0.5, NAN], &[-1.0, 0.0, NAN]),
        ("ceil", &[-0.5, 0.5, INF], &[-0.0, 1.0, INF]),
        ("asin", &[2.0, 1.0, -0.0], &[NAN, std::f32::consts::FRAC_PI_2, -0.0]),
        ("acosh", &[0.5, 1.0, INF], &[NAN, 0.0, INF]),
        ("atanh", &[1.0, -1.0, 2.0], &[INF, -INF, NAN]),
        ("sinh", &[1000.0, -1000.0, -0.0], &[INF, -INF, -0.0]),
        ("erf_inv", &[1.0, -1.0, 2.0, NAN, -0.0], &[INF, -INF, NAN, NAN, -0.0]),
        ("lgamma", &[0.0, -1.0, 1.0, 2.0, -INF, INF], &[INF, INF, 0.0, 0.0, INF, INF]),
        ("digamma", &[0.0, -1.0, INF, NAN], &[NAN, NAN, INF, NAN]),
        ("bessel_i0e", &[0.0, INF, NAN], &[1.0, 0.0, NAN]),
        ("bessel_i1e", &[0.0, -INF, NAN], &[0.0, -0.0, NAN]),
    ];
    for (op, x, expected) in cases {
        check(op, &[], &[&f32s(&[x.len()], x)], &f32s(&[x.len()], expected));
    }
    let x = f32s(&[4], &[NAN, INF, -INF, 1.0]);
    check("is_finite", &[], &[&x], &bools(&[4], &[0, 0, 0, 1]));
}

#[test]
fn round_has_two_methods() {
    let x = f32s(&[5], &[0.5, 1.5, 2.5, -0.5, NAN]);
    let away = f32s(&[5], &[1.0, 2.0, 3.0, -1.0, NAN]);
    let even = f32s(&[5], &[0.0, 2.0, 2.0, -0.0, NAN]);
    check("round", &[("rounding_method", int(0))], &[&x], &away);
    check("round", &[("rounding_method", int(1))], &[&x], &even);
    assert_eq!(
        refusal("round", &[("rounding_method", int(2))], &[x.view().fact()]),
        "node 0 (`round`): round: attribute `rounding_method` must be 0 or 1, got 2"
    );
}

#[test]
fn integer_pow() {
    let x = f32s(&[4], &[3.0, 0.0, -2.0, NAN]);
    let pow = |y: i64, expected: &[f32]| {
        check("integer_pow", &[("y", int(y))], &[&x], &f32s(&[4], expected));
    };
    pow(3, &[27.0, 0.0, -8.0, NAN]);
    pow(-3, &[1.0 / 27.0, INF, -0.125, NAN]);
    pow(0, &[1.0, 1.0, 1.0, 1.0]);
    pow(1, &[3.0, 0.0, -2.0, NAN]);
    check(
        "integer_pow",
        &[("y", int(33))],
        &[&i32s(&[1], &[3])],
        &i32s(&[1], &[3i32.wrapping_pow(33)]),
    );
    let facts = [i32s(&[1], &[3]).view().fact()];
    assert_eq!(
        refusal("integer_pow", &[("y", int(-1))], &facts),
        "node 0 (`integer_pow`): integer_pow: attribute `y` must not be negative for i32[1], got -1"
    );
    assert_eq!(
        refusal("integer_pow", &[("y", int(1 << 40))], &facts),
        "node 0 (`integer_pow`): integer_pow: attribute `y` must fit 32 bits, got 1099511627776"
    );
}

#[test]
fn binary_special_values() {
    let zeros = f32s(&[4], &[0.0, -0.0, NAN, 1.0]);
    let others = f32s(&[4], &[-0.0, 0.0, 1.0, NAN]);
    check("max", &[], &[&zeros, &others], &f32s(&[4], &[0.0, 0.0, NAN, NAN]));
    check("min", &[], &[&zeros, &others], &f32s(&[4], &[-0.0, -0.0, NAN, NAN]));
    let a = f32s(&[5], &[0.0, -8.0, -8.0, NAN, 1.0]);
    let b = f32s(&[5], &[0.0, 0.5, 3.0, 0.0, NAN]);
    check("pow", &[], &[&a, &b], &f32s(&[5], &[1.0, NAN, -512.0, 1.0, 1.0]));
    let b = i32s(&[5], &[0, -1, 3, 0, 7]);
    check("pow", &[], &[&a, &b], &f32s(&[5], &[1.0, -0.125, -512.0, 1.0, 1.0]));
    let a = f32s(&[4], &[5.5, -5.5, 1.0, 1.0]);
    let b = f32s(&[4], &[2.0, 2.0, 0.0, INF]);
    check("rem", &[], &[&a, &b], &f32s(&[4], &[1.5, -1.5, NAN, 1.0]));
    let from = f32s(&[5], &[1.0, 1.0, NAN, -INF, 2.0]);
    let toward = f32s(&[5], &[2.0, -INF, 1.0, 0.0, 2.0]);
    let next = [1.0f32.next_up(), 1.0f32.next_down(), NAN, f32::MIN, 2.0];
    check("nextafter", &[], &[&from, &toward], &f32s(&[5], &next));
    let y = f32s(&[2], &[0.0, -0.0]);
    let x = f32s(&[2], &[-1.0, -1.0]);
    let pi = std::f32::consts::PI;
    check("atan2", &[], &[&y, &x], &f32s(&[2], &[pi, -pi]));
}

#[test]
fn nan_compares_as_unequal() {
    let a = f32s(&[3], &[NAN, 0.0, 1.0]);
    let b = f32s(&[3], &[NAN, -0.0, 2.0]);
    for (op, expected) in [
        ("eq", [0, 1, 0]),
        ("ne", [1, 0, 1]),
        ("lt", [0, 0, 1]),
        ("le", [0, 1, 1]),
        ("gt", [0, 0, 0]),
        ("ge", [0, 1, 0]),
    ] {
        check(op, &[], &[&a, &b], &bools(&[3], &expected));
    }
}

#[test]
fn clamp_keeps_nan() {
    let x = f32s(&[4], &[-1.0, 0.5, 2.0, NAN]);
    let (low, high) = (f32s(&[], &[0.0]), f32s(&[], &[1.0]));
    check("clamp", &[], &[&low, &x, &high], &f32s(&[4], &[0.0, 0.5, 1.0, NAN]));
    let low = f32s(&[4], &[0.0, NAN, 3.0, 0.0]);
    check("clamp", &[], &[&low, &x, &high], &f32s(&[4], &[0.0, NAN, 1.0, NAN]));
    let facts = [low.view().fact(), f32s(&[2], &[0.0; 2]).view().fact(), high.view().fact()];
    assert_eq!(
        refusal("clamp", &[], &facts),
        "node 0 (`clamp`): clamp: a limit must have the dtype of x, and its shape or rank 0, got \
         f32[4] for f32[2]"
    );
}

#[test]
fn float_reductions() {
    let x = f32s(&[2, 2], &[1.0, NAN, 3.0, 2.0]);
    let along = |axis: i64| [("axes", ints(&[axis]))];
    check("reduce_max", &along(1), &[&x], &f32s(&[2], &[NAN, 3.0]));
    check("reduce_min", &along(0), &[&x], &f32s(&[2], &[1.0, NAN]));
    check("reduce_sum", &along(1), &[&x], &f32s(&[2], &[NAN, 5.0]));
    check("reduce_prod", &along(0), &[&x], &f32s(&[2], &[3.0, NAN]));
    let empty = f32s(&[2, 0], &[]);
    check("reduce_max", &along(1), &[&empty], &f32s(&[2], &[-INF, -INF]));
    check("reduce_min", &along(1), &[&empty], &f32s(&[2], &[INF, INF]));
    check("reduce_sum", &along(1), &[&empty], &f32s(&[2], &[0.0, 0.0]));
    check("reduce_prod", &along(1), &[&empty], &f32s(&[2], &[1.0, 1.0]));
}

#[test]
fn argmax_prefers_nan_and_the_first() {
    let x = f32s(&[3, 4], &[1.0, NAN, 3.0, NAN, 1.0, 3.0, 3.0, 0.0, -0.0, 0.0, -1.0, -1.0]);
    let attrs = [("axes", ints(&[1])), ("index_dtype", text("i32"))];
    check("argmax", &attrs, &[&x], &i32s(&[3], &[1, 1, 0]));
    check("argmin", &attrs, &[&x], &i32s(&[3], &[1, 3, 2]));
    let attrs = [("axes", ints(&[0])), ("index_dtype", text("u32"))];
    check("argmax", &attrs, &[&x], &u32s(&[4], &[0, 0, 0, 0]));
    let facts = [x.view().fact()];
    let wrong = |axes: &[i64], dtype: &str, shape: &[usize]| {
        let attrs = [("axes", ints(axes)), ("index_dtype", text(dtype))];
        let facts = [lumina_runtime::Fact::new(facts[0].dtype, shape)];
        refusal("argmax", &attrs, &facts)
    };
    assert_eq!(
        wrong(&[0, 1], "i32", &[2, 2]),
        "node 0 (`argmax`): argmax: attribute `axes` must name one axis, got [0, 1]"
    );
    assert_eq!(
        wrong(&[0], "f32", &[2]),
        "node 0 (`argmax`): argmax: attribute `index_dtype` must be i32 or u32, got `f32`"
    );
    assert_eq!(
        wrong(&[1], "i32", &[2, 0]),
        "node 0 (`argmax`): argmax: the axis must have 1 to 2^31-1 elements, got f32[2,0]"
    );
}
