//! Projections of a layer against what their integers and scales say.

use super::*;

#[test]
fn flips_are_counted_once() {
    for quantizer in ["binary-mean", "binary-median"] {
        let weights = Weights::Quantized(quantizer.parse().unwrap());
        let mut w = Projected::new(9, 70, weights, Rng::new(3)).unwrap();
        assert_eq!(w.take_flips(), 0);
        w.latent[3] *= -1.0;
        w.latent[100] *= -1.0;
        w.project(Rng::new(3)).unwrap();
        assert_eq!((w.take_flips(), w.take_flips()), (2, 0), "{quantizer}");
    }
}

#[test]
fn values_are_the_integers_times_the_scale_for_every_quantizer() {
    let mut w = Projected::new(3, 37, Weights::Float, Rng::new(3)).unwrap();
    assert_eq!(w.values(), w.latent);
    assert!(w.packed().is_none() && w.integers().is_empty());
    for name in [
        "binary-mean",
        "binary-mean:scope=channel",
        "binary-plain",
        "stoch-binary",
        "ternary-twn",
        "ternary-exact:scope=channel",
        "uniform-sym:bits=4",
        "loss-aware-binary",
        "loss-aware-linear:bits=3",
        "lsq-weight:bits=3",
        "dorefa:bits=2",
    ] {
        let weights = Weights::Quantized(name.parse().unwrap());
        w.set_weights(weights, Rng::new(3)).unwrap();
        let (codes, scales) = w.packed().unwrap();
        assert_eq!(codes.unpack(), *w.integers());
        for (i, (value, code)) in w.values().iter().zip(codes.unpack()).enumerate() {
            let expected = scales[i / 37] * code as f32;
            assert!((value - expected).abs() <= 1e-6 * expected.abs(), "{name}");
        }
        let rows = w.values().chunks(37).enumerate();
        for (row, values) in rows {
            let (low, high) = w.range(row);
            let inside = |v: &f32| (low..=high).contains(v);
            assert!(values.iter().all(inside), "{name}");
        }
    }
}

#[test]
fn relaxed_weights_are_floats_between_and_draws_follow_the_step() {
    let mut w = Projected::new(4, 40, Weights::binary(), Rng::new(5)).unwrap();
    let hard = w.values().to_vec();
    w.set_relaxation(Some(1.0));
    w.project(Rng::new(5)).unwrap();
    assert!(w.packed().is_none());
    for ((w, latent), hard) in w.values().iter().zip(&w.latent).zip(&hard) {
        assert!((w - 0.5 * (latent + hard)).abs() < 1e-6);
    }
    w.set_weights(
        Weights::Quantized("stoch-binary".parse().unwrap()),
        Rng::new(5),
    )
    .unwrap();
    let mut at = |step: u32| {
        w.project(Rng::new(5).at(step, 0)).unwrap();
        w.integers().into_owned()
    };
    assert_eq!(at(3), at(3));
    assert_ne!(at(3), at(4));
}

#[test]
fn the_learned_step_gets_a_gradient() {
    let weights = Weights::Quantized("lsq-weight:bits=4".parse().unwrap());
    let mut w = Projected::new(2, 30, weights, Rng::new(6)).unwrap();
    w.d_weights.fill(1.0);
    w.finish_backward().unwrap();
    let (latent, s) = (&w.latent, w.step[0]);
    let by_step = |w: &f32| match (w / s).clamp(-8.0, 7.0) {
        at if at == w / s => at.round_ties_even() - at,
        at => at,
    };
    let expected = latent.iter().map(by_step).sum::<f32>() / (60.0 * 7.0f32).sqrt();
    assert!((w.d_step[0] - expected).abs() < 1e-5);
}

#[test]
fn levels_and_their_range_are_those_of_the_weight() {
    let mut w = Projected::new(2, 300, Weights::Float, Rng::new(3)).unwrap();
    // Rows and signs of different sizes.
    for (i, latent) in w.latent.iter_mut().enumerate() {
        *latent *= if i < 300 { 1.0 } else { 4.0 };
        *latent *= if *latent > 0.0 { 1.0 } else { 3.0 };
    }
    for (name, top) in [
        ("loss-aware-ternary:search=two-scale", 1.0),
        ("loss-aware-log:bits=2", 1.0),
        ("loss-aware-log:bits=3", 4.0),
        ("loss-aware-log:bits=4", 64.0),
        ("loss-aware-linear:bits=3", 3.0),
        ("ternary-exact:scope=channel", 1.0),
        ("uniform-sym:bits=3,scope=channel", 3.0),
        ("dorefa:bits=2", 3.0),
    ] {
        let weights = Weights::Quantized(name.parse().unwrap());
        w.set_weights(weights, Rng::new(3)).unwrap();
        for (i, (code, value)) in w.integers().iter().zip(w.values()).enumerate() {
            let level = w.level(i, *code);
            assert!((level - value).abs() <= 1e-6 * value.abs(), "{name}");
        }
        for row in 0..2 {
            let (low, high) = w.range(row);
            let at = 300 * row;
            let ends = (w.level(at, -(top as i32)), w.level(at, top as i32));
            assert_eq!((low, high), ends, "{name}");
        }
    }
    // Two scales stand for signs, not for the two rows.
    w.set_weights(
        Weights::Quantized("loss-aware-ternary:search=two-scale".parse().unwrap()),
        Rng::new(3),
    )
    .unwrap();
    let most = w.values().iter().copied().fold(0.0, f32::max);
    let least = w.values().iter().copied().fold(0.0, f32::min);
    assert!(-least > 1.5 * most);
    assert_eq!((w.range(0), w.range(1)), ((least, most), (least, most)));
}
