//! A small model for the tests of this room, and what it computes, done the naive way.

use super::{Linear, Model, ModelBuilder, ValueType};
use crate::bits::{Encoding, PackedMatrix};
use crate::ops::{ActivationFn, Finish, OutputKind, ResidualAt, Thresholds};

/// Numbers that look random.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % below
    }
}

/// 5 x 7 input of 8 bits, 40 and 33 hidden channels of `codes` by ready thresholds, 7 outputs; all from a fixed seed.
pub(super) fn sample(codes: Encoding) -> Model {
    let mut random = Random(12345);
    let mut weights = |n: usize, k: usize| {
        let values: Vec<i32> = (0..n * k).map(|_| 2 * random.below(2) as i32 - 1).collect();
        PackedMatrix::pack(Encoding::Bipolar, n, k, &values).unwrap()
    };
    let all = [weights(40, 35), weights(33, 40), weights(7, 33)];
    let mut thresholds = |n: usize, reach: i32| {
        let some = |_| random.below(2 * reach as usize) as i32 - reach;
        let mut rows: Vec<Vec<i32>> = Vec::new();
        let mut some = some;
        for _ in 0..n {
            let mut row: Vec<i32> = (0..codes.levels()).map(&mut some).collect();
            row.sort();
            rows.push(row);
        }
        rows[0].fill(i32::MIN);
        rows[1].fill(i32::MAX);
        let by_level: Vec<i32> = (0..codes.levels() * n)
            .map(|i| rows[i % n][i / n])
            .collect();
        let sign: Vec<i32> = (0..n).map(|i| if i % 3 == 0 { -1 } else { 1 }).collect();
        Finish::by_thresholds(Thresholds::from_parts(codes, &by_level, &sign).unwrap())
    };
    let scale = (0..7).map(|i| 0.01 * (i as f32 - 3.0)).collect();
    let bias = (0..7).map(|i| 0.3 * i as f32).collect();
    let (function, residual) = (ActivationFn::Identity, ResidualAt::Nowhere);
    let last = Finish::new(scale, bias, function, residual, OutputKind::F32).unwrap();
    let finishes = [thresholds(40, 1500), thresholds(33, 20), last];
    let mut builder = ModelBuilder::new(ValueType::image(5, 7, 1, 8).unwrap()).unwrap();
    let mut value = builder.image();
    for (weights, finish) in all.into_iter().zip(finishes) {
        value = builder.linear(value, Linear::new(weights, finish)).unwrap();
    }
    builder.build(&[value]).unwrap()
}
