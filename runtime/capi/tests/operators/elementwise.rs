//! Operators of each element by itself.

use lumina_kernels::DType;

use super::support::{ORDERS, Order, REALS, Random, Tensor, check};

const SHAPES: [&[usize]; 5] = [&[], &[7], &[5, 9], &[2, 3, 4], &[3, 0, 2]];

/// One operator of N inputs against a function, in all layouts and types.
macro_rules! law {
    ($test:ident: $op:ident($($input:ident),+) $([$($param:expr),*])? = $f:expr, $types:expr, $steps:expr) => {
        #[test]
        fn $test() {
            let mut random = Random::new(1);
            for dtype in $types {
                for shape in SHAPES {
                    for order in ORDERS {
                        for of_input in ORDERS.into_iter().chain([Order::Repeated]) {
                            $(let mut $input = Tensor::new(dtype, shape, of_input).random(&mut random);)+
                            let mut y = Tensor::new(dtype, shape, order);
                            run!($op, [y, $($input),+] $($(, $param)*)?);
                            let inputs = [$($input.values()),+];
                            let want: Vec<f64> = (0..y.len())
                                .map(|index| $f(inputs.each_ref().map(|values| values[index])))
                                .collect();
                            check(&y, &want, $steps, 1.0);
                        }
                    }
                }
                in_place::$test(dtype, &mut random);
            }
        }
    };
}

law! { add: Add(a, b) = |[a, b]: [f64; 2]| a + b, REALS, 1.0 }
law! { sub: Sub(a, b) = |[a, b]: [f64; 2]| a - b, REALS, 1.0 }
law! { mul: Mul(a, b) = |[a, b]: [f64; 2]| a * b, REALS, 1.0 }
law! { relu: Relu(x) = |[x]: [f64; 1]| x.max(0.0), REALS, 0.0 }
law! { silu: Silu(x) = |[x]: [f64; 1]| x / (1.0 + (-x).exp()), REALS, 1.0 }
law! { quick_gelu: QuickGelu(x) = |[x]: [f64; 1]| x / (1.0 + (-1.702 * x).exp()), REALS, 1.0 }
law! { sigmoid: Sigmoid(x) = |[x]: [f64; 1]| 1.0 / (1.0 + (-x).exp()), REALS, 3.0 }
law! { tanh: Tanh(x) = |[x]: [f64; 1]| x.tanh(), REALS, 3.0 }
law! { gelu: Gelu(x) = |[x]: [f64; 1]| x * phi(x), REALS, 1.0 }
law! {
    gelu_tanh: GeluTanh(x) = |[x]: [f64; 1]| {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        x * 0.5 * (1.0 + u.tanh())
    }, REALS, 1.0
}
law! {
    softplus: Softplus(x)[0.5, 0.75] =
        |[x]: [f64; 1]| if 0.5 * x > 0.75 { x } else { (0.5 * x).exp().ln_1p() / 0.5 }, REALS, 1.0
}
law! { clip: Clip(x, low, high) = |[x, low, high]: [f64; 3]| x.max(low).min(high), REALS, 0.0 }
law! { swiglu: SwiGLU(a, b) = |[a, b]: [f64; 2]| a * b / (1.0 + (-b).exp()), REALS, 3.0 }

/// Φ by its series.
fn phi(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * density
}

/// The output is the first input: what comes out is what comes out elsewhere.
mod in_place {
    use super::*;

    macro_rules! law {
        ($($test:ident: $op:ident($($other:ident),*) $([$($param:expr),*])?)*) => {$(
            pub(super) fn $test(dtype: DType, random: &mut Random) {
                for order in ORDERS {
                    let mut x = Tensor::new(dtype, &[6, 5], order).random(random);
                    $(let mut $other = Tensor::new(dtype, &[6, 5], Order::Padded).random(random);)*
                    let mut y = Tensor::new(dtype, &[6, 5], Order::RowMajor);
                    run!($op, [y, x $(, $other)*] $($(, $param)*)?);
                    let [both, same] = x.twice();
                    run!($op, [both, same $(, $other)*] $($(, $param)*)?);
                    x.check_gaps();
                    assert_eq!(x.values(), y.values(), "{order:?} {dtype}");
                }
            }
        )*};
    }

    law! {
        add: Add(b)
        sub: Sub(b)
        mul: Mul(b)
        relu: Relu()
        silu: Silu()
        quick_gelu: QuickGelu()
        sigmoid: Sigmoid()
        tanh: Tanh()
        gelu: Gelu()
        gelu_tanh: GeluTanh()
        softplus: Softplus()[0.5, 0.75]
        clip: Clip(low, high)
        swiglu: SwiGLU(b)
    }
}

#[test]
fn sums_and_products_of_integers_wrap() {
    for (dtype, extent) in [
        (DType::I8, 256.0),
        (DType::U8, 256.0),
        (DType::I16, 65536.0),
        (DType::I32, 4294967296.0),
        (DType::U32, 4294967296.0),
        (DType::I64, f64::INFINITY),
    ] {
        let unsigned = matches!(dtype, DType::U8 | DType::U32);
        let values =
            |k: usize| move |i: usize| ((i * k) % 200) as f64 - if unsigned { 0.0 } else { 100.0 };
        let wrap = |x: f64| {
            if extent.is_infinite() {
                return x;
            }
            let x = x.rem_euclid(extent);
            if !unsigned && x >= extent / 2.0 { x - extent } else { x }
        };
        let mut a = Tensor::new(dtype, &[9, 7], Order::Reversed).filled(values(37));
        let mut b = Tensor::new(dtype, &[9, 7], Order::ColumnMajor).filled(values(53));
        let mut c = Tensor::new(dtype, &[9, 7], Order::Padded);
        let (x, y) = (a.values(), b.values());
        let want = |f: fn(f64, f64) -> f64| -> Vec<f64> {
            x.iter().zip(&y).map(|(&x, &y)| wrap(f(x, y))).collect()
        };
        run!(Add, [c, a, b]);
        check(&c, &want(|x, y| x + y), 0.0, 0.0);
        run!(Sub, [c, a, b]);
        check(&c, &want(|x, y| x - y), 0.0, 0.0);
        run!(Mul, [c, a, b]);
        check(&c, &want(|x, y| x * y), 0.0, 0.0);
    }
}

#[test]
fn nan_and_infinity_stay() {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0];
    for dtype in REALS {
        let mut x = Tensor::new(dtype, &[5], Order::RowMajor).filled(|index| values[index]);
        let mut y = Tensor::new(dtype, &[5], Order::Reversed);
        run!(Relu, [y, x]);
        check(&y, &[f64::NAN, f64::INFINITY, 0.0, 0.0, 0.0], 0.0, 0.0);
        run!(Silu, [y, x]);
        check(&y, &[f64::NAN, f64::INFINITY, f64::NAN, 0.0, -0.268_941_421_369_995_1], 1.0, 1.0);
        run!(Sigmoid, [y, x]);
        check(&y, &[f64::NAN, 1.0, 0.0, 0.5, 0.268_941_421_369_995_1], 2.0, 1.0);
        run!(Tanh, [y, x]);
        check(&y, &[f64::NAN, 1.0, -1.0, 0.0, -0.761_594_155_955_764_9], 2.0, 1.0);
        let mut low = Tensor::new(dtype, &[5], Order::RowMajor).filled(|_| -0.5);
        run!(Clip, [y, x, low, x]);
        check(&y, &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0], 0.0, 0.0);
        run!(Softplus, [y, x], 1.0, 20.0);
        let at_zero = std::f64::consts::LN_2;
        check(&y, &[f64::NAN, f64::INFINITY, 0.0, at_zero, 0.313_261_687_518_222_8], 1.0, 1.0);
    }
}

#[test]
fn f64_keeps_the_slope_of_quick_gelu() {
    // Where e^(1.702·x) is small, a slope that was rounded to f32 shows.
    let mut x = Tensor::new(DType::F64, &[1], Order::RowMajor).filled(|_| -16.0);
    let mut y = x.clone();
    run!(QuickGelu, [y, x]);
    let want = -16.0 / (1.0 + (1.702f64 * 16.0).exp());
    // The exponent is rounded to 2^-53 of 27.
    assert!((y.values()[0] / want - 1.0).abs() < 1e-14, "{:?} {want}", y.values());
}

#[test]
fn large_tensors_are_shared_by_threads() {
    let mut random = Random::new(5);
    let mut a = Tensor::new(DType::F32, &[300, 700], Order::Padded).random(&mut random);
    let mut b = Tensor::new(DType::F32, &[300, 700], Order::Repeated).random(&mut random);
    for order in ORDERS {
        let mut c = Tensor::new(DType::F32, &[300, 700], order);
        run!(Mul, [c, a, b]);
        let want: Vec<f64> = a.values().iter().zip(b.values()).map(|(a, b)| a * b).collect();
        check(&c, &want, 1.0, 1.0);
    }
}
