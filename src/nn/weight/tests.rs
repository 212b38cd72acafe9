//! Unit values of the papers, brute force over everything small, projections of projections, extremes.

use super::*;

fn quantizer(text: &str) -> WeightQuantizer {
    text.parse().unwrap()
}

fn project(text: &str, w: &[f32]) -> Projection {
    let given = Given::default();
    quantizer(text).project(w, 1, w.len(), given).unwrap()
}

fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut w = vec![0.0; n];
    Rng::new(seed).fill_normal(&mut w, 1.0);
    w
}

/// sum D (w - value)^2.
fn objective(w: &[f32], d: Option<&[f32]>, values: impl Iterator<Item = f64>) -> f64 {
    let each = w.iter().zip(values).enumerate();
    each.map(|(i, (w, v))| d.map_or(1.0, |d| f64::from(d[i])) * (f64::from(*w) - v).powi(2))
        .sum()
}

fn error_of(p: &Projection, w: &[f32], d: Option<&[f32]>) -> f64 {
    objective(w, d, p.values.iter().map(|v| f64::from(*v)))
}

/// Kinds that always work, with every code they can have.
const ALL: [&str; 21] = [
    "binary-mean",
    "binary-median",
    "binary-plain:scale=0.5",
    "ternary-twn",
    "ternary-twn:divisor=all",
    "ternary-exact",
    "ternary-abs-mean",
    "uniform-sym",
    "uniform-sym:bits=3,sweeps=5",
    "uniform-sym:bits=8",
    "grid-det:delta=0.25",
    "grid-stoch:delta=0.25",
    "stoch-binary",
    "loss-aware-binary",
    "loss-aware-ternary",
    "loss-aware-ternary:search=approx",
    "loss-aware-linear",
    "loss-aware-log:bits=4",
    "lsq-weight",
    "dorefa",
    "dorefa:bits=1",
];

#[test]
fn a_gaussian_has_the_figures_of_the_papers() {
    // Four standard errors of the mean of 400,000 terms are below 0.006 for all of these.
    let w = normals(1, 400_000);
    let n = w.len() as f64;
    for (text, scale, error) in [
        ("binary-mean", 0.7979, 0.3634),
        ("ternary-exact", 1.2240, 0.1902),
        ("ternary-twn", 1.1842, 0.1916),
        ("ternary-twn:divisor=all", 0.6827, 0.3366),
    ] {
        let p = project(text, &w);
        assert!(
            (p.scales[0] - scale).abs() < 0.006,
            "{text}: {}",
            p.scales[0]
        );
        let got = error_of(&p, &w, None) / n;
        assert!((got - error).abs() < 0.006, "{text}: {got}");
    }
    // The median magnitude is the quantile 3/4.
    let median = project("binary-median", &w).scales[0];
    assert!((median - 0.67449).abs() < 0.006, "{median}");
    // The 4-bit rule depends on the largest of the samples; with 4.73 in 100,000 its scale was 0.611.
    let mut w = normals(2, 100_000);
    w.iter_mut().for_each(|w| *w = w.clamp(-4.7, 4.7));
    w[0] = 4.73;
    let p = project("uniform-sym", &w);
    assert!((p.scales[0] - 0.611).abs() < 0.004, "{}", p.scales[0]);
    let error = error_of(&p, &w, None) / 1e5;
    assert!((error - 0.032).abs() < 0.001, "{error}");
}

#[test]
fn the_exact_ones_are_the_best_of_all() {
    for seed in 0..60 {
        let n = 1 + seed as usize % 12;
        let mut w = normals(seed, n);
        if seed % 3 == 0 {
            // Ties and zeros.
            w.iter_mut().for_each(|w| *w = (*w * 2.0).round() * 0.5);
        }
        let d: Vec<f32> = normals(1000 + seed, n)
            .iter()
            .map(|z| (1.5 * z).exp())
            .collect();
        for (metric, names) in [
            (None, ["binary-mean", "ternary-exact"]),
            (Some(&d[..]), ["loss-aware-binary", "loss-aware-ternary"]),
        ] {
            // Every choice of codes, each with its best scale, which is not below 0.
            let best = |levels: i32| {
                let count = levels.pow(n as u32);
                let scores = (0..count).map(|choice| {
                    let code = |i: usize| {
                        let digit = choice / levels.pow(i as u32) % levels;
                        f64::from(if levels == 2 {
                            2 * digit - 1
                        } else {
                            digit - 1
                        })
                    };
                    let weight = |i: usize| metric.map_or(1.0, |d| f64::from(d[i]));
                    let above: f64 = (0..n).map(|i| weight(i) * f64::from(w[i]) * code(i)).sum();
                    let below: f64 = (0..n).map(|i| weight(i) * code(i) * code(i)).sum();
                    let scale = if below > 0.0 {
                        (above / below).max(0.0)
                    } else {
                        0.0
                    };
                    objective(&w, metric, (0..n).map(|i| scale * code(i)))
                });
                scores.fold(f64::INFINITY, f64::min)
            };
            for (levels, name) in [2, 3].into_iter().zip(names) {
                if levels == 3 && n > 10 {
                    continue;
                }
                let given = Given {
                    metric,
                    ..Given::default()
                };
                let p = quantizer(name).project(&w, 1, n, given).unwrap();
                let (ours, best) = (error_of(&p, &w, metric), best(levels));
                assert!(
                    ours <= best + 1e-5 * (1.0 + best),
                    "{name} {w:?}: {ours}, not {best}"
                );
            }
        }
    }
}

#[test]
fn of_twelve_weights_no_threshold_is_better() {
    for seed in 0..40 {
        let w = normals(seed, 12);
        let d: Vec<f32> = normals(500 + seed, 12).iter().map(|z| z.exp()).collect();
        let given = Given {
            metric: Some(&d),
            ..Given::default()
        };
        let score = |keep: &dyn Fn(f32) -> bool| {
            let kept = || w.iter().zip(&d).filter(|(w, _)| keep(**w));
            let above: f64 = kept().map(|(w, d)| f64::from(w.abs() * d)).sum();
            let below: f64 = kept().map(|(_, d)| f64::from(*d)).sum();
            if below > 0.0 {
                above * above / below
            } else {
                0.0
            }
        };
        let all: f64 = objective(&w, Some(&d), std::iter::repeat(0.0));
        let best = |sign: f32| {
            let each = w
                .iter()
                .map(|t| score(&|w| w.abs() >= t.abs() && w * sign >= 0.0));
            each.fold(0.0, f64::max)
        };
        let exact = quantizer("loss-aware-ternary")
            .project(&w, 3, 4, given)
            .unwrap();
        let least = all - best(0.0);
        assert!((error_of(&exact, &w, Some(&d)) - least).abs() < 1e-4 * all);
        // With two scales each sign has a threshold of its own.
        let two = quantizer("loss-aware-ternary:search=two-scale");
        let two = two.project(&w, 3, 4, given).unwrap();
        let least = all - best(1.0) - best(-1.0);
        assert!((error_of(&two, &w, Some(&d)) - least).abs() < 1e-4 * all);
        assert_eq!(two.scales.len(), 2);
        for (value, code) in two.values.iter().zip(&two.codes) {
            let scale = if *code > 0 {
                two.scales[0]
            } else {
                two.scales[1]
            };
            assert_eq!(*value, *code as f32 * scale);
        }
        // The approximation is at best as good.
        let approx = quantizer("loss-aware-ternary:search=approx");
        let approx = approx.project(&w, 3, 4, given).unwrap();
        let got = error_of(&approx, &w, Some(&d));
        assert!(got >= error_of(&exact, &w, Some(&d)) - 1e-6 && got < all);
    }
}

#[test]
fn alternation_ends_where_neither_codes_nor_scale_can_be_better() {
    for seed in 0..30 {
        let w = normals(seed, 40);
        let d: Vec<f32> = normals(700 + seed, 40).iter().map(|z| z.exp()).collect();
        for (text, levels) in [
            ("loss-aware-linear:bits=3", vec![0, 1, 2, 3]),
            ("loss-aware-linear:bits=2", vec![0, 1]),
            ("loss-aware-log:bits=3", vec![0, 1, 2, 4]),
            ("loss-aware-log:bits=4", vec![0, 1, 2, 4, 8, 16, 32, 64]),
        ] {
            let given = Given {
                metric: Some(&d),
                ..Given::default()
            };
            let p = quantizer(text).project(&w, 1, 40, given).unwrap();
            let scale = f64::from(p.scales[0]);
            let (mut above, mut below) = (0.0, 0.0);
            for ((w, d), code) in w.iter().zip(&d).zip(&p.codes) {
                let (w, d, code) = (f64::from(*w), f64::from(*d), f64::from(*code));
                above += d * w * code;
                below += d * code * code;
                let off = |level: i32| (w.abs() - scale * f64::from(level)).abs();
                let least = levels.iter().map(|l| off(*l)).fold(f64::INFINITY, f64::min);
                assert!(off(code.abs() as i32) <= least + 1e-5, "{text} {w} {code}");
                assert!(code == 0.0 || (code > 0.0) == (w > 0.0));
            }
            assert!((above / below - scale).abs() < 1e-5 * scale, "{text}");
        }
    }
}

#[test]
fn projecting_a_projection_changes_nothing_where_that_is_promised() {
    for seed in 0..20 {
        let w = normals(seed, 60);
        let d: Vec<f32> = normals(90 + seed, 60).iter().map(|z| z.exp()).collect();
        for text in [
            "binary-mean",
            "binary-mean:scope=channel",
            "binary-median",
            "binary-plain:scale=0.3",
            "ternary-twn",
            "ternary-twn:scope=channel",
            "ternary-exact",
            "ternary-exact:scope=channel",
            "uniform-sym:bits=2",
            "uniform-sym:bits=3",
            "uniform-sym:bits=4",
            "uniform-sym:bits=8",
            "grid-det:delta=0.125",
            "grid-stoch:delta=0.125",
            "loss-aware-binary",
            "loss-aware-ternary",
        ] {
            let given = Given {
                metric: Some(&d),
                ..Given::default()
            };
            let quantizer = quantizer(text);
            let once = quantizer.project(&w, 6, 10, given).unwrap();
            let twice = quantizer.project(&once.values, 6, 10, given).unwrap();
            // -0.0 and 0.0 are one value.
            assert_eq!(once.codes, twice.codes, "{text}");
            if text.starts_with("uniform") {
                let moved = (once.scales[0] - twice.scales[0]).abs();
                assert!(moved <= once.scales[0] * f32::EPSILON, "{text}");
            } else {
                assert_eq!(once, twice, "{text}");
            }
        }
        // The searches that alternate, and LSQ, from their own scale.
        for text in [
            "uniform-sym:bits=4,sweeps=50",
            "loss-aware-linear",
            "loss-aware-log",
            "lsq-weight",
        ] {
            let quantizer = quantizer(text);
            let once = quantizer.project(&w, 6, 10, Given::default()).unwrap();
            let given = Given {
                step: Some(once.scales[0]),
                ..Given::default()
            };
            let twice = quantizer.project(&once.values, 6, 10, given).unwrap();
            assert_eq!(once.codes, twice.codes, "{text}");
            assert!(
                (once.scales[0] / twice.scales[0] - 1.0).abs() < 1e-6,
                "{text}"
            );
        }
        // The repository's scale shrinks each time: a projection that does not stay.
        let once = project("ternary-twn:divisor=all", &w);
        let twice = project("ternary-twn:divisor=all", &once.values);
        assert!(twice.scales[0] < 0.9 * once.scales[0]);
    }
}

#[test]
fn values_are_scale_times_code_and_the_encoding_holds_the_codes() {
    let w = normals(3, 96);
    for text in ALL {
        let quantizer = quantizer(text);
        let p = quantizer.project(&w, 8, 12, Given::default()).unwrap();
        assert_eq!(
            (p.codes.len(), p.values.len(), p.scales.len()),
            (96, 96, 1),
            "{text}"
        );
        for (value, code) in p.values.iter().zip(&p.codes) {
            assert_eq!(*value, p.scales[0] * *code as f32, "{text}");
        }
        if let Some(encoding) = quantizer.encoding() {
            let packed = p.pack(encoding, 8, 12).unwrap();
            assert_eq!(packed.unpack(), p.codes, "{text}");
        }
        // The same call, the same bits, also into memory that held something else.
        let mut again = project("uniform-sym:bits=8", &w[..50]);
        quantizer
            .project_into(&w, 8, 12, Given::default(), &mut again)
            .unwrap();
        assert_eq!(again, p, "{text}");
    }
}

#[test]
fn a_scale_a_channel_is_the_projection_of_each_row() {
    let w = normals(4, 60);
    for text in [
        "binary-mean",
        "binary-median",
        "ternary-twn",
        "ternary-exact",
        "ternary-abs-mean",
        "uniform-sym:bits=4",
        "loss-aware-binary",
    ] {
        let sep = if text.contains(':') { ',' } else { ':' };
        let all = quantizer(&format!("{text}{sep}scope=channel"));
        let all = all.project(&w, 4, 15, Given::default()).unwrap();
        assert_eq!(all.scales.len(), 4);
        for (i, row) in w.chunks(15).enumerate() {
            let one = project(text, row);
            assert_eq!(one.scales[0], all.scales[i], "{text}");
            assert_eq!(one.values, all.values[i * 15..][..15], "{text}");
        }
    }
}

#[test]
fn zeros_one_weight_none_and_what_is_not_finite() {
    for text in ALL {
        let quantizer = quantizer(text);
        let zeros = project(text, &[0.0, -0.0, 0.0]);
        assert!(
            zeros.values.iter().all(|v| v.is_finite()),
            "{text}: {zeros:?}"
        );
        let fixed =
            quantizer.fixed_scale().is_some() || text == "dorefa" || text.starts_with("lsq");
        if !fixed {
            assert!(zeros.values.iter().all(|v| *v == 0.0), "{text}: {zeros:?}");
        }
        let one = project(text, &[-0.75]);
        assert!(
            one.values[0] < 0.0 || text.starts_with("stoch"),
            "{text}: {one:?}"
        );
        let none = quantizer.project(&[], 0, 5, Given::default()).unwrap();
        assert!(none.codes.is_empty() && none.values.is_empty());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let p = project(text, &[0.5, bad, -0.25]);
            assert_eq!(
                p.scales[0].is_nan(),
                quantizer.fixed_scale().is_none(),
                "{text} {bad}"
            );
            if let Some(encoding) = quantizer.encoding() {
                assert!(p.pack(encoding, 1, 3).is_ok(), "{text} {bad}");
            }
        }
        assert!(quantizer.project(&[1.0], 1, 2, Given::default()).is_err());
        let given = Given {
            metric: Some(&[1.0]),
            ..Given::default()
        };
        assert!(quantizer.project(&[1.0, 2.0], 1, 2, given).is_err());
        for tiny in [1e-38f32, 1e-45] {
            let p = project(text, &[tiny, -tiny]);
            assert!(p.values.iter().all(|v| v.is_finite()), "{text} {tiny}");
        }
    }
}

#[test]
fn binary_mean_is_that_of_the_packed_layers() {
    let w = normals(6, 77);
    let (signs, delta) = crate::quant::binary_mean(&w, 7, 11).unwrap();
    let p = project("binary-mean", &w);
    assert_eq!((p.scales[0], &p.codes), (delta, &signs.unpack()));
}

#[test]
fn dorefa_and_the_absolute_mean_by_hand() {
    // tanh 0.5 / (2 tanh 1) + 1/2 = 0.80339, times 3 is 2.41: level 2 of 3, that is 2 * 2/3 - 1.
    let p = project("dorefa:bits=2", &[0.5, -1.0, 1.0]);
    assert_eq!(p.codes, [1, -3, 3]);
    assert_eq!(p.scales[0], 1.0 / 3.0);
    // gamma = 1: 0.5 is a tie to even, 0.51 rounds up, 2.2 is clamped.
    let p = project("ternary-abs-mean", &[0.49, -0.51, 2.2, -0.8]);
    assert_eq!((p.codes, p.scales), (vec![0, -1, 1, -1], vec![1.0]));
}

#[test]
fn lsq_steps_and_gradients() {
    let w = [0.3, -0.8, 5.0, -5.0, 0.0];
    let given = Given {
        step: Some(0.5),
        ..Given::default()
    };
    let p = quantizer("lsq-weight:bits=3")
        .project(&w, 1, 5, given)
        .unwrap();
    assert_eq!(p.codes, [1, -2, 3, -4, 0]);
    let mut d = [1.0, 1.0, 1.0, 1.0, 1.0];
    let by_step = lsq_backward(&w, 0.5, 3, &mut d).unwrap();
    assert_eq!(d, [1.0, 1.0, 0.0, 0.0, 1.0]);
    // 1 - 0.6, -2 + 1.6, 3, -4, 0.
    assert!(
        (by_step - (0.4 - 0.4 + 3.0 - 4.0)).abs() < 1e-6,
        "{by_step}"
    );
    assert!((lsq_step(&w, 3).unwrap() - 2.0 * 11.1 / 5.0 / 3f32.sqrt()).abs() < 1e-5);
    assert_eq!(lsq_gradient_scale(100, 4.0), 0.05);
    assert!(lsq_backward(&w, 0.0, 3, &mut d).is_err() && lsq_bounds(1).is_err());
}

#[test]
fn relaxed_weights_lie_between() {
    let w = normals(8, 30);
    let hard = project("ternary-exact", &w);
    let p = project("relaxed:lambda=3,of=ternary-exact", &w);
    assert_eq!((&p.codes, &p.scales), (&hard.codes, &hard.scales));
    for ((w, hard), got) in w.iter().zip(&hard.values).zip(&p.values) {
        assert!((got - (w + 3.0 * hard) / 4.0).abs() < 1e-6);
    }
    assert_eq!(project("relaxed:lambda=0", &w).values, w);
    assert_eq!(quantizer("relaxed:lambda=1").encoding(), None);
}
