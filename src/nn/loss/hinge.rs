//! Losses of one row of logits: each writes its gradient to `d`, as long as `z`, and returns its value.

/// Mean over classes of max(0, 1 - t z)^2, t = +1 at the label, else -1.
pub(super) fn squared_hinge(z: &[f32], label: usize, d: &mut [f32]) -> f32 {
    let share = 1.0 / z.len() as f32;
    let mut sum = 0f32;
    for (j, (z, d)) in z.iter().zip(d).enumerate() {
        let t = if j == label { 1.0 } else { -1.0 };
        let short = positive(1.0 - t * z);
        sum += short * short;
        *d = -2.0 * t * short * share;
    }
    sum * share
}

/// max(0, 1 - (z_y - z_xi)), xi the first of the greatest logits but the label's; 0 if there is one class.
pub(super) fn multi_class_hinge(z: &[f32], label: usize, d: &mut [f32]) -> f32 {
    d.fill(0.0);
    let others = (0..z.len()).filter(|j| *j != label);
    // NaN wins, so that it shows.
    let greater = |a: usize, b: usize| z[b] > z[a] || z[b].is_nan();
    let Some(xi) = others.reduce(|a, b| if greater(a, b) { b } else { a }) else {
        return 0.0;
    };
    let loss = positive(1.0 - (z[label] - z[xi]));
    if loss > 0.0 {
        (d[label], d[xi]) = (-1.0, 1.0);
    }
    loss
}

/// 1/2 sum_j (z_j - [j = label])^2.
pub(super) fn squared_error(z: &[f32], label: usize, d: &mut [f32]) -> f32 {
    let mut sum = 0f32;
    for (j, (z, d)) in z.iter().zip(d).enumerate() {
        *d = z - if j == label { 1.0 } else { 0.0 };
        sum += *d * *d;
    }
    0.5 * sum
}

/// max(x, 0), NaN kept.
fn positive(x: f32) -> f32 {
    if x > 0.0 || x.is_nan() { x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use crate::nn::loss::Loss;

    const ALL: [Loss; 4] = [
        Loss::CrossEntropy,
        Loss::SquaredHinge,
        Loss::MultiClassHinge,
        Loss::SquaredError,
    ];

    #[test]
    fn gradients_are_difference_quotients() {
        let logits = [0.3, -1.2, 2.0, 0.1, 0.15, -0.4, 3.0, -2.0, -1.5];
        let labels = [2, 0, 0];
        for loss in ALL {
            let (mut d, mut unused) = ([9.0; 9], [0.0; 9]);
            let score = loss.run(&logits, &labels, 3, &mut d).unwrap();
            assert_eq!(score.correct, 2);
            for i in 0..9 {
                let mut at = |step: f32| {
                    let mut moved = logits;
                    moved[i] += step;
                    loss.run(&moved, &labels, 3, &mut unused).unwrap().loss
                };
                let quotient = (at(1e-2) - at(-1e-2)) / 2e-2;
                let gap = (quotient - d[i]).abs();
                assert!(gap < 2e-4, "{loss:?}: {quotient} {} at {i}", d[i]);
            }
        }
    }

    #[test]
    fn values_by_hand() {
        let mut d = [9.0; 3];
        let mut run = |loss: Loss, z: [f32; 3]| (loss.run(&z, &[1], 3, &mut d).unwrap().loss, d);
        let third = 1.0 / 3.0;
        let (loss, _) = run(Loss::SquaredHinge, [-2.0, 0.5, 1.0]);
        assert!((loss - (0.25 + 4.0) * third).abs() < 1e-6);
        assert_eq!(run(Loss::MultiClassHinge, [0.0, 2.0, 0.5]), (0.0, [0.0; 3]));
        let behind = run(Loss::MultiClassHinge, [0.0, 1.0, 2.0]);
        assert_eq!(behind, (2.0, [0.0, -1.0, 1.0]));
        let error = run(Loss::SquaredError, [1.0, 3.0, 0.0]);
        assert_eq!(error, (2.5, [1.0, 2.0, 0.0]));
        for loss in ALL {
            assert!(run(loss, [f32::NAN, 0.0, 1.0]).0.is_nan(), "{loss:?}");
            assert!(loss.run(&[], &[], 3, &mut []).is_err());
            assert!(loss.run(&[0.0; 3], &[3], 3, &mut [0.0; 3]).is_err());
        }
    }
}
