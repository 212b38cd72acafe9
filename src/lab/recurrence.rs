//! Projected coarse gradients on the two-layer net, as a recursion on directions.
//!
//! With v = v* the population loss of [`two_layer`](super::two_layer) is |v*|^2 theta / (2 pi), so the best quantized weights are those at the
//! smallest angle to w*, Q(w*), and the expected ReLU gradient is |v*|^2 (w^ - w*) / (2 sqrt(2 pi)). In units of eta' =
//! eta |v*|^2 / (2 sqrt(2 pi)), with q the quantized weights of length 1 and blending by rho:
//!
//! ```text
//!   y <- (1 - rho) y + rho q + eta' (w* - q)        q = argmax <q, y>
//! ```
//!
//! With rho = 0 coordinates of binary weights below 1 / sqrt(n) in w* flip for ever, and the optimum is visited with a
//! frequency of at least 1 - S, S = sum max(0, 1 - sqrt(n) |w*_i|) / 2. With a_i = sqrt(n) |w*_i| the optimum is the only
//! fixed point for eta' max(1 - a) < rho < eta' (1 + min a).
//!
//! Source: Recurrence of Optimum, arXiv 2012.05529, for the setting; the recursion, the bound and the window are worked
//! out here and held against runs.

use super::{norm, normals};
use crate::nn::rng::Rng;

/// Which directions there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// {-1, +1}^n.
    Binary,
    /// {-1, 0, +1}^n without 0.
    Ternary,
}

impl Set {
    /// The codes at the smallest angle to `y`; +1 for a binary 0.
    pub fn nearest(self, y: &[f64]) -> Vec<i8> {
        let sign = |y: f64| if y >= 0.0 { 1 } else { -1 };
        if self == Set::Binary {
            return y.iter().map(|y| sign(*y)).collect();
        }
        let mut order: Vec<usize> = (0..y.len()).collect();
        order.sort_by(|a, b| y[*b].abs().total_cmp(&y[*a].abs()));
        let (mut sum, mut best, mut kept) = (0.0, -1.0, 0);
        for (t, i) in order.iter().enumerate() {
            sum += y[*i].abs();
            let score = sum / ((t + 1) as f64).sqrt();
            if score > best {
                (best, kept) = (score, t + 1);
            }
        }
        let mut codes = vec![0; y.len()];
        order[..kept].iter().for_each(|i| codes[*i] = sign(y[*i]));
        codes
    }
}

/// A recursion.
#[derive(Clone, PartialEq, Debug)]
pub struct Recursion {
    /// w*, of length 1.
    pub w: Vec<f64>,
    /// eta'.
    pub eta: f64,
    /// Blending.
    pub rho: f64,
    /// The quantized directions.
    pub set: Set,
}

/// What a run showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Visits {
    /// The share of the counted steps at the optimum.
    pub optimum: f64,
    /// The share of the counted steps that changed a code.
    pub flips: f64,
    /// The mean of q, of length 1 each, over the counted steps.
    pub mean: Vec<f64>,
    /// Steps from each visit of the optimum to the next.
    pub returns: Vec<usize>,
    /// The angle between q and w* at each of the first steps that are kept.
    pub angles: Vec<f64>,
    /// The codes at those steps.
    pub codes: Vec<Vec<i8>>,
    /// Whether the codes never left those of the start.
    pub stuck: bool,
}

impl Recursion {
    /// `steps` steps from `y`; what is counted begins after `skip` of them, and the first `keep` are kept whole.
    pub fn run(&self, y: &[f64], steps: usize, skip: usize, keep: usize) -> Visits {
        let best = self.set.nearest(&self.w);
        let mut y = y.to_vec();
        let mut codes = self.set.nearest(&y);
        let first = codes.clone();
        let mut visits = Visits {
            optimum: 0.0,
            flips: 0.0,
            mean: vec![0.0; y.len()],
            returns: Vec::new(),
            angles: Vec::new(),
            codes: Vec::new(),
            stuck: true,
        };
        let (mut hits, mut flips, mut last) = (0, 0, None);
        for step in 0..steps {
            let size: f64 = codes.iter().map(|c| f64::from(c.abs())).sum::<f64>().sqrt();
            let q = |i: usize| f64::from(codes[i]) / size;
            if step < keep {
                let along: f64 = self.w.iter().enumerate().map(|(i, w)| w * q(i)).sum();
                visits.angles.push(along.clamp(-1.0, 1.0).acos());
                visits.codes.push(codes.clone());
            }
            for (i, (y, w)) in y.iter_mut().zip(&self.w).enumerate() {
                *y = (1.0 - self.rho) * *y + self.rho * q(i) + self.eta * (w - q(i));
            }
            if step >= skip {
                (0..y.len()).for_each(|i| visits.mean[i] += q(i));
                if codes == best {
                    hits += 1;
                    if let Some(last) = last.replace(step) {
                        visits.returns.push(step - last);
                    }
                }
            }
            let next = self.set.nearest(&y);
            if next != codes {
                flips += usize::from(step >= skip);
                visits.stuck &= next == first;
                codes = next;
            }
        }
        let counted = steps.saturating_sub(skip).max(1) as f64;
        visits.optimum = f64::from(hits) / counted;
        visits.flips = flips as f64 / counted;
        visits.mean.iter_mut().for_each(|m| *m /= counted);
        visits
    }

    /// S of the head of this file: the optimum is visited with a frequency of at least 1 - S. Of binary weights.
    pub fn shortfall(&self) -> f64 {
        0.5 * self.loads().map(|a| (1.0 - a).max(0.0)).sum::<f64>()
    }

    /// Between which rho the optimum is the only fixed point. Of binary weights.
    pub fn window(&self) -> (f64, f64) {
        let most = self
            .loads()
            .map(|a| 1.0 - a)
            .fold(f64::NEG_INFINITY, f64::max);
        let least = self.loads().fold(f64::INFINITY, f64::min);
        (self.eta * most.max(0.0), self.eta * (1.0 + least))
    }

    /// sqrt(n) |w*_i|.
    fn loads(&self) -> impl Iterator<Item = f64> + '_ {
        let root = (self.w.len() as f64).sqrt();
        self.w.iter().map(move |w| root * w.abs())
    }
}

/// A w* of length 1: signs times 1 + noise N(0, 1).
pub fn teacher(n: usize, noise: f64, seed: u64) -> Vec<f64> {
    let (signs, z) = (
        normals(Rng::new(seed), n),
        normals(Rng::new(seed).at(0, 1), n),
    );
    let mut w: Vec<f64> = signs
        .iter()
        .zip(z)
        .map(|(s, z)| s.signum() * (1.0 + noise * z))
        .collect();
    let size = norm(&w);
    w.iter_mut().for_each(|w| *w /= size);
    w
}

/// A w* with S = 1 whose run from the first y never visits the optimum and from the second does so in two of three steps.
pub fn counter_example(eta: f64) -> (Recursion, Vec<f64>, Vec<f64>) {
    let sixth = 1.0 / 6.0;
    let recursion = Recursion {
        w: vec![(1.0f64 - 3.0 / 36.0).sqrt(), sixth, sixth, sixth],
        eta,
        rho: 0.0,
        set: Set::Binary,
    };
    let third = eta / 3.0;
    let apart = vec![0.3, 0.01 - third, 0.01, 0.01 + third];
    (recursion, apart, vec![0.3, 0.01, 0.01, 0.01])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_direction_is_the_best_of_all() {
        for seed in 0..20 {
            let y = normals(Rng::new(seed), 5);
            for (set, levels) in [
                (Set::Binary, [-1i8, 1].to_vec()),
                (Set::Ternary, vec![-1, 0, 1]),
            ] {
                let score = |codes: &[i8]| {
                    let size = codes.iter().map(|c| f64::from(c * c)).sum::<f64>().sqrt();
                    let dot: f64 = codes.iter().zip(&y).map(|(c, y)| f64::from(*c) * y).sum();
                    if size > 0.0 {
                        dot / size
                    } else {
                        f64::NEG_INFINITY
                    }
                };
                let count = levels.len().pow(5);
                let all = (0..count).map(|k| {
                    let digit = |i: u32| levels[k / levels.len().pow(i) % levels.len()];
                    score(&[0, 1, 2, 3, 4].map(digit))
                });
                let best = all.fold(f64::NEG_INFINITY, f64::max);
                assert!((score(&set.nearest(&y)) - best).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_counter_example_never_or_two_of_three() {
        let (recursion, apart, aligned) = counter_example(0.05);
        assert!((recursion.shortfall() - 1.0).abs() < 1e-12);
        assert_eq!(recursion.run(&apart, 30_000, 0, 0).optimum, 0.0);
        let share = recursion.run(&aligned, 30_000, 0, 0).optimum;
        assert!((share - 2.0 / 3.0).abs() < 1e-3, "{share}");
    }

    #[test]
    fn blending_in_its_window_ends_at_the_optimum() {
        let w = teacher(8, 0.4, 3);
        let mut recursion = Recursion {
            w,
            eta: 0.05,
            rho: 0.05,
            set: Set::Binary,
        };
        let (low, high) = recursion.window();
        assert!(low < 0.05 && 0.05 < high);
        let y = normals(Rng::new(9), 8);
        let visits = recursion.run(&y, 3000, 2000, 10);
        assert_eq!(
            (visits.optimum, visits.flips, visits.angles.len()),
            (1.0, 0.0, 10)
        );
        recursion.rho = 0.2;
        assert!(recursion.run(&y, 300, 0, 0).stuck);
    }
}
