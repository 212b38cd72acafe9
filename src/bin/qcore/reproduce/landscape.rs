//! Two linear layers: closed forms, descent, the spurious minimum, samples.

use qcore::Result;
use qcore::lab::descent::{descend, empirical};
use qcore::lab::two_layer::{Ste, TwoLayer};
use qcore::lab::{dot, norm, normals};
use qcore::nn::rng::Rng;

use super::{Outcome, Setting};
use crate::figure::{BLUE, EQUALS, GREEN, GREY, Marks, ORANGE, Panel};

const STES: [Ste; 3] = [Ste::Relu, Ste::Clipped(1.0), Ste::Identity];

/// A teacher and a student with entries of N(0, 1).
fn drawn(seed: u64, m: usize, n: usize) -> Result<(TwoLayer, Vec<f64>, Vec<f64>)> {
    let draw = |tensor, len| normals(Rng::new(seed).at(0, tensor), len);
    let teacher = TwoLayer::new(&draw(1, m), &draw(2, n))?;
    Ok((teacher, draw(3, m), draw(4, n)))
}

pub fn closed_forms(setting: Setting<'_>) -> Result<Outcome> {
    let (m, n) = (4, 5);
    let samples = setting.choose(4_000_000, 150_000);
    let mut out = Outcome::new(
        "student,quantity,index,closed,sampled,standard_error",
        "Closed forms against samples",
        2,
    );
    let mut points: [Vec<(f64, f64)>; 6] = Default::default();
    let (mut all, mut worst) = (Vec::new(), 0f64);
    for student in 0..2 {
        let (teacher, v, w) = drawn(11 + student, m, n)?;
        let rng = Rng::new(100 + student);
        let got = teacher.sampled(&STES, (&v, &w), samples, rng, setting.par)?;
        let mut closed = vec![("loss", 0, teacher.loss(&v, &w))];
        let name = |name, x: Vec<f64>| x.into_iter().enumerate().map(move |(i, x)| (name, i, x));
        closed.extend(name("df/dv", teacher.d_v(&v, &w)));
        closed.extend(name("df/dw", teacher.d_w(&v, &w)));
        for ste in STES {
            closed.extend(name(ste.name(), teacher.coarse(ste, &v, &w)));
        }
        for ((name, i, closed), (mean, error)) in closed.iter().zip(got.mean.iter().zip(&got.error))
        {
            let deviation = (mean - closed) / error;
            worst = worst.max(deviation.abs());
            let series = ["loss", "df/dv", "df/dw", "ReLU", "clipped ReLU", "identity"];
            let series = series.iter().position(|s| s == name).unwrap_or(0);
            points[series].push((*closed, *mean));
            all.push((all.len() as f64, deviation));
            let numbers = [*i as f64, *closed, *mean, *error];
            out.csv.row(&[&student.to_string(), name], &numbers);
        }
    }
    // Of some fifty means, one in 30,000 such runs would lie beyond five standard errors by chance.
    out.check(
        worst < 5.0,
        format!("every mean of {samples} samples within 5 standard errors of its closed form"),
        format!("{worst:.2} at most, of {} means", all.len()),
    );

    let (teacher, v, w) = drawn(21, 8, 10)?;
    let cross = dot(&v, teacher.v());
    let theta = teacher.angle(&w);
    let expected = theta.sin() * cross * cross / (std::f64::consts::TAU.powf(1.5) * norm(&w));
    let with = |ste| dot(&teacher.coarse(ste, &v, &w), &teacher.d_w(&v, &w)) / expected;
    let (relu, identity) = (with(Ste::Relu), with(Ste::Identity));
    out.check(
        (relu - 0.5).abs() < 1e-9 && (identity - 1.0).abs() < 1e-9,
        "<E g, df/dw> of ReLU and identity 1/2 and 1 times sin(theta) (v'v*)^2 / ((2 pi)^(3/2) |w|)",
        format!("{relu:.9} and {identity:.9}"),
    );

    let mut panel = Panel::new("each entry", "closed form", "mean of samples");
    let ends = |f: fn(f64, f64) -> f64| points.iter().flatten().map(|p| p.0).fold(0.0, f);
    let (low, high) = (ends(f64::min), ends(f64::max));
    panel = panel.with("", GREY, Marks::Dashed, [(low, low), (high, high)]);
    let names = ["loss", "df/dv", "df/dw", "ReLU", "clipped ReLU", "identity"];
    for ((name, points), colour) in names.iter().zip(points).zip(EQUALS) {
        panel = panel.with(name, colour, Marks::Dots, points);
    }
    let last = all.len() as f64 - 1.0;
    let mut errors = Panel::new("how far they are", "entry", "standard errors").range(-6.0, 6.0);
    for bound in [-5.0, 5.0] {
        errors = errors.with("", GREY, Marks::Dashed, [(0.0, bound), (last, bound)]);
    }
    out.figure.panels = vec![panel, errors.with("", BLUE, Marks::Dots, all)];
    Ok(out)
}

pub fn coarse_descent(setting: Setting<'_>) -> Result<Outcome> {
    // A start from which w keeps away from 0: descent is for steps that are small beside |w|.
    let (teacher, v, w) = drawn(13, 8, 10)?;
    let (eta, steps) = (0.01, setting.choose(20_000, 6_000));
    let mut out = Outcome::new(
        "ste,step,loss,angle,alignment",
        "Descent along expected coarse gradients, m = 8, n = 10",
        3,
    );
    let mut panels = [
        Panel::new("population loss", "step", "f").log_y(),
        Panel::new("angle between w and w*", "step", "theta"),
        Panel::new("cosine of E g and df/dw", "step", "cosine"),
    ];
    for (ste, colour) in STES.into_iter().zip([BLUE, GREEN, ORANGE]) {
        let points = descend(&teacher, ste, (&v, &w), eta, steps);
        for (step, p) in points.iter().enumerate().step_by(20) {
            out.csv
                .row(&[ste.name()], &[step as f64, p.loss, p.angle, p.alignment]);
        }
        let (first, last) = (points[0], points[steps]);
        // f has a kink at theta = 0: within 1e-4 of it a step goes over it, and what is left is the length of the step.
        let rises = points
            .windows(2)
            .filter(|p| p[1].loss > p[0].loss + 1e-9)
            .count();
        let against = points
            .iter()
            .filter(|p| p.angle > 1e-4 && p.alignment < 0.0)
            .count();
        if ste != Ste::Identity {
            out.check(
                rises == 0 && last.loss < 0.25 * first.loss,
                format!("f never rises with {} and ends below a quarter", ste.name()),
                format!("{rises} rises, {:.4} to {:.2e}", first.loss, last.loss),
            );
            out.check(
                against == 0,
                format!(
                    "the mean {} gradient never points against df/dw",
                    ste.name()
                ),
                format!("{against} steps of {steps} against"),
            );
        }
        let every = points.iter().enumerate().step_by(steps / 400);
        let every: Vec<_> = every.map(|(i, p)| (i as f64, *p)).collect();
        let [a, b, c] = panels;
        let line = |panel: Panel, f: fn(&qcore::lab::descent::Point) -> f64| {
            let points = every.iter().map(|(i, p)| (*i, f(p)));
            panel.with(ste.name(), colour, Marks::Line, points)
        };
        panels = [
            line(a, |p| p.loss.max(1e-12)),
            line(b, |p| p.angle),
            line(c, |p| p.alignment),
        ];
    }
    out.figure.panels = panels.into();
    Ok(out)
}

pub fn spurious_minimum(_: Setting<'_>) -> Result<Outcome> {
    let (m, n) = (8, 10);
    // Its sum is small but not 0, which the spurious minimum needs.
    let v: Vec<f64> = (0..m)
        .map(|i| if i % 2 == 0 { 1.0 } else { -0.8 })
        .collect();
    let teacher = TwoLayer::new(&v, &normals(Rng::new(6), n))?;
    let mut out = Outcome::new(
        "ste,step,loss,angle,distance",
        "Beside the spurious minimum, m = 8, n = 10",
        3,
    );
    let Some((v, mut w)) = teacher.spurious() else {
        out.check(false, "a spurious minimum", "none");
        return Ok(out);
    };
    let sum: f64 = teacher.v().iter().sum();
    let closed = 2.0 * (m as f64 - 1.0) / ((m as f64 + 1.0).powi(2) * std::f64::consts::TAU.sqrt());
    let (closed, got) = (
        closed * sum * sum,
        norm(&teacher.coarse(Ste::Identity, &v, &w)),
    );
    out.check(
        (got / closed - 1.0).abs() < 1e-9,
        format!("|E g| of identity at the spurious minimum {closed:.6}"),
        format!("{got:.6}"),
    );
    let z = normals(Rng::new(7), n);
    w.iter_mut().zip(z).for_each(|(w, z)| *w += 0.03 * z);
    let (eta, steps) = (0.05, 20_000);
    let mut panels = [
        Panel::new("population loss", "step", "f"),
        Panel::new("angle between w and w*", "step", "theta"),
        Panel::new("distance from the start", "step", "distance"),
    ];
    for (ste, colour) in STES.into_iter().zip([BLUE, GREEN, ORANGE]) {
        let points = descend(&teacher, ste, (&v, &w), eta, steps);
        for (step, p) in points.iter().enumerate().step_by(10) {
            out.csv
                .row(&[ste.name()], &[step as f64, p.loss, p.angle, p.distance]);
        }
        let farthest = points.iter().map(|p| p.distance).fold(0.0, f64::max);
        let end = points[steps * 3 / 4..].iter().map(|p| p.distance);
        let span = end.clone().fold(0.0, f64::max) - end.fold(f64::INFINITY, f64::min);
        // The start is 0.1 away from the minimum itself. Where E g does not vanish w shrinks, jumps over 0 and is drawn back.
        let (pass, expected) = match ste {
            Ste::Identity => (
                farthest > 0.5 && span > 0.02,
                "is driven off and never rests",
            ),
            _ => (farthest < 0.2 && span < 1e-3, "comes to rest there"),
        };
        out.check(
            pass,
            format!("{} {expected}", ste.name()),
            format!("farthest {farthest:.3}, moves by {span:.1e} in the last quarter"),
        );
        let every = |f: fn(&qcore::lab::descent::Point) -> f64| -> Vec<(f64, f64)> {
            let each = points.iter().enumerate().step_by(steps / 400);
            each.map(|(i, p)| (i as f64, f(p))).collect()
        };
        let [a, b, c] = panels;
        panels = [
            a.with(ste.name(), colour, Marks::Line, every(|p| p.loss)),
            b.with(ste.name(), colour, Marks::Line, every(|p| p.angle)),
            c.with(ste.name(), colour, Marks::Line, every(|p| p.distance)),
        ];
    }
    out.figure.panels = panels.into();
    Ok(out)
}

pub fn sampled_descent(setting: Setting<'_>) -> Result<Outcome> {
    let (teacher, _, w) = drawn(8, 8, 10)?;
    let v = teacher.v().to_vec();
    let repeats = setting.choose(200, 40);
    let etas: Vec<f64> = (0..=40).map(|i| f64::from(i) * 0.05 * norm(&w)).collect();
    let mut out = Outcome::new(
        "ste,samples,eta,change",
        "Change of the empirical loss, one step along the sampled coarse gradient",
        3,
    );
    for ste in STES {
        let mut panel = Panel::new(ste.name(), "length of the step / |w|", "change of the loss");
        for (samples, colour) in [10, 50, 1000].into_iter().zip([ORANGE, GREEN, BLUE]) {
            let sizes = (samples, repeats);
            let change = empirical(&teacher, ste, (&v, &w), sizes, &etas, setting.par);
            for (eta, change) in etas.iter().zip(&change) {
                out.csv.row(&[ste.name()], &[samples as f64, *eta, *change]);
            }
            // v = v*, so the mean gradient is h (w^ - w*), a descent direction for theta > 0, and 1000 samples are
            // near their mean: the loss must fall at short steps in the mean over the sets.
            if samples == 1000 {
                let least = change.iter().copied().fold(0.0, f64::min);
                out.check(
                    change[2] < 0.0 && least < -0.02,
                    format!(
                        "1000 samples: the loss falls along the {} gradient",
                        ste.name()
                    ),
                    format!("{:+.4} at a tenth of |w|, {least:+.4} at best", change[2]),
                );
            }
            let points = etas.iter().map(|e| e / norm(&w)).zip(change);
            panel = panel.with(&format!("{samples} samples"), colour, Marks::Line, points);
        }
        let ends = [(0.0, 0.0), (2.0, 0.0)];
        out.figure
            .panels
            .push(panel.with("", GREY, Marks::Dashed, ends));
    }
    Ok(out)
}
