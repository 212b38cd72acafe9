//! Stochastic rounding against BinaryConnect, and the floor on a quadratic.

use qcore::Result;
use qcore::lab::toys::{Chain, Law, Plan, Toy, limit_law, mean_and_error, relaxation_rate, run};

use super::{Outcome, Setting};
use crate::figure::{BLUE, GREEN, GREY, Marks, ORANGE, Panel};

/// The steps of f from left to right, for figures and laws.
const REACH: (i32, i32) = (-16, 28);

pub fn stochastic_rounding(setting: Setting<'_>) -> Result<Outcome> {
    let toy = Toy::Valleys;
    let mut out = Outcome::new(
        "method,a,mean_f,error,at_best,error,std",
        "Three valleys, spacing 0.5, noise 3: rounding keeps exploring, BinaryConnect settles",
        3,
    );
    let law = limit_law(toy, 0.5, REACH.0, REACH.1);
    let expected = law.mean(|w| toy.value(w));
    let best = law.at(4.5) + law.at(5.0);
    out.csv.row(
        &["limit of small steps"],
        &[0.0, expected, 0.0, best, 0.0, law.std()],
    );
    let rate = relaxation_rate(toy, 0.5, REACH.0, REACH.1);
    out.check(
        (expected - 0.527).abs() < 5e-4
            && (law.std() - 0.765).abs() < 5e-4
            && (rate - 0.2437).abs() < 1e-4,
        "the limit law with mean f 0.527, deviation 0.765, decay 0.2437",
        format!("{expected:.4}, {:.4}, {rate:.4}", law.std()),
    );
    let histogram = |law: &Law| -> Vec<(f64, f64)> {
        let near = law.points().filter(|(w, _)| (-2.0..=9.0).contains(w));
        near.collect()
    };
    let mut means: [Vec<(f64, f64)>; 2] = Default::default();
    let mut panels = Vec::new();
    let chains = setting.choose(500, 100);
    for (a, full, quick) in [
        (1.0, 2_000, 2_000),
        (0.1, 6_000, 4_000),
        (0.01, 20_000, 10_000),
        (0.001, 100_000, 60_000),
    ] {
        let methods = [
            ("stochastic rounding", Chain::Rounding),
            ("BinaryConnect", Chain::Connect),
        ];
        for (i, (name, chain)) in methods.into_iter().enumerate() {
            let plan = Plan {
                toy,
                chain,
                delta: 0.5,
                a,
                start: 4.0,
                chains,
                steps: setting.choose(full, quick),
            };
            let got = run(&plan, 9, setting.par);
            let row = [
                a,
                got.loss.0,
                got.loss.1,
                got.best.0,
                got.best.1,
                got.law.std(),
            ];
            out.csv.row(&[name], &row);
            means[i].push((a, got.loss.0));
            if a == 0.001 && chain == Chain::Rounding {
                // Chains are independent; four standard errors, and 0.01 for the step that is small but not 0 and
                // for the start, whose trace has decayed to exp(-7) or less in the counted half.
                let (f, p) = ((got.loss.0 - expected).abs(), (got.best.0 - best).abs());
                out.check(
                    f < 4.0 * got.loss.1 + 0.01 && p < 4.0 * got.best.1 + 0.01,
                    format!("rounding at a = 0.001 by the limit law: mean f {expected:.3}, {best:.3} at 4.5 or 5"),
                    format!("{:.3} +- {:.3}, {:.3} +- {:.3}", got.loss.0, got.loss.1, got.best.0, got.best.1),
                );
            }
            if a <= 0.01 && chain == Chain::Connect {
                out.check(
                    got.best.0 > 0.99,
                    format!("BinaryConnect at a = {a} above 0.99 of the time at 4.5 or 5"),
                    format!("{:.4}", got.best.0),
                );
            }
            if a == 0.001 {
                let colour = [BLUE, ORANGE][i];
                let mut panel = Panel::new(
                    &format!("{name}, a = 0.001"),
                    "w",
                    "share of the steps",
                )
                .with("", colour, Marks::Bars(0.4), histogram(&got.law));
                if chain == Chain::Rounding {
                    panel = panel.with("limit of small steps", GREEN, Marks::Dots, histogram(&law));
                }
                panels.push(panel);
            }
        }
    }
    let objective = (0..=220)
        .map(|i| f64::from(i) * 0.05 - 2.0)
        .map(|w| (w, toy.value(w)));
    let objective =
        Panel::new("the function", "w", "f")
            .range(0.0, 6.0)
            .with("", GREY, Marks::Line, objective);
    let [rounding, connect] = means;
    let ends = [(1e-3, expected), (1.0, expected)];
    let by_step = Panel::new("mean f by step size", "a", "mean f")
        .log_x()
        .range(0.0, 1.2)
        .with("limit of rounding", GREEN, Marks::Dashed, ends)
        .with("stochastic rounding", BLUE, Marks::Line, rounding)
        .with("BinaryConnect", ORANGE, Marks::Line, connect);
    panels.insert(0, objective);
    panels.push(by_step);
    let decay = (1..=60).map(|i| f64::from(i) * 100.0);
    let mut mixing =
        Panel::new("what is left of the start, by rounding", "step", "share").range(0.0, 1.0);
    for (a, colour) in [(0.1, GREEN), (0.01, BLUE), (0.001, ORANGE)] {
        let points = decay.clone().map(|t| (t, (-rate * a * t).exp()));
        mixing = mixing.with(
            &format!("a = {a}: {:.0} steps", 1.0 / (rate * a)),
            colour,
            Marks::Line,
            points,
        );
    }
    panels.push(mixing);
    out.figure.panels = panels;
    Ok(out)
}

pub fn rounding_floor(setting: Setting<'_>) -> Result<Outcome> {
    let toy = Toy::Quadratic;
    let mut out = Outcome::new(
        "delta,limit,reference,sampled,error,average_of_floats,error",
        "f = w^2 / 2 with noise 1: the floor of stochastic rounding is linear in the spacing",
        1,
    );
    let a = 0.01;
    let (mut limits, mut sampled, mut averages) = (Vec::new(), Vec::new(), Vec::new());
    let (mut off, mut far, mut left) = (0f64, true, 0f64);
    for (delta, reference) in [
        (0.5, 0.1102),
        (0.25, 0.0524),
        (0.125, 0.0256),
        (0.0625, 0.0126),
    ] {
        let reach = (5.0f64 / delta) as i32;
        let limit = limit_law(toy, delta, -reach, reach).mean(|w| toy.value(w));
        off = off.max((limit - reference).abs());
        let plan = |chain| Plan {
            toy,
            chain,
            delta,
            a,
            start: 0.0,
            chains: setting.choose(200, 50),
            steps: setting.choose(60_000, 20_000),
        };
        let rounding = run(&plan(Chain::Rounding), 12, setting.par);
        // Beside the floor a step of size a has a floor of its own, a / 4 for the float walk.
        far &= (rounding.loss.0 - limit).abs() < 4.0 * rounding.loss.1 + a / 2.0;
        let connect = run(&plan(Chain::ConnectUnbiased), 13, setting.par);
        let values: Vec<f64> = connect.floats.iter().map(|w| toy.value(*w)).collect();
        let average = mean_and_error(&values);
        left = left.max(average.0 / limit);
        limits.push((delta, limit));
        sampled.push((delta, rounding.loss.0));
        averages.push((delta, average.0));
        let row = [
            delta,
            limit,
            reference,
            rounding.loss.0,
            rounding.loss.1,
            average.0,
            average.1,
        ];
        out.csv.row(&[], &row);
    }
    out.check(
        off < 6e-5,
        "the limit law's floors .1102, .0524, .0256, .0126",
        limits
            .iter()
            .map(|l| format!("{:.4}", l.1))
            .collect::<Vec<_>>()
            .join(", ")
            .to_string(),
    );
    let slope = (limits[0].1 / limits[3].1).ln() / 8f64.ln();
    let drawn = (sampled[0].1 / sampled[3].1).ln() / 8f64.ln();
    out.check(
        (slope - 1.0).abs() < 0.1,
        "a slope of 1 in logarithms",
        format!("{slope:.3}; {drawn:.3} by samples at a = {a}"),
    );
    out.check(
        far,
        "sampled floors within 4 standard errors and a / 2 of the law's",
        sampled
            .iter()
            .map(|l| format!("{:.4}", l.1))
            .collect::<Vec<_>>()
            .join(", ")
            .to_string(),
    );
    out.check(
        left < 0.1,
        "no floor for the averaged float weight of BinaryConnect with unbiased rounding",
        format!("at most {:.1} % of the floor of rounding", 100.0 * left),
    );
    let last = limits[3];
    let guide = [(last.0, last.1), (0.5, last.1 * 8.0)];
    let panel = Panel::new("", "spacing", "mean f")
        .log_x()
        .log_y()
        .with("slope 1", GREY, Marks::Dashed, guide)
        .with("limit of small steps", GREEN, Marks::Line, limits)
        .with("stochastic rounding, a = 0.01", BLUE, Marks::Dots, sampled)
        .with(
            "averaged floats of BinaryConnect",
            ORANGE,
            Marks::Line,
            averages,
        );
    out.figure.panels = vec![panel];
    Ok(out)
}
