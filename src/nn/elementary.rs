//! Elementary functions of +, -, * and / in f64 alone, which IEEE 754 rounds in one way.
//!
//! The platform's `exp` and `tanh` differ in the last place from machine to machine, and a weight that lies on
//! a threshold would then get another code. These do not; they are good to about 1e-15, `exp` relatively.

/// e^x; 0 below -745 and infinite above 709.8.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.8 {
        return f64::INFINITY;
    }
    if x < -745.0 {
        return 0.0;
    }
    // x = k ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with zeros at its end, so that k times it
    // is exact.
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = (x - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    // |r|^14 / 14! is below 5e-18.
    let series = (1..14)
        .rev()
        .fold(1.0, |sum, i| 1.0 + sum * r / f64::from(i));
    // Twice, because 2^-1074 is not a normal number.
    let half = (k / 2.0).floor();
    series * power_of_two(half as i32) * power_of_two((k - half) as i32)
}

/// The hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    let size = x.abs();
    let t = if size < 1e-4 {
        // The next term is below 2e-17 of the first.
        size - size * size * size / 3.0
    } else {
        let e = exp(-2.0 * size);
        (1.0 - e) / (1.0 + e)
    };
    if x < 0.0 { -t } else { t }
}

/// e^x without a branch and without a division, so that loops of it become vector code: off by less than a share of
/// 1e-14, for x from -700 to 700. NaN stays NaN.
#[inline(always)]
pub fn exp_quick(x: f64) -> f64 {
    // Floats from 2^52 to 2^53 are the integers there: the sum is rounded, and has the integer in its last bits.
    const FAR: f64 = 6_755_399_441_055_744.0;
    let far = x * std::f64::consts::LOG2_E + FAR;
    let k = far - FAR;
    let r = (x - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    // 1 / i!, rounded once.
    const TERMS: [f64; 14] = {
        let mut terms = [1.0; 14];
        let mut factorial = 1u64;
        let mut i = 1;
        while i < 14 {
            factorial *= i as u64;
            terms[i] = 1.0 / factorial as f64;
            i += 1;
        }
        terms
    };
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * r + term);
    series * f64::from_bits(far.to_bits().wrapping_add(1023) << 52)
}

/// The hyperbolic tangent without a branch: off by less than a share of 1e-11.
#[inline(always)]
pub fn tanh_quick(x: f64) -> f64 {
    let size = x.abs();
    let small = size - size * size * size / 3.0;
    let down = -2.0 * size;
    let e = exp_quick(if down < -700.0 { -700.0 } else { down });
    let large = (1.0 - e) / (1.0 + e);
    let t = if size < 1e-4 { small } else { large };
    if x < 0.0 { -t } else { t }
}

/// f(x) of each `x`, in f32, from an f64 that is `quick` and off by less than a share of `room`: where that leaves a
/// doubt about how it is rounded, some neighbours and it are what `exact` says. So the bits are those of `exact`.
#[inline(always)]
pub fn each_rounded(
    x: &[f32],
    out: &mut [f32],
    room: f64,
    quick: impl Fn(f32) -> f64,
    exact: impl Fn(f32) -> f32,
) {
    const NEIGHBOURS: usize = 16;
    let (less, more) = (1.0 - room, 1.0 + room);
    for (x, out) in x.chunks(NEIGHBOURS).zip(out.chunks_mut(NEIGHBOURS)) {
        let mut doubt = false;
        for (x, out) in x.iter().zip(&mut *out) {
            let y = quick(*x);
            let (low, high) = ((y * less) as f32, (y * more) as f32);
            // NaN is never equal: it is left to `exact`.
            doubt |= low != high;
            *out = low;
        }
        if doubt {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = exact(*x));
        }
    }
}

/// base^n, by squaring.
pub fn power(base: f64, n: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, n);
    while rest > 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    result
}

/// 2^k, -1022 <= k <= 1023.
fn power_of_two(k: i32) -> f64 {
    f64::from_bits(((k + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_left_to_what_is_exact() {
        let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.01 - 5.0).collect();
        let exact = |x: f32| tanh(f64::from(x)) as f32;
        let expected: Vec<f32> = x.iter().map(|x| exact(*x)).collect();
        let mut out = vec![0.0; x.len()];
        let calls = std::cell::Cell::new(0);
        let counted = |x| {
            calls.set(calls.get() + 1);
            exact(x)
        };
        each_rounded(&x, &mut out, 1e-11, |x| tanh_quick(x.into()), counted);
        assert_eq!(out, expected);
        assert!(calls.get() < 200, "{}", calls.get());
        // A bad guess, and one that is honest about it.
        let off = |x: f32| tanh(f64::from(x)) * (1.0 + 1e-6);
        each_rounded(&x, &mut out, 1e-5, off, exact);
        assert_eq!(out, expected);
        each_rounded(&x, &mut out, 1e-5, |_| f64::NAN, exact);
        assert_eq!(out, expected);
    }

    #[test]
    fn they_agree_with_the_platform() {
        for i in -7000..7100 {
            let x = f64::from(i) * 0.1 + 0.0123;
            let (got, expected) = (exp(x), x.exp());
            // Below the normal numbers there are fewer digits.
            let near = (got - expected).abs() <= 4e-15 * expected + 5e-324;
            assert!(near || got == expected, "exp({x})");
            let x = x * 0.003;
            assert!((tanh(x) - x.tanh()).abs() <= 1e-15, "tanh({x})");
        }
        for x in [1e-9, 9.9e-5, 1.01e-4, 3e-3] {
            assert!((tanh(x) / x.tanh() - 1.0).abs() < 1e-11, "{x}");
        }
        assert_eq!([exp(-1e9), exp(0.0), exp(1e9)], [0.0, 1.0, f64::INFINITY]);
        for i in -69_999..70_000 {
            let x = f64::from(i) * 0.01;
            assert!((exp_quick(x) / exp(x) - 1.0).abs() < 1e-14, "{x}");
            let x = x * 1e-3;
            let (quick, slow) = (tanh_quick(x), tanh(x));
            assert!((quick - slow).abs() <= 1e-11 * slow.abs(), "{x}");
        }
        assert!(exp_quick(f64::NAN).is_nan() && tanh_quick(f64::NAN).is_nan());
        assert!(exp(f64::NAN).is_nan() && tanh(f64::NAN).is_nan());
        assert_eq!([tanh(-40.0), tanh(0.0), tanh(40.0)], [-1.0, 0.0, 1.0]);
        assert_eq!(
            [power(0.5, 3), power(3.0, 0), power(-2.0, 5)],
            [0.125, 1.0, -32.0]
        );
    }
}
