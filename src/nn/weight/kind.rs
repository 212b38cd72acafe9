//! The kinds of weight quantizers, and which function each calls.

use serde::{Deserialize, Serialize};

use super::Group;
use super::grid::check_spacing;
use super::name::NAMES;
use crate::bits::{Bits, Encoding};
use crate::error::{Error, Result};

/// Which weights share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of them.
    #[default]
    Tensor,
    /// Those of an output channel: a row.
    Channel,
}

/// What the kept magnitudes of [`WeightQuantizer::TernaryTwn`] are divided by.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divisor {
    /// The number of kept weights: their mean, as in the paper.
    #[default]
    Kept,
    /// The number of all weights, as in the code of arXiv 1808.05240: nearer to 0, farther from the weights, and
    /// smaller at each projection of itself. For replication.
    All,
}

/// How [`WeightQuantizer::LossAwareTernary`] is found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TernarySearch {
    /// The nearest of all, by sorting.
    #[default]
    Exact,
    /// Ten rounds of codes and scale at most: a local optimum, without sorting.
    Approx,
    /// The exact one for the positive and for the negative weights apart, with a scale each.
    TwoScale,
}

/// A weight quantizer. `Default` is [`WeightQuantizer::BinaryMean`] with one scale.
#[derive(Clone, PartialEq, Debug)]
pub enum WeightQuantizer {
    /// sign(w) mean |w|, the nearest binary weights. XNOR-Net, arXiv 1603.05279; arXiv 1808.05240.
    BinaryMean {
        /// Which weights share a scale.
        scope: Scope,
    },
    /// sign(w) median |w|. The code of arXiv 1808.05240 has it as a switch.
    BinaryMedian {
        /// Which weights share a scale.
        scope: Scope,
    },
    /// sign(w) times a fixed scale. BinaryConnect, arXiv 1511.00363.
    BinaryPlain {
        /// H, above 0.
        scale: f32,
    },
    /// What lies beyond 0.7 mean |w|, times its mean magnitude. Ternary Weight Networks, arXiv 1605.04711.
    TernaryTwn {
        /// What the kept magnitudes are divided by.
        divisor: Divisor,
        /// Which weights share a scale.
        scope: Scope,
    },
    /// The nearest ternary weights, by sorting: argmax over t of (sum of the t largest)^2 / t.
    TernaryExact {
        /// Which weights share a scale.
        scope: Scope,
    },
    /// clamp(round(w / (gamma + 1e-5)), -1, 1) gamma with gamma = mean |w|. BitNet b1.58, arXiv 2402.17764.
    TernaryAbsMean {
        /// Which weights share a scale.
        scope: Scope,
    },
    /// Levels 0, +-1 .. +-(2^(bits-1) - 1) times a fitted scale. arXiv 1808.05240's code (4 bits, no sweep).
    UniformSym {
        /// Bits, 2 to 8.
        bits: usize,
        /// Rounds of Lloyd's alternation after the first fit, at most; it ends when no code changes.
        sweeps: usize,
        /// Which weights share a scale.
        scope: Scope,
    },
    /// The nearest multiple of a fixed spacing, ties away from 0. arXiv 1706.02379.
    GridDet {
        /// The spacing, above 0.
        delta: f32,
    },
    /// One of the two multiples beside the weight, by a draw, so that the mean is the weight. arXiv 1706.02379.
    GridStoch {
        /// The spacing, above 0.
        delta: f32,
    },
    /// +-H, +H with probability (w / H + 1) / 2 clamped to [0, 1]. BinaryConnect, arXiv 1511.00363.
    StochBinary {
        /// H, above 0.
        scale: f32,
    },
    /// sign(w) sum D |w| / sum D: the nearest in the metric. LAB, arXiv 1611.01600.
    LossAwareBinary {
        /// Which weights share a scale.
        scope: Scope,
    },
    /// Ternary weights near in the metric. LAT, arXiv 1802.08635.
    LossAwareTernary {
        /// How they are found.
        search: TernarySearch,
    },
    /// Levels k / n, |k| <= n = 2^(bits-1) - 1, with a scale that is fitted in the metric. LAQ, arXiv 1802.08635.
    LossAwareLinear {
        /// Bits, 2 to 8.
        bits: usize,
    },
    /// Levels 0 and +-2^-j, j < 2^(bits-1) - 1, with a scale that is fitted in the metric. LAQ, arXiv 1802.08635.
    LossAwareLog {
        /// Bits, 2 to 4.
        bits: usize,
    },
    /// Codes -2^(bits-1) .. 2^(bits-1) - 1 times a learned step. LSQ, arXiv 1902.08153.
    LsqWeight {
        /// Bits, 2 to 8.
        bits: usize,
    },
    /// 2 q(tanh w / (2 max |tanh w|) + 1/2) - 1 with q to 2^bits - 1 steps; for 1 bit sign(w) mean |w|. DoReFa-Net,
    /// arXiv 1606.06160.
    Dorefa {
        /// Bits, 1 to 8.
        bits: usize,
    },
    /// (w + lambda Q(w)) / (1 + lambda): the values lie between the weights and their projection. BinaryRelax,
    /// arXiv 1801.06313.
    Relaxed {
        /// 0 or more.
        lambda: f32,
        /// Q.
        of: Box<WeightQuantizer>,
    },
}

impl Default for WeightQuantizer {
    fn default() -> Self {
        WeightQuantizer::BinaryMean {
            scope: Scope::Tensor,
        }
    }
}

impl WeightQuantizer {
    /// The weights of `bits` bits of arXiv 1808.05240: binary for 1, ternary (exact) for 2, uniform for 3 to 8.
    pub fn of_bits(bits: usize) -> Result<Self> {
        let scope = Scope::Tensor;
        match bits {
            1 => Ok(WeightQuantizer::BinaryMean { scope }),
            2 => Ok(WeightQuantizer::TernaryExact { scope }),
            3..=8 => Ok(WeightQuantizer::UniformSym {
                bits,
                sweeps: 0,
                scope,
            }),
            _ => Err(Error::argument("bits", bits, "1 to 8")),
        }
    }

    /// The name, as recipes have it.
    pub fn name(&self) -> &'static str {
        use WeightQuantizer as Q;
        let index = match self {
            Q::BinaryMean { .. } => 0,
            Q::BinaryMedian { .. } => 1,
            Q::BinaryPlain { .. } => 2,
            Q::TernaryTwn { .. } => 3,
            Q::TernaryExact { .. } => 4,
            Q::TernaryAbsMean { .. } => 5,
            Q::UniformSym { .. } => 6,
            Q::GridDet { .. } => 7,
            Q::GridStoch { .. } => 8,
            Q::StochBinary { .. } => 9,
            Q::LossAwareBinary { .. } => 10,
            Q::LossAwareTernary { .. } => 11,
            Q::LossAwareLinear { .. } => 12,
            Q::LossAwareLog { .. } => 13,
            Q::LsqWeight { .. } => 14,
            Q::Dorefa { .. } => 15,
            Q::Relaxed { .. } => 16,
        };
        NAMES[index]
    }

    /// Errors if a number is out of its range.
    pub fn check(&self) -> Result<()> {
        use WeightQuantizer as Q;
        let bits_in = |bits: usize, low: usize, high: usize| match (low..=high).contains(&bits) {
            true => Ok(()),
            false => Err(Error::argument(
                "bits",
                bits,
                format_args!("{low} to {high}"),
            )),
        };
        match self {
            Q::BinaryPlain { scale } | Q::StochBinary { scale } => check_spacing("scale", *scale),
            Q::GridDet { delta } | Q::GridStoch { delta } => check_spacing("delta", *delta),
            Q::UniformSym { bits, .. } | Q::LossAwareLinear { bits } | Q::LsqWeight { bits } => {
                bits_in(*bits, 2, 8)
            }
            Q::LossAwareLog { bits } => bits_in(*bits, 2, 4),
            Q::Dorefa { bits } => bits_in(*bits, 1, 8),
            Q::Relaxed { lambda, of } => {
                check_lambda(*lambda)?;
                of.check()
            }
            _ => Ok(()),
        }
    }

    /// Whether a draw decides codes, so that the step of the generator matters.
    pub fn is_stochastic(&self) -> bool {
        match self {
            WeightQuantizer::GridStoch { .. } | WeightQuantizer::StochBinary { .. } => true,
            WeightQuantizer::Relaxed { of, .. } => of.is_stochastic(),
            _ => false,
        }
    }

    /// Whether the metric matters.
    pub fn is_loss_aware(&self) -> bool {
        match self {
            WeightQuantizer::Relaxed { of, .. } => of.is_loss_aware(),
            _ => self.name().starts_with("loss-aware"),
        }
    }

    /// Bits of a code, of which ternary ones have 2; `None` of grids, which have no end.
    pub fn bits(&self) -> Option<usize> {
        use WeightQuantizer as Q;
        match self {
            Q::BinaryMean { .. }
            | Q::BinaryMedian { .. }
            | Q::BinaryPlain { .. }
            | Q::StochBinary { .. }
            | Q::LossAwareBinary { .. } => Some(1),
            Q::TernaryTwn { .. }
            | Q::TernaryExact { .. }
            | Q::TernaryAbsMean { .. }
            | Q::LossAwareTernary { .. } => Some(2),
            Q::UniformSym { bits, .. }
            | Q::LossAwareLinear { bits }
            | Q::LossAwareLog { bits }
            | Q::LsqWeight { bits }
            | Q::Dorefa { bits } => Some(*bits),
            Q::GridDet { .. } | Q::GridStoch { .. } => None,
            Q::Relaxed { of, .. } => of.bits(),
        }
    }

    /// Which weights share a scale.
    pub fn scope(&self) -> Scope {
        use WeightQuantizer as Q;
        match self {
            Q::BinaryMean { scope }
            | Q::BinaryMedian { scope }
            | Q::TernaryTwn { scope, .. }
            | Q::TernaryExact { scope }
            | Q::TernaryAbsMean { scope }
            | Q::UniformSym { scope, .. }
            | Q::LossAwareBinary { scope } => *scope,
            Q::Relaxed { of, .. } => of.scope(),
            _ => Scope::Tensor,
        }
    }

    pub(super) fn encoding_of_codes(&self) -> Option<Encoding> {
        use WeightQuantizer as Q;
        let signed = |bits: usize| Bits::new(bits).ok().map(Encoding::Signed);
        match self {
            Q::BinaryMean { .. }
            | Q::BinaryMedian { .. }
            | Q::BinaryPlain { .. }
            | Q::StochBinary { .. }
            | Q::LossAwareBinary { .. }
            | Q::Dorefa { bits: 1 } => Some(Encoding::Bipolar),
            Q::TernaryTwn { .. } | Q::TernaryExact { .. } | Q::TernaryAbsMean { .. } => {
                Some(Encoding::Ternary)
            }
            Q::LossAwareTernary { search } => match search {
                TernarySearch::TwoScale => None,
                _ => Some(Encoding::Ternary),
            },
            Q::UniformSym { bits, .. } | Q::LossAwareLinear { bits } | Q::LsqWeight { bits } => {
                signed(*bits)
            }
            // +-1; +-1 .. 4; +-1 .. 64.
            Q::LossAwareLog { bits } => signed([2, 4, 8][(*bits).clamp(2, 4) - 2]),
            // Odd integers up to 2^bits - 1.
            Q::Dorefa { bits } => signed(bits + 1),
            Q::GridDet { .. } | Q::GridStoch { .. } | Q::Relaxed { .. } => None,
        }
    }

    /// The scale, where it does not depend on the weights.
    pub(super) fn fixed_scale(&self) -> Option<f32> {
        use WeightQuantizer as Q;
        match self {
            Q::BinaryPlain { scale } | Q::StochBinary { scale } => Some(*scale),
            Q::GridDet { delta } | Q::GridStoch { delta } => Some(*delta),
            _ => None,
        }
    }

    /// Codes and values of one group, which is not empty; its scale is put behind `scales`.
    pub(super) fn project_group(&self, mut group: Group<'_>, scales: &mut Vec<f32>) {
        use WeightQuantizer as Q;
        if self.fixed_scale().is_none() && !group.is_finite() {
            let scale = group.give_up(self.encoding_of_codes() == Some(Encoding::Bipolar));
            scales.push(scale);
            if let Q::LossAwareTernary {
                search: TernarySearch::TwoScale,
            } = self
            {
                scales.push(scale);
            }
            return;
        }
        let top = |bits: usize| (1 << (bits - 1)) - 1;
        let scale = match self {
            Q::BinaryMean { .. } | Q::Dorefa { bits: 1 } => {
                let scale = group.mean();
                group.binary(scale)
            }
            Q::BinaryMedian { .. } => {
                let scale = group.median();
                group.binary(scale)
            }
            Q::BinaryPlain { scale } => group.binary(*scale),
            Q::TernaryTwn { divisor, .. } => group.twn(*divisor),
            Q::TernaryExact { .. } => Group {
                metric: None,
                ..group
            }
            .ternary_exact(),
            Q::TernaryAbsMean { .. } => group.abs_mean(),
            Q::UniformSym { bits, sweeps, .. } => Group {
                metric: None,
                ..group
            }
            .uniform(top(*bits), *sweeps),
            Q::GridDet { delta } => group.grid_det(*delta),
            Q::GridStoch { delta } => group.grid_stoch(*delta),
            Q::StochBinary { scale } => group.stoch_binary(*scale),
            Q::LossAwareBinary { .. } => {
                let scale = group.weighted_mean();
                group.binary(scale)
            }
            Q::LossAwareTernary { search } => match search {
                TernarySearch::Exact => group.ternary_exact(),
                TernarySearch::Approx => group.ternary_approx(),
                TernarySearch::TwoScale => {
                    let [plus, minus] = group.ternary_two_scales();
                    scales.push(plus);
                    minus
                }
            },
            Q::LossAwareLinear { bits } => group.linear_levels(top(*bits)),
            Q::LossAwareLog { bits } => group.log_levels(1 << (top(*bits) - 1)),
            Q::LsqWeight { bits } => group.lsq(*bits),
            Q::Dorefa { bits } => group.dorefa(*bits),
            // Its projection is that of what it relaxes; see `Project`.
            Q::Relaxed { of, .. } => return of.project_group(group, scales),
        };
        scales.push(scale);
    }
}

/// Errors unless lambda is a number of 0 or more.
pub(super) fn check_lambda(lambda: f32) -> Result<()> {
    if lambda >= 0.0 && lambda.is_finite() {
        return Ok(());
    }
    Err(Error::argument("lambda", lambda, "a number of 0 or more"))
}
