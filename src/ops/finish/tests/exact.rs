//! Codes of every sum, by thresholds and by floats, against the chain of the page in whole numbers. That
//! training evaluates the same is tested where nets are frozen.
//!
//! Nothing here that says what is expected is computed in floats: a float is its whole number times a power of two, sums
//! and products of such are exact, and each step of the chain is rounded once, to 24 bits, ties to even.

use super::*;
use crate::ops::Thresholds;
use std::cmp::Ordering;

/// m 2^e.
#[derive(Clone, Copy)]
struct Exact {
    m: i128,
    e: i32,
}

impl Exact {
    fn of(x: f32) -> Self {
        assert!(x.is_finite());
        let (bits, fraction) = (x.to_bits(), x.to_bits() & 0x7F_FFFF);
        let exponent = (bits >> 23 & 0xFF) as i32;
        let m = i128::from(if exponent > 0 {
            fraction | 1 << 23
        } else {
            fraction
        });
        let e = exponent.max(1) - 150;
        Exact {
            m: if x.is_sign_negative() { -m } else { m },
            e,
        }
    }

    fn whole(m: i32) -> Self {
        Exact { m: m.into(), e: 0 }
    }

    fn times(self, other: Self) -> Self {
        Exact {
            m: self.m * other.m,
            e: self.e + other.e,
        }
    }

    fn minus(self) -> Self {
        Exact { m: -self.m, ..self }
    }

    /// The sum; of numbers far apart, one that is rounded and compared as the sum is.
    fn plus(self, other: Self) -> Self {
        let (high, low) = if self.e > other.e {
            (self, other)
        } else {
            (other, self)
        };
        if high.m == 0 {
            return low;
        }
        let apart = high.e - low.e;
        // Both have few bits, so what is 70 of them below the last one only breaks ties.
        match apart {
            0..=70 => Exact {
                m: (high.m << apart) + low.m,
                e: low.e,
            },
            _ => Exact {
                m: (high.m << 70) + low.m.signum(),
                e: high.e - 70,
            },
        }
    }

    /// The nearest f32, which must not be above all of them.
    fn rounded(self) -> Self {
        let bits = 128 - self.m.unsigned_abs().leading_zeros() as i32;
        assert!(self.m == 0 || bits + self.e < 128, "a float");
        let drop = (bits - 24).max(-149 - self.e).max(0);
        Exact {
            m: nearest(self.m, drop),
            e: self.e + drop,
        }
    }

    /// The f32 nearest to its inverse.
    fn inverse(self) -> Self {
        let one = 1i128 << 100;
        // A last bit for what is left over.
        let m = one / self.m * 2 + i128::from(one % self.m != 0);
        let e = -101 - self.e;
        Exact { m, e }.rounded()
    }

    /// The nearest integer, ties to even, or one that is larger than any code.
    fn integer(self) -> i64 {
        let bits = 128 - self.m.unsigned_abs().leading_zeros() as i32;
        match self.e {
            _ if bits + self.e > 40 => self.m.signum() as i64 * (1 << 40),
            0.. => (self.m << self.e) as i64,
            _ => nearest(self.m, -self.e) as i64,
        }
    }

    fn compared(self, other: Self) -> Ordering {
        self.plus(other.minus()).m.cmp(&0)
    }

    fn is_below(self, other: Self) -> bool {
        self.compared(other) == Ordering::Less
    }
}

/// The whole number nearest to m / 2^drop, ties to even.
fn nearest(m: i128, drop: i32) -> i128 {
    let size = m.unsigned_abs();
    let whole = match drop {
        0 => size,
        1..=126 => {
            let (whole, rest, half) = (size >> drop, size & ((1 << drop) - 1), 1 << (drop - 1));
            whole + u128::from(rest > half || rest == half && whole & 1 == 1)
        }
        _ => 0,
    };
    m.signum() * whole as i128
}

/// The chain of a finish without residual.
fn chain(f: &Finish, sum: i32, n: usize) -> Exact {
    let zero = Exact::whole(0);
    let sum = Exact::whole(sum).rounded();
    let product = sum.times(Exact::of(f.scale[n])).rounded();
    let y = product.plus(Exact::of(f.bias[n])).rounded();
    let prelu = |y: Exact, slope: f32| match y.is_below(zero) {
        true => y.times(Exact::of(slope)).rounded(),
        false => y,
    };
    match &f.function {
        ActivationFn::Identity => y,
        ActivationFn::Relu => prelu(y, 0.0),
        ActivationFn::PRelu { slope } => prelu(y, slope[n]),
        ActivationFn::RPRelu {
            before,
            slope,
            after,
        } => {
            let y = y.plus(Exact::of(before[n]).minus()).rounded();
            prelu(y, slope[n]).plus(Exact::of(after[n])).rounded()
        }
        ActivationFn::Clamp { low, high } => {
            let (low, high) = (Exact::of(*low), Exact::of(*high));
            match (y.is_below(low), high.is_below(y)) {
                (true, _) => low,
                (_, true) => high,
                _ => y,
            }
        }
    }
}

/// The integer of the code of y, which a quantizer of this kind gives.
enum Rule {
    Sign,
    /// Thresholds, and whether y that equals one passes it.
    Steps(Vec<Exact>, bool),
    Linear {
        inverse: Exact,
        zero: i32,
        ends: [i32; 2],
    },
}

impl Rule {
    fn of(quantizer: &Quantizer) -> Self {
        match quantizer {
            Quantizer::Act(ActQuantizer::Sign) => Rule::Sign,
            Quantizer::Act(ActQuantizer::Relu(q)) => {
                let equal = q.rounding() == Rounding::Nearest;
                let alpha = Exact::of(q.alpha());
                let step = |c: i32| {
                    // c or c + 1/2.
                    let m = i128::from(2 * c + i32::from(equal));
                    Exact { m, e: -1 }.times(alpha).rounded()
                };
                Rule::Steps((0..q.bits().max_code() as i32).map(step).collect(), equal)
            }
            Quantizer::Linear(q) => Rule::Linear {
                inverse: Exact::of(q.scale()).inverse(),
                zero: q.zero(),
                ends: [q.low(), q.high()],
            },
        }
    }

    fn integer(&self, y: Exact) -> i32 {
        match self {
            Rule::Sign if y.m < 0 => -1,
            Rule::Sign => 1,
            Rule::Steps(steps, equal) => {
                let passes = |t: &Exact| match t.compared(y) {
                    Ordering::Less => true,
                    Ordering::Equal => *equal,
                    Ordering::Greater => false,
                };
                steps.partition_point(passes) as i32
            }
            Rule::Linear {
                inverse,
                zero,
                ends: [low, high],
            } => {
                let whole = y.times(*inverse).rounded().integer() + i64::from(*zero);
                whole.clamp((*low).into(), (*high).into()) as i32
            }
        }
    }
}

/// Quantizers of 1 to 8 bits of each kind: levels up to about 7, some of which sums meet exactly.
fn all_quantizers() -> Vec<Quantizer> {
    let mut all: Vec<Quantizer> = vec![ActQuantizer::Sign.into()];
    for bits in 1..=8 {
        let levels = ((1 << bits) - 1) as f32;
        for step in [6.9 / levels, 8.0 / (1 << bits) as f32] {
            for rounding in [Rounding::Ceil, Rounding::Nearest] {
                all.push(QuantRelu::new(bits, step, rounding).unwrap().into());
            }
            let (unsigned, signed) = (Encoding::unsigned(bits), Encoding::signed(bits));
            let affine = |e: Encoding| Linear::affine(e, step, (e.min() + e.max()) / 2);
            all.push(affine(unsigned.unwrap()).unwrap().into());
            all.push(affine(signed.unwrap()).unwrap().into());
            if bits > 1 {
                all.push(Linear::symmetric(bits, 2.0 * step).unwrap().into());
            }
        }
    }
    all
}

/// Slopes of every sign and size; powers of two among them, so that sums meet levels exactly.
const SCALES: [f32; 12] = [
    0.000_7,
    -0.000_7,
    0.0,
    -0.0,
    1.0 / 512.0,
    -1.0 / 256.0,
    0.031_4,
    -1.5,
    1e-20,
    -3.3e-9,
    4.1e-7,
    0.005,
];
const BIASES: [f32; 12] = [
    0.3, 0.3, 0.4, -1.5, 0.0, 0.125, -3.0, 1.0, 1e-12, 2.0, -3.5, -20.0,
];

/// The codes that `f` gives `sums`, each of them for every channel.
fn codes(f: &Finish, kernels: &Kernels, sums: &[i32]) -> Vec<i32> {
    let (encoding, n) = (f.output().encoding().unwrap(), f.n());
    let mut out = PackedMatrix::zeros(encoding, sums.len(), n).unwrap();
    let mut sums: Vec<i32> = sums.iter().flat_map(|&sum| vec![sum; n]).collect();
    let rows = OutRows::Codes(out.words_mut());
    f.run(kernels, &mut sums, 0, None, rows, &mut []);
    out.unpack()
}

/// Checks all quantizers after `function` for `sums`: the floats of kernels, and thresholds where there are any.
fn check_exact(function: ActivationFn, sums: &[i32]) {
    let finish = |output| {
        let (scale, bias, at) = (SCALES.to_vec(), BIASES.to_vec(), ResidualAt::Nowhere);
        Finish::new(scale, bias, function.clone(), at, output).unwrap()
    };
    let (f, n) = (finish(OutputKind::F32), SCALES.len());
    let at = |&sum: &i32| (0..n).map(move |n| (sum, n));
    let floats: Vec<Exact> = sums
        .iter()
        .flat_map(at)
        .map(|(sum, n)| chain(&f, sum, n))
        .collect();
    for quantizer in all_quantizers() {
        let rule = Rule::of(&quantizer);
        let expected: Vec<i32> = floats.iter().map(|&y| rule.integer(y)).collect();
        let by_floats = finish(OutputKind::Codes(quantizer));
        let mut all = vec![by_floats.clone()];
        all.push(by_floats.prepare(i32::MAX).unwrap());
        if let (Quantizer::Act(q), ActivationFn::Identity) = (&quantizer, &function) {
            let thresholds = Thresholds::derive(q, &SCALES, &BIASES, i32::MAX).unwrap();
            all.push(Finish::by_thresholds(thresholds));
        }
        for (kernels, (i, f)) in
            Kernels::available().flat_map(|k| all.iter().enumerate().map(move |f| (k, f)))
        {
            let got = codes(f, kernels, sums);
            let wrong = got.iter().zip(&expected).position(|(a, b)| a != b);
            if let Some(at) = wrong {
                panic!(
                    "{} {quantizer:?} {function:?}, way {i}: {} of sum {} in channel {}, not {}",
                    kernels.isa(),
                    got[at],
                    sums[at / n],
                    at % n,
                    expected[at]
                );
            }
        }
    }
}

#[test]
fn codes_of_1_to_8_bits_are_exact_for_every_sum() {
    // Those around 2^24 are rounded when they become floats.
    let far = [-i32::MAX, -(1 << 24) - 400, (1 << 24) - 400, i32::MAX - 800];
    let mut sums: Vec<i32> = far.iter().flat_map(|&from| from..=from + 800).collect();
    sums.extend(-12_000..=12_000);
    check_exact(ActivationFn::Identity, &sums);
}

#[test]
fn codes_behind_functions_are_exact_for_every_sum() {
    let sums: Vec<i32> = (-2_000..=2_000).collect();
    let n = SCALES.len();
    for function in functions(n) {
        check_exact(function, &sums);
    }
}
