//! Batch norm as scale and bias of a finish.

use crate::error::{Error, Result};
use crate::shape::check_len;

/// Batch norm behind `scale * sum + bias`, as one scale and bias: gamma (y - mean) / sqrt(var + eps) + beta.
///
/// In f64, rounded to f32 once. All slices have N elements; the first two are replaced. Errors if lengths differ or
/// var + eps is not positive.
pub fn fold_batch_norm(
    scale: &mut [f32],
    bias: &mut [f32],
    [gamma, beta, mean, var]: [&[f32]; 4],
    eps: f32,
) -> Result<()> {
    let n = scale.len();
    let all = [
        ("gamma", gamma),
        ("beta", beta),
        ("mean", mean),
        ("var", var),
        ("bias", &*bias),
    ];
    for (name, values) in all {
        check_len(name, values.len(), n, "as long as scale")?;
    }
    let sigma = |i: usize| (f64::from(var[i]) + f64::from(eps)).sqrt();
    if let Some(i) = (0..n).find(|&i| sigma(i).is_nan() || sigma(i) <= 0.0) {
        let value = format!("{} at {i} with eps {eps}", var[i]);
        return Err(Error::argument("var", value, "var + eps above 0"));
    }
    for i in 0..n {
        let factor = f64::from(gamma[i]) / sigma(i);
        let shifted = f64::from(bias[i]) - f64::from(mean[i]);
        bias[i] = (shifted * factor + f64::from(beta[i])) as f32;
        scale[i] = (f64::from(scale[i]) * factor) as f32;
    }
    Ok(())
}
