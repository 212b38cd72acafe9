//! What the vector code of a quantizer is made of.

#[cfg(target_arch = "x86_64")]
use crate::quant::QuantRelu;
use crate::quant::{ActQuantizer, Quantizer, Rounding};

/// Thresholds passed when x > T.
pub(super) const ABOVE: u8 = 0;
/// Thresholds passed when x >= T.
pub(super) const FROM: u8 = 1;
/// Multiples of a scale.
pub(super) const LINEAR: u8 = 2;
/// The same, signed, with the zero point 0.
pub(super) const CENTRED: u8 = 3;

/// 2^23: from here to 2^24 floats are the whole numbers, and the last bits of the float are the number's.
pub(super) const WHOLE: f32 = 8_388_608.0;
/// More than any code, and converted to an integer without a fault: NEON's conversion saturates and needs none.
#[cfg(target_arch = "x86_64")]
pub(super) const PLENTY: f32 = 65_536.0;

/// A quantizer, ready for vectors.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub(super) rule: u8,
    /// 1 / alpha or 1 / scale.
    pub(super) inverse: f32,
    pub(super) alpha: f32,
    /// M - h: what takes x / alpha to m, and m back to c + h.
    pub(super) base: f32,
    /// -M alpha: m alpha plus this is c alpha, rounded once if fused.
    #[cfg(target_arch = "aarch64")]
    pub(super) origin: f32,
    /// T_0, T_1, T_2, of one or two bits.
    pub(super) thresholds: [f32; 3],
    /// The least and greatest code that is used, and what is taken from it at the end: 128 for signed codes,
    /// which are counted from -128 till then.
    pub(super) low: u8,
    pub(super) high: u8,
    pub(super) bias: u8,
    /// The zero point, counted as above.
    pub(super) zero: i16,
    #[cfg(target_arch = "x86_64")]
    pub(super) grid: Grid,
}

/// The same quantized ReLU as AVX-512 wants it.
///
/// What thresholds are multiples of is the step: alpha for `Ceil` and alpha / 2 for `Nearest`. With k the nearest whole
/// number to x / step, `Ceil` has the code k + [x > k step], as above. `Nearest` has (k + [x >= k step]) / 2, rounded
/// down: an odd k is that of the one threshold that x may be on either side of, and for an even k the bracket does
/// not count. So both compare with k step, which is one product.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Default)]
pub(super) struct Grid {
    pub(super) inverse: f32,
    pub(super) step: f32,
    /// -M step: with m = M + k, m step plus this is k step, rounded once if fused.
    pub(super) origin: f32,
    /// q alpha: what lies above has the same code, q.
    pub(super) top: f32,
    /// Up to four bits: what T_c is above, to be passed, by c.
    pub(super) above: [f32; 16],
}

#[cfg(target_arch = "x86_64")]
impl Grid {
    fn new(q: &QuantRelu) -> Self {
        let parts = match q.rounding() {
            Rounding::Ceil => 1.0,
            Rounding::Nearest => 2.0,
        };
        let mut above = [0.0; 16];
        for (c, above) in above.iter_mut().enumerate() {
            *above = match q.rounding() {
                Rounding::Ceil => q.threshold(c),
                Rounding::Nearest => q.threshold(c).next_down(),
            };
        }
        Grid {
            inverse: parts * (1.0 / q.alpha()),
            step: q.alpha() / parts,
            origin: -WHOLE * (q.alpha() / parts),
            top: q.value(q.bits().max_code() as u8),
            above,
        }
    }
}

impl Steps {
    pub(crate) fn new(quantizer: &Quantizer) -> Self {
        let none = Steps {
            rule: FROM,
            inverse: 0.0,
            alpha: 0.0,
            base: 0.0,
            #[cfg(target_arch = "aarch64")]
            origin: 0.0,
            thresholds: [0.0; 3],
            low: 0,
            high: 0,
            bias: 0,
            zero: 0,
            #[cfg(target_arch = "x86_64")]
            grid: Grid::default(),
        };
        match quantizer {
            // One threshold, 0.
            Quantizer::Act(ActQuantizer::Sign) => none,
            Quantizer::Act(ActQuantizer::Relu(q)) => Steps {
                rule: match q.rounding() {
                    Rounding::Ceil => ABOVE,
                    Rounding::Nearest => FROM,
                },
                inverse: 1.0 / q.alpha(),
                alpha: q.alpha(),
                base: WHOLE - q.offset(),
                #[cfg(target_arch = "aarch64")]
                origin: -WHOLE * q.alpha(),
                thresholds: [0, 1, 2].map(|c| q.threshold(c)),
                high: q.bits().max_code() as u8,
                #[cfg(target_arch = "x86_64")]
                grid: Grid::new(q),
                ..none
            },
            Quantizer::Linear(q) => {
                let bias = if q.encoding().min() < 0 { 128 } else { 0 };
                Steps {
                    rule: match (bias, q.zero()) {
                        (128, 0) => CENTRED,
                        _ => LINEAR,
                    },
                    inverse: q.inverse(),
                    low: (q.low() + bias) as u8,
                    high: (q.high() + bias) as u8,
                    bias: bias as u8,
                    zero: (q.zero() + bias) as i16,
                    ..none
                }
            }
        }
    }
}
