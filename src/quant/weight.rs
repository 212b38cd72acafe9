//! Weight quantizers: projections of float weights onto a scale times small integers.

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::shape::{check_len, elements, words};

/// Binary weights with one mean-absolute scale: `w = delta * sign(w_f)`, `delta = mean |w_f|`.
///
/// `latent` is `[rows, cols]` row-major. The result is the projection onto R+ x {-1, +1}^n: no other
/// (delta, signs) is nearer to `latent`. sign(0) = +1, and NaN gets -1; a NaN also makes `delta` NaN,
/// which is how a diverged net shows. An empty matrix has delta 0.
///
/// Source: Blended Coarse Gradient Descent, arXiv 1808.05240, section 2 (one scale a layer).
pub fn binary_mean(latent: &[f32], rows: usize, cols: usize) -> Result<(PackedMatrix, f32)> {
    let len = elements("rows x cols", &[rows, cols])?;
    check_len("latent", latent.len(), len, "rows x cols")?;
    let mut signs = PackedMatrix::zeros(Encoding::Bipolar, rows, cols)?;
    if len == 0 {
        return Ok((signs, 0.0));
    }
    for (row, bits) in latent
        .chunks_exact(cols)
        .zip(signs.words_mut().chunks_exact_mut(words(cols)))
    {
        for (chunk, word) in row.chunks(32).zip(bits) {
            // Chosen, not shifted, so that the loop can be vectorised without shifts lane by lane.
            let mut chosen = [0u32; 32];
            for (i, (bit, &w)) in chosen.iter_mut().zip(chunk).enumerate() {
                *bit = if w >= 0.0 { 1 << i } else { 0 };
            }
            *word = chosen.iter().fold(0, |word, bit| word | bit);
        }
    }
    Ok((signs, (sum_abs(latent) / len as f64) as f32))
}

/// The sum of magnitudes in f64, in eight fixed strands: fast, and the same on every machine.
fn sum_abs(values: &[f32]) -> f64 {
    let mut strands = [0f64; 8];
    let mut chunks = values.chunks_exact(8);
    for chunk in &mut chunks {
        for (strand, v) in strands.iter_mut().zip(chunk) {
            *strand += f64::from(v.abs());
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|v| f64::from(v.abs())).sum();
    strands.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_mean_magnitude_and_no_other_is_nearer() {
        let w = [0.5, -1.5, 0.0, -0.0, 2.0, -1.0];
        let (signs, delta) = binary_mean(&w, 2, 3).unwrap();
        assert_eq!(signs.unpack(), [1, -1, 1, 1, 1, -1]);
        assert_eq!(delta, 5.0 / 6.0);
        let objective = |scale: f32, signs: u32| -> f32 {
            let sign = |i: usize| if signs >> i & 1 == 1 { scale } else { -scale };
            w.iter()
                .enumerate()
                .map(|(i, w)| (w - sign(i)).powi(2))
                .sum()
        };
        let ours = objective(delta, 0b01_1101);
        for signs in 0..64 {
            for scale in 0..200 {
                assert!(ours <= objective(scale as f32 * 0.01, signs) + 1e-6);
            }
        }
    }

    #[test]
    fn a_gaussian_has_the_known_scale() {
        // E|x| = sqrt(2 / pi) = 0.7979 for N(0, 1); a sum of twelve uniforms is near enough.
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let w: Vec<f32> = (0..65_536)
            .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
            .collect();
        let (_, delta) = binary_mean(&w, 256, 256).unwrap();
        assert!((delta - 0.7979).abs() < 0.01, "{delta}");
    }

    #[test]
    fn nothing_and_nan() {
        assert_eq!(binary_mean(&[], 0, 5).unwrap().1, 0.0);
        assert_eq!(binary_mean(&[], 3, 0).unwrap().1, 0.0);
        let (signs, delta) = binary_mean(&[f32::NAN, 1.0], 1, 2).unwrap();
        assert_eq!(signs.unpack(), [-1, 1]);
        assert!(delta.is_nan());
        assert!(binary_mean(&[1.0], 1, 2).is_err());
    }
}
