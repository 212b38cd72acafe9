//! Which states a run visits: a state is all codes of a layer, or of a net, at the beginning of a step.
//!
//! Where quantized weights do not settle they may come back to the same few states, the best among them: Recurrence of
//! Optimum, arXiv 2012.05529, counts how often.

use std::collections::HashMap;

/// How often each state was visited since the count began.
#[derive(Default)]
pub(super) struct Visits {
    counts: HashMap<u64, usize>,
    steps: usize,
    /// The least loss, and the state that had it.
    best: Option<(f32, u64)>,
}

/// What a count shows. Shares of steps, 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Seen {
    /// Number of different states.
    pub states: usize,
    /// Steps in states that had been visited before.
    pub recurring: f64,
    /// Steps in the state that was visited most.
    pub most: f64,
    /// Steps in the state of the least loss.
    pub best: f64,
}

impl Visits {
    /// A step that begins in `state` with the loss `loss`.
    pub fn visit(&mut self, state: u64, loss: f32) {
        *self.counts.entry(state).or_default() += 1;
        self.steps += 1;
        if self.best.is_none_or(|(least, _)| loss < least) {
            self.best = Some((loss, state));
        }
    }

    /// What the count shows.
    pub fn seen(&self) -> Seen {
        let best = self.best.map_or(0, |(_, state)| self.count(state));
        Seen {
            states: self.counts.len(),
            recurring: self.share(self.steps - self.counts.len()),
            most: self.share(self.counts.values().copied().max().unwrap_or(0)),
            best: self.share(best),
        }
    }

    /// Share of steps that began in `state`; `None` if there was no step.
    pub fn frequency(&self, state: u64) -> Option<f64> {
        (self.steps > 0).then(|| self.share(self.count(state)))
    }

    fn count(&self, state: u64) -> usize {
        self.counts.get(&state).copied().unwrap_or(0)
    }

    fn share(&self, n: usize) -> f64 {
        n as f64 / self.steps.max(1) as f64
    }
}

/// A number for a sequence of integers: others of the same length have another, but for one in 2^64 or so.
pub(super) fn digest(codes: impl Iterator<Item = u64>) -> u64 {
    codes.fold(0x9e37_79b9_7f4a_7c15, |digest, code| {
        let mixed = (digest ^ code).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_counted_by_state() {
        let mut visits = Visits::default();
        assert_eq!(visits.seen(), Seen::default());
        assert_eq!(visits.frequency(7), None);
        let steps = [(7, 3.0), (8, 2.0), (7, 2.5), (9, 1.0), (7, 1.5), (9, 4.0)];
        for (state, loss) in steps {
            visits.visit(state, loss);
        }
        let seen = visits.seen();
        assert_eq!(seen.states, 3);
        assert_eq!((seen.recurring, seen.most), (0.5, 0.5));
        assert!((seen.best - 2.0 / 6.0).abs() < 1e-12);
        let frequencies = [7, 8, 9, 10].map(|state| visits.frequency(state).unwrap());
        assert_eq!(frequencies, [0.5, 1.0 / 6.0, 1.0 / 3.0, 0.0]);
    }

    #[test]
    fn every_code_and_every_order_has_a_digest_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..40u64 {
            for b in 0..40u64 {
                assert!(seen.insert(digest([a, b, 1].into_iter())));
            }
        }
    }
}
