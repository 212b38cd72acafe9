//! The laboratory: models small enough to know the truth about, in closed form or by a short run.
//!
//! * [`two_layer`]: the net of two linear layers with Gaussian input: population loss, gradients and expected coarse
//!   gradients in closed form, and the same by sampling; [`descent`] walks along them;
//! * [`lemma`]: blended descent on a quadratic, against what the descent lemma promises;
//! * [`recurrence`]: projected coarse gradients on that net as a recursion on directions;
//! * [`toys`]: stochastic rounding and BinaryConnect in one dimension, with the law that rounding tends to;
//! * [`subspaces`]: two classes in two planes, separated by a staircase net;
//! * [`zigzag`]: a quadratic over binary weights, loss-aware rule against forward and backtrack.
//!
//! All is f64 but where a step function of [`train::step`](crate::train::step) or a quantizer is at work, which is what
//! these models are to try. Runs are pure functions of their arguments: the same on any number of threads. The names
//! of the fields are those of the formulas. `qcore reproduce` draws and judges what comes out.

pub mod descent;
pub mod lemma;
pub mod normal;
pub mod recurrence;
pub mod subspaces;
pub mod toys;
pub mod two_layer;
pub mod zigzag;

use crate::nn::rng::Rng;
use crate::ops::Par;

/// f(0) .. f(count - 1), on as many threads as there are.
fn each<T: Send>(par: Par<'_>, count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut found: Vec<Option<T>> = (0..count).map(|_| None).collect();
    // A run costs far more than the splitting.
    par.rows(&mut found, 1, 1 << 20, &|i, slot| slot[0] = Some(f(i)));
    found.into_iter().flatten().collect()
}

/// `n` draws from N(0, 1).
pub fn normals(rng: Rng, n: usize) -> Vec<f64> {
    let mut z = vec![0f32; n];
    rng.fill_normal(&mut z, 1.0);
    z.into_iter().map(f64::from).collect()
}

/// The inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean norm.
pub fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The cosine between two vectors; 0 if one of them is 0.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let size = norm(a) * norm(b);
    if size > 0.0 { dot(a, b) / size } else { 0.0 }
}
