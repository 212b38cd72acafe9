//! Pooling in floats: the greatest, or the mean, of each window of an image, with gradients.
//!
//! ```text
//!   greatest  y = max of the window         d_x goes to the first of the greatest; NaN wins, so that it shows
//!   mean      y = sum of the window * (1 / count)       d_x = d_y * (1 / count) for every pixel of it
//! ```
//!
//! `[M, H, W, C]` becomes `[M, OH, OW, C]`, OH = (H - KH) / stride + 1, rounded down; there is no padding. The greatest
//! of levels of a quantizer is a level, so codes stay codes; means of few levels are codes of their own (`packed`).

use crate::error::{Error, Result};
use crate::nn::share::share;
use crate::ops::Par;
use crate::shape::{check_len, elements};

/// Which value of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolKind {
    /// The greatest.
    Max,
    /// The mean.
    Average,
}

/// Pooling of images of one shape.
#[derive(Clone, Debug)]
pub struct Pool2d {
    kind: PoolKind,
    /// H, W, C.
    input: [usize; 3],
    /// Rows and columns of a window, and pixels from one to the next.
    window: usize,
    stride: usize,
    /// Of the greatest: where it stood in its image, `[M, OH, OW, C]`.
    at: Vec<u32>,
}

impl Pool2d {
    /// Windows of `window` x `window` pixels, `stride` from one to the next, over images of `input` (H, W, C).
    ///
    /// Errors if a number is 0 or the window is larger than the image.
    pub fn new(kind: PoolKind, input: [usize; 3], window: usize, stride: usize) -> Result<Self> {
        let side = input[0].min(input[1]);
        if input.contains(&0) || elements("image", &input)? > u32::MAX as usize {
            let value = format!("{input:?}");
            return Err(Error::argument("image", value, "1 to 2^32 - 1 pixels"));
        }
        if !(1..=side).contains(&window) {
            let expected = format!("1 to {side}, the image's smaller side");
            return Err(Error::argument("window", window, expected));
        }
        if stride == 0 {
            return Err(Error::argument("stride", stride, "1 or more"));
        }
        Ok(Pool2d {
            kind,
            input,
            window,
            stride,
            at: Vec::new(),
        })
    }

    /// Which value of a window.
    pub fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Rows and columns of a window, and pixels from one to the next.
    pub fn window(&self) -> (usize, usize) {
        (self.window, self.stride)
    }

    /// OH, OW and C.
    pub fn output(&self) -> [usize; 3] {
        let size = |side: usize| (side - self.window) / self.stride + 1;
        [size(self.input[0]), size(self.input[1]), self.input[2]]
    }

    /// Pools `x` `[M, H, W, C]` into `y` `[M, OH, OW, C]`, and keeps what the gradient needs.
    ///
    /// Errors if a length is wrong.
    pub fn forward_train(&mut self, x: &[f32], y: &mut [f32], par: Par<'_>) -> Result<()> {
        self.check(x, y)?;
        let mut at = std::mem::take(&mut self.at);
        if self.kind == PoolKind::Max {
            at.resize(y.len(), 0);
        }
        let (per_input, per_output) = self.lens();
        match self.kind {
            PoolKind::Average => self.pool(x, y, 1.0, par),
            PoolKind::Max => {
                let pieces = y.chunks_mut(per_output).zip(at.chunks_mut(per_output));
                let pieces = x.chunks(per_input).zip(pieces);
                share(x.len() as u64 / 2, par, pieces, &|(x, (y, at))| {
                    self.greatest(x, y, Some(at));
                });
            }
        }
        self.at = at;
        Ok(())
    }

    /// Pools `x` `[M, H, W, C]` into `y` `[M, OH, OW, C]`.
    ///
    /// Errors if a length is wrong.
    pub fn forward(&self, x: &[f32], y: &mut [f32], par: Par<'_>) -> Result<()> {
        self.forward_scaled(x, 1.0, y, par)
    }

    /// As [`Pool2d::forward`], with means as `sum * (scale / count)`; the greatest are not scaled.
    ///
    /// Errors if a length is wrong.
    pub fn forward_scaled(&self, x: &[f32], scale: f32, y: &mut [f32], par: Par<'_>) -> Result<()> {
        self.check(x, y)?;
        self.pool(x, y, scale, par);
        Ok(())
    }

    fn pool(&self, x: &[f32], y: &mut [f32], scale: f32, par: Par<'_>) {
        let (per_input, per_output) = self.lens();
        let pieces = x.chunks(per_input).zip(y.chunks_mut(per_output));
        share(x.len() as u64 / 2, par, pieces, &|(x, y)| match self.kind {
            PoolKind::Max => self.greatest(x, y, None),
            PoolKind::Average => self.mean(x, y, scale),
        });
    }

    /// The mean of each window of an image.
    fn mean(&self, x: &[f32], y: &mut [f32], scale: f32) {
        let c = self.input[2];
        let share = scale / (self.window * self.window) as f32;
        for (i, y) in y.chunks_exact_mut(c).enumerate() {
            for (j, from) in self.places(i).enumerate() {
                let x = &x[from..][..c];
                match j {
                    0 => y.copy_from_slice(x),
                    _ => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
                }
            }
            y.iter_mut().for_each(|y| *y *= share);
        }
    }

    /// The greatest of each window of an image, and where it stands.
    fn greatest(&self, x: &[f32], y: &mut [f32], mut at: Option<&mut [u32]>) {
        let c = self.input[2];
        for (i, y) in y.chunks_exact_mut(c).enumerate() {
            let mut at = at.as_mut().map(|at| &mut at[i * c..][..c]);
            if self.window == 2 {
                let first = self.places(i).next().expect("a window has a pixel");
                take_greatest_of_four(x, self.input[1] * c, y, at, first);
                continue;
            }
            for (j, from) in self.places(i).enumerate() {
                take_greatest(&x[from..][..c], y, at.as_deref_mut(), from, j == 0);
            }
        }
    }

    /// The gradient by the input into `d_x` `[M, H, W, C]`, of the one by the output, `d_y` `[M, OH, OW, C]`, for the
    /// batch of the last [`Pool2d::forward_train`].
    ///
    /// Errors if a length is wrong.
    pub fn backward(&self, d_y: &[f32], d_x: &mut [f32], par: Par<'_>) -> Result<()> {
        self.check(d_x, d_y)?;
        let c = self.input[2];
        let (per_input, per_output) = self.lens();
        if self.kind == PoolKind::Max {
            check_len("d_y", d_y.len(), self.at.len(), "as the last output")?;
        }
        let of_each = 1.0 / (self.window * self.window) as f32;
        let pieces = d_y.chunks(per_output).zip(d_x.chunks_mut(per_input));
        let images = pieces.enumerate();
        share(d_y.len() as u64 / 2, par, images, &|(image, (d_y, d_x))| {
            d_x.fill(0.0);
            if self.kind == PoolKind::Max {
                let at = &self.at[image * per_output..][..per_output];
                for (d, at) in d_y.iter().zip(at) {
                    d_x[*at as usize] += d;
                }
                return;
            }
            for (i, d_y) in d_y.chunks_exact(c).enumerate() {
                for to in self.places(i) {
                    let d_x = d_x[to..][..c].iter_mut();
                    d_x.zip(d_y).for_each(|(d_x, d)| *d_x += of_each * d);
                }
            }
        });
        Ok(())
    }

    /// Values of an image, and of its output.
    fn lens(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output().iter().product())
    }

    /// Where in an image the pixels of the window of output pixel `i` begin.
    fn places(&self, i: usize) -> impl Iterator<Item = usize> + use<> {
        let [_, w, c] = self.input;
        let ow = (w - self.window) / self.stride + 1;
        let (window, stride) = (self.window, self.stride);
        let first = i / ow * stride * w + i % ow * stride;
        let rows = (0..window).map(move |ky| first + ky * w);
        rows.flat_map(move |row| (row..row + window).map(move |pixel| pixel * c))
    }

    fn check(&self, x: &[f32], y: &[f32]) -> Result<()> {
        let [h, w, c] = self.input;
        let [oh, ow, _] = self.output();
        let m = x.len() / (h * w * c);
        check_len("x", x.len(), m * h * w * c, "M x H x W x C")?;
        check_len("y", y.len(), m * oh * ow * c, "M x OH x OW x C")
    }
}

/// Whether `x`, later in the window, takes the place of `y`. Chosen, not branched to, so that loops are vectors.
fn beats(x: f32, y: f32) -> bool {
    (x > y) | x.is_nan()
}

/// A window of 2 x 2 pixels whose first one lies at `first` of the image `x` and whose rows are `row` apart: the
/// greatest, channel by channel.
fn take_greatest_of_four(
    x: &[f32],
    row: usize,
    y: &mut [f32],
    at: Option<&mut [u32]>,
    first: usize,
) {
    let c = y.len();
    let pair = |from: usize| x[from..from + 2 * c].split_at(c);
    let ((a, b), (d, e)) = (pair(first), pair(first + row));
    let later = [(b, first + c), (d, first + row), (e, first + row + c)];
    match at {
        None => {
            for i in 0..c {
                y[i] = later
                    .iter()
                    .fold(a[i], |y, (x, _)| if beats(x[i], y) { x[i] } else { y });
            }
        }
        Some(at) => {
            let at = &mut at[..c];
            for i in 0..c {
                let (mut best, mut place) = (a[i], first as u32);
                for (x, from) in later {
                    let wins = beats(x[i], best);
                    best = if wins { x[i] } else { best };
                    place = if wins { from as u32 } else { place };
                }
                y[i] = best;
                at[i] = place + i as u32;
            }
        }
    }
}

/// A pixel of a window, which lies at `from` in its image: the greatest so far, channel by channel.
fn take_greatest(x: &[f32], y: &mut [f32], at: Option<&mut [u32]>, from: usize, first: bool) {
    if first {
        y.copy_from_slice(x);
        if let Some(at) = at {
            let places = (from as u32..).zip(at);
            places.for_each(|(place, at)| *at = place);
        }
        return;
    }
    match at {
        None => {
            for (y, x) in y.iter_mut().zip(x) {
                *y = if beats(*x, *y) { *x } else { *y };
            }
        }
        Some(at) => {
            let places = (from as u32..).zip(at);
            for ((y, x), (place, at)) in y.iter_mut().zip(x).zip(places) {
                let wins = beats(*x, *y);
                *y = if wins { *x } else { *y };
                *at = if wins { place } else { *at };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    const INPUT: [usize; 3] = [5, 7, 3];

    fn images(m: usize) -> Vec<f32> {
        let mut x = vec![0.0; m * 105];
        Rng::new(4).fill_normal(&mut x, 1.0);
        x
    }

    #[test]
    fn both_kinds_and_their_gradients_follow_the_definition() {
        for (kind, window, stride) in [
            (PoolKind::Max, 2, 2),
            (PoolKind::Max, 3, 1),
            (PoolKind::Average, 2, 2),
            (PoolKind::Average, 3, 2),
            (PoolKind::Average, 5, 1),
        ] {
            let mut pool = Pool2d::new(kind, INPUT, window, stride).unwrap();
            let [oh, ow, c] = pool.output();
            let (x, mut y) = (images(2), vec![9.0; 2 * oh * ow * c]);
            pool.forward_train(&x, &mut y, Par::Caller).unwrap();
            let mut without = vec![9.0; y.len()];
            pool.forward(&x, &mut without, Par::Caller).unwrap();
            assert_eq!(y, without);
            let mut d_y = vec![0.0; y.len()];
            Rng::new(5).fill_normal(&mut d_y, 1.0);
            let mut d_x = vec![9.0; x.len()];
            pool.backward(&d_y, &mut d_x, Par::Caller).unwrap();
            let mut expected = vec![0f32; x.len()];
            for (i, y) in y.iter().enumerate() {
                let (m, oy, ox, ch) = (i / c / ow / oh, i / c / ow % oh, i / c % ow, i % c);
                let all = (0..window).flat_map(|ky| (0..window).map(move |kx| (ky, kx)));
                let at: Vec<usize> = all
                    .map(|(ky, kx)| {
                        let (iy, ix) = (oy * stride + ky, ox * stride + kx);
                        ((m * 5 + iy) * 7 + ix) * 3 + ch
                    })
                    .collect();
                match kind {
                    PoolKind::Max => {
                        let best = at.iter().copied().max_by(|a, b| x[*a].total_cmp(&x[*b]));
                        assert_eq!(*y, x[best.unwrap()]);
                        expected[best.unwrap()] += d_y[i];
                    }
                    PoolKind::Average => {
                        let mean = at.iter().map(|at| x[*at]).sum::<f32>() / at.len() as f32;
                        assert!((y - mean).abs() < 1e-5);
                        at.iter()
                            .for_each(|a| expected[*a] += d_y[i] / at.len() as f32);
                    }
                }
            }
            for (d, e) in d_x.iter().zip(&expected) {
                assert!((d - e).abs() < 1e-5, "{kind:?} {window} {stride}");
            }
        }
    }

    #[test]
    fn windows_of_any_shape_are_those_of_a_plain_loop_on_every_number_of_threads() {
        let rng = Rng::new(6);
        let pools = [1, 2, 3].map(|t| crate::ops::Pool::new(t).unwrap());
        for case in 0..60u64 {
            let draw = |i: u64, below: u32| rng.below(case * 10 + i, below) as usize;
            let input = [4 + draw(0, 20), 4 + draw(1, 20), 1 + draw(2, 21)];
            let (window, stride) = (1 + draw(3, 4), 1 + draw(4, 3));
            let mut pool = Pool2d::new(PoolKind::Max, input, window, stride).unwrap();
            let ([h, w, c], [oh, ow, _]) = (input, pool.output());
            let m = 1 + draw(5, 30);
            // Few values, so that many are equal; some are NaN.
            let value = |i: u64| match rng.at(case as u32, 1).below(i, 50) {
                0 => f32::NAN,
                n => (n % 5) as f32,
            };
            let x: Vec<f32> = (0..(m * h * w * c) as u64).map(value).collect();
            let mut d_y = vec![0.0; m * oh * ow * c];
            rng.at(case as u32, 2).fill_normal(&mut d_y, 1.0);
            let (mut y, mut expected) = (vec![0f32; d_y.len()], vec![0f32; x.len()]);
            for (i, y) in y.iter_mut().enumerate() {
                let (image, oy, ox, ch) = (i / c / ow / oh, i / c / ow % oh, i / c % ow, i % c);
                let at = |ky: usize, kx: usize| {
                    ((image * h + oy * stride + ky) * w + ox * stride + kx) * c + ch
                };
                let mut best = at(0, 0);
                for tap in 0..window * window {
                    let at = at(tap / window, tap % window);
                    if x[at].is_nan() || x[at] > x[best] {
                        best = at;
                    }
                }
                *y = x[best];
                expected[best] += d_y[i];
            }
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            for pool_of in [None, Some(&pools[0]), Some(&pools[1]), Some(&pools[2])] {
                let par = pool_of.map_or(Par::Caller, Par::Pool);
                let (mut got, mut d_x) = (vec![9.0; y.len()], vec![9.0; x.len()]);
                pool.forward_train(&x, &mut got, par).unwrap();
                assert_eq!(bits(&got), bits(&y), "{input:?} {window} {stride}");
                pool.forward(&x, &mut got, par).unwrap();
                assert_eq!(bits(&got), bits(&y), "{input:?} {window} {stride}");
                pool.backward(&d_y, &mut d_x, par).unwrap();
                assert_eq!(bits(&d_x), bits(&expected), "{input:?} {window} {stride}");
            }
        }
    }

    #[test]
    fn the_first_of_equals_gets_the_gradient_and_nan_shows() {
        let mut pool = Pool2d::new(PoolKind::Max, [2, 2, 1], 2, 2).unwrap();
        let (mut y, mut d_x) = ([0.0], [9.0; 4]);
        pool.forward_train(&[1.0, 3.0, 3.0, 2.0], &mut y, Par::Caller)
            .unwrap();
        pool.backward(&[5.0], &mut d_x, Par::Caller).unwrap();
        assert_eq!((y, d_x), ([3.0], [0.0, 5.0, 0.0, 0.0]));
        for at in 0..4 {
            let mut x = [1.0; 4];
            x[at] = f32::NAN;
            pool.forward(&x, &mut y, Par::Caller).unwrap();
            assert!(y[0].is_nan());
        }
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        let said = |input, window, stride| {
            let pool = Pool2d::new(PoolKind::Max, input, window, stride);
            pool.err().unwrap().to_string()
        };
        assert_eq!(
            said(INPUT, 6, 1),
            "window is 6; expected 1 to 5, the image's smaller side"
        );
        assert_eq!(said(INPUT, 2, 0), "stride is 0; expected 1 or more");
        assert!(said([0, 1, 1], 1, 1).starts_with("image is [0, 1, 1]"));
        let pool = Pool2d::new(PoolKind::Max, INPUT, 2, 2).unwrap();
        assert!(
            pool.forward(&[0.0; 104], &mut [0.0; 18], Par::Caller)
                .is_err()
        );
        assert!(
            pool.forward(&[0.0; 105], &mut [0.0; 17], Par::Caller)
                .is_err()
        );
    }
}
