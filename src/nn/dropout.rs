//! Dropout: values that a coin sends to zero while training; nothing at all otherwise.
//!
//! ```text
//!   training    y = x / (1 - p) with probability 1 - p, else 0          d_x likewise
//!   inference   y = x
//! ```
//!
//! The coins are draws of a generator that is keyed by seed, step and layer, so they are the same for any number of
//! threads and after a resumption.
//!
//! Source: Srivastava et al., JMLR 15 (2014), with the factor in training as everybody has it.

use crate::error::{Error, Result};
use crate::nn::rng::Rng;
use crate::shape::check_len;

/// Dropout of a share of the values.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    p: f32,
    /// The coins of the last batch.
    rng: Rng,
}

impl Dropout {
    /// Each value goes with probability `p`, 0 to below 1.
    ///
    /// Errors if `p` is not in that range.
    pub fn new(p: f32) -> Result<Self> {
        if !(0.0..1.0).contains(&p) {
            return Err(Error::argument("dropout", p, "0 to below 1"));
        }
        let rng = Rng::new(0);
        Ok(Dropout { p, rng })
    }

    /// The share that goes.
    pub fn p(&self) -> f32 {
        self.p
    }

    /// Values `x` into `y`, as long, with the coins of `rng`.
    ///
    /// Errors if the lengths differ.
    pub fn forward_train(&mut self, x: &[f32], y: &mut [f32], rng: Rng) -> Result<()> {
        check_len("y", y.len(), x.len(), "as x")?;
        self.rng = rng;
        y.copy_from_slice(x);
        self.drop(y);
        Ok(())
    }

    /// The gradient by the input in place of the one by the output, with the same coins.
    pub fn backward(&self, d: &mut [f32]) {
        self.drop(d);
    }

    fn drop(&self, values: &mut [f32]) {
        let keep = 1.0 / (1.0 - self.p);
        for (block, values) in (0..).zip(values.chunks_mut(4)) {
            for (value, bits) in values.iter_mut().zip(self.rng.bits4(block)) {
                let coin = (bits >> 8) as f32 * (1.0 / (1 << 24) as f32);
                *value = if coin >= self.p { *value * keep } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_goes_the_mean_stays_and_the_gradient_sees_the_same_coins() {
        let mut dropout = Dropout::new(0.3).unwrap();
        let (x, mut y) = (vec![1.0; 100_003], vec![0.0; 100_003]);
        let rng = Rng::new(1).at(3, 4);
        dropout.forward_train(&x, &mut y, rng).unwrap();
        let gone = y.iter().filter(|y| **y == 0.0).count() as f64 / 100_003.0;
        // Four standard errors are 0.006.
        assert!((gone - 0.3).abs() < 0.006, "{gone}");
        assert!(y.iter().all(|y| *y == 0.0 || *y == 1.0 / 0.7));
        let mut d = x.clone();
        dropout.backward(&mut d);
        assert_eq!(d, y);
        let mut other = vec![0.0; x.len()];
        let next = rng.at(4, 4);
        dropout.forward_train(&x, &mut other, next).unwrap();
        assert_ne!(other, y);
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        for p in [-0.1, 1.0, f32::NAN] {
            let said = Dropout::new(p).unwrap_err().to_string();
            assert_eq!(said, format!("dropout is {p}; expected 0 to below 1"));
        }
    }
}
