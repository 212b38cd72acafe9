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
        assert!(exp(f64::NAN).is_nan() && tanh(f64::NAN).is_nan());
        assert_eq!([tanh(-40.0), tanh(0.0), tanh(40.0)], [-1.0, 0.0, 1.0]);
        assert_eq!(
            [power(0.5, 3), power(3.0, 0), power(-2.0, 5)],
            [0.125, 1.0, -32.0]
        );
    }
}
