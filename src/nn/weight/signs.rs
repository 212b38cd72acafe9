//! Binary and ternary projections by magnitude alone.

use super::kind::Divisor;
use super::{Group, sum};

impl Group<'_> {
    /// Signs, +1 for what is not below 0; NaN has -1.
    pub(super) fn signs(&mut self) {
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            *code = if *w >= 0.0 { 1 } else { -1 };
        }
    }

    /// Codes that cannot be made: NaN as the scale.
    pub(super) fn give_up(&mut self, binary: bool) -> f32 {
        if binary {
            self.signs();
        } else {
            self.codes.fill(0);
        }
        self.values.fill(f32::NAN);
        f32::NAN
    }

    /// Signs times `scale`.
    pub(super) fn binary(self, scale: f32) -> f32 {
        let to = self.codes.iter_mut().zip(self.values);
        for ((code, value), w) in to.zip(self.w) {
            let up = *w >= 0.0;
            *code = if up { 1 } else { -1 };
            *value = if up { scale } else { -scale };
        }
        scale
    }

    /// The mean magnitude: no other (scale, signs) is nearer to the weights.
    pub(super) fn mean(&self) -> f32 {
        (sum(self.w.len(), |i| self.magnitude(i)) / self.w.len() as f64) as f32
    }

    /// The median magnitude; of an even number the mean of the two in the middle.
    pub(super) fn median(&self) -> f32 {
        let mut sizes: Vec<f32> = self.w.iter().map(|w| w.abs()).collect();
        let middle = sizes.len() / 2;
        let odd = sizes.len() % 2 == 1;
        let (below, &mut high, _) = sizes.select_nth_unstable_by(middle, f32::total_cmp);
        if odd {
            return high;
        }
        let low = below.iter().copied().fold(0.0, f32::max);
        0.5 * low + 0.5 * high
    }

    /// Signs of the weights of magnitude `least` or more, 0 for the rest and for zeros.
    pub(super) fn keep(&mut self, least: f32) {
        for (code, w) in self.codes.iter_mut().zip(self.w) {
            let kept = w.abs() >= least && *w != 0.0;
            *code = i32::from(kept && *w > 0.0) - i32::from(kept && *w < 0.0);
        }
    }

    /// 0.7 mean |w| as the threshold.
    pub(super) fn twn(mut self, divisor: Divisor) -> f32 {
        self.keep((0.7 * sum(self.w.len(), |i| self.magnitude(i)) / self.w.len() as f64) as f32);
        let kept = sum(self.w.len(), |i| {
            f64::from(self.codes[i].abs()) * self.magnitude(i)
        });
        let count = match divisor {
            Divisor::Kept => self.codes.iter().filter(|c| **c != 0).count(),
            Divisor::All => self.w.len(),
        };
        let scale = (kept / count.max(1) as f64) as f32;
        self.fill(scale);
        scale
    }

    /// The nearest ternary weights in the metric: of all thresholds the one with the largest (sum D |w|)^2 / sum D
    /// over what is kept.
    ///
    /// Given a scale, what lies beyond half of it is kept, so what is kept are the t largest for some t; given what is
    /// kept, the best scale is sum D |w| / sum D, and it takes that much off |w|_D^2. Equal magnitudes are kept or
    /// dropped together, since the score is convex in how much of them is kept. O(n log n).
    pub(super) fn ternary_exact(mut self) -> f32 {
        let order = self.by_magnitude(|_| true);
        let (least, scale) = self.best_threshold(&order);
        self.keep(least);
        self.fill(scale);
        scale
    }

    /// Indices with `take`, the largest magnitude first.
    pub(super) fn by_magnitude(&self, take: impl Fn(f32) -> bool) -> Vec<u32> {
        let all = 0..self.w.len() as u32;
        let mut order: Vec<u32> = all.filter(|&i| take(self.w[i as usize])).collect();
        order.sort_by(|&a, &b| {
            let size = |i: u32| self.w[i as usize].abs();
            size(b).total_cmp(&size(a))
        });
        order
    }

    /// The least magnitude to keep and the scale, for the weights of `order`.
    pub(super) fn best_threshold(&self, order: &[u32]) -> (f32, f32) {
        let (mut weight, mut mass) = (0.0, 0.0);
        let (mut best, mut least, mut scale) = (0.0, f32::INFINITY, 0.0);
        for (at, &i) in order.iter().enumerate() {
            let i = i as usize;
            weight += self.d(i) * self.magnitude(i);
            mass += self.d(i);
            let size = self.w[i].abs();
            let tied = order
                .get(at + 1)
                .is_some_and(|&next| self.w[next as usize].abs() == size);
            let score = weight * weight / mass;
            if !tied && score > best {
                (best, least, scale) = (score, size, (weight / mass) as f32);
            }
        }
        (least, scale)
    }
}
