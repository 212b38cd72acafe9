//! Gradients of layers against difference quotients, for their tests.

/// Asserts that `gradients`, those of `loss` by numbers in `state`, are difference quotients up to `within` of
/// 1 + their magnitude. `add(state, i, step)` moves number i. About 70 of the numbers are tried.
///
/// The loss is linear in each number, so steps are large.
pub(super) fn assert_quotients<S>(
    state: &mut S,
    gradients: &[f32],
    within: f64,
    add: impl Fn(&mut S, usize, f32),
    loss: impl Fn(&S) -> f64,
) {
    const STEP: f32 = 0.5;
    for i in (0..gradients.len()).step_by(gradients.len() / 70 + 1) {
        add(state, i, STEP);
        let high = loss(state);
        add(state, i, -2.0 * STEP);
        let low = loss(state);
        add(state, i, STEP);
        let quotient = (high - low) / f64::from(2.0 * STEP);
        let gap = (quotient - f64::from(gradients[i])).abs();
        let gradient = gradients[i];
        assert!(
            gap < within * (1.0 + quotient.abs()),
            "number {i}: quotient {quotient}, gradient {gradient}"
        );
    }
}
