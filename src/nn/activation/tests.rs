//! The layer against the quantizer's own words.

use super::*;
use crate::bits::Bits;

/// 2 bits of step 0.5: q = 3, top 1.5.
fn relu() -> QuantRelu {
    QuantRelu::new(2, 0.5, Rounding::Ceil).unwrap()
}

#[test]
fn values_are_those_of_the_codes_and_gradients_are_masked_and_summed() {
    let kernels = Kernels::available().last().unwrap();
    let x: Vec<f32> = (0..3 * 37).map(|i| i as f32 * 0.03 - 1.2).collect();
    let functions = [
        Function::Sign {
            by_x: CoarseX::HardTanh,
        },
        Function::Sign {
            by_x: CoarseX::PiecewisePoly,
        },
        Function::QuantRelu {
            first: relu(),
            by_x: CoarseX::ClippedRelu,
            by_alpha: CoarseAlpha::AlphaThree,
            learning: AlphaLearning::default(),
        },
    ];
    for function in functions {
        let is_sign = matches!(function, Function::Sign { .. });
        let mut act = Activation::new(function);
        let quantizer = act.quantizer().unwrap().unwrap();
        let mut out = vec![9.0; x.len()];
        let mut codes = PackedMatrix::zeros(Encoding::Bipolar, 0, 0).unwrap();
        act.forward(kernels, &x, 37, &mut out, &mut codes, Par::Caller)
            .unwrap();
        assert_eq!((codes.rows(), codes.cols()), (3, 37));
        for (x, out) in x.iter().zip(&out) {
            assert_eq!(*out, quantizer.value(quantizer.code(*x)), "{x}");
        }
        let mut d = vec![0.25; x.len()];
        act.backward(&x, &mut d, Par::Caller).unwrap();
        let expected = |x: f32| match function {
            Function::Sign { by_x } => 0.25 * by_x.dx(x, 1.0, Bits::new(1).unwrap()),
            _ => 0.25 * CoarseX::ClippedRelu.dx(x, relu().alpha(), relu().bits()),
        };
        assert!(x.iter().zip(&d).all(|(x, d)| *d == expected(*x)));
        if !is_sign {
            let all = x
                .iter()
                .map(|x| CoarseAlpha::AlphaThree.dalpha(*x, &relu()));
            let expected = AlphaLearning::default().rate * 0.25 * all.sum::<f32>();
            assert!((act.d_alpha[0] - expected).abs() < 1e-6);
            act.backward(&x, &mut vec![1e3; x.len()], Par::Caller)
                .unwrap();
            assert_eq!(act.d_alpha[0], 1.0);
        }
    }
}

#[test]
fn alpha_is_kept_in_range_and_starts_at_the_least_error() {
    let mut act = Activation::new(Function::QuantRelu {
        first: relu(),
        by_x: CoarseX::default(),
        by_alpha: CoarseAlpha::default(),
        learning: AlphaLearning::default(),
    });
    for (alpha, kept) in [(-3.0, 1e-3), (9.0, 5.0), (0.7, 0.7)] {
        act.alpha[0] = alpha;
        assert_eq!(act.quantizer().unwrap().unwrap().step(), kept);
    }
    act.alpha[0] = f32::NAN;
    assert!(act.quantizer().is_err());

    // Mean square error over the positive half of N(0, 1), by the midpoint rule.
    let error = |bits: usize, alpha: f32, rounding| {
        let relu = QuantRelu::new(bits, alpha, rounding).unwrap();
        let points = (0..20_000).map(|i| (i as f32 + 0.5) * 3e-4);
        points
            .map(|x| f64::from((x - relu.value(relu.code(x))).powi(2) * (-x * x / 2.0).exp()))
            .sum::<f64>()
    };
    for rounding in [Rounding::Ceil, Rounding::Nearest] {
        for bits in 1..=8 {
            let best = alpha_init(Bits::new(bits).unwrap(), rounding);
            let least = error(bits, best, rounding);
            assert!(least < error(bits, best * 1.02, rounding), "{bits} bits");
            assert!(least < error(bits, best * 0.98, rounding), "{bits} bits");
        }
    }
}

#[test]
fn a_refit_lowers_the_error_and_leaves_what_cannot_be_fitted() {
    let mut x = vec![0.0; 4000];
    crate::nn::rng::Rng::new(3).fill_normal(&mut x, 1.7);
    let first = QuantRelu::new(3, 0.1, Rounding::Nearest).unwrap();
    let mut act = Activation::new(Function::QuantRelu {
        first,
        by_x: CoarseX::default(),
        by_alpha: CoarseAlpha::default(),
        learning: AlphaLearning::default(),
    });
    let error = |act: &Activation| {
        let quantizer = act.quantizer().unwrap().unwrap();
        let value = |x: f32| quantizer.value(quantizer.code(x));
        let positive = x.iter().filter(|x| **x > 0.0);
        positive
            .map(|x| f64::from((x - value(*x)).powi(2)))
            .sum::<f64>()
    };
    let before = error(&act);
    act.refit(&x);
    // Half of N(0, 1.7^2): 1.7 times the step of the least error.
    let best = 1.7 * alpha_init(Bits::new(3).unwrap(), Rounding::Nearest);
    assert!((act.alpha[0] / best - 1.0).abs() < 0.1, "{}", act.alpha[0]);
    assert!(error(&act) < 0.2 * before);
    let alpha = act.alpha;
    act.refit(&[1.0, f32::INFINITY]);
    act.refit(&[-1.0, -2.0]);
    assert_eq!(act.alpha, alpha);
    let mut relu = Activation::new(Function::Relu);
    relu.refit(&x);
    assert_eq!(relu.alpha, [1.0]);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let kernels = Kernels::available().last().unwrap();
    let (images, n) = (13, 5000);
    let (mut x, mut d) = (vec![0.0; images * n], vec![0.0; images * n]);
    crate::nn::rng::Rng::new(1).fill_normal(&mut x, 1.0);
    crate::nn::rng::Rng::new(2).fill_normal(&mut d, 1e-3);
    let quantized = Function::QuantRelu {
        first: relu(),
        by_x: CoarseX::ClippedRelu,
        by_alpha: CoarseAlpha::AlphaThree,
        learning: AlphaLearning::default(),
    };
    for function in [
        Function::Relu,
        Function::HardTanh,
        Function::Sign {
            by_x: CoarseX::PiecewisePoly,
        },
        quantized,
    ] {
        let run = |par: Par<'_>| {
            let (mut act, mut d) = (Activation::new(function), d.clone());
            let mut out = vec![0.0; x.len()];
            let mut codes = PackedMatrix::zeros(Encoding::Bipolar, 0, 0).unwrap();
            act.forward(kernels, &x, n, &mut out, &mut codes, par)
                .unwrap();
            act.backward(&x, &mut d, par).unwrap();
            let all = [out, d, act.d_alpha.to_vec()].concat();
            all.iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
        };
        let one = run(Par::Caller);
        for threads in [1, 2, 3] {
            let pool = crate::ops::Pool::new(threads).unwrap();
            assert!(
                run(Par::Pool(&pool)) == one,
                "{function:?} on {threads} threads"
            );
        }
    }
}

#[test]
fn alpha_is_learned_as_it_is_told() {
    let learning = AlphaLearning {
        rate: 0.5,
        clamp: 3.0,
        range: [0.25, 0.75],
    };
    let mut act = Activation::new(Function::QuantRelu {
        first: relu(),
        by_x: CoarseX::default(),
        by_alpha: CoarseAlpha::AlphaTwo,
        learning,
    });
    // q = 3 above the top, times 0.5 d.
    for (d, expected) in [(1.0, 1.5), (-1.0, -1.5), (9.0, 3.0), (-9.0, -3.0)] {
        act.backward(&[9.0], &mut [d], Par::Caller).unwrap();
        assert_eq!(act.d_alpha[0], expected, "{d}");
    }
    for (alpha, kept) in [(0.1, 0.25), (0.6, 0.6), (2.0, 0.75)] {
        act.alpha[0] = alpha;
        assert_eq!(act.quantizer().unwrap().unwrap().step(), kept);
        act.settle();
        assert_eq!(act.alpha[0], kept);
    }
    act.calibrate(&[30.0]);
    assert_eq!(act.alpha[0], 0.75);
}
