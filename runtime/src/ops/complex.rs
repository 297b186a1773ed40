//! Functions of complex numbers. They are computed in f64, whose range holds every intermediate
//! result of f32 numbers, by arithmetic and `libm` alone, which give the same bits on every CPU.

use lumina_kernels::{Complex32, Complex64};

use super::power::raise;

/// A function of f64 numbers as one of f32 numbers.
macro_rules! rounded {
    ($($(#[$doc:meta])* $name:ident($($z:ident),+) $body:block)+) => {$(
        $(#[$doc])*
        pub(super) fn $name($($z: Complex32),+) -> Complex32 {
            $(let $z = Complex64::new($z.re.into(), $z.im.into());)+
            let result: Complex64 = $body;
            Complex32::new(result.re as f32, result.im as f32)
        }
    )+};
}

/// |z|, infinite where either part is.
pub(super) fn abs(z: Complex32) -> f32 {
    libm::hypot(z.re.into(), z.im.into()) as f32
}

rounded! {
    exp(z) { exp64(z) }
    exp2(z) { exp64(z * std::f64::consts::LN_2) }
    /// e^z - 1 = (e^x - 1)·cos y - 2·sin²(y/2) + i·e^x·sin y
    expm1(z) {
        let half = libm::sin(z.im / 2.0);
        let re = libm::expm1(z.re) * libm::cos(z.im) - 2.0 * half * half;
        Complex64::new(re, exp64(z).im)
    }
    log(z) { log64(z) }
    log1p(z) {
        let square = z.re * (2.0 + z.re) + z.im * z.im;
        let re = if square.abs() < 0.5 { libm::log1p(square) / 2.0 } else { log64(z + 1.0).re };
        Complex64::new(re, libm::atan2(z.im, 1.0 + z.re))
    }
    sqrt(z) { sqrt64(z) }
    rsqrt(z) { div64(Complex64::ONE, sqrt64(z)) }
    tanh(z) { tanh64(z) }
    /// tan z = -i·tanh iz
    tan(z) {
        let turned = tanh64(Complex64::new(-z.im, z.re));
        Complex64::new(turned.im, -turned.re)
    }
    sin(z) {
        let (sin, cos) = libm::sincos(z.re);
        Complex64::new(times(sin, libm::cosh(z.im)), times(cos, libm::sinh(z.im)))
    }
    cos(z) {
        let (sin, cos) = libm::sincos(z.re);
        Complex64::new(times(cos, libm::cosh(z.im)), -times(sin, libm::sinh(z.im)))
    }
    sinh(z) {
        let (sin, cos) = libm::sincos(z.im);
        Complex64::new(times(cos, libm::sinh(z.re)), times(sin, libm::cosh(z.re)))
    }
    cosh(z) {
        let (sin, cos) = libm::sincos(z.im);
        Complex64::new(times(cos, libm::cosh(z.re)), times(sin, libm::sinh(z.re)))
    }
    asin(z) { asin64(z) }
    acos(z) {
        let (below, above) = (sqrt64(one_minus(z)), sqrt64(z + 1.0));
        let im = libm::asinh((above.conj() * below).im);
        Complex64::new(2.0 * libm::atan2(below.re, above.re), im)
    }
    /// atan z = -i·atanh iz
    atan(z) {
        let turned = atanh64(Complex64::new(-z.im, z.re));
        Complex64::new(turned.im, -turned.re)
    }
    /// asinh z = -i·asin iz
    asinh(z) {
        let turned = asin64(Complex64::new(-z.im, z.re));
        Complex64::new(turned.im, -turned.re)
    }
    acosh(z) {
        let (below, above) = (sqrt64(z - 1.0), sqrt64(z + 1.0));
        let re = libm::asinh((below.conj() * above).re);
        Complex64::new(re, 2.0 * libm::atan2(below.im, above.re))
    }
    atanh(z) { atanh64(z) }
    /// 1 / (1 + e^-z)
    logistic(z) { div64(Complex64::ONE, exp64(-z) + 1.0) }
    /// z/|z|, 0 of 0.
    sign(z) {
        let length = libm::hypot(z.re, z.im);
        if length == 0.0 { z } else { Complex64::new(z.re / length, z.im / length) }
    }
    div(a, b) { div64(a, b) }
    /// e^(b·ln a); 0^0 is 1, and 0 to a positive power 0.
    pow(a, b) {
        if b == Complex64::ZERO {
            Complex64::ONE
        } else if a == Complex64::ZERO && b.im == 0.0 && b.re > 0.0 {
            Complex64::ZERO
        } else {
            exp64(b * log64(a))
        }
    }
}

/// a^b by repeated multiplication.
pub(super) fn pow_integer(a: Complex32, b: i32) -> Complex32 {
    let a = Complex64::new(a.re.into(), a.im.into());
    let raised = raise(a, b.unsigned_abs(), Complex64::ONE, |x, y| x * y);
    let result = if b < 0 { div64(Complex64::ONE, raised) } else { raised };
    Complex32::new(result.re as f32, result.im as f32)
}

/// a·b, but that 0 of a stays where b is infinite.
fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 && !b.is_nan() { a } else { a * b }
}

fn exp64(z: Complex64) -> Complex64 {
    let length = libm::exp(z.re);
    if length == 0.0 {
        // Whatever the angle is, also where it is infinite.
        return Complex64::ZERO;
    }
    let (sin, cos) = libm::sincos(z.im);
    Complex64::new(times(cos, length), times(sin, length))
}

fn log64(z: Complex64) -> Complex64 {
    let length = libm::hypot(z.re, z.im);
    let re = if (0.5..2.0).contains(&length) {
        // |z|² - 1 without cancellation of the larger part.
        let (small, large) = if z.re.abs() < z.im.abs() { (z.re, z.im) } else { (z.im, z.re) };
        libm::log1p((large.abs() - 1.0) * (large.abs() + 1.0) + small * small) / 2.0
    } else {
        libm::log(length)
    };
    Complex64::new(re, libm::atan2(z.im, z.re))
}

/// The root in the right half plane, on the imaginary axis that on the side of z.
fn sqrt64(z: Complex64) -> Complex64 {
    if z == Complex64::ZERO {
        return Complex64::new(0.0, z.im);
    }
    if z.im.is_infinite() {
        return Complex64::new(f64::INFINITY, z.im);
    }
    let root = libm::sqrt((z.re.abs() + libm::hypot(z.re, z.im)) / 2.0);
    let other = if root.is_infinite() { z.im.abs() * 0.0 } else { z.im.abs() / (2.0 * root) };
    if z.re >= 0.0 {
        Complex64::new(root, other.copysign(z.im))
    } else {
        Complex64::new(other, root.copysign(z.im))
    }
}

/// With t = tan y and s = sinh x: (√(1 + s²)·s·(1 + t²) + i·t) / (1 + (1 + t²)·s²) (W. Kahan).
fn tanh64(z: Complex64) -> Complex64 {
    if z.re.abs() > 40.0 {
        // e^-2|x| is below the rounding of 1, and of f32 numbers next to it.
        return Complex64::new(1f64.copysign(z.re), 0f64.copysign(libm::sin(2.0 * z.im)));
    }
    let (t, s) = (libm::tan(z.im), libm::sinh(z.re));
    let beta = 1.0 + t * t;
    let scale = 1.0 + beta * s * s;
    Complex64::new(beta * libm::sqrt(1.0 + s * s) * s / scale, t / scale)
}

/// This one and its inverse relatives are the formulas of W. Kahan, which keep the signs of zeros
/// and so the sides of the branch cuts.
fn asin64(z: Complex64) -> Complex64 {
    let (below, above) = (sqrt64(one_minus(z)), sqrt64(z + 1.0));
    let im = libm::asinh((below.conj() * above).im);
    Complex64::new(libm::atan2(z.re, (below * above).re), im)
}

fn atanh64(z: Complex64) -> Complex64 {
    let rest = 1.0 - z.re;
    let re = libm::log1p(4.0 * z.re / (rest * rest + z.im * z.im)) / 4.0;
    let im = libm::atan2(2.0 * z.im, rest * (1.0 + z.re) - z.im * z.im) / 2.0;
    Complex64::new(re, im)
}

/// 1 - z, whose imaginary part is -0 where that of z is 0.
fn one_minus(z: Complex64) -> Complex64 {
    Complex64::new(1.0 - z.re, -z.im)
}

fn div64(a: Complex64, b: Complex64) -> Complex64 {
    if b == Complex64::ZERO {
        let infinity = f64::INFINITY.copysign(b.re);
        return Complex64::new(a.re * infinity, a.im * infinity);
    }
    if (b.re.is_infinite() || b.im.is_infinite()) && a.is_finite() {
        return Complex64::ZERO;
    }
    let scale = b.re * b.re + b.im * b.im;
    let re = (a.re * b.re + a.im * b.im) / scale;
    let im = (a.im * b.re - a.re * b.im) / scale;
    Complex64::new(re, im)
}
