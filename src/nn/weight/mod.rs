//! Weight quantizers: projections of latent weights onto a scale times small integers.
//!
//! ```text
//!   w_f [N, K]  latent          w [N, K] = scale * code        codes: integers; scales: 1 or N
//!   D   [N, K]  metric          |x|_D^2 = sum D x^2            used by the loss-aware quantizers alone
//! ```
//!
//! [`WeightQuantizer`] names them all; [`Project::project`] does the work and knows no layer. A projection is a
//! pure function of the weights, the metric, the given step and the generator's key: the same call gives the
//! same bits on every machine. Sums are taken in f64 in eight fixed strands and rounded to f32 once.
//!
//! Zeros: a binary quantizer gives +1 to 0.0 and -0.0, every other gives them 0. Weights that are all zero have
//! scale 0 (a fixed scale stays). NaN and infinities: a scale that is made from weights or a metric that are
//! not all finite is NaN, so that a run that has diverged shows; the codes are then the signs of a binary quantizer (NaN has -1)
//! and 0 for all others.
//!
//! Projecting what is projected changes nothing with binary weights (mean, median, fixed, loss-aware), ternary ones (TWN
//! with the kept count, exact, loss-aware exact), grids of either rounding and [`WeightQuantizer::UniformSym`]
//! without sweeps; the searches that alternate and LSQ if their scale is given as [`Given::step`]. With codes
//! beyond +-1 the scale may move in its last place, since scale times code is itself rounded. It does change with
//! [`Divisor::All`], DoReFa and the absolute-mean ternary. Blending needs a projection that stays.

mod grid;
mod kind;
mod learned;
mod loss_aware;
mod name;
mod signs;
#[cfg(test)]
mod tests;
mod uniform;

pub use grid::{grid_det, grid_stoch, stochastic_signs};
pub use kind::{Divisor, Scope, TernarySearch, WeightQuantizer};
pub use learned::{lsq_backward, lsq_bounds, lsq_gradient_scale, lsq_step};
pub(crate) use name::table;

use std::fmt;

use crate::bits::{Encoding, PackedMatrix};
use crate::error::Result;
use crate::nn::rng::Rng;
use crate::shape::{check_len, elements};

/// What a projection may look at beside the weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Given<'a> {
    /// D, as long as the weights, all above 0: what a change of each weight costs. `None` is 1 everywhere.
    /// Of the loss-aware quantizers alone.
    pub metric: Option<&'a [f32]>,
    /// The generator of the stochastic quantizers, at the step and tensor of the weights.
    pub rng: Rng,
    /// The learned step of [`WeightQuantizer::LsqWeight`], or the scale from which the alternating searches
    /// start; `None` makes one from the weights.
    pub step: Option<f32>,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Given {
            metric: None,
            rng: Rng::new(0),
            step: None,
        }
    }
}

/// Projected weights, `[N, K]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Projection {
    /// Integers, as long as the weights.
    pub codes: Vec<i32>,
    /// One for all weights, or one a row; for two scales those of +1 and of -1.
    pub scales: Vec<f32>,
    /// What the codes stand for: scale times code, or, relaxed, something between that and the latent weights.
    pub values: Vec<f32>,
}

impl Projection {
    /// The codes as bit planes of `encoding`, `[rows, cols]`.
    ///
    /// Errors if there are not rows x cols codes or the encoding lacks one.
    pub fn pack(&self, encoding: Encoding, rows: usize, cols: usize) -> Result<PackedMatrix> {
        PackedMatrix::pack(encoding, rows, cols, &self.codes)
    }

    /// Errors unless there are codes and values for weights `[rows, cols]`, and one scale or one a row.
    pub(super) fn check(&self, rows: usize, cols: usize) -> Result<()> {
        let len = elements("rows x cols", &[rows, cols])?;
        check_len("codes", self.codes.len(), len, "rows x cols")?;
        check_len("values", self.values.len(), len, "rows x cols")?;
        match self.scales.len() {
            1 => Ok(()),
            scales => check_len("scales", scales, rows, "one for all, or one a row"),
        }
    }

    fn resize(&mut self, len: usize) {
        self.codes.resize(len, 0);
        self.values.resize(len, 0.0);
        self.scales.clear();
    }
}

/// Anything that projects weights: [`WeightQuantizer`] for files and the command line, or one of your own, which a net
/// takes by [`Net::project_by`](crate::nn::Net::project_by).
///
/// ```
/// use std::sync::Arc;
///
/// use qcore::bits::Encoding;
/// use qcore::nn::Net;
/// use qcore::nn::net::{Block, Design, Mode};
/// use qcore::nn::weight::{Given, Project, Projection};
///
/// /// The signs, times the greatest magnitude of each row.
/// #[derive(Debug)]
/// struct Greatest;
///
/// impl Project for Greatest {
///     fn encoding(&self) -> Option<Encoding> {
///         Some(Encoding::Bipolar)
///     }
///
///     fn project_into(
///         &self,
///         latent: &[f32],
///         _rows: usize,
///         cols: usize,
///         _given: Given<'_>,
///         out: &mut Projection,
///     ) -> qcore::Result<()> {
///         out.codes = latent.iter().map(|w| if *w >= 0.0 { 1 } else { -1 }).collect();
///         let scale = |row: &[f32]| row.iter().fold(0.0, |most, w| w.abs().max(most));
///         out.scales = latent.chunks(cols).map(scale).collect();
///         let codes = out.codes.iter().enumerate();
///         out.values = codes.map(|(i, c)| out.scales[i / cols] * *c as f32).collect();
///         Ok(())
///     }
/// }
///
/// # fn main() -> qcore::Result<()> {
/// let mut net = Net::new(Design::new([4, 4, 1], Block::linear(&[8]), 3, 2), 1)?;
/// net.project_by(Some(Arc::new(Greatest)))?;
/// net.set_mode(Mode::Quantized)?;
/// assert_eq!(net.weights()[0].scales().len(), 8);
/// let model = qcore::nn::freeze(&net)?; // packed, as with every other quantizer
/// # let _ = model;
/// # Ok(())
/// # }
/// ```
pub trait Project: fmt::Debug + Send + Sync {
    /// How the codes can be packed; `None` if the values are not a scale times integers of any encoding.
    fn encoding(&self) -> Option<Encoding>;

    /// Projects `latent`, `[rows, cols]`, into `out`, whose memory is used again: as many codes and values as weights,
    /// and with an encoding one scale or one a row, which times the code is the value.
    ///
    /// Errors if there are not rows x cols weights, the metric is of another length, or a parameter is outside
    /// of its range.
    fn project_into(
        &self,
        latent: &[f32],
        rows: usize,
        cols: usize,
        given: Given<'_>,
        out: &mut Projection,
    ) -> Result<()>;

    /// As [`Project::project_into`], into memory of its own.
    fn project(
        &self,
        latent: &[f32],
        rows: usize,
        cols: usize,
        given: Given<'_>,
    ) -> Result<Projection> {
        let mut out = Projection::default();
        self.project_into(latent, rows, cols, given, &mut out)?;
        Ok(out)
    }
}

/// Weights that share a scale, and where their codes and values go.
struct Group<'a> {
    w: &'a [f32],
    metric: Option<&'a [f32]>,
    step: Option<f32>,
    rng: Rng,
    codes: &'a mut [i32],
    values: &'a mut [f32],
}

impl Group<'_> {
    fn d(&self, i: usize) -> f64 {
        self.metric.map_or(1.0, |d| f64::from(d[i]))
    }

    /// Codes `size` makes of magnitudes, with the signs of the weights; whether one has changed, and the sums
    /// sum D |w| |k| and sum D k^2 of [`Group::least_squares`].
    ///
    /// Both in one pass, piece by piece, so that what the sums read is still near.
    fn assign(&mut self, size: impl Fn(f32) -> i32) -> (bool, Fit) {
        let (mut changed, mut fit) = (0, Fit::default());
        for (i, (codes, w)) in (0..).zip(self.codes.chunks_mut(PIECE).zip(self.w.chunks(PIECE))) {
            for (code, w) in codes.iter_mut().zip(w) {
                let size = size(w.abs());
                let new = if *w < 0.0 { -size } else { size };
                changed |= new ^ *code;
                *code = new;
            }
            let metric = self.metric.map(|d| &d[i * PIECE..][..w.len()]);
            fit.add(codes, w, metric);
        }
        (changed != 0, fit)
    }

    fn magnitude(&self, i: usize) -> f64 {
        f64::from(self.w[i].abs())
    }

    /// The largest magnitude, of finite weights: as integers the bits have the order of the floats.
    fn largest(&self) -> f32 {
        let size = |w: &f32| (w.to_bits() & 0x7fff_ffff) as i32;
        f32::from_bits(self.w.iter().map(size).fold(0, i32::max) as u32)
    }

    /// Whether every weight and every entry of the metric is finite.
    fn is_finite(&self) -> bool {
        // The bits without the sign, as integers, whose greatest is quickly found: the infinite and NaN are above all.
        let size = |x: &f32| (x.to_bits() & 0x7fff_ffff) as i32;
        let most = |x: &[f32]| x.iter().map(size).fold(0, i32::max);
        let all = |x: &[f32]| most(x) < 0x7f80_0000;
        all(self.w) && self.metric.is_none_or(all)
    }

    /// Values from codes, scale * code.
    fn fill(&mut self, scale: f32) {
        for (value, code) in self.values.iter_mut().zip(&*self.codes) {
            *value = scale * *code as f32;
        }
    }
}

/// `x`, from -2^22 to 2^22, rounded to an integer, ties to even.
///
/// Floats from 2^23 to 2^24 are the integers there: the sum is rounded, the difference is exact. Where the processor has
/// no instruction for it, `round_ties_even` is a call, and a loop with one does not become vector code.
#[inline(always)]
fn round_small(x: f32) -> f32 {
    const FAR: f32 = 12_582_912.0;
    (x + FAR) - FAR
}

/// The sum of f(i) for i below `len`, in eight fixed strands: fast, and the same on every machine.
fn sum(len: usize, f: impl Fn(usize) -> f64) -> f64 {
    let mut strands = [0f64; 8];
    let whole = len - len % 8;
    for at in (0..whole).step_by(8) {
        for (j, strand) in strands.iter_mut().enumerate() {
            *strand += f(at + j);
        }
    }
    let rest: f64 = (whole..len).map(f).sum();
    strands.iter().sum::<f64>() + rest
}

/// The sums of a least squares fit of the scale to the codes, in the strands of [`sum`].
#[derive(Default)]
struct Fit {
    above: [f64; 8],
    below: [f64; 8],
    rest: [f64; 2],
}

impl Fit {
    /// Adds a piece; only the last may be of a length that is not a multiple of 8.
    fn add(&mut self, codes: &[i32], w: &[f32], metric: Option<&[f32]>) {
        match metric {
            Some(d) => self.add_with(codes, w, d.chunks_exact(8), d.chunks_exact(8).remainder()),
            None => self.add_with(codes, w, std::iter::repeat(&[1.0; 8][..]), &[1.0; 8]),
        }
    }

    #[inline(always)]
    fn add_with<'a>(
        &mut self,
        codes: &[i32],
        w: &[f32],
        metric: impl Iterator<Item = &'a [f32]>,
        metric_rest: &[f32],
    ) {
        let (codes, w) = (codes.chunks_exact(8), w.chunks_exact(8));
        let rest = codes.remainder().iter().zip(w.remainder()).zip(metric_rest);
        for ((code, w), d) in rest {
            let (above, below) = terms(*code, *w, *d);
            self.rest[0] += above;
            self.rest[1] += below;
        }
        let (mut all_above, mut all_below) = (self.above, self.below);
        for ((codes, w), d) in codes.zip(w).zip(metric) {
            let all = all_above.iter_mut().zip(&mut all_below);
            for (((sums, code), w), d) in all.zip(codes).zip(w).zip(d) {
                let (above, below) = terms(*code, *w, *d);
                *sums.0 += above;
                *sums.1 += below;
            }
        }
        (self.above, self.below) = (all_above, all_below);
    }

    /// The best scale of the codes; 0 if all codes are.
    fn scale(&self) -> f32 {
        let above = self.above.iter().sum::<f64>() + self.rest[0];
        let below = self.below.iter().sum::<f64>() + self.rest[1];
        if below > 0.0 {
            (above / below) as f32
        } else {
            0.0
        }
    }
}

/// D |w| |k| and D k^2.
#[inline(always)]
fn terms(code: i32, w: f32, d: f32) -> (f64, f64) {
    let (code, w, d) = (f64::from(code.abs()), f64::from(w.abs()), f64::from(d));
    (d * w * code, d * code * code)
}

/// Weights that get their codes at a time, before the sums read them again; a multiple of 8.
const PIECE: usize = 1024;

impl Project for WeightQuantizer {
    fn encoding(&self) -> Option<Encoding> {
        self.encoding_of_codes()
    }

    fn project_into(
        &self,
        latent: &[f32],
        rows: usize,
        cols: usize,
        given: Given<'_>,
        out: &mut Projection,
    ) -> Result<()> {
        let len = elements("rows x cols", &[rows, cols])?;
        check_len("latent", latent.len(), len, "rows x cols")?;
        if let Some(metric) = given.metric {
            check_len("metric", metric.len(), len, "rows x cols")?;
        }
        self.check()?;
        if let WeightQuantizer::Relaxed { lambda, of } = self {
            of.project_into(latent, rows, cols, given, out)?;
            return relax_in_place(latent, *lambda, &mut out.values);
        }
        out.resize(len);
        let group = match self.scope() {
            Scope::Tensor => len,
            Scope::Channel => cols,
        };
        if group == 0 {
            out.scales.push(self.fixed_scale().unwrap_or(0.0));
            return Ok(());
        }
        let parts = out
            .codes
            .chunks_mut(group)
            .zip(out.values.chunks_mut(group));
        for (i, (codes, values)) in parts.enumerate() {
            let at = i * group..i * group + codes.len();
            let group = Group {
                w: &latent[at.clone()],
                metric: given.metric.map(|d| &d[at]),
                step: given.step,
                rng: given.rng,
                codes,
                values,
            };
            self.project_group(group, &mut out.scales);
        }
        Ok(())
    }
}

/// Relaxes projected weights back towards the latent ones, (w_f + lambda w) / (1 + lambda), in place of `w`.
///
/// lambda = 0 gives the latent weights, and the larger it is the nearer the result is to the projection.
/// Errors if the lengths differ or lambda is not a number of 0 or more.
///
/// Source: BinaryRelax, arXiv 1801.06313; papers use lambda from 1, growing by a few per cent an epoch.
pub fn relax_in_place(latent: &[f32], lambda: f32, w: &mut [f32]) -> Result<()> {
    check_len("w", w.len(), latent.len(), "as the latent weights")?;
    kind::check_lambda(lambda)?;
    let share = 1.0 / (1.0 + lambda);
    for (w, latent) in w.iter_mut().zip(latent) {
        *w = (*latent + lambda * *w) * share;
    }
    Ok(())
}
