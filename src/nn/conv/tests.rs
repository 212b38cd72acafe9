//! The convolution against seven loops, difference quotients and itself.

use super::*;
use crate::nn::quotient::assert_quotients;
use crate::nn::signal::Codes;
use crate::ops::{Padding, Pool};
use crate::quant::{ActQuantizer, QuantRelu, Rounding};

const M: usize = 3;

/// Shapes of every kind: stride, padding of unlike sides, dilation, groups, depthwise, one pixel, many blocks.
fn shapes() -> Vec<(Geometry, usize)> {
    let plain = Geometry::new(6, 7, 4, 3);
    let padding = Padding {
        top: 2,
        left: 0,
        bottom: 1,
        right: 3,
    };
    vec![
        (plain, 5),
        (
            Geometry {
                stride: [2, 3],
                padding: Padding::same(1),
                ..plain
            },
            6,
        ),
        (
            Geometry {
                padding,
                dilation: [1, 2],
                ..plain
            },
            3,
        ),
        (
            Geometry {
                groups: 2,
                padding,
                ..plain
            },
            6,
        ),
        (
            Geometry {
                groups: 4,
                stride: [2, 1],
                ..plain
            },
            4,
        ),
        (Geometry::new(5, 5, 3, 1), 8),
        (
            Geometry {
                padding: Padding::same(2),
                ..Geometry::new(9, 11, 1, 5)
            },
            6,
        ),
        (
            Geometry {
                kernel: [5, 2],
                ..Geometry::new(40, 40, 40, 1)
            },
            2,
        ),
    ]
}

fn conv(geometry: Geometry, o: usize, weights: Weights) -> Conv2d {
    Conv2d::new(geometry, o, weights, Rng::new(7)).unwrap()
}

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Rng::new(seed).fill_normal(&mut values, 1.0);
    values
}

/// Calls `tap(output, input, weight)` for each product, by element numbers.
fn taps(g: &Geometry, o: usize, mut tap: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = g.output().unwrap();
    let (per_tap, n) = (g.channels / g.groups, o / g.groups);
    for out in 0..M * oh * ow * o {
        let (m, oy, ox, ch) = (out / o / ow / oh, out / o / ow % oh, out / o % ow, out % o);
        for w in 0..g.kernel[0] * g.kernel[1] * per_tap {
            let (ky, kx, c) = (
                w / per_tap / g.kernel[1],
                w / per_tap % g.kernel[1],
                w % per_tap,
            );
            let y = (oy * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding.top);
            let x = (ox * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding.left);
            if y < g.height && x < g.width {
                let at = ((m * g.height + y) * g.width + x) * g.channels + ch / n * per_tap + c;
                tap(out, at, ch * g.kernel[0] * g.kernel[1] * per_tap + w);
            }
        }
    }
}

#[test]
fn forward_and_backward_follow_the_definition() {
    for (g, o) in shapes() {
        let mut conv = conv(g, o, Weights::Float);
        let values = random(1, M * g.height * g.width * g.channels);
        let len = M * conv.output().iter().product::<usize>();
        let (mut x, d_x) = (vec![9.0; len], random(2, len));
        conv.forward(Isa::best(), Signal::floats(&values), &mut x, Par::Caller)
            .unwrap();
        let mut d_values = vec![9.0; values.len()];
        conv.backward(&values, &d_x, Some(&mut d_values), Par::Caller)
            .unwrap();
        let w = conv.weights.latent.clone();
        let mut expected = (
            vec![0f64; len],
            vec![0f64; values.len()],
            vec![0f64; w.len()],
        );
        taps(&g, o, |out, input, weight| {
            let (a, b, d) = (values[input], w[weight], d_x[out]);
            expected.0[out] += f64::from(a) * f64::from(b);
            expected.1[input] += f64::from(b) * f64::from(d);
            expected.2[weight] += f64::from(a) * f64::from(d);
        });
        let near = |got: &[f32], expected: &[f64], what: &str| {
            for (got, expected) in got.iter().zip(expected) {
                let gap = (f64::from(*got) - expected).abs();
                assert!(
                    gap < 1e-3 * (1.0 + expected.abs()),
                    "{what} {g:?}: {got} {expected}"
                );
            }
        };
        near(&x, &expected.0, "x");
        near(&d_values, &expected.1, "d_a");
        near(&conv.weights.d_weights, &expected.2, "d_w");
    }
}

#[test]
fn gradients_are_difference_quotients() {
    for (g, o) in shapes() {
        let mut layer = conv(g, o, Weights::Float);
        let values = random(1, M * g.height * g.width * g.channels);
        let d_x = random(2, M * layer.output().iter().product::<usize>());
        let mut d_values = vec![9.0; values.len()];
        layer
            .backward(&values, &d_x, Some(&mut d_values), Par::Caller)
            .unwrap();
        let d_weights = layer.weights.d_weights.clone();
        // A loss whose gradient by the output is d_x.
        let loss = |(layer, values): &(Conv2d, Vec<f32>)| -> f64 {
            let mut x = vec![0.0; d_x.len()];
            layer
                .forward_in_floats(values, &mut x, Par::Caller)
                .unwrap();
            let terms = x.iter().zip(&d_x);
            terms.map(|(x, d)| f64::from(*x) * f64::from(*d)).sum()
        };
        let state = &mut (layer, values);
        let some = |numbers: &[f32]| numbers.len() / 40 + 1;
        let (what, every) = (format!("d_a of {g:?}"), some(&d_values));
        let add = |s: &mut (Conv2d, Vec<f32>), i: usize, h: f32| s.1[i] += h;
        assert_quotients(&what, state, &d_values, every, 1e-3, add, loss);
        let add = |(layer, _): &mut (Conv2d, Vec<f32>), i: usize, h: f32| {
            layer.weights.latent[i] += h;
            layer.weights.project(Rng::new(7)).unwrap();
        };
        let (what, every) = (format!("d_w of {g:?}"), some(&d_weights));
        assert_quotients(&what, state, &d_weights, every, 1e-3, add, loss);
    }
}

#[test]
fn packed_and_float_forward_agree_on_every_isa() {
    let relu = |b| ActQuantizer::Relu(QuantRelu::new(b, 1.0, Rounding::Ceil).unwrap());
    for (g, o) in shapes() {
        let mut conv = conv(g, o, Weights::binary());
        // With scale 1 all numbers are integers, and both must be exact.
        conv.weights.latent.iter_mut().for_each(|w| *w = w.signum());
        conv.weights.project(Rng::new(7)).unwrap();
        let len = M * g.height * g.width * g.channels;
        let bytes: Vec<u8> = (0..len as u64).map(|i| Rng::new(5).bits(i) as u8).collect();
        for quantizer in [Some(ActQuantizer::Sign), Some(relu(1)), Some(relu(4)), None] {
            let (values, codes): (Vec<f32>, _) = match quantizer {
                Some(q) => {
                    let levels = q.encoding().levels() as u32 + 1;
                    let code = |i| q.value(Rng::new(5).below(i, levels) as u8);
                    ((0..len as u64).map(code).collect(), Codes::Levels(q))
                }
                None => {
                    let values = bytes.iter().map(|b| f32::from(*b)).collect();
                    (values, Codes::Bytes(&bytes, 1.0))
                }
            };
            let out = M * conv.output().iter().product::<usize>();
            let mut floats = vec![9.0; out];
            conv.forward_in_floats(&values, &mut floats, Par::Caller)
                .unwrap();
            for isa in Isa::available() {
                let mut packed = vec![9.0; out];
                let values = &values;
                let input = Signal { values, codes };
                conv.forward(isa, input, &mut packed, Par::Caller).unwrap();
                assert_eq!(packed, floats, "{isa} {quantizer:?} {g:?}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let geometry = Geometry {
        padding: Padding::same(1),
        ..Geometry::new(12, 12, 8, 3)
    };
    let images = 11;
    let values = random(1, images * 12 * 12 * 8);
    let run = |par: Par<'_>| {
        let mut conv = conv(geometry, 16, Weights::Float);
        let len = images * 12 * 12 * 16;
        let (mut x, d_x) = (vec![0.0; len], random(2, len));
        conv.forward_in_floats(&values, &mut x, par).unwrap();
        let mut d_values = vec![0.0; values.len()];
        conv.backward(&values, &d_x, Some(&mut d_values), par)
            .unwrap();
        let all = [x, d_values, conv.weights.d_weights].concat();
        all.iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
    };
    let one = run(Par::Caller);
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads).unwrap();
        assert!(run(Par::Pool(&pool)) == one, "{threads} threads");
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let g = Geometry::new(6, 7, 4, 3);
    let said = |o| {
        let groups = Geometry { groups: 2, ..g };
        let conv = Conv2d::new(groups, o, Weights::Float, Rng::new(1));
        conv.err().unwrap().to_string()
    };
    assert_eq!(
        said(5),
        "O is 5; expected a positive multiple of the 2 groups"
    );
    assert!(said(0).starts_with("O is 0"));
    let mut conv = conv(g, 2, Weights::Float);
    let (values, mut x) = ([0.0; 168], [0.0; 40]);
    assert!(
        conv.forward_in_floats(&values[1..], &mut x, Par::Caller)
            .is_err()
    );
    assert!(
        conv.forward_in_floats(&values, &mut x[1..], Par::Caller)
            .is_err()
    );
    assert!(conv.backward(&values, &x[1..], None, Par::Caller).is_err());
    let short = Some(&mut x[..9]);
    assert!(
        conv.backward(&values, &[0.0; 40], short, Par::Caller)
            .is_err()
    );
}
