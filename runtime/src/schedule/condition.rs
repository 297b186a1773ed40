//! The condition number of a matrix.

/// Rows of a matrix whose condition number a file may give: as many as it takes a fraction of a second
/// to check.
pub(super) const MAX_SIZE: usize = 256;
/// Rounds after which rotations have changed nothing any more; ten do for every matrix of that size.
const MAX_ROUNDS: usize = 60;

/// The largest singular value of a square matrix, row-major, over the least.
///
/// One-sided Jacobi: rows are rotated in pairs until all are orthogonal, and their lengths then are
/// the singular values.
///
/// ```text
/// until nothing changes:
///     for rows p < q that are not orthogonal:
///         rotate both by the angle that makes them so
/// ```
pub(super) fn condition(size: usize, matrix: &[f32]) -> f64 {
    let mut rows: Vec<Vec<f64>> = matrix
        .chunks_exact(size.max(1))
        .map(|row| row.iter().map(|&element| f64::from(element)).collect())
        .collect();
    for _ in 0..MAX_ROUNDS {
        let mut has_changed = false;
        for q in 1..rows.len() {
            let (before, rest) = rows.split_at_mut(q);
            for row in before {
                has_changed |= rotate(row, &mut rest[0]);
            }
        }
        if !has_changed {
            break;
        }
    }
    let lengths: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    let largest = lengths.iter().copied().fold(0.0, f64::max);
    let least = lengths.iter().copied().fold(f64::INFINITY, f64::min);
    if least > 0.0 { largest / least } else { f64::INFINITY }
}

/// Makes two rows orthogonal; false where they are.
fn rotate(p: &mut [f64], q: &mut [f64]) -> bool {
    let (pp, qq, pq) = (dot(p, p), dot(q, q), dot(p, q));
    if pq.abs() <= 1e-15 * (pp * qq).sqrt() {
        return false;
    }
    let zeta = (qq - pp) / (2.0 * pq);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = cosine * tangent;
    for (a, b) in p.iter_mut().zip(q) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
    true
}

/// The sum of products, in four sums that do not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_matrices() {
        assert_eq!(condition(2, &[1.0, 0.0, 0.0, 1.0]), 1.0);
        assert_eq!(condition(2, &[3.0, 0.0, 0.0, -0.5]), 6.0);
        assert_eq!(condition(2, &[1.0, 1.0, 1.0, 1.0]), f64::INFINITY);
        assert_eq!(condition(1, &[0.25]), 1.0);
        // Of [[1, c], [c, 1]] it is (1 + c)/(1 - c).
        assert!((condition(2, &[1.0, 0.5, 0.5, 1.0]) - 3.0).abs() < 1e-12);
        // Of a chain of neighbors it is (1 + 2c·cos(π/(n + 1)))/(1 - 2c·cos(π/(n + 1))).
        let (n, c) = (MAX_SIZE, 0.25f32);
        let mut chain = vec![0.0; n * n];
        for i in 0..n {
            chain[i * n + i] = 1.0;
            if i > 0 {
                chain[i * n + i - 1] = c;
                chain[(i - 1) * n + i] = c;
            }
        }
        let reach = 2.0 * f64::from(c) * (std::f64::consts::PI / (n as f64 + 1.0)).cos();
        let expected = (1.0 + reach) / (1.0 - reach);
        assert!((condition(n, &chain) / expected - 1.0).abs() < 1e-12);
    }
}
