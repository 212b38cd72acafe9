//! Two classes in two planes: steps to zero loss by coarse gradient.

use qcore::Result;
use qcore::bits::Bits;
use qcore::lab::subspaces::{Problem, Run, Shape};
use qcore::nn::ste::CoarseX;

use super::{Outcome, Setting};
use crate::figure::{EQUALS, Marks, Panel};

/// By name; the last is the one that must fail.
const BY: [(&str, CoarseX); 5] = [
    ("ReLU", CoarseX::Relu),
    ("clipped ReLU", CoarseX::ClippedRelu),
    ("reversed exponential", CoarseX::ReverseExp),
    ("log-tailed ReLU", CoarseX::LogTailed),
    ("identity", CoarseX::Identity),
];

pub fn subspaces(setting: Setting<'_>) -> Result<Outcome> {
    let mut out = Outcome::new(
        "points,bits,units,ste,reached,seeds,median_steps,mean_accuracy",
        "Two classes in two planes of R^4",
        2,
    );
    let seeds = setting.choose(8, 3);
    let problems = [
        (Shape::HalfCircles, 1, 24),
        (Shape::HalfCircles, 2, 24),
        (Shape::HalfCircles, 4, 64),
        (Shape::FullCircles, 2, 32),
        (Shape::FullCircles, 4, 64),
    ];
    let (mut one_sided, mut one_sided_all) = (0, 0);
    let (mut identity_half, mut identity_full, mut half, mut full) = (0, 0, 0, 0);
    let mut curves = Panel::new(
        "full circles, 2 bits, 32 units: the first seed",
        "step",
        "mean hinge loss",
    )
    .log_y();
    let mut medians: Vec<Vec<(f64, f64)>> = vec![Vec::new(); BY.len()];
    for (at, (shape, bits, units)) in problems.into_iter().enumerate() {
        let problem = Problem {
            shape,
            bits: Bits::new(bits)?,
            units,
            eta: 0.1,
        };
        for (i, (name, by)) in BY.into_iter().enumerate() {
            // The slowest of the one-sided needed some hundreds in a reference run.
            let most = if by == CoarseX::Identity {
                setting.choose(2000, 600)
            } else {
                3000
            };
            let runs: Vec<Run> = (0..seeds as u64)
                .map(|seed| problem.train(by, seed, most))
                .collect();
            let reached = runs.iter().filter(|r| r.steps.is_some()).count();
            let mut steps: Vec<usize> = runs.iter().map(|r| r.steps.unwrap_or(most)).collect();
            steps.sort_unstable();
            let median = steps[steps.len() / 2] as f64;
            let accuracy = runs.iter().map(|r| r.accuracy).sum::<f64>() / seeds as f64;
            let (points, b, m) = (format!("{shape:?}"), bits.to_string(), units.to_string());
            let numbers = [reached as f64, seeds as f64, median, accuracy];
            out.csv.row(&[&points, &b, &m, name], &numbers);
            medians[i].push((at as f64 + 0.15 * (i as f64 - 2.0), median));
            match (by, shape) {
                (CoarseX::Identity, Shape::HalfCircles) => {
                    (identity_half, half) = (identity_half + reached, half + seeds);
                }
                (CoarseX::Identity, Shape::FullCircles) => {
                    (identity_full, full) = (identity_full + reached, full + seeds);
                }
                _ => (one_sided, one_sided_all) = (one_sided + reached, one_sided_all + seeds),
            }
            if shape == Shape::FullCircles && bits == 2 {
                let points = runs[0].losses.iter().take(400).enumerate();
                let points = points.map(|(t, l)| (t as f64, l.max(1e-4)));
                curves = curves.with(name, EQUALS[i], Marks::Line, points);
            }
        }
    }
    out.check(
        one_sided == one_sided_all,
        "zero loss with every one-sided coarse gradient, problem and seed",
        format!("{one_sided} of {one_sided_all} runs"),
    );
    out.check(
        identity_full == 0,
        "never with identity on full circles",
        format!("{identity_full} of {full} runs"),
    );
    out.check(
        identity_half < half,
        "not every time with identity on half circles",
        format!("{identity_half} of {half} runs"),
    );
    let title = "median steps: half circles (1, 2, 4 bits), full circles (2, 4 bits)";
    let mut bars = Panel::new(title, "problem", "steps")
        .log_y()
        .range(10.0, 6000.0);
    for ((name, _), (points, colour)) in BY.into_iter().zip(medians.into_iter().zip(EQUALS)) {
        bars = bars.with(name, colour, Marks::Bars(0.13), points);
    }
    out.figure.panels = vec![curves, bars];
    Ok(out)
}
