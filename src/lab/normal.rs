//! The standard normal density and distribution function.

/// phi(x) = exp(-x^2 / 2) / sqrt(2 pi).
pub fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Phi(x), to about 1e-15: 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ..).
pub fn distribution(x: f64) -> f64 {
    if x.abs() > 8.0 {
        // 6e-16 is left.
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density(x) * sum
}

/// E[max(g, 0)] for g from N(mean, std^2).
pub fn mean_positive_part(mean: f64, std: f64) -> f64 {
    let z = mean / std;
    if z < -5.0 {
        // The two terms below would cancel; the next term of this series is below 1e-4 of the sum.
        let x = 1.0 / (z * z);
        return std * density(z) * x * (1.0 - 3.0 * x * (1.0 - 5.0 * x * (1.0 - 7.0 * x)));
    }
    std * density(z) + mean * distribution(z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_tables() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (3.090_232_306_167_813_6, 0.999),
            (-6.361_340_902_404_056, 1e-10),
            (9.0, 1.0),
            (f64::NEG_INFINITY, 0.0),
        ] {
            assert!(
                (distribution(x) - p).abs() < 2e-15,
                "{x}: {}",
                distribution(x)
            );
        }
        assert!((density(1.0) - 0.241_970_724_519_143_37).abs() < 1e-16);
        // By the midpoint rule.
        let sum: f64 = (0..200_000)
            .map(|i| (f64::from(i) + 0.5) * 1e-4)
            .map(|g| g * density((g - 0.7) / 2.0) / 2.0 * 1e-4)
            .sum();
        assert!((mean_positive_part(0.7, 2.0) - sum).abs() < 1e-8);
        let (near, far) = (
            mean_positive_part(-4.999, 1.0),
            mean_positive_part(-5.001, 1.0),
        );
        assert!(far < near && far > 0.985 * near, "{near} {far}");
        assert!(mean_positive_part(-30.0, 1.0) > 0.0);
    }
}
