//! Descent along expected coarse gradients, and the empirical loss along sampled ones.

use super::two_layer::{Ste, TwoLayer};
use super::{cosine, dot, each, norm, normals};
use crate::nn::rng::Rng;
use crate::ops::Par;

/// Where a descent is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// The population loss.
    pub loss: f64,
    /// The angle between w and w*.
    pub angle: f64,
    /// The cosine between the expected coarse gradient and df/dw.
    pub alignment: f64,
    /// The distance from where it began, |(v, w) - (v_0, w_0)|.
    pub distance: f64,
}

/// `steps` steps of v <- v - eta df/dv, w <- w - eta E\[g\] from (v, w); steps + 1 points.
pub fn descend(
    teacher: &TwoLayer,
    ste: Ste,
    (v, w): (&[f64], &[f64]),
    eta: f64,
    steps: usize,
) -> Vec<Point> {
    let (mut at_v, mut at_w) = (v.to_vec(), w.to_vec());
    let mut points = Vec::with_capacity(steps + 1);
    for _ in 0..=steps {
        let g = teacher.coarse(ste, &at_v, &at_w);
        let moved =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        points.push(Point {
            loss: teacher.loss(&at_v, &at_w),
            angle: teacher.angle(&at_w),
            alignment: cosine(&g, &teacher.d_w(&at_v, &at_w)),
            distance: (moved(&at_v, v) + moved(&at_w, w)).sqrt(),
        });
        let d_v = teacher.d_v(&at_v, &at_w);
        at_v.iter_mut().zip(d_v).for_each(|(v, d)| *v -= eta * d);
        at_w.iter_mut().zip(g).for_each(|(w, g)| *w -= eta * g);
    }
    points
}

/// The mean change of the empirical loss of `samples` draws, one step of each size of `etas` along the coarse gradient of
/// the same draws, w <- w - eta g / |g|, over `repeats` sets; v stays.
pub fn empirical(
    teacher: &TwoLayer,
    ste: Ste,
    (v, w): (&[f64], &[f64]),
    (samples, repeats): (usize, usize),
    etas: &[f64],
    par: Par<'_>,
) -> Vec<f64> {
    let sets = each(par, repeats, |set| {
        let n = w.len();
        let z = normals(
            Rng::new(31).at(set as u32, samples as u32),
            samples * v.len() * n,
        );
        let step = |x: f64| if x > 0.0 { 1.0 } else { 0.0 };
        let output = |z: &[f64], v: &[f64], w: &[f64]| -> f64 {
            z.chunks_exact(n)
                .zip(v)
                .map(|(row, v)| v * step(dot(row, w)))
                .sum()
        };
        let loss = |w: &[f64]| -> f64 {
            let each = z
                .chunks_exact(v.len() * n)
                .map(|z| (output(z, v, w) - output(z, teacher.v(), teacher.w())).powi(2) / 2.0);
            each.sum::<f64>() / samples as f64
        };
        let mut g = vec![0.0; n];
        for z in z.chunks_exact(v.len() * n) {
            let rest = output(z, v, w) - output(z, teacher.v(), teacher.w());
            for (row, v) in z.chunks_exact(n).zip(v) {
                let by = rest * v * ste.derivative(dot(row, w));
                g.iter_mut().zip(row).for_each(|(g, z)| *g += by * z);
            }
        }
        let (begin, size) = (loss(w), norm(&g).max(1e-300));
        let at = |eta: &f64| -> f64 {
            let w: Vec<f64> = w.iter().zip(&g).map(|(w, g)| w - eta * g / size).collect();
            loss(&w) - begin
        };
        etas.iter().map(at).collect::<Vec<f64>>()
    });
    let mean = |i: usize| sets.iter().map(|s| s[i]).sum::<f64>() / repeats as f64;
    (0..etas.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relu_descends_and_the_first_point_is_the_start() {
        let rng = Rng::new(2);
        let teacher = TwoLayer::new(&normals(rng, 8), &normals(rng.at(0, 1), 10)).unwrap();
        let (v, w) = (normals(rng.at(0, 2), 8), normals(rng.at(0, 3), 10));
        let points = descend(&teacher, Ste::Relu, (&v, &w), 0.01, 300);
        assert_eq!((points.len(), points[0].distance), (301, 0.0));
        assert_eq!(points[0].loss, teacher.loss(&v, &w));
        assert!(points.windows(2).all(|p| p[1].loss <= p[0].loss + 1e-12));
        assert!(points.iter().all(|p| p.alignment >= 0.0));
        let etas = [0.0, 0.1];
        let change = empirical(&teacher, Ste::Relu, (&v, &w), (200, 4), &etas, Par::Caller);
        assert!(change[0] == 0.0 && change[1] != 0.0);
    }
}
