//! How often weights go back to where they came from.

use crate::nn::elementary::power;

/// How fast the frequency of oscillations moves.
const MOMENTUM: f32 = 0.01;

/// How often weights oscillate, as [`Freezer`](crate::train::step::Freezer) counts it: the moving mean f <- (1 - momentum)
/// f + momentum o, where o = 1 in steps in which a code goes back to where it came from. What fades between two changes
/// is taken off when it is asked for, so that a step costs little where few codes change.
pub(super) struct Oscillation {
    steps: u32,
    /// The direction of the last change: -1, 0 if there was none, +1.
    direction: Vec<i8>,
    /// The frequency as it was after step `at`.
    frequency: Vec<f32>,
    at: Vec<u32>,
}

impl Oscillation {
    pub(super) fn new(len: usize) -> Self {
        Oscillation {
            steps: 0,
            direction: vec![0; len],
            frequency: vec![0.0; len],
            at: vec![0; len],
        }
    }

    /// Sees the codes after a step, with those before, which become them; how many changed.
    pub(super) fn step(&mut self, codes: &[i32], before: &mut [i32]) -> usize {
        const RUN: usize = 64;
        self.steps += 1;
        let mut changes = 0;
        let runs = codes.chunks(RUN).zip(before.chunks_mut(RUN));
        for (run, (codes, before)) in runs.enumerate() {
            // Most runs are as they were, and to see that is quick.
            let differs = codes
                .iter()
                .zip(&*before)
                .fold(0, |all, (a, b)| all | (a ^ b));
            if differs == 0 {
                continue;
            }
            for (j, (code, before)) in codes.iter().zip(before).enumerate() {
                if code != before {
                    let direction = (code - *before).signum() as i8;
                    self.change(run * RUN + j, direction);
                    *before = *code;
                    changes += 1;
                }
            }
        }
        changes
    }

    fn change(&mut self, i: usize, direction: i8) {
        let back = self.direction[i] == -direction;
        let faded = self.frequency(i);
        self.frequency[i] = if back { faded + MOMENTUM } else { faded };
        (self.direction[i], self.at[i]) = (direction, self.steps);
    }

    /// The frequency of weight `i` now.
    fn frequency(&self, i: usize) -> f32 {
        match self.frequency[i] {
            0.0 => 0.0,
            f => {
                f * power(
                    f64::from(1.0 - MOMENTUM),
                    u64::from(self.steps - self.at[i]),
                ) as f32
            }
        }
    }

    pub(super) fn frequencies(&self) -> impl Iterator<Item = f32> {
        (0..self.frequency.len()).map(|i| self.frequency(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::rng::Rng;
    use crate::train::step::Freezer;

    #[test]
    fn oscillations_are_counted_as_those_who_freeze_count_them() {
        let mut freezer = Freezer::new(200, MOMENTUM, false).unwrap();
        let (mut seen, mut before) = (Oscillation::new(200), vec![1; 200]);
        for step in 0..300 {
            // Weights that never change, seldom, and often; for some both directions in turns.
            let code = |i: u64| match i % 4 {
                0 => 1,
                1 => 1 - 2 * i32::from(step > 10 * i),
                2 => 1 - 2 * i32::from((step / (1 + i / 4)) % 2 == 1),
                _ => Rng::new(i).below(step, 3) as i32 - 1,
            };
            let codes: Vec<i32> = (0..200).map(code).collect();
            if step == 0 {
                before.copy_from_slice(&codes);
            }
            let changed = codes.iter().zip(&before).filter(|(a, b)| a != b).count();
            assert_eq!(seen.step(&codes, &mut before), changed);
            assert_eq!(before, codes);
            freezer.step(&codes, 0.0, 2.0, &mut [0.0; 200]).unwrap();
            for (a, b) in seen.frequencies().zip(freezer.frequency()) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        assert!(seen.frequencies().any(|f| f > 0.2));
    }
}
