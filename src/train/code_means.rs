//! Means of codes over steps: where quantized weights that turn for ever are in the mean.
//!
//! In the reduced dynamics of Recurrence of Optimum (arXiv 2012.05529) codes need not settle, but the sign of their mean is
//! that of the best weight in every coordinate; averages of what is visited do what no last step does.

use crate::error::Result;
use crate::shape::check_len;

/// Codes that are compared at a time: most runs are as they were, and to see that is quick.
const RUN: usize = 64;

/// Sums of codes over the steps that were added. A step costs little where few codes change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CodeMeans {
    steps: u64,
    weights: Vec<Sum>,
    /// The codes of the last step.
    codes: Vec<i32>,
}

/// Of a weight, over the steps before `since`, from which on it has had the last code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    since: u64,
    codes: i64,
    magnitudes: u64,
}

impl Sum {
    /// Up to step `steps`, with `code` in those that are not in it.
    fn until(self, steps: u64, code: i32) -> Self {
        let more = steps - self.since;
        Sum {
            since: steps,
            codes: self.codes + i64::from(code) * more as i64,
            magnitudes: self.magnitudes + u64::from(code.unsigned_abs()) * more,
        }
    }
}

impl CodeMeans {
    /// Nothing yet, of `len` codes.
    pub fn new(len: usize) -> Self {
        CodeMeans {
            steps: 0,
            weights: vec![Sum::default(); len],
            codes: vec![0; len],
        }
    }

    /// Steps that were added.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Adds the codes of a step.
    ///
    /// Errors if there are more or fewer of them; then nothing is added.
    pub fn add(&mut self, codes: &[i32]) -> Result<()> {
        check_len("codes", codes.len(), self.codes.len(), "one each")?;
        let runs = codes.chunks(RUN).zip(self.codes.chunks_mut(RUN));
        for ((codes, before), sums) in runs.zip(self.weights.chunks_mut(RUN)) {
            if codes == before {
                continue;
            }
            for ((code, before), sum) in codes.iter().zip(before).zip(sums) {
                if code != before {
                    *sum = sum.until(self.steps, *before);
                    *before = *code;
                }
            }
        }
        self.steps += 1;
        Ok(())
    }

    /// The sums over all steps.
    fn sums(&self) -> impl Iterator<Item = Sum> + '_ {
        let all = self.weights.iter().zip(&self.codes);
        all.map(|(sum, code)| sum.until(self.steps, *code))
    }

    /// The mean code of each weight; 0 without steps.
    pub fn means(&self) -> impl Iterator<Item = f64> + '_ {
        let steps = self.steps.max(1) as f64;
        self.sums().map(move |sum| sum.codes as f64 / steps)
    }

    /// The sign of each mean, -1, 0 or +1: of binary weights what the majority of steps had, 0 where they were even.
    pub fn majority(&self) -> impl Iterator<Item = i32> + '_ {
        self.sums().map(|sum| sum.codes.signum() as i32)
    }

    /// Share of `codes` with the sign of their mean, 0 to 1; 1 if there are none.
    ///
    /// Errors if there are more or fewer codes.
    pub fn agreement(&self, codes: &[i32]) -> Result<f64> {
        check_len("codes", codes.len(), self.codes.len(), "one each")?;
        let pairs = codes.iter().zip(self.majority());
        let same = pairs.filter(|(code, sign)| code.signum() == *sign).count();
        Ok(match codes.len() {
            0 => 1.0,
            len => same as f64 / len as f64,
        })
    }

    /// How steady the signs were: |sum of codes| over the sum of |codes|, in the mean over the weights that were not always
    /// 0. It is 1 if no sign turned, and 0 if each was as often + as -; 1 if all were always 0.
    pub fn steadiness(&self) -> f64 {
        let (mut all, mut count) = (0.0, 0u64);
        for sum in self.sums().filter(|sum| sum.magnitudes > 0) {
            all += sum.codes.unsigned_abs() as f64 / sum.magnitudes as f64;
            count += 1;
        }
        if count > 0 { all / count as f64 } else { 1.0 }
    }

    /// Forgets all steps.
    pub fn clear(&mut self) {
        self.steps = 0;
        self.weights.fill(Sum::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;

    #[test]
    fn means_and_majorities_are_those_of_the_steps() {
        let mut means = CodeMeans::new(4);
        assert_eq!(
            (means.agreement(&[0; 4]).unwrap(), means.steadiness()),
            (1.0, 1.0)
        );
        for codes in [[1, -1, 0, 3], [1, 1, 0, -1], [1, -1, 0, -1], [1, 1, 0, -1]] {
            means.add(&codes).unwrap();
        }
        assert!(means.means().eq([1.0, 0.0, 0.0, 0.0]));
        assert!(means.majority().eq([1, 0, 0, 0]));
        means.add(&[1, -1, 0, -2]).unwrap();
        assert!(means.means().eq([1.0, -0.2, 0.0, -0.4]));
        assert!(means.majority().eq([1, -1, 0, -1]));
        assert_eq!(means.agreement(&[1, 1, 0, -7]).unwrap(), 0.75);
        // 5 / 5, 1 / 5 and 2 / 8; what was always 0 does not count.
        assert!((means.steadiness() - (1.0 + 0.2 + 0.25) / 3.0).abs() < 1e-12);
        assert_eq!(means.steps(), 5);
        assert!(means.add(&[1; 3]).is_err() && means.agreement(&[1; 5]).is_err());
        means.clear();
        assert_eq!((means.steps(), means.steadiness()), (0, 1.0));
        means.add(&[3, 1, 0, -1]).unwrap();
        assert!(means.means().eq([3.0, 1.0, 0.0, -1.0]));
    }

    #[test]
    fn the_sign_of_the_mean_is_right_where_the_codes_turn_for_ever() {
        // y <- y + eta (w* - q) with q = sign(y) / sqrt(n): binary weights by BinaryConnect, papers of two linear layers.
        let (n, eta) = (16usize, 0.05);
        let mut noise = vec![0.0; n];
        Rng::new(4).fill_normal(&mut noise, 0.4);
        let mut best: Vec<f64> = (0..n)
            .map(|i| (if i % 3 == 0 { -1.0 } else { 1.0 }) * (1.0 + f64::from(noise[i])))
            .collect();
        let length = best.iter().map(|w| w * w).sum::<f64>().sqrt();
        best.iter_mut().for_each(|w| *w /= length);
        let level = 1.0 / (n as f64).sqrt();
        let mut y: Vec<f64> = (0..n).map(|i| 0.01 * (i as f64 - 7.5)).collect();
        let sign =
            |y: &[f64]| -> Vec<i32> { y.iter().map(|y| if *y >= 0.0 { 1 } else { -1 }).collect() };
        let (mut means, mut turns, mut before) = (CodeMeans::new(n), 0, sign(&y));
        for step in 0..20_000 {
            let codes = sign(&y);
            turns += usize::from(step >= 10_000 && codes != before);
            means.add(&codes).unwrap();
            for i in 0..n {
                y[i] += eta * (best[i] - level * f64::from(codes[i]));
            }
            before = codes;
        }
        assert!(turns > 3000, "they do not settle: {turns}");
        assert!(means.majority().eq(sign(&best)));
        for (mean, best) in means.means().zip(&best) {
            let expected = (best / level).clamp(-1.0, 1.0);
            assert!((mean - expected).abs() < 0.01, "{mean} {expected}");
        }
    }
}
