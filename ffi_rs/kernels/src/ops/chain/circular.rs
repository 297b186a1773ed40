//! The noise of complex numbers: circular, with σ of the magnitude.
//!
//! ```text
//! σ² = thermal² + shot²·|y| + relative²·|y|² + weight²·‖x_q‖²        y' = y + σ·(ε_re + i·ε_im)/√2
//! ```
//!
//! All of it is in f64, which holds the squares of all f32.

use super::noise::{NoiseSums, RowNoise};

/// Numbers that are computed at a time.
const NUMBERS: usize = 8;

/// What σ is made of at some numbers, and 1/√2 of it.
struct Spread {
    magnitude: [f64; NUMBERS],
    square: [f64; NUMBERS],
    of_part: [f64; NUMBERS],
}

impl RowNoise {
    #[inline(always)]
    fn spread(&self, re: &[f64; NUMBERS], im: &[f64; NUMBERS]) -> Spread {
        let [thermal, shot, relative, weight] =
            self.coefficients.as_array().map(|value| f64::from(value) * f64::from(value));
        let floor = thermal + weight * self.x_norm_sq;
        let square: [f64; NUMBERS] = std::array::from_fn(|n| re[n] * re[n] + im[n] * im[n]);
        let magnitude = square.map(f64::sqrt);
        let variance = |n: usize| floor + shot * magnitude[n] + relative * square[n];
        let of_part = std::array::from_fn(|n| (variance(n) * 0.5).sqrt());
        Spread { magnitude, square, of_part }
    }

    /// Replaces ε of the parts of numbers y by what is added to them.
    #[inline(always)]
    pub(crate) fn scale_circular(&self, y: &[f32], epsilon: &mut [f32]) {
        let (y, y_rest) = y.as_chunks::<{ 2 * NUMBERS }>();
        let (epsilon, epsilon_rest) = epsilon.as_chunks_mut::<{ 2 * NUMBERS }>();
        let scale = |y: &[f32; 2 * NUMBERS], epsilon: &mut [f32; 2 * NUMBERS]| {
            let [re, im] = parts(y);
            let spread = self.spread(&re, &im);
            for (n, pair) in epsilon.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *pair = pair.map(|epsilon| (spread.of_part[n] * f64::from(epsilon)) as f32);
            }
        };
        for (y, epsilon) in y.iter().zip(epsilon) {
            scale(y, epsilon);
        }
        if !y_rest.is_empty() {
            let (mut y, mut last) = ([0.0; 2 * NUMBERS], [0.0; 2 * NUMBERS]);
            y[..y_rest.len()].copy_from_slice(y_rest);
            last[..y_rest.len()].copy_from_slice(&epsilon_rest[..y_rest.len()]);
            scale(&y, &mut last);
            epsilon_rest[..y_rest.len()].copy_from_slice(&last[..y_rest.len()]);
        }
    }

    /// Makes dz of h, `p = (h_re·ε_re + h_im·ε_im)/(√2·σ)` being the noise cotangent of a number,
    /// and adds to its sums along the row.
    #[inline(always)]
    pub(crate) fn through_circular(
        &self,
        dz: &mut [f32],
        y: &[f32],
        epsilon: &[f32],
        mut sums: Option<&mut NoiseSums>,
    ) {
        let [_, shot, relative, _] =
            self.coefficients.as_array().map(|value| f64::from(value) * f64::from(value));
        for ((dz, y), epsilon) in
            dz.chunks_mut(2 * NUMBERS).zip(y.chunks(2 * NUMBERS)).zip(epsilon.chunks(2 * NUMBERS))
        {
            let mut padded = [0.0; 2 * NUMBERS];
            padded[..y.len()].copy_from_slice(y);
            let [re, im] = parts(&padded);
            let Spread { magnitude, square, of_part } = self.spread(&re, &im);
            for (n, h) in dz.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let upstream = f64::from(h[0]) * f64::from(epsilon[2 * n])
                    + f64::from(h[1]) * f64::from(epsilon[2 * n + 1]);
                // √2·σ is twice the σ of a part.
                let cotangent = if of_part[n] == 0.0 { 0.0 } else { upstream / (2.0 * of_part[n]) };
                let by_shot = if magnitude[n] == 0.0 { 0.0 } else { 0.5 * shot / magnitude[n] };
                let factor = cotangent * (by_shot + relative);
                h[0] = (f64::from(h[0]) + factor * re[n]) as f32;
                h[1] = (f64::from(h[1]) + factor * im[n]) as f32;
                if let Some(sums) = &mut sums {
                    sums.wide[0] += cotangent;
                    sums.wide[1] += cotangent * magnitude[n];
                    sums.wide[2] += cotangent * square[n];
                }
            }
        }
    }
}

/// Real and imaginary parts.
#[inline(always)]
fn parts(numbers: &[f32; 2 * NUMBERS]) -> [[f64; NUMBERS]; 2] {
    [0, 1].map(|part| std::array::from_fn(|n| f64::from(numbers[2 * n + part])))
}
