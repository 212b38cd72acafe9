//! Contrast normalisation and ZCA whitening of images, once before training.
//!
//! ```text
//!   contrast    c = (p - mean p) / sqrt(10 + var p)            each image by its own bytes p
//!   whitening   z = (c - mean c) W,  W = (C + bias I)^(-1/2)   C the covariance of c over the training images
//!   bytes       128 + 32 z, rounded and clamped to 0 .. 255    what nets and packed models take
//! ```
//!
//! W is symmetric, so that z looks like the image. Whoever runs the trained model has to whiten its images too.
//!
//! Source: the preprocessing of CIFAR-10 in the codes of BinaryConnect (arXiv 1511.00363) and LAQ (arXiv 1802.08635); the
//! root by Newton's iteration of Denman and Beavers without inverses, as in Higham, Functions of Matrices, chapter 6.

use super::{Dataset, Images};
use crate::error::{Error, Result};
use crate::nn::sgemm::{Matrix, sgemm};
use crate::ops::Par;
use crate::shape::check_len;

/// Added to the variance of an image's bytes.
const CONTRAST_BIAS: f64 = 10.0;

/// What a unit of z is in bytes: four deviations fit.
const UNIT: f32 = 32.0;

/// Bytes of an image, at most: W has as many rows and columns.
const MOST: usize = 1 << 13;

/// Images that are multiplied at a time.
const BATCH: usize = 500;

/// Rounds of the root, at most; an eigenvalue of 1e-10 of the greatest takes about 35.
const ROUNDS: usize = 50;

/// A whitening that was fitted to images.
#[derive(Clone, PartialEq, Debug)]
pub struct Whitening {
    /// Mean of c, `[D]`.
    mean: Vec<f32>,
    /// W, `[D, D]`.
    matrix: Vec<f32>,
}

impl Whitening {
    /// Fits to `images`, D bytes each. `bias` above 0 keeps directions in which images hardly differ from being blown up:
    /// variances of c are about 1, and 0.1 is usual.
    ///
    /// It takes about sixty products of D by D. Errors if there are fewer than 2 images, an image has more than 8192 bytes, or
    /// `bias` is not above 0 or too small for a root in 32 bits.
    pub fn fit(images: &Images, bias: f32, par: Par<'_>) -> Result<Self> {
        let (m, d) = (images.len(), images.input_len());
        if m < 2 {
            return Err(Error::argument("images", m, "2 or more"));
        }
        if d > MOST {
            let expected = format!("images of at most {MOST} bytes");
            return Err(Error::argument(
                "images",
                format_args!("{d} bytes each"),
                expected,
            ));
        }
        if !(bias > 0.0 && bias.is_finite()) {
            return Err(Error::argument("bias", bias, "a number above 0"));
        }
        let mut rows = vec![0.0; BATCH.min(m) * d];
        let mut sums = vec![0f64; d];
        for pixels in images.pixels().chunks(BATCH * d) {
            let rows = &mut rows[..pixels.len()];
            contrast(pixels, d, rows);
            for row in rows.chunks_exact(d) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(s, c)| *s += f64::from(*c));
            }
        }
        let mean: Vec<f32> = sums.iter().map(|s| (s / m as f64) as f32).collect();
        let mut covariance = vec![0.0; d * d];
        for pixels in images.pixels().chunks(BATCH * d) {
            let rows = &mut rows[..pixels.len()];
            contrast(pixels, d, rows);
            center(rows, &mean);
            let rows = Matrix::new(rows, pixels.len() / d, d)?;
            sgemm(1.0, &mut covariance, rows.t(), rows, par)?;
        }
        covariance.iter_mut().for_each(|c| *c /= m as f32);
        covariance
            .iter_mut()
            .step_by(d + 1)
            .for_each(|c| *c += bias);
        let matrix = inverse_root(&covariance, d, par)?;
        let refused =
            || Error::argument("bias", bias, "more: the covariance has no root in 32 bits");
        Ok(Whitening {
            mean,
            matrix: matrix.ok_or_else(refused)?,
        })
    }

    /// z of `pixels` `[M, D]`, `[M, D]`.
    ///
    /// Errors if the length is not a multiple of D.
    pub fn floats(&self, pixels: &[u8], par: Par<'_>) -> Result<Vec<f32>> {
        let d = self.mean.len();
        let m = pixels.len() / d;
        check_len("pixels", pixels.len(), m * d, "M x D")?;
        let mut rows = vec![0.0; pixels.len()];
        contrast(pixels, d, &mut rows);
        center(&mut rows, &self.mean);
        let mut z = vec![0.0; pixels.len()];
        let (rows, w) = (Matrix::new(&rows, m, d)?, Matrix::new(&self.matrix, d, d)?);
        sgemm(0.0, &mut z, rows, w, par)?;
        Ok(z)
    }

    /// The images whitened, as bytes, with their labels.
    ///
    /// Errors if they have another number of bytes than those that were fitted.
    pub fn apply(&self, images: &Images, par: Par<'_>) -> Result<Images> {
        let d = self.mean.len();
        check_len(
            "an image",
            images.input_len(),
            d,
            "as those that were fitted",
        )?;
        let mut bytes = Vec::with_capacity(images.pixels().len());
        for pixels in images.pixels().chunks(BATCH * d) {
            let z = self.floats(pixels, par)?;
            // `as` clamps, and NaN, which there is none of, would be 0.
            bytes.extend(z.iter().map(|z| (128.0 + UNIT * z).round() as u8));
        }
        let shape = [images.height(), images.width(), images.channels()];
        Images::new(shape, images.classes(), bytes, images.labels().to_vec())
    }

    /// Fits to the training images of `data`, and whitens both halves.
    ///
    /// Errors as [`Whitening::fit`] and [`Whitening::apply`] do.
    pub fn of(data: &Dataset, bias: f32, par: Par<'_>) -> Result<(Self, Dataset)> {
        let whitening = Self::fit(&data.train, bias, par)?;
        let whitened = Dataset {
            name: data.name.clone(),
            train: whitening.apply(&data.train, par)?,
            test: whitening.apply(&data.test, par)?,
        };
        Ok((whitening, whitened))
    }
}

/// c of images of `d` bytes each.
fn contrast(pixels: &[u8], d: usize, c: &mut [f32]) {
    for (pixels, c) in pixels.chunks_exact(d).zip(c.chunks_exact_mut(d)) {
        let (mut sum, mut squares) = (0u64, 0u64);
        for p in pixels {
            sum += u64::from(*p);
            squares += u64::from(*p) * u64::from(*p);
        }
        let mean = sum as f64 / d as f64;
        let var = (squares as f64 / d as f64 - mean * mean).max(0.0);
        let share = 1.0 / (CONTRAST_BIAS + var).sqrt();
        for (p, c) in pixels.iter().zip(c) {
            *c = ((f64::from(*p) - mean) * share) as f32;
        }
    }
}

/// Takes the mean off each row.
fn center(rows: &mut [f32], mean: &[f32]) {
    for row in rows.chunks_exact_mut(mean.len()) {
        row.iter_mut().zip(mean).for_each(|(c, mean)| *c -= mean);
    }
}

/// a^(-1/2) of a positive definite matrix `[d, d]`; `None` if the rounds do not come near it.
///
/// With y = a / |a| and z = I at first, t = (3 I - z y) / 2, y <- y t, z <- t z: z goes to the inverse root of a / |a|.
fn inverse_root(a: &[f32], d: usize, par: Par<'_>) -> Result<Option<Vec<f32>>> {
    let norm = a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
    let product = |a: &[f32], b: &[f32], c: &mut [f32]| {
        sgemm(0.0, c, Matrix::new(a, d, d)?, Matrix::new(b, d, d)?, par)
    };
    let mut y: Vec<f32> = a.iter().map(|a| (f64::from(*a) / norm) as f32).collect();
    let mut z = vec![0.0; d * d];
    z.iter_mut().step_by(d + 1).for_each(|z| *z = 1.0);
    let (mut t, mut memory) = (vec![0.0; d * d], vec![0.0; d * d]);
    let mut before = f32::INFINITY;
    for _ in 0..ROUNDS {
        product(&z, &y, &mut t)?;
        let mut off = 0f32;
        for (i, t) in t.iter_mut().enumerate() {
            let unit = if i % (d + 1) == 0 { 1.0 } else { 0.0 };
            off = off.max((*t - unit).abs());
            *t = 1.5 * unit - 0.5 * *t;
        }
        if off.is_nan() {
            return Ok(None);
        }
        // As near as roundings let it come.
        if off < 1e-2 && off >= 0.5 * before {
            break;
        }
        before = off;
        product(&y, &t, &mut memory)?;
        std::mem::swap(&mut y, &mut memory);
        product(&t, &z, &mut memory)?;
        std::mem::swap(&mut z, &mut memory);
    }
    let share = (1.0 / norm.sqrt()) as f32;
    z.iter_mut().for_each(|z| *z *= share);
    Ok((before < 1e-2).then_some(z))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::ops::Pool;

    /// Images of 3 x 4 x 2 whose neighbours are alike.
    fn images(m: usize) -> Images {
        let rng = Rng::new(9);
        let pixel = |i: usize| {
            let (image, at) = (i / 24, i % 24);
            let wide = rng.below((image * 8 + at / 4) as u64, 160);
            (wide + rng.below(i as u64 + 1_000_000, 60)) as u8
        };
        let pixels = (0..m * 24).map(pixel).collect();
        Images::new(
            [3, 4, 2],
            2,
            pixels,
            (0..m).map(|i| (i % 2) as u8).collect(),
        )
        .unwrap()
    }

    /// c minus its mean, in f64.
    fn centered(images: &Images) -> Vec<Vec<f64>> {
        let mut rows: Vec<Vec<f64>> = (0..images.len())
            .map(|i| {
                let p: Vec<f64> = images.image(i).iter().map(|p| f64::from(*p)).collect();
                let mean = p.iter().sum::<f64>() / 24.0;
                let var = p.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / 24.0;
                p.iter().map(|p| (p - mean) / (10.0 + var).sqrt()).collect()
            })
            .collect();
        for at in 0..24 {
            let mean = rows.iter().map(|r| r[at]).sum::<f64>() / rows.len() as f64;
            rows.iter_mut().for_each(|r| r[at] -= mean);
        }
        rows
    }

    #[test]
    fn the_matrix_is_the_symmetric_inverse_root_of_the_covariance() {
        let images = images(1300);
        let rows = centered(&images);
        for bias in [0.1, 0.003] {
            let fitted = Whitening::fit(&images, bias, Par::Caller).unwrap();
            let w = |i: usize, j: usize| f64::from(fitted.matrix[i * 24 + j]);
            let covariance = |i: usize, j: usize| {
                let sum: f64 = rows.iter().map(|r| r[i] * r[j]).sum();
                sum / 1300.0 + if i == j { f64::from(bias) } else { 0.0 }
            };
            let c: Vec<f64> = (0..576).map(|i| covariance(i / 24, i % 24)).collect();
            for i in 0..24 {
                for j in 0..24 {
                    assert!((w(i, j) - w(j, i)).abs() < 2e-3, "{} {}", w(i, j), w(j, i));
                    let product: f64 = (0..576)
                        .map(|at| w(i, at / 24) * c[at] * w(at % 24, j))
                        .sum();
                    let unit = if i == j { 1.0 } else { 0.0 };
                    assert!((product - unit).abs() < 2e-3, "{i} {j}: {product}");
                }
            }
            let z = fitted.floats(images.image(7), Par::Caller).unwrap();
            for (j, z) in z.iter().enumerate() {
                let expected: f64 = (0..24).map(|i| rows[7][i] * w(i, j)).sum();
                assert!((f64::from(*z) - expected).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn bytes_are_of_every_image_alike_and_threads_change_none() {
        let (train, test) = (images(1300), images(40));
        let name = "it".to_string();
        let data = Dataset { name, train, test };
        let (whitening, whitened) = Whitening::of(&data, 0.1, Par::Caller).unwrap();
        let pool = Pool::new(3).unwrap();
        assert_eq!(
            Whitening::of(&data, 0.1, Par::Pool(&pool)).unwrap().1,
            whitened
        );
        // The test images are the first of the training images.
        let len = whitened.test.pixels().len();
        assert_eq!(whitened.test.pixels(), &whitened.train.pixels()[..len]);
        assert_eq!(whitened.train.labels(), data.train.labels());
        let z = whitening.floats(data.test.pixels(), Par::Caller).unwrap();
        for (byte, z) in whitened.test.pixels().iter().zip(z) {
            let expected = (128.0 + 32.0 * z).clamp(0.0, 255.0);
            assert!((f32::from(*byte) - expected).abs() <= 0.5001);
        }
        let spread = whitened
            .train
            .pixels()
            .iter()
            .map(|b| (f64::from(*b) - 128.0).powi(2));
        let deviation = (spread.sum::<f64>() / (1300.0 * 24.0)).sqrt();
        assert!(deviation > 16.0 && deviation < 34.0, "{deviation}");
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let said = |images: &Images, bias| {
            let fitted = Whitening::fit(images, bias, Par::Caller);
            fitted.unwrap_err().to_string()
        };
        assert_eq!(said(&images(1), 0.1), "images is 1; expected 2 or more");
        assert!(said(&images(9), 0.0).starts_with("bias is 0; expected a number above 0"));
        assert!(said(&images(9), f32::NAN).starts_with("bias is NaN"));
        // Images that are all of one gray have no contrast, and are finite.
        let flat = Images::new([2, 2, 1], 2, vec![7; 12], vec![0; 3]).unwrap();
        let fitted = Whitening::fit(&flat, 0.1, Par::Caller).unwrap();
        assert_eq!(
            fitted.apply(&flat, Par::Caller).unwrap().pixels(),
            [128; 12]
        );
        assert!(fitted.apply(&images(2), Par::Caller).is_err());
        assert!(fitted.floats(&[1; 3], Par::Caller).is_err());
        let large = Images::new([64, 64, 3], 2, vec![0; 2 * 12288], vec![0; 2]).unwrap();
        assert!(said(&large, 0.1).contains("at most 8192 bytes"));
    }
}
