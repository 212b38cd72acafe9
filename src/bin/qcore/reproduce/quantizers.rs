//! Weight quantizers on a Gaussian, and exactness by brute force.

use qcore::Result;
use qcore::lab::normals;
use qcore::nn::rng::Rng;
use qcore::nn::weight::{Given, Project, WeightQuantizer};

use super::{Outcome, Setting};
use crate::figure::{BLUE, EQUALS, GREY, Marks, Panel};

/// Scale and mean square error on N(0, 1), where they are known.
const KNOWN: [(&str, f64, f64); 4] = [
    ("binary-mean", 0.7979, 0.3634),
    ("ternary-twn", 1.1842, 0.1916),
    ("ternary-twn:divisor=all", 0.6827, 0.3366),
    ("ternary-exact", 1.2240, 0.1902),
];

const OTHERS: [&str; 7] = [
    "binary-median",
    "ternary-abs-mean",
    "uniform-sym:bits=4",
    "uniform-sym:bits=4,sweeps=50",
    "loss-aware-log:bits=4",
    "lsq-weight:bits=4",
    "dorefa:bits=4",
];

pub fn quantizers(setting: Setting<'_>) -> Result<Outcome> {
    let n = setting.choose(1_000_000, 200_000);
    let mut out = Outcome::new(
        "quantizer,scale,mean_square_error,known_scale,known_error",
        "Weight quantizers",
        2,
    );
    let mut w = vec![0f32; n];
    Rng::new(3).fill_normal(&mut w, 1.0);
    let project = |name: &str, w: &[f32]| -> Result<(f64, f64, Vec<f32>)> {
        let quantizer: WeightQuantizer = name.parse()?;
        let p = quantizer.project(w, 1, w.len(), Given::default())?;
        let each = w
            .iter()
            .zip(&p.values)
            .map(|(w, v)| f64::from(w - v).powi(2));
        Ok((
            f64::from(p.scales[0]),
            each.sum::<f64>() / w.len() as f64,
            p.values,
        ))
    };
    // The standard error of a mean of n terms with a deviation of about 1 is 1 / sqrt(n); of these four times.
    let tolerance = 4.0 / (n as f64).sqrt();
    let mut bars = Vec::new();
    for (name, scale, error) in KNOWN {
        let (got_scale, got_error, _) = project(name, &w)?;
        out.csv.row(&[name], &[got_scale, got_error, scale, error]);
        bars.push((bars.len() as f64, got_error));
        out.check(
            (got_scale - scale).abs() < tolerance && (got_error - error).abs() < tolerance,
            format!("{name} on N(0, 1): scale {scale}, error {error}"),
            format!("{got_scale:.4}, {got_error:.4}"),
        );
    }
    for name in OTHERS {
        let (scale, error, _) = project(name, &w)?;
        out.csv.row(&[name], &[scale, error, f64::NAN, f64::NAN]);
        bars.push((bars.len() as f64, error));
    }

    let (mut worst, trials) = (0f64, setting.choose(400, 100));
    for trial in 0..trials as u64 {
        let len = 1 + (trial % 12) as usize;
        let mut w = vec![0f32; len];
        Rng::new(trial).at(1, 1).fill_normal(&mut w, 1.0);
        let d: Vec<f32> = normals(Rng::new(trial).at(1, 2), len)
            .iter()
            .map(|z| z.exp() as f32)
            .collect();
        for (name, ternary) in [("loss-aware-binary", false), ("loss-aware-ternary", true)] {
            let quantizer: WeightQuantizer = name.parse()?;
            let given = Given {
                metric: Some(&d),
                ..Given::default()
            };
            let p = quantizer.project(&w, 1, len, given)?;
            let mass = |keep: &dyn Fn(f32) -> bool| {
                let kept = w.iter().zip(&d).filter(|(w, _)| keep(w.abs()));
                kept.fold((0.0, 0.0), |s, (w, d)| {
                    (s.0 + f64::from(d * w.abs()), s.1 + f64::from(*d))
                })
            };
            let score = |(above, below): (f64, f64)| above * above / below;
            let gain = match ternary {
                // Every threshold.
                true => w
                    .iter()
                    .map(|t| score(mass(&|w| w >= t.abs())))
                    .fold(0.0, f64::max),
                false => score(mass(&|_| true)),
            };
            let all: f64 = w.iter().zip(&d).map(|(w, d)| f64::from(d * w * w)).sum();
            let each = w.iter().zip(&p.values).zip(&d);
            let got: f64 = each
                .map(|((w, v), d)| f64::from(*d) * f64::from(w - v).powi(2))
                .sum();
            worst = worst.max((got - (all - gain)) / all);
        }
    }
    out.check(
        worst < 1e-5,
        format!("no threshold better than the projections in the metric, {trials} cases of up to 12 weights"),
        format!("at most {worst:.0e} of the norm above the best"),
    );

    // Staircases: the values of a fine sweep, quantized by the scale of the Gaussian.
    let mut stairs = Panel::new("values of a Gaussian's weights", "w", "quantized");
    let few: Vec<f32> = w[..20_000].to_vec();
    for (name, colour) in ["binary-mean", "ternary-exact", "uniform-sym:bits=4"]
        .into_iter()
        .zip(EQUALS)
    {
        let (_, _, values) = project(name, &few)?;
        let mut points: Vec<(f64, f64)> = few
            .iter()
            .zip(values)
            .map(|(w, v)| (f64::from(*w), f64::from(v)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points = points.into_iter().step_by(20);
        stairs = stairs.with(name, colour, Marks::Line, points);
    }
    let stairs = stairs.with("", GREY, Marks::Dashed, [(-3.0, -3.0), (3.0, 3.0)]);
    let names = KNOWN.iter().map(|k| k.0).chain(OTHERS);
    let names = names
        .enumerate()
        .map(|(i, name)| (i as f64 - 0.15, 0.01, name.to_string()));
    let title = "mean square error";
    let errors = Panel::new(title, "", "error").words(names.collect()).with(
        "",
        BLUE,
        Marks::Bars(0.7),
        bars,
    );
    out.figure.panels = vec![stairs, errors];
    Ok(out)
}
