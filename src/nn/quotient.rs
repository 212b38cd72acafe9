//! Gradients of layers against difference quotients, for their tests.

/// Asserts that `gradients`, those of `loss` by numbers in `state`, are difference quotients up to `within` of
/// 1 + their magnitude: every `every`-th of them. `add(state, i, step)` moves number i, and `what` names them.
///
/// The loss is linear in each number, so steps are large.
pub(super) fn assert_quotients<S>(
    what: &str,
    state: &mut S,
    gradients: &[f32],
    every: usize,
    within: f64,
    add: impl Fn(&mut S, usize, f32),
    loss: impl Fn(&S) -> f64,
) {
    const STEP: f32 = 0.5;
    for i in (0..gradients.len()).step_by(every) {
        add(state, i, STEP);
        let high = loss(state);
        add(state, i, -2.0 * STEP);
        let low = loss(state);
        add(state, i, STEP);
        let quotient = (high - low) / f64::from(2.0 * STEP);
        let gradient = gradients[i];
        let gap = (quotient - f64::from(gradient)).abs();
        assert!(
            gap < within * (1.0 + quotient.abs()),
            "{what}, number {i}: quotient {quotient}, gradient {gradient}"
        );
    }
}
