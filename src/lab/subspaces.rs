//! Two classes in two planes of R^4, separated by a net with a staircase between two linear layers.
//!
//! ```text
//!   h = W x      o_i = sum_j v_ij s(h_j)     s: 0 for x <= 0, k for k - 1 < x <= k, q = 2^bits - 1 above
//!   v_ij = +1 for j mod 2 = i, else -1       W [m, 4] is trained, v is not
//!   loss max(0, 1 - (o_y - o_other))         d for row j: -(v_yj - v_oj) mu'(h_j) x where the loss is not 0
//! ```
//!
//! Full batch, W of N(0, 1/4). With one bit and classes that are symmetric about 0 there is no solution: the mean of s over
//! a circle is 1/2 for every w.
//!
//! Source: Learning Quantized Neural Nets by Coarse Gradient Method for Nonlinear Classification, arXiv 2011.11256, for the
//! setting (linearly independent subspaces, staircase, hinge loss); sizes and rates here are of our choice.

use super::normals;
use crate::bits::Bits;
use crate::nn::rng::Rng;
use crate::nn::ste::CoarseX;

/// The points of each class in its plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// 80 points, angles j pi / 80, j = 1 .. 80.
    HalfCircles,
    /// 100 points, angles 2 pi j / 100.
    FullCircles,
}

/// A problem and the net for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Problem {
    /// The points.
    pub shape: Shape,
    /// Bits of the staircase.
    pub bits: Bits,
    /// Hidden units, m.
    pub units: usize,
    /// Learning rate on the mean gradient.
    pub eta: f64,
}

/// What a run showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Steps to a loss of exactly 0; `None` if it was not reached.
    pub steps: Option<usize>,
    /// The mean loss before each step.
    pub losses: Vec<f64>,
    /// The share of points on the right side at the end.
    pub accuracy: f64,
}

impl Problem {
    /// Points `[count, 4]` and their classes.
    fn points(&self) -> Vec<([f64; 4], usize)> {
        let angles: Vec<f64> = match self.shape {
            Shape::HalfCircles => (1..=80)
                .map(|j| f64::from(j) * std::f64::consts::PI / 80.0)
                .collect(),
            Shape::FullCircles => (0..100)
                .map(|j| f64::from(j) * std::f64::consts::TAU / 100.0)
                .collect(),
        };
        let point = |class: usize, t: f64| {
            let mut x = [0.0; 4];
            (x[2 * class], x[2 * class + 1]) = (t.cos(), t.sin());
            (x, class)
        };
        [0, 1]
            .into_iter()
            .flat_map(|class| angles.iter().map(move |t| point(class, *t)))
            .collect()
    }

    /// Trains from the weights of a seed until the loss is 0 or `most` steps are done.
    pub fn train(&self, by: CoarseX, seed: u64, most: usize) -> Run {
        let points = self.points();
        let mut w: Vec<f64> = normals(Rng::new(seed), 4 * self.units);
        w.iter_mut().for_each(|w| *w *= 0.5);
        let q = self.bits.max_code() as f64;
        let count = points.len() as f64;
        let mut losses = Vec::new();
        loop {
            let (mut loss, mut right) = (0.0, 0);
            let mut d = vec![0.0; w.len()];
            for (x, class) in &points {
                // o_y - o_other = 2 sum_j +-s(h_j), + for the units of the class.
                let h: Vec<f64> = w.chunks_exact(4).map(|row| super::dot(row, x)).collect();
                let side = |j: usize| if j % 2 == *class { 2.0 } else { -2.0 };
                let margin: f64 = h
                    .iter()
                    .enumerate()
                    .map(|(j, h)| side(j) * h.ceil().clamp(0.0, q))
                    .sum();
                right += usize::from(margin > 0.0);
                if margin >= 1.0 {
                    continue;
                }
                loss += 1.0 - margin;
                for (j, (row, h)) in d.chunks_exact_mut(4).zip(&h).enumerate() {
                    let by = -side(j) * f64::from(by.dx(*h as f32, 1.0, self.bits)) / count;
                    row.iter_mut().zip(x).for_each(|(d, x)| *d += by * x);
                }
            }
            losses.push(loss / count);
            let done = loss == 0.0;
            if done || losses.len() > most {
                return Run {
                    steps: done.then_some(losses.len() - 1),
                    losses,
                    accuracy: right as f64 / count,
                };
            }
            w.iter_mut().zip(d).for_each(|(w, d)| *w -= self.eta * d);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_coarse_gradients_separate_and_identity_does_not() {
        let bits = Bits::new(2).unwrap();
        let problem = Problem {
            shape: Shape::FullCircles,
            bits,
            units: 32,
            eta: 0.1,
        };
        for by in [
            CoarseX::Relu,
            CoarseX::ClippedRelu,
            CoarseX::ReverseExp,
            CoarseX::LogTailed,
        ] {
            let run = problem.train(by, 1, 2000);
            assert!(run.steps.is_some_and(|s| s > 5), "{by:?}");
            assert_eq!((run.accuracy, run.losses.last()), (1.0, Some(&0.0)));
        }
        let run = problem.train(CoarseX::Identity, 1, 400);
        assert!(run.steps.is_none() && run.accuracy < 1.0);
    }

    #[test]
    fn one_bit_cannot_separate_full_circles() {
        let bits = Bits::new(1).unwrap();
        let problem = Problem {
            shape: Shape::FullCircles,
            bits,
            units: 24,
            eta: 0.1,
        };
        assert!(problem.train(CoarseX::Relu, 1, 300).steps.is_none());
    }
}
