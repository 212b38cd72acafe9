//! How often the optimum is visited, the cycle that never does, and the window of blending.

use std::f64::consts::PI;

use qcore::Result;
use qcore::lab::normals;
use qcore::lab::recurrence::{Recursion, Set, Visits, counter_example, teacher};
use qcore::nn::rng::Rng;

use super::{Outcome, Setting};
use crate::figure::{BLUE, GREEN, GREY, Marks, ORANGE, Panel};

const ETA: f64 = 0.05;

/// Dimensions and noise of w*, each with the seed of one draw.
const TEACHERS: [(usize, f64, u64); 5] = [
    (8, 0.3, 1),
    (8, 0.6, 2),
    (16, 0.3, 3),
    (16, 1.0, 4),
    (64, 0.3, 5),
];

pub fn recurrence(setting: Setting<'_>) -> Result<Outcome> {
    let steps = setting.choose(200_000, 40_000);
    let mut out = Outcome::new(
        "n,noise,s,bound,frequency,flips,mean_error,ternary_frequency",
        "Recurrence: projected coarse gradients without blending",
        2,
    );
    let (mut visited, mut bounds) = (Vec::new(), Vec::new());
    let mut shown: Option<(Recursion, Visits)> = None;
    let (mut worst, mut apart) = (f64::INFINITY, 0f64);
    for (n, noise, seed) in TEACHERS {
        let w = teacher(n, noise, seed);
        let mut recursion = Recursion {
            w,
            eta: ETA,
            rho: 0.0,
            set: Set::Binary,
        };
        let y: Vec<f64> = normals(Rng::new(seed).at(0, 7), n)
            .iter()
            .map(|z| 0.1 * z)
            .collect();
        let visits = recursion.run(&y, steps, steps / 10, 400);
        let s = recursion.shortfall();
        worst = worst.min(visits.optimum - (1.0 - s));
        let bound = 1.0 / (n as f64).sqrt();
        let clipped = recursion.w.iter().map(|w| w.clamp(-bound, bound));
        let error = clipped
            .zip(&visits.mean)
            .map(|(w, m)| (w - m).abs())
            .fold(0.0, f64::max);
        apart = apart.max(error);
        recursion.set = Set::Ternary;
        let ternary = recursion.run(&y, steps, steps / 10, 0).optimum;
        let row = [
            n as f64,
            noise,
            s,
            1.0 - s,
            visits.optimum,
            visits.flips,
            error,
            ternary,
        ];
        out.csv.row(&[], &row);
        visited.push((n as f64, visits.optimum));
        bounds.push((n as f64, 1.0 - s, visits.optimum));
        recursion.set = Set::Binary;
        shown.get_or_insert((recursion, visits));
    }
    // The bound holds in the limit; a finite run differs by its two ends, a few hundred steps.
    let room = 300.0 / steps as f64;
    out.check(
        worst >= -room,
        "the optimum visited in at least 1 - S of the steps",
        format!(
            "the frequency exceeds the bound by {worst:.4} or more in {} teachers",
            TEACHERS.len()
        ),
    );
    // The mean of the visited directions is w* clipped to +-1 / sqrt(n), up to |y| / (eta' steps).
    let tolerance = 40.0 / steps as f64;
    out.check(
        apart < tolerance,
        format!("mean q equal to w* clipped to +-1 / sqrt(n), within {tolerance:.0e}"),
        format!("{apart:.1e} at most"),
    );
    let (cycle, apart, aligned) = counter_example(ETA);
    let never = cycle.run(&apart, 30_000, 0, 60);
    let often = cycle.run(&aligned, 30_000, 0, 60);
    out.check(
        never.optimum == 0.0,
        "S = 1, phases apart: the optimum never visited in 30000 steps",
        format!("{:.0} visits", never.optimum * 30_000.0),
    );
    out.check(
        (often.optimum - 2.0 / 3.0).abs() < 1e-3,
        "the same w*, phases aligned: two steps of three",
        format!("{:.4}", often.optimum),
    );

    if let Some((recursion, visits)) = shown {
        let codes = Set::Binary.nearest(&recursion.w);
        let along = codes
            .iter()
            .zip(&recursion.w)
            .map(|(c, w)| f64::from(*c) * w);
        let best = (along.sum::<f64>() / (codes.len() as f64).sqrt()).acos();
        let angles = visits
            .angles
            .iter()
            .take(120)
            .enumerate()
            .map(|(t, a)| (t as f64, a / PI * 180.0));
        let ends = [(0.0, best / PI * 180.0), (120.0, best / PI * 180.0)];
        let angle = Panel::new(
            "n = 8: the angle comes back again and again",
            "step",
            "degrees",
        )
        .with("q and w*", BLUE, Marks::Line, angles)
        .with("the optimum", ORANGE, Marks::Dashed, ends);
        let wrong = visits.codes.iter().enumerate().flat_map(|(t, row)| {
            let codes = &codes;
            let wrong = row
                .iter()
                .enumerate()
                .filter(move |(i, c)| **c != codes[*i]);
            wrong.map(move |(i, _)| (t as f64, i as f64))
        });
        let raster = Panel::new("its wrong signs", "step", "coordinate")
            .range(-1.0, 8.0)
            .with("", ORANGE, Marks::Specks, wrong);
        let mut counts = [0f64; 13];
        visits
            .returns
            .iter()
            .for_each(|r| counts[(*r).min(12)] += 1.0);
        let total: f64 = counts.iter().sum::<f64>().max(1.0);
        let bars = (1..13).map(|r| (r as f64, counts[r] / total));
        let returns = Panel::new("steps to the next visit (12: or more)", "steps", "share").with(
            "",
            BLUE,
            Marks::Bars(0.8),
            bars,
        );
        let diagonal = [(-4.0, 0.0), (0.0, 0.0), (1.0, 1.0)];
        let frequency = Panel::new("how often the optimum is visited", "1 - S", "frequency")
            .with("the bound", GREY, Marks::Dashed, diagonal)
            .with(
                "measured",
                BLUE,
                Marks::Dots,
                bounds.iter().map(|b| (b.1.max(-4.0), b.2)),
            );
        out.figure.panels = vec![angle, raster, returns, frequency];
    }
    Ok(out)
}

/// rho from 1e-4 to 0.4, with those of the reference table.
fn rhos() -> Vec<f64> {
    let mut rhos: Vec<f64> = (0..=72)
        .map(|i| 10f64.powf(-4.0 + f64::from(i) * 0.05))
        .collect();
    rhos.extend([0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.2]);
    rhos.sort_by(f64::total_cmp);
    rhos
}

pub fn blending_window(setting: Setting<'_>) -> Result<Outcome> {
    let (n, inits) = (8, 20);
    let w = teacher(n, 0.4, 6);
    let (steps, last) = match setting.quick {
        true => (8_000, 2_000),
        false => (60_000, 10_000),
    };
    let mut out = Outcome::new(
        "rho,optimum_frequency,flip_share,stuck_share",
        "Blending inside its window makes the optimum the only fixed point",
        2,
    );
    let mut recursion = Recursion {
        w,
        eta: ETA,
        rho: 0.0,
        set: Set::Binary,
    };
    let (low, high) = recursion.window();
    let most = recursion
        .w
        .iter()
        .map(|w| (n as f64).sqrt() * w.abs())
        .fold(0.0, f64::max);
    let (mut optimum, mut flips) = (Vec::new(), Vec::new());
    let (mut inside, mut inside_good, mut below, mut below_good) = (0, 0, 0, 0);
    let (mut above, mut above_good) = (0, 0);
    let mut at_zero = (0.0, 0.0);
    for rho in rhos() {
        recursion.rho = rho;
        let runs: Vec<Visits> = (0..inits)
            .map(|i| {
                let y: Vec<f64> = normals(Rng::new(40).at(i, 0), n);
                let y: Vec<f64> = y.iter().map(|z| z / (n as f64).sqrt()).collect();
                recursion.run(&y, steps, steps - last, 0)
            })
            .collect();
        let mean = |f: &dyn Fn(&Visits) -> f64| runs.iter().map(f).sum::<f64>() / runs.len() as f64;
        let frequency = mean(&|v| v.optimum);
        let flip = mean(&|v| v.flips);
        let stuck = mean(&|v| if v.stuck { 1.0 } else { 0.0 });
        out.csv.row(&[], &[rho, frequency, flip, stuck]);
        if rho == 0.0 {
            at_zero = (frequency, flip);
        } else {
            optimum.push((rho, frequency));
            flips.push((rho, flip));
        }
        // At the very edges a coordinate takes for ever to settle.
        if rho > 1.02 * low && rho < 0.98 * high {
            inside += 1;
            inside_good += usize::from(frequency == 1.0 && flip == 0.0);
        } else if rho < 0.98 * low {
            below += 1;
            below_good += usize::from(frequency < 1.0 && flip > 0.0);
        } else if rho > ETA * (1.0 + most) {
            above += 1;
            above_good += usize::from(stuck == 1.0 && flip == 0.0);
        }
    }
    out.check(
        inside > 3 && inside_good == inside,
        format!("every start at the optimum and at rest for {low:.4} < rho < {high:.4}"),
        format!("{inside_good} of {inside} values of rho"),
    );
    out.check(
        below > 3 && below_good == below,
        "flips for ever below the window",
        format!(
            "{below_good} of {below}; without blending {:.1} % of the steps flip, {:.1} % are at the optimum",
            100.0 * at_zero.1,
            100.0 * at_zero.0
        ),
    );
    out.check(
        above > 1 && above_good == above,
        format!("frozen where it began for rho > {:.4}", ETA * (1.0 + most)),
        format!("{above_good} of {above}"),
    );

    let frequency = Panel::new(
        "eta' = 0.05, n = 8, 20 starts, the end of each run",
        "rho",
        "share of the steps",
    )
    .log_x()
    .range(-0.03, 1.08)
    .band(low, high, "the window")
    .with("at the optimum", BLUE, Marks::Line, optimum)
    .with("with a flip", ORANGE, Marks::Line, flips);
    let mut angles = Panel::new("one start, three rho", "step", "degrees to w*");
    let y: Vec<f64> = normals(Rng::new(40), n)
        .iter()
        .map(|z| z / (n as f64).sqrt())
        .collect();
    for (rho, colour) in [(0.0, ORANGE), (0.05, BLUE), (0.3, GREEN)] {
        recursion.rho = rho;
        let run = recursion.run(&y, 120, 0, 120);
        let points = run
            .angles
            .iter()
            .enumerate()
            .map(|(t, a)| (t as f64, a / PI * 180.0));
        angles = angles.with(&format!("rho = {rho}"), colour, Marks::Line, points);
    }
    out.figure.panels = vec![frequency, angles];
    Ok(out)
}
