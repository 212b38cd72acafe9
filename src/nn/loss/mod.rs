//! Losses, forward and backward in one pass, and the count of right answers.
//!
//! | [`Loss`] | mean over the M rows of | source |
//! |---|---|---|
//! | `cross-entropy` | log(sum_j exp(z_j)) - z_y | |
//! | `squared-hinge` | mean over classes of max(0, 1 - t_j z_j)^2, t_j = +1 at the label, else -1 | BinaryConnect, LAQ, arXiv 1511.00363, 1802.08635 |
//! | `multi-class-hinge` | max(0, 1 - (z_y - z_xi)), xi the greatest of the others | arXiv 2011.11256 |
//! | `squared-error` | 1/2 sum_j (z_j - [j = y])^2 | |
//!
//! z are logits, y is the label.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::shape::{check_len, elements};

mod hinge;

/// What training makes small.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Softmax cross-entropy.
    #[default]
    CrossEntropy,
    /// Squared hinge of each class against +1 or -1.
    SquaredHinge,
    /// Hinge of the label against the greatest other class.
    MultiClassHinge,
    /// Half of the squared distance to the label's unit vector.
    SquaredError,
}

impl Loss {
    /// The mean loss of `logits` `[M, classes]` against `labels` `[M]`, with its gradient into `d_logits`.
    ///
    /// Logits that are not finite make the loss NaN or infinite. Errors as [`cross_entropy`] does.
    pub fn run(
        self,
        logits: &[f32],
        labels: &[u8],
        classes: usize,
        d_logits: &mut [f32],
    ) -> Result<Score> {
        let row = match self {
            Loss::CrossEntropy => return cross_entropy(logits, labels, classes, d_logits),
            Loss::SquaredHinge => hinge::squared_hinge,
            Loss::MultiClassHinge => hinge::multi_class_hinge,
            Loss::SquaredError => hinge::squared_error,
        };
        check(logits, labels, classes)?;
        check_len("d_logits", d_logits.len(), logits.len(), "M x classes")?;
        let share = 1.0 / labels.len() as f32;
        let (mut sum, mut correct) = (0f64, 0);
        let rows = logits.chunks_exact(classes).zip(labels);
        for ((z, &label), d_z) in rows.zip(d_logits.chunks_exact_mut(classes)) {
            correct += usize::from(argmax(z) == usize::from(label));
            sum += f64::from(row(z, usize::from(label), d_z));
            d_z.iter_mut().for_each(|d| *d *= share);
        }
        Ok(Score {
            loss: (sum / labels.len() as f64) as f32,
            correct,
        })
    }
}

/// What a batch scored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Score {
    /// The mean loss, in nats.
    pub loss: f32,
    /// How many rows have their largest logit at the label.
    pub correct: usize,
}

/// Softmax cross-entropy of `logits` `[M, classes]` against `labels` `[M]`.
///
/// ```text
///   loss      = mean over rows of  log(sum_j exp(z_j)) - z_label
///   d_logits  = (softmax(z) - [j = label]) / M
/// ```
///
/// The largest logit of a row is taken off first, so nothing overflows; logits that are not finite make
/// the loss NaN. Errors if there are no rows or classes, a length is wrong or a label is not below
/// `classes`; then `d_logits` is untouched.
pub fn cross_entropy(
    logits: &[f32],
    labels: &[u8],
    classes: usize,
    d_logits: &mut [f32],
) -> Result<Score> {
    check(logits, labels, classes)?;
    check_len("d_logits", d_logits.len(), logits.len(), "M x classes")?;
    let share = 1.0 / labels.len() as f32;
    let (mut sum, mut correct) = (0f64, 0);
    let rows = logits.chunks_exact(classes).zip(labels);
    for ((z, &label), d_z) in rows.zip(d_logits.chunks_exact_mut(classes)) {
        let (label, top) = (usize::from(label), argmax(z));
        correct += usize::from(top == label);
        let mut total = 0f32;
        for (d, z_j) in d_z.iter_mut().zip(z) {
            *d = (z_j - z[top]).exp();
            total += *d;
        }
        sum += f64::from(total.ln() + (z[top] - z[label]));
        for d in d_z.iter_mut() {
            *d *= share / total;
        }
        d_z[label] -= share;
    }
    Ok(Score {
        loss: (sum / labels.len() as f64) as f32,
        correct,
    })
}

/// How many rows of `logits` `[M, classes]` have their largest value at the label.
///
/// Errors as [`cross_entropy`] does.
pub fn correct(logits: &[f32], labels: &[u8], classes: usize) -> Result<usize> {
    check(logits, labels, classes)?;
    let rows = logits.chunks_exact(classes).zip(labels);
    Ok(rows.filter(|(z, l)| argmax(z) == usize::from(**l)).count())
}

/// The place of the largest value, the first of equals; NaN is passed over. 0 if there is none.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] || values[best].is_nan() {
            best = i;
        }
    }
    best
}

fn check(logits: &[f32], labels: &[u8], classes: usize) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::argument("labels", "empty", "at least one"));
    }
    if classes == 0 {
        return Err(Error::argument("classes", classes, "at least 1"));
    }
    let len = elements("logits", &[labels.len(), classes])?;
    check_len("logits", logits.len(), len, "M x classes")?;
    if let Some(i) = labels.iter().position(|&l| usize::from(l) >= classes) {
        return Err(Error::argument(
            "labels",
            format_args!("{} at [{i}]", labels[i]),
            format_args!("0 to {}", classes - 1),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_difference_quotient() {
        let logits = [0.3, -1.2, 2.0, 0.1, 0.1, -0.4];
        let labels = [2, 0];
        let (mut d, mut unused) = ([0.0; 6], [0.0; 6]);
        let score = cross_entropy(&logits, &labels, 3, &mut d).unwrap();
        assert_eq!(score.correct, 2);
        for i in 0..6 {
            let mut loss = |step: f32| {
                let mut moved = logits;
                moved[i] += step;
                cross_entropy(&moved, &labels, 3, &mut unused).unwrap().loss
            };
            let quotient = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((quotient - d[i]).abs() < 1e-4, "{quotient} {} at {i}", d[i]);
        }
    }

    #[test]
    fn huge_logits_do_not_overflow_and_nan_shows() {
        let mut d = [0.0; 2];
        let score = cross_entropy(&[3e38, -3e38], &[0], 2, &mut d).unwrap();
        assert_eq!((score.loss, d), (0.0, [0.0, 0.0]));
        let even = cross_entropy(&[5.0, 5.0], &[1], 2, &mut d).unwrap();
        assert!((even.loss - 2f32.ln()).abs() < 1e-6 && even.correct == 0);
        assert_eq!(d, [0.5, -0.5]);
        let nan = cross_entropy(&[f32::NAN, 0.0], &[1], 2, &mut d).unwrap();
        assert!(nan.loss.is_nan());
        assert_eq!(argmax(&[f32::NAN, -1.0, 3.0, 3.0]), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let said = |logits: &[f32], labels: &[u8], classes| {
            let answer = cross_entropy(logits, labels, classes, &mut [0.0; 4]);
            answer.unwrap_err().to_string()
        };
        assert_eq!(said(&[], &[], 2), "labels is empty; expected at least one");
        assert_eq!(
            said(&[0.0; 4], &[0, 2], 2),
            "labels is 2 at [1]; expected 0 to 1"
        );
        assert!(said(&[0.0; 3], &[0, 1], 2).starts_with("logits is 3 elements long"));
        assert!(correct(&[0.0; 4], &[0, 0], 0).is_err());
        assert_eq!(correct(&[0.0, 1.0, 1.0, 0.0], &[1, 1], 2).unwrap(), 1);
    }
}
