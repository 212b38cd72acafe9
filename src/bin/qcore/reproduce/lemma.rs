//! The descent lemma and its table over rho.

use qcore::Result;
use qcore::lab::lemma::Quadratic;

use super::{Outcome, Setting};
use crate::figure::{BLUE, GREEN, GREY, Marks, ORANGE, PURPLE, Panel};

/// rho / (eta L); those from 1 on are certain to descend.
const SHARES: [f64; 7] = [0.0, 0.04, 0.21, 1.0, 1.2, 2.1, 12.7];

pub fn descent_lemma(setting: Setting<'_>) -> Result<Outcome> {
    let quadratic = Quadratic::new(50, 200, 5.0, 1);
    let (eta, steps) = (0.01, setting.choose(5000, 3000));
    let l = quadratic.smoothness();
    let mut out = Outcome::new(
        "rho_over_eta_l,mean_f,std_f,rises,broken,best_f",
        "Blended descent on a quadratic, binary weights, n = 50, 200 samples",
        2,
    );
    let mut curves = Panel::new("f by step", "step", "f").log_y();
    let (mut means, mut stds, mut rises, mut broken) = (vec![], vec![], vec![], 0);
    let colours = [ORANGE, GREY, GREEN, BLUE, GREY, GREY, PURPLE];
    for (share, colour) in SHARES.into_iter().zip(colours) {
        let run = quadratic.run(share * eta * l, eta, steps, 2)?;
        let (mean, std) = run.end(1000);
        let counts = [run.rises as f64, run.broken as f64];
        out.csv
            .row(&[], &[share, mean, std, counts[0], counts[1], run.best()]);
        means.push(mean);
        stds.push(std);
        rises.push(run.rises);
        broken += run.broken;
        if [0.0, 0.21, 1.0, 12.7].contains(&share) {
            let points = run.losses.iter().enumerate().step_by(10);
            let points = points.map(|(i, f)| (i as f64, *f));
            curves = curves.with(&format!("rho = {share} eta L"), colour, Marks::Line, points);
        }
    }
    out.check(
        broken == 0,
        "no step breaks f(w') - f(w) <= -(rho / eta - L) |w' - w|^2 / 2",
        format!("{broken} of {}", steps * SHARES.len()),
    );
    let certain: usize = rises[3..].iter().sum();
    out.check(
        certain == 0 && stds[3..].iter().all(|s| *s < 1e-9),
        "no rise for rho >= eta L, and at rest at the end",
        format!(
            "{certain} rises, deviation {:.0e} at most",
            stds[3..].iter().copied().fold(0.0, f64::max)
        ),
    );
    // A reference run on another draw of A and y had mean f 93.3, 23.9, 9.08, 11.29, 11.75, 14.06, 27.3 and 2459, 2507,
    // 2426 rises of 5000: the shape is the same for every draw, its numbers are not.
    out.check(
        rises[..3].iter().all(|r| *r > steps / 4) && means[0] > means[1] && means[1] > means[2],
        "below eta L f keeps rising, the less the larger rho",
        format!(
            "mean f {:.1}, {:.1}, {:.2}; {:?} rises",
            means[0],
            means[1],
            means[2],
            &rises[..3]
        ),
    );
    out.check(
        means[2] < means[3] && means[3] <= means[6],
        "the best mean below eta L, the worst of the certain ones at the largest rho",
        format!(
            "{:.2} at 0.21, {:.2} at 1, {:.2} at 12.7",
            means[2], means[3], means[6]
        ),
    );
    let points: Vec<(f64, f64)> = SHARES.into_iter().map(|s| s.max(0.01)).zip(means).collect();
    let table = Panel::new(
        "mean f of the last 1000 steps",
        "rho / (eta L), 0 at the left end",
        "f",
    )
    .log_x()
    .log_y()
    .band(1.0, 20.0, "certain descent")
    .with("", GREY, Marks::Dashed, points.clone())
    .with("", BLUE, Marks::Dots, points);
    out.figure.panels = vec![curves, table];
    Ok(out)
}
