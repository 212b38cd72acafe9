//! Rules by hand, value by value, and the toys of the papers.

use super::*;
use crate::train::sgd::Sgd;

#[test]
fn blending_draws_to_any_projection() {
    let mut latent = [1.0, -2.0, 0.5];
    blend(&mut latent, &[2.0, 0.0, 0.5], 0.25).unwrap();
    assert_eq!(latent, [1.25, -1.5, 0.5]);
    blend(&mut latent, &[3.0, 1.0, -1.0], 1.0).unwrap();
    assert_eq!(latent, [3.0, 1.0, -1.0], "rho = 1 is the projection");
    blend(&mut latent, &[9.0; 3], 0.0).unwrap();
    assert_eq!(latent, [3.0, 1.0, -1.0], "rho = 0 is BinaryConnect");
    for rho in [-0.1, 1.1, f32::NAN] {
        assert!(blend(&mut latent, &[0.0; 3], rho).is_err());
    }
    assert!(blend(&mut latent, &[0.0; 2], 0.5).is_err());
}

#[test]
fn relaxing_clipping_descending() {
    let mut out = [0.0; 2];
    relax(&[1.0, -3.0], &[2.0, -2.0], 3.0, &mut out).unwrap();
    assert_eq!(out, [1.75, -2.25]);
    assert!(relax(&[1.0, -3.0], &[2.0], 3.0, &mut out).is_err());
    let mut w = [0.5, -3.0, f32::INFINITY, f32::NAN];
    clip(&mut w, 1.0).unwrap();
    assert_eq!(w[..3], [0.5, -1.0, 1.0]);
    assert!(w[3].is_nan());
    assert!(clip(&mut w, 0.0).is_err() && clip(&mut w, f32::NAN).is_err());
    let mut w = [1.0, 2.0];
    descend(&mut w, &[0.5, -0.5], 0.5).unwrap();
    assert_eq!(w, [0.75, 2.25]);
    assert!(descend(&mut w, &[0.5], 0.5).is_err());
}

#[test]
fn rounding_steps() {
    let mut w = [1.0, -0.5, 0.0];
    // 0.76, -0.26, 0.24: nearest multiples of 0.5.
    round_step(
        &mut w,
        &[2.4, -2.4, -2.4],
        0.1,
        0.5,
        GridRounding::Deterministic,
    )
    .unwrap();
    assert_eq!(w, [1.0, -0.5, 0.0]);
    round_step(
        &mut w,
        &[2.6, -2.6, -2.6],
        0.1,
        0.5,
        GridRounding::Deterministic,
    )
    .unwrap();
    assert_eq!(w, [0.5, 0.0, 0.5]);
    // The mean over draws is the value, and each draw is the generator's.
    let rng = Rng::new(4).at(2, 1);
    let mut w = vec![0.3f32; 30_001];
    round(&mut w, 1.0, GridRounding::Stochastic(rng)).unwrap();
    let by_hand = |i: usize| {
        if rng.uniform(i as u64) < 0.3 {
            1.0
        } else {
            0.0
        }
    };
    assert!((0..w.len()).all(|i| w[i] == by_hand(i)));
    let mean = w.iter().map(|w| f64::from(*w)).sum::<f64>() / w.len() as f64;
    assert!((mean - 0.3).abs() < 0.011, "{mean}: four standard errors");
    assert!(round(&mut w, 0.0, GridRounding::Deterministic).is_err());
}

#[test]
fn adam_is_that_of_torch() {
    // torch.optim.Adam([p], lr=0.1), p = 1, gradients 0.5, -0.25, 1, computed with f64 by the formulas.
    let adam = Adam {
        lr: 0.1,
        ..Adam::default()
    };
    let (mut value, mut state) = ([1.0f32], AdamState::zeros(1));
    let (b1, b2) = (f64::from(0.9f32), f64::from(0.999f32));
    let (mut p, mut m, mut v) = (1f64, 0f64, 0f64);
    for (t, g) in [0.5f64, -0.25, 1.0].into_iter().enumerate() {
        adam.step(&mut value, &[g as f32], &mut state).unwrap();
        (m, v) = (b1 * m + (1.0 - b1) * g, b2 * v + (1.0 - b2) * g * g);
        let t = t as i32 + 1;
        let (mh, vh) = (m / (1.0 - b1.powi(t)), v / (1.0 - b2.powi(t)));
        p -= 0.1 * mh / (vh.sqrt() + 1e-8);
        assert!((f64::from(value[0]) - p).abs() < 1e-6, "{} {p}", value[0]);
        assert!((f64::from(state.v[0]) - v).abs() < 1e-8);
        let mut d = [0.0];
        adam.metric(&state, &mut d).unwrap();
        assert!((f64::from(d[0]) - (1e-8 + vh.sqrt()) / 0.1).abs() < 1e-5);
    }
    assert!((value[0] - 0.9).abs() < 0.1 && state.steps == 3);
    // The first step has the size of the rate whatever the gradient, in the decomposed form too.
    let adam = Adam {
        lr: 0.25,
        beta1: 0.0,
        ..Adam::default()
    };
    let (mut w, mut state) = ([1.0f32, 2.0], AdamState::zeros(2));
    let g = [3.0, -0.01];
    adam.observe(&w, &g, &mut state).unwrap();
    let (mut d, mut m) = ([0.0; 2], [0.0; 2]);
    adam.metric(&state, &mut d).unwrap();
    adam.direction(&state, &mut m).unwrap();
    metric_step(&mut w, &m, &d).unwrap();
    assert!(
        (w[0] - 0.75).abs() < 1e-4 && (w[1] - 2.25).abs() < 1e-4,
        "{w:?}"
    );
    assert!(adam.metric(&AdamState::zeros(2), &mut d).is_err());
    assert!(adam.step(&mut w, &g, &mut AdamState::zeros(1)).is_err());
    let said = Adam { beta2: 1.0, ..adam }.check().unwrap_err().to_string();
    assert_eq!(said, "beta2 is 1; expected 0 to below 1");
}

#[test]
fn weight_decay_is_in_the_gradient() {
    let adam = Adam {
        weight_decay: 0.5,
        ..Adam::default()
    };
    let mut state = AdamState::zeros(1);
    adam.observe(&[2.0], &[3.0], &mut state).unwrap();
    assert!((state.m[0] - 0.4).abs() < 1e-6);
    let sgd = Sgd {
        lr: 1.0,
        momentum: 0.0,
        weight_decay: 0.5,
    };
    let mut w = [2.0];
    sgd.step(&mut w, &[3.0], &mut [0.0]).unwrap();
    assert_eq!(w, [-2.0]);
}

/// f(w) = |w|^(3/2): the Newton step -g/H = -2w goes to the mirror point, and both gradients together multiply the
/// weight by 3 - 4a. The appendix of arXiv 2401.16760, section 5, with the even extension.
#[test]
fn forward_and_backtrack_multiplies_the_toy_by_3_minus_4a() {
    for a in [0.5f32, 0.6, 0.75, 0.9, 1.0] {
        let mut w = 1.0f32;
        for _ in 0..6 {
            let g = |w: f32| 1.5 * w.abs().sqrt() * w.signum();
            let h = |w: f32| 0.75 / w.abs().sqrt();
            let (mut first, mut d) = ([g(w)], [h(w)]);
            let mut trial = [w];
            metric_step(&mut trial, &first, &d).unwrap();
            assert!(
                (trial[0] + w).abs() < 1e-5 * w.abs(),
                "the trial is the mirror point"
            );
            combine(&mut first, &[g(trial[0])], a).unwrap();
            combine(&mut d, &[h(trial[0])], a).unwrap();
            let mut next = [w];
            metric_step(&mut next, &first, &d).unwrap();
            let expected = (3.0 - 4.0 * a) * w;
            assert!(
                (next[0] - expected).abs() < 1e-4 * w.abs(),
                "a = {a}: {} {expected}",
                next[0]
            );
            w = next[0];
            if w.abs() < 1e-3 {
                break;
            }
        }
    }
}

#[test]
fn forward_and_backtrack_is_its_formulas() {
    // A quadratic, sum c (w - t)^2 / 2, and binary weights in the metric, by hand in f64.
    let (c, t) = ([1.0f32, 4.0, 0.5], [0.3f32, -0.2, 0.9]);
    let adam = Adam {
        lr: 0.05,
        beta1: 0.0,
        beta2: 0.9,
        eps: 1e-3,
        weight_decay: 0.0,
    };
    let a = 0.6f32;
    let mut latent = [0.5f32, 0.1, -0.4];
    let (mut state, mut metric) = (AdamState::zeros(3), vec![1.0f32; 3]);
    let binary = |w: &[f64], d: &[f64]| -> Vec<f64> {
        let above: f64 = w.iter().zip(d).map(|(w, d)| w.abs() * d).sum();
        let scale = above / d.iter().sum::<f64>();
        w.iter()
            .map(|w| if *w >= 0.0 { scale } else { -scale })
            .collect()
    };
    let gradient = |w: &[f64]| -> Vec<f64> {
        (0..3)
            .map(|i| f64::from(c[i]) * (w[i] - f64::from(t[i])))
            .collect()
    };
    let (mut w, mut v, mut d) = ([0.5f64, 0.1, -0.4], [0f64; 3], vec![1f64; 3]);
    for step in 1..=5 {
        let mut calls = 0;
        let mut answer = |trial: Trial<'_>| {
            calls += 1;
            match trial {
                Trial::Project { latent, metric, w } => {
                    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                    let to = binary(&wide(latent), &wide(metric));
                    w.iter_mut().zip(to).for_each(|(w, to)| *w = to as f32);
                }
                Trial::Gradient { w, g } => {
                    for i in 0..3 {
                        g[i] = c[i] * (w[i] - t[i]);
                    }
                }
            }
            Ok(())
        };
        let rule = Backtrack { a };
        forward_backtrack(
            rule,
            &adam,
            &mut latent,
            &mut state,
            &mut metric,
            &mut answer,
        )
        .unwrap();
        assert_eq!(calls, 4);

        let wide = f64::from(a);
        let g = gradient(&binary(&w, &d));
        let mean = |v: f64, g: f64| 0.9 * v + 0.1 * g * g;
        let metric_of = |v: f64, t: i32| (1e-3 + (v / (1.0 - 0.9f64.powi(t))).sqrt()) / 0.05;
        (0..3).for_each(|i| v[i] = mean(v[i], g[i]));
        let now: Vec<f64> = v.iter().map(|v| metric_of(*v, step)).collect();
        let trial: Vec<f64> = (0..3).map(|i| w[i] - g[i] / now[i]).collect();
        let g2 = gradient(&binary(&trial, &now));
        for i in 0..3 {
            let then = metric_of(mean(v[i], g2[i]), step + 1);
            d[i] = wide * now[i] + (1.0 - wide) * then;
            w[i] -= (wide * g[i] + (1.0 - wide) * g2[i]) / d[i];
            assert!((f64::from(latent[i]) - w[i]).abs() < 1e-5, "step {step}");
            assert!(
                (f64::from(metric[i]) / d[i] - 1.0).abs() < 1e-4,
                "step {step}"
            );
        }
    }
    assert_eq!(state.steps, 5, "trial moments do not stay");

    let mut refuse = |_: Trial<'_>| Err(Error::argument("batch", 0, "1"));
    let (rule, before) = (Backtrack { a }, latent);
    let failed = forward_backtrack(
        rule,
        &adam,
        &mut latent,
        &mut state,
        &mut metric,
        &mut refuse,
    );
    assert!(failed.is_err() && latent == before && state.steps == 5);
    let rule = Backtrack { a: 1.5 };
    assert!(
        forward_backtrack(
            rule,
            &adam,
            &mut latent,
            &mut state,
            &mut metric,
            &mut refuse
        )
        .is_err()
    );
}

#[test]
fn bop_flips_what_is_pushed_long_enough() {
    let bop = Bop {
        gamma: 0.5,
        tau: 0.4,
    };
    let (mut w, mut mean) = ([1.0, -1.0, 1.0, -1.0], [0.0; 4]);
    let g = [0.6, 0.6, -0.6, -0.6];
    assert_eq!(
        bop.step(&mut w, &g, &mut mean).unwrap(),
        0,
        "0.3 is not beyond tau"
    );
    // 0.45 has the sign of the first and of the last.
    assert_eq!(bop.step(&mut w, &g, &mut mean).unwrap(), 2);
    assert_eq!(w, [-1.0, -1.0, 1.0, 1.0]);
    assert_eq!(bop.step(&mut w, &g, &mut mean).unwrap(), 0);
    assert!(
        Bop {
            gamma: 0.0,
            tau: 0.0
        }
        .check()
        .is_err()
    );
    assert!(bop.step(&mut w, &g[..3], &mut mean).is_err());
}

#[test]
fn what_oscillates_is_frozen_at_the_mean_of_its_codes() {
    let mut freezer = Freezer::new(3, 0.2, true).unwrap();
    let mut latent = [0.0; 3];
    // The first climbs, the second jumps between 2 and 3, mostly 3, the third stands.
    let second = [3, 2, 3, 3, 2, 3, 3, 2, 3, 3, 2, 3];
    let mut frozen = 0;
    for (t, code) in second.into_iter().enumerate() {
        latent = [9.0; 3];
        frozen = freezer
            .step(&[t as i32, code, 1], 0.5, 0.5, &mut latent)
            .unwrap();
        if frozen > 0 {
            break;
        }
    }
    assert_eq!((frozen, freezer.frozen()), (1, &[false, true, false][..]));
    assert_eq!(latent, [9.0, 1.5, 9.0]);
    // What is frozen stays, with the scale of the day.
    freezer.step(&[0, -7, 1], 1.0, 0.5, &mut latent).unwrap();
    assert_eq!(latent[1], 3.0);
    assert_eq!(freezer.frequency()[2], 0.0);

    let mut freezer = Freezer::new(1, 0.5, false).unwrap();
    let mut latent = [0.1];
    for code in [1, -1, 1, -1, 1] {
        freezer.step(&[code], 2.0, 0.6, &mut latent).unwrap();
    }
    assert!(
        freezer.frozen()[0] && latent[0].abs() == 2.0,
        "a binary weight has no 0"
    );
    assert!(Freezer::new(1, 0.0, true).is_err());
    assert!(freezer.step(&[1, 1], 1.0, 0.5, &mut latent).is_err());
}

#[test]
fn dampening_is_the_gradient_of_its_penalty() {
    let (latent, w) = ([0.3f32, -0.9, 2.0], [0.5f32, -1.0, 1.0]);
    let mut d = [1.0; 3];
    dampen(&latent, &w, (-1.0, 1.0), 0.5, &mut d).unwrap();
    for (got, expected) in d.iter().zip([0.8, 1.1, 1.0]) {
        assert!((got - expected).abs() < 1e-6, "{d:?}");
    }
    assert!(dampen(&latent, &w, (-1.0, 1.0), -0.5, &mut d).is_err());
    assert!(dampen(&latent, &w[1..], (-1.0, 1.0), 0.5, &mut d).is_err());
}
