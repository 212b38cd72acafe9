//! Stochastic rounding and BinaryConnect in one dimension, with the law that rounding tends to.
//!
//! ```text
//!   g = f'(w) + sigma N(0, 1)
//!   SR: w   <- Q_s(w - a g)              only multiples of delta are kept
//!   BC: w_r <- w_r - a g at Q_d(w_r)     the float stays
//! ```
//!
//! As a goes to 0 the chain of SR moves by one multiple at most, with the rates
//!
//! ```text
//!   w -> w - delta: a E[max(g, 0)] / delta        w -> w + delta: a E[max(-g, 0)] / delta
//! ```
//!
//! so its stationary law tends to one that does not depend on a; a only slows the chain, whose relaxation time is 1 / (a times
//! the smallest rate of decay). Neighbours alone being joined, the law is found from one balance after the other.
//!
//! Source: Training Quantized Nets: A Deeper Understanding, arXiv 1706.02379, section 5 (no exploitation phase).

use super::normal::mean_positive_part;
use super::{each, norm};
use crate::nn::rng::Rng;
use crate::nn::weight::{grid_det, grid_stoch};
use crate::ops::Par;

/// A function of one weight, with the noise of its gradient.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Toy {
    /// w^2 + 2 below 1, (w - 2.5)^2 + 0.75 to 3.5, (w - 4.75)^2 + 0.19 above; sigma = 3. Three valleys, the deepest with
    /// its minimum between two multiples of 0.5.
    Valleys,
    /// w^2 / 2; sigma = 1.
    Quadratic,
}

impl Toy {
    /// f(w).
    pub fn value(self, w: f64) -> f64 {
        match self {
            Toy::Quadratic => 0.5 * w * w,
            Toy::Valleys if w < 1.0 => w * w + 2.0,
            Toy::Valleys if w < 3.5 => (w - 2.5) * (w - 2.5) + 0.75,
            Toy::Valleys => (w - 4.75) * (w - 4.75) + 0.19,
        }
    }

    /// f'(w).
    pub fn slope(self, w: f64) -> f64 {
        match self {
            Toy::Quadratic => w,
            Toy::Valleys if w < 1.0 => 2.0 * w,
            Toy::Valleys if w < 3.5 => 2.0 * (w - 2.5),
            Toy::Valleys => 2.0 * (w - 4.75),
        }
    }

    /// sigma.
    pub fn noise(self) -> f64 {
        match self {
            Toy::Quadratic => 1.0,
            Toy::Valleys => 3.0,
        }
    }
}

/// A law on the multiples of delta from `low` delta on.
#[derive(Clone, PartialEq, Debug)]
pub struct Law {
    /// The spacing.
    pub delta: f64,
    /// The first multiple.
    pub low: i32,
    /// The probability of each multiple.
    pub share: Vec<f64>,
}

impl Law {
    /// The multiples with their probabilities.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let at = |i: usize| f64::from(self.low + i as i32) * self.delta;
        self.share.iter().enumerate().map(move |(i, p)| (at(i), *p))
    }

    /// The mean of `f`.
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.points().map(|(w, p)| p * f(w)).sum()
    }

    /// The standard deviation.
    pub fn std(&self) -> f64 {
        let mean = self.mean(|w| w);
        self.mean(|w| (w - mean) * (w - mean)).sqrt()
    }

    /// The probability of the multiple nearest to `w`.
    pub fn at(&self, w: f64) -> f64 {
        let i = (w / self.delta).round() as i32 - self.low;
        usize::try_from(i)
            .ok()
            .and_then(|i| self.share.get(i))
            .copied()
            .unwrap_or(0.0)
    }
}

/// The rates of SR per unit of a on the multiples from `low` to `high`: down and up of each.
fn rates(toy: Toy, delta: f64, low: i32, high: i32) -> Vec<(f64, f64)> {
    let rate = |i: i32| {
        let slope = toy.slope(f64::from(i) * delta);
        let down = mean_positive_part(slope, toy.noise()) / delta;
        let up = mean_positive_part(-slope, toy.noise()) / delta;
        (
            if i == low { 0.0 } else { down },
            if i == high { 0.0 } else { up },
        )
    };
    (low..=high).map(rate).collect()
}

/// The law that SR tends to for small steps, on the multiples of `delta` from `low` to `high`.
pub fn limit_law(toy: Toy, delta: f64, low: i32, high: i32) -> Law {
    let rates = rates(toy, delta, low, high);
    // Logarithms, for from the ends to the middle shares grow beyond all floats.
    let mut share = vec![0.0];
    for i in 1..rates.len() {
        // Nothing flows on balance between neighbours.
        share.push(share[i - 1] + (rates[i - 1].1 / rates[i].0).ln());
    }
    let most = share.iter().copied().fold(f64::MIN, f64::max);
    share
        .iter_mut()
        .for_each(|p: &mut f64| *p = (*p - most).exp());
    let sum: f64 = share.iter().sum();
    share.iter_mut().for_each(|p| *p /= sum);
    Law { delta, low, share }
}

/// The slowest rate of decay towards the limit law, per unit of a: 1 / (a times it) is the relaxation time in steps.
pub fn relaxation_rate(toy: Toy, delta: f64, low: i32, high: i32) -> f64 {
    let rates = rates(toy, delta, low, high);
    // Symmetric by the square roots of the law: a tridiagonal matrix with the eigenvalues of the rates. How many exceed x
    // is how many pivots of x - matrix are negative.
    let above = |x: f64| {
        let (mut count, mut pivot) = (0, 1.0);
        for (i, (down, up)) in rates.iter().enumerate() {
            let beside = if i == 0 { 0.0 } else { rates[i - 1].1 * down };
            pivot = x + down + up - beside / pivot;
            if pivot == 0.0 {
                pivot = 1e-300;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    };
    // The largest eigenvalue is 0; the second lies between.
    let (mut low, mut high) = (
        -4.0 * rates.iter().map(|r| r.0 + r.1).fold(0.0, f64::max),
        0.0,
    );
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if above(middle) >= 2 {
            low = middle;
        } else {
            high = middle;
        }
    }
    -0.5 * (low + high)
}

/// How a chain moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chain {
    /// Stochastic rounding: nothing but multiples.
    Rounding,
    /// BinaryConnect with the nearest multiple.
    Connect,
    /// BinaryConnect with stochastic rounding, which is unbiased.
    ConnectUnbiased,
}

/// What many chains did in the second half of their steps.
#[derive(Clone, PartialEq, Debug)]
pub struct Chains {
    /// How often each multiple was visited.
    pub law: Law,
    /// The mean of f at the multiples, and its standard error from the spread between chains.
    pub loss: (f64, f64),
    /// The share of steps at 4.5 or 5.0, and its standard error.
    pub best: (f64, f64),
    /// The mean of the float weight over the steps of each chain; of BinaryConnect.
    pub floats: Vec<f64>,
}

/// What is asked of chains.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// The function.
    pub toy: Toy,
    /// How they move.
    pub chain: Chain,
    /// The spacing.
    pub delta: f64,
    /// The step size.
    pub a: f64,
    /// Where they begin.
    pub start: f64,
    /// Number of chains.
    pub chains: usize,
    /// Steps of each.
    pub steps: usize,
}

/// Multiples that are counted lie within so many of 0; what lies beyond counts as the last.
const REACH: i32 = 400;

/// Runs chains, each with draws of its own.
pub fn run(plan: &Plan, seed: u64, par: Par<'_>) -> Chains {
    let runs = each(par, plan.chains, |chain| {
        one(plan, Rng::new(seed), chain as u32)
    });
    let mut counts = vec![0u64; 2 * REACH as usize + 1];
    let half = (plan.steps - plan.steps / 2) as f64;
    let (mut losses, mut bests, mut floats) = (Vec::new(), Vec::new(), Vec::new());
    for (visits, float) in runs {
        let mean = |f: &dyn Fn(f64) -> f64| -> f64 {
            let each = visits.iter().enumerate().filter(|(_, n)| **n > 0);
            each.map(|(i, n)| *n as f64 * f(f64::from(i as i32 - REACH) * plan.delta))
                .sum::<f64>()
                / half
        };
        losses.push(mean(&|w| plan.toy.value(w)));
        bests.push(mean(&|w| if w == 4.5 || w == 5.0 { 1.0 } else { 0.0 }));
        floats.push(float);
        counts.iter_mut().zip(visits).for_each(|(to, n)| *to += n);
    }
    let total = half * plan.chains as f64;
    Chains {
        law: Law {
            delta: plan.delta,
            low: -REACH,
            share: counts.iter().map(|n| *n as f64 / total).collect(),
        },
        loss: mean_and_error(&losses),
        best: mean_and_error(&bests),
        floats,
    }
}

/// The mean and its standard error.
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let rest: Vec<f64> = values.iter().map(|v| v - mean).collect();
    (mean, norm(&rest) / (n * (n - 1.0).max(1.0)).sqrt())
}

/// Visits of one chain in its second half, and the mean of its float weight over all steps.
fn one(plan: &Plan, rng: Rng, chain: u32) -> (Vec<u64>, f64) {
    const BLOCK: usize = 512;
    let (delta, a) = (plan.delta as f32, plan.a as f32);
    let noise = plan.toy.noise() as f32;
    let mut visits = vec![0u64; 2 * REACH as usize + 1];
    let mut float = plan.start as f32;
    let mut k = grid_det(float, delta);
    let mut sum = 0.0;
    let mut z = [0f32; BLOCK];
    for begin in (0..plan.steps).step_by(BLOCK) {
        let rng = rng.at((begin / BLOCK) as u32, chain);
        let count = BLOCK.min(plan.steps - begin);
        rng.fill_normal(&mut z[..count], noise);
        for (i, z) in z[..count].iter().enumerate() {
            let w = delta * k as f32;
            let g = plan.toy.slope(f64::from(w)) as f32 + z;
            let u = || rng.uniform(i as u64);
            match plan.chain {
                Chain::Rounding => k = grid_stoch(w - a * g, delta, u()),
                Chain::Connect => {
                    float -= a * g;
                    k = grid_det(float, delta);
                }
                Chain::ConnectUnbiased => {
                    float -= a * g;
                    k = grid_stoch(float, delta, u());
                }
            }
            sum += f64::from(float);
            if begin + i >= plan.steps / 2 {
                visits[(k.clamp(-REACH, REACH) + REACH) as usize] += 1;
            }
        }
    }
    (visits, sum / plan.steps as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Pool;

    #[test]
    fn the_limit_law_has_the_known_figures() {
        let law = limit_law(Toy::Valleys, 0.5, -16, 28);
        assert!((law.mean(|w| Toy::Valleys.value(w)) - 0.527).abs() < 5e-4);
        assert!((law.std() - 0.765).abs() < 5e-4, "{}", law.std());
        assert!((law.at(4.5) - 0.304).abs() < 5e-4 && (law.at(5.0) - 0.304).abs() < 5e-4);
        assert_eq!([law.at(-100.0), law.at(100.0)], [0.0, 0.0]);
        let rate = relaxation_rate(Toy::Valleys, 0.5, -16, 28);
        assert!((rate - 0.2437).abs() < 1e-4, "{rate}");
        for (delta, floor) in [
            (0.5, 0.1102),
            (0.25, 0.0524),
            (0.125, 0.0256),
            (0.0625, 0.0126),
        ] {
            let reach = (8.0 / delta) as i32;
            let law = limit_law(Toy::Quadratic, delta, -reach, reach);
            let got = law.mean(|w| Toy::Quadratic.value(w));
            assert!((got - floor).abs() < 6e-5, "{delta}: {got}");
        }
    }

    #[test]
    fn chains_are_the_same_on_any_threads_and_near_their_law() {
        let plan = Plan {
            toy: Toy::Valleys,
            chain: Chain::Rounding,
            delta: 0.5,
            a: 0.05,
            start: 4.0,
            chains: 60,
            steps: 4000,
        };
        let alone = run(&plan, 3, Par::Caller);
        let pool = Pool::new(3).unwrap();
        assert_eq!(run(&plan, 3, Par::Pool(&pool)), alone);
        assert!((alone.law.share.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // Five standard errors, and room for the step that is not small.
        let law = limit_law(Toy::Valleys, 0.5, -16, 28);
        let expected = law.mean(|w| Toy::Valleys.value(w));
        assert!(
            (alone.loss.0 - expected).abs() < 5.0 * alone.loss.1 + 0.03,
            "{:?}",
            alone.loss
        );
        let connect = run(
            &Plan {
                chain: Chain::Connect,
                a: 0.01,
                ..plan
            },
            3,
            Par::Caller,
        );
        assert!(connect.best.0 > 0.9, "{:?}", connect.best);
    }
}
