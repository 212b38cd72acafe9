//! A small model for the tests of this room, and what it computes, done the naive way.

use super::{Input, Layer, Model, Then};
use crate::bits::{Encoding, PackedMatrix};
use crate::ops::Thresholds;

/// 5 x 7 input of 8 bits, 40 and 33 hidden channels of `codes`, 7 outputs; all from a fixed seed.
pub(super) fn sample(codes: Encoding) -> Model {
    let mut state = 12345u64;
    let mut next = |below: i32| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as i32 % below
    };
    let mut weights = |n: usize, k: usize| {
        let values: Vec<i32> = (0..n * k).map(|_| 2 * next(2) - 1).collect();
        PackedMatrix::pack(Encoding::Bipolar, n, k, &values).unwrap()
    };
    let (first, second, third) = (weights(40, 35), weights(33, 40), weights(7, 33));
    let mut thresholds = |n: usize, reach: i32| {
        let mut rows: Vec<Vec<i32>> = (0..n)
            .map(|_| {
                let mut row: Vec<i32> = (0..codes.levels())
                    .map(|_| next(2 * reach) - reach)
                    .collect();
                row.sort();
                row
            })
            .collect();
        rows[0].fill(i32::MIN);
        rows[1].fill(i32::MAX);
        let by_level: Vec<i32> = (0..codes.levels() * n)
            .map(|i| rows[i % n][i / n])
            .collect();
        let sign: Vec<i32> = (0..n).map(|_| 2 * next(2) - 1).collect();
        Then::Codes(Thresholds::from_parts(codes, &by_level, &sign).unwrap())
    };
    let (after_first, after_second) = (thresholds(40, 1500), thresholds(33, 20));
    let scale = (0..7).map(|i| 0.01 * (i as f32 - 3.0)).collect();
    let bias = (0..7).map(|i| 0.3 * i as f32).collect();
    let layers = vec![
        Layer::Linear {
            weights: first,
            then: after_first,
        },
        Layer::Linear {
            weights: second,
            then: after_second,
        },
        Layer::Linear {
            weights: third,
            then: Then::Floats { scale, bias },
        },
    ];
    let input = Input {
        height: 5,
        width: 7,
        channels: 1,
        bits: 8,
    };
    Model::new(input, layers).unwrap()
}

/// `count` images of all kinds of bytes.
pub(super) fn images(model: &Model, count: usize) -> Vec<u8> {
    (0..count * model.input().len())
        .map(|i| (i * i * 31 + i / 3) as u8)
        .collect()
}

/// The logits of `images`, one multiplication after the other.
pub(super) fn naive_logits(model: &Model, images: &[u8]) -> Vec<f32> {
    let mut logits = Vec::new();
    for image in images.chunks(model.input().len()) {
        let mut a: Vec<i32> = image.iter().map(|&c| i32::from(c)).collect();
        for layer in model.layers() {
            let Layer::Linear { weights, then } = layer;
            let w = weights.unpack();
            let dot = |row: &[i32]| row.iter().zip(&a).map(|(w, a)| w * a).sum::<i32>();
            let sums: Vec<i32> = w.chunks(a.len()).map(dot).collect();
            a = match then {
                Then::Codes(t) => {
                    let (n, all) = (t.n(), t.thresholds());
                    let passed =
                        |j: usize, level: usize| t.sign()[j] * sums[j] > all[level * n + j];
                    let code = |j| (0..all.len() / n).filter(|&l| passed(j, l)).count() as u8;
                    (0..n)
                        .map(|j| t.encoding().decode(code(j)).unwrap())
                        .collect()
                }
                Then::Floats { scale, bias } => {
                    logits.extend((0..sums.len()).map(|j| sums[j] as f32 * scale[j] + bias[j]));
                    Vec::new()
                }
            };
        }
    }
    logits
}
