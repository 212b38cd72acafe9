//! What follows the integer sums of a layer, block by block while they are in the cache: the fused epilogue.
//!
//! For output channel n, in f32, each operation rounded once and none contracted, in this order:
//!
//! ```text
//!   y = scale[n] * sum + bias[n]         batch norm is folded into scale and bias: see `fold_batch_norm`
//!   y = y + residual                     where the residual comes before the activation function
//!   y = function(y)
//!   y = y + residual                     where it comes after
//!   out = y, or y in 16 bits, or the code of y
//! ```
//!
//! That is the contract, and what training evaluates: the sum becomes the nearest f32, itself up to 2^24, and each
//! product, sum and threshold of the quantizer is the nearest f32, ties to even. So the code of a sum follows from the
//! float parameters alone, on every ISA.
//!
//! Without a residual every step is monotone in the sum unless a slope is negative, so codes of one and two bits come
//! from integer thresholds, found by bisection on this very computation ([`Finish::prepare`]): the same codes, and no
//! float at all, often made while the sums are in registers.
//!
//! Codes of more levels, and signed ones, come from the floats, which are faster and no less exact. Thresholds are
//! compared one by one, 2^bits - 1 of them, where a vector finds the code of a float in as many steps for any bits, and a
//! guess that thresholds put right would begin with those same steps. A sum of 256 channels takes, by thresholds
//! and by floats, on one core of a Zen 5, in ns:
//!
//! | bits | AVX2 | AVX-512 |
//! |---|---|---|
//! | 1 | 0.14, 0.18 | 0.10, 0.15 |
//! | 2 | 0.38, 0.20 | 0.30, 0.17 |
//! | 3 | 1.16, 0.25 | 1.08, 0.19 |
//! | 4 | 2.33, 0.25 | 2.24, 0.20 |
//! | 8 | 36.5, 0.28 | 36.3, 0.30 |
//!
//! Floats would gain next to nothing in registers: codes of 4 bits take 0.27 ns a sum over blocks of 8 to 32 KiB of sums,
//! 0.28 over 98, 0.30 over 200 and more (Zen 5, with neighbours). Two bits keep their thresholds, which need no sums in
//! memory. `tests/exact.rs` computes the chain in whole numbers and compares both ways, of 1 to 8 bits, for every sum of
//! a wide range.

use super::requantize::Thresholds;
use crate::bits::Encoding;
use crate::error::{Error, Result};
use crate::kernels::{Kernels, RowTask, Steps};
use crate::quant::{ActQuantizer, Float, Quantizer};
use crate::shape::{check_len, words};

mod batch_norm;
mod kinds;

pub use batch_norm::fold_batch_norm;
pub use kinds::{ActivationFn, OutRows, OutputKind, Residual, ResidualAt};

/// The fused epilogue of a layer of N channels.
#[derive(Clone, PartialEq, Debug)]
pub struct Finish {
    n: usize,
    scale: Vec<f32>,
    bias: Vec<f32>,
    function: ActivationFn,
    residual: ResidualAt,
    output: OutputKind,
    thresholds: Option<Thresholds>,
    /// The same for several rows of few channels at once, as a plan runs it.
    wide: Option<Box<Finish>>,
}

/// Elements of a row that calls and loops cost little beside; shorter ones are finished several together.
const WIDE: usize = 128;

/// Levels up to which codes come from thresholds: those of codes that tiles make; the floats cost less for more.
const FEW_LEVELS: usize = 3;

impl Finish {
    /// The sums of `n` channels as they are.
    pub fn integers(n: usize) -> Self {
        Finish {
            n,
            scale: Vec::new(),
            bias: Vec::new(),
            function: ActivationFn::Identity,
            residual: ResidualAt::Nowhere,
            output: OutputKind::I32,
            thresholds: None,
            wide: None,
        }
    }

    /// The codes that ready thresholds give, as a file holds them.
    pub fn by_thresholds(thresholds: Thresholds) -> Self {
        Finish {
            output: OutputKind::Levels(thresholds.encoding()),
            thresholds: Some(thresholds.clone()),
            ..Finish::integers(thresholds.n())
        }
    }

    /// `output` of the floats `function(scale * sum + bias)`, with a residual where `residual` says.
    ///
    /// Errors if lengths differ from that of `scale`, a number is not finite, `low` is above `high`, or the output
    /// is i32 or levels, which have no floats, or bytes of the sign.
    pub fn new(
        scale: Vec<f32>,
        bias: Vec<f32>,
        function: ActivationFn,
        residual: ResidualAt,
        output: OutputKind,
    ) -> Result<Self> {
        let n = scale.len();
        let refused = match output {
            OutputKind::I32 => Some("i32"),
            OutputKind::Levels(_) => Some("levels"),
            OutputKind::Bytes(Quantizer::Act(ActQuantizer::Sign)) => Some("bytes of the sign"),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(Error::argument("output", refused, "floats or codes"));
        }
        let mut all = vec![("scale", &scale), ("bias", &bias)];
        match &function {
            ActivationFn::PRelu { slope } => all.push(("slope", slope)),
            ActivationFn::RPRelu {
                before,
                slope,
                after,
            } => all.extend([("before", before), ("slope", slope), ("after", after)]),
            ActivationFn::Clamp { low, high } if !(low <= high && (high - low).is_finite()) => {
                let value = format!("{low} to {high}");
                return Err(Error::argument(
                    "clamp",
                    value,
                    "a finite range, low <= high",
                ));
            }
            _ => {}
        }
        for (name, values) in all {
            check_len(name, values.len(), n, "N")?;
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let value = format!("{} at {i}", values[i]);
                return Err(Error::argument(name, value, "finite numbers"));
            }
        }
        Ok(Finish {
            n,
            scale,
            bias,
            function,
            residual,
            output,
            thresholds: None,
            wide: None,
        })
    }

    /// The same for sums of which none is larger than `bound`, K max|w| max|a|, in magnitude: codes of few bits then
    /// come from integer thresholds where they can, and rows of few channels are finished several together. A plan does
    /// this with its own bound.
    ///
    /// Errors if `bound` is negative.
    pub fn prepare(mut self, bound: i32) -> Result<Self> {
        if let OutputKind::Codes(Quantizer::Act(quantizer)) = self.output
            && quantizer.encoding().levels() <= FEW_LEVELS
            && self.is_monotone()
        {
            let falls = |n: usize| self.scale[n] < 0.0;
            let code = |n: usize, sum: i32| quantizer.code(self.float(n, sum));
            let encoding = quantizer.encoding();
            self.thresholds = Some(Thresholds::of(encoding, self.n, bound, falls, code)?);
        }
        let times = WIDE / self.n.max(1);
        if times > 1 && self.thresholds.is_none() && self.output != OutputKind::I32 {
            self.wide = Some(Box::new(Finish {
                n: self.n * times,
                scale: self.scale.repeat(times),
                bias: self.bias.repeat(times),
                function: self.function.repeat(times),
                wide: None,
                thresholds: None,
                ..self
            }));
        }
        Ok(self)
    }

    /// Whether a greater sum never gives a lesser float where the scale is positive.
    fn is_monotone(&self) -> bool {
        let rises = |slope: &[f32]| slope.iter().all(|&s| s >= 0.0);
        self.residual == ResidualAt::Nowhere
            && match &self.function {
                ActivationFn::PRelu { slope } | ActivationFn::RPRelu { slope, .. } => rises(slope),
                _ => true,
            }
    }

    /// The float of a sum of channel `n`, without residual.
    fn float(&self, n: usize, sum: i32) -> f32 {
        let y = sum as f32 * self.scale[n] + self.bias[n];
        self.function.as_rows().of(y, n)
    }

    /// Channels, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// What leaves.
    pub fn output(&self) -> OutputKind {
        self.output
    }

    /// Where a residual is added.
    pub fn residual(&self) -> ResidualAt {
        self.residual
    }

    /// Factors of the sums: N, or none if no floats are made.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Summands: N, or none if no floats are made.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// The activation function.
    pub fn function(&self) -> &ActivationFn {
        &self.function
    }

    /// The thresholds that codes come from: those of [`Finish::by_thresholds`], or those that a plan has made.
    pub fn thresholds(&self) -> Option<&Thresholds> {
        self.thresholds.as_ref()
    }

    /// Whether codes come from integer thresholds, without a float.
    pub fn is_by_thresholds(&self) -> bool {
        self.thresholds.is_some()
    }

    /// Elements of i32 that [`Finish::run`] needs as working space.
    pub(crate) fn scratch_len(&self) -> usize {
        match self.residual {
            ResidualAt::Nowhere => 0,
            // Rows of floats, and their codes a byte each.
            _ => {
                let elements = self.rows_together() * self.n;
                elements + elements.div_ceil(4)
            }
        }
    }

    /// Elements of a row that leaves.
    pub(crate) fn row_len(&self, out: &OutRows<'_>) -> usize {
        match (out, self.output.encoding()) {
            (OutRows::Codes(_), Some(encoding)) => encoding.planes() * words(self.n),
            _ => self.n,
        }
    }

    /// Errors unless rows of this kind leave, and `residual` and `out` are `pixels` long. The sums leave any finish.
    pub(crate) fn check_all(
        &self,
        residual: Option<&Residual<'_>>,
        out: &OutRows<'_>,
        pixels: usize,
    ) -> Result<()> {
        if let OutRows::I32(_) = out {
            if residual.is_some() {
                return Err(Error::argument("residual", "given", "none for the sums"));
            }
        } else {
            self.check_kind(out.name())?;
            self.check(residual, pixels)?;
        }
        let expected = crate::shape::elements("out", &[pixels, self.row_len(out)])?;
        check_len("out", out.len(), expected, "pixels x elements of a pixel")
    }

    /// Errors unless what leaves is called `name`.
    pub(crate) fn check_kind(&self, name: &str) -> Result<()> {
        let kind = self.output.name();
        match kind == name {
            true => Ok(()),
            false => Err(Error::argument("output of the plan", kind, name)),
        }
    }

    /// Errors unless there is a residual if and only if one is added, of `pixels` x N.
    pub(crate) fn check(&self, residual: Option<&Residual<'_>>, pixels: usize) -> Result<()> {
        let added = self.residual != ResidualAt::Nowhere;
        let Some(residual) = residual else {
            return match added {
                true => Err(Error::argument("residual", "none", "one for this plan")),
                false => Ok(()),
            };
        };
        if !added {
            return Err(Error::argument("residual", "given", "none for this plan"));
        }
        let (encoding, rows, cols) = match residual {
            Residual::Floats(floats) => return self.check_floats(floats.len(), pixels),
            Residual::F16(floats) => return self.check_floats(floats.len(), pixels),
            Residual::Bf16(floats) => return self.check_floats(floats.len(), pixels),
            Residual::Planes { codes, .. } => (codes.encoding(), codes.rows(), codes.cols()),
            Residual::Bytes { codes, .. } => (codes.encoding(), codes.rows(), codes.cols()),
        };
        if encoding == Encoding::Ternary {
            let expected = "floats or codes that are bipolar, u1..u8 or s1..s8";
            return Err(Error::argument("residual", encoding, expected));
        }
        if (rows, cols) != (pixels, self.n) {
            let value = format!("{rows} x {cols}");
            let expected = format!("{pixels} x {} (pixels x N)", self.n);
            return Err(Error::argument("residual", value, expected));
        }
        Ok(())
    }

    /// Errors unless a residual of `len` floats is `pixels` x N.
    fn check_floats(&self, len: usize, pixels: usize) -> Result<()> {
        let expected = crate::shape::elements("pixels x N", &[pixels, self.n])?;
        check_len("residual", len, expected, "pixels x N")
    }

    /// Writes `out`, the rows of `sums` `[rows, N]` finished; the first one is that of pixel `pixel` of the
    /// residual. `sums` are used up. Panics on lengths or kinds that do not fit; the plan has checked them.
    pub(crate) fn run(
        &self,
        kernels: &Kernels,
        sums: &mut [i32],
        pixel: usize,
        residual: Option<Residual<'_>>,
        out: OutRows<'_>,
        scratch: &mut [i32],
    ) {
        if self.n == 0 {
            return;
        }
        let mut out = match (out, &self.thresholds) {
            (OutRows::I32(out), _) => return out.copy_from_slice(sums),
            (OutRows::Codes(out), Some(thresholds)) => {
                return thresholds.run_rows(kernels, sums, out);
            }
            (out, _) => out,
        };
        let (together, row) = (self.rows_together(), self.row_len(&out));
        for (i, sums) in sums.chunks_mut(together * self.n).enumerate() {
            let (first, rows) = (pixel + i * together, sums.len() / self.n);
            let residual = residual.map(|residual| {
                self.residual_floats(kernels, residual, first..first + rows, scratch)
            });
            let wide = self.wide.as_deref().unwrap_or(self);
            let (some, rest) = sums.split_at_mut(sums.len() / wide.n * wide.n);
            let halves = residual.map(|floats| floats.split_at(some.len()));
            wide.floats(kernels, some, halves.map(|both| both.0));
            self.floats(kernels, rest, halves.map(|both| both.1));
            self.put(kernels, bytemuck::cast_slice(sums), out.take(rows * row));
        }
    }

    /// Rows of sums as the bits of finished floats.
    fn floats(&self, kernels: &Kernels, sums: &mut [i32], residual: Option<&[f32]>) {
        kernels.row(RowTask::Finish {
            sums,
            floats: false,
            scale: &self.scale,
            bias: &self.bias,
            residual,
            first: self.residual == ResidualAt::BeforeFunction,
            function: self.function.as_rows(),
        });
    }

    /// Rows of finished floats, as what leaves.
    fn put(&self, kernels: &Kernels, floats: &[f32], out: OutRows<'_>) {
        match (out, self.output) {
            (OutRows::F32(out), _) => out.copy_from_slice(floats),
            (OutRows::F16(out), _) => Float::narrow(floats, out),
            (OutRows::Bf16(out), _) => Float::narrow(floats, out),
            (OutRows::Bytes(out), OutputKind::Bytes(quantizer)) => {
                kernels.quantize_bytes(floats, &Steps::new(&quantizer), out);
            }
            (OutRows::Codes(out), OutputKind::Codes(quantizer)) => {
                let (steps, planes) = (Steps::new(&quantizer), quantizer.encoding().planes());
                if matches!(self.n, 8 | 16) {
                    return short_rows(kernels, floats, self.n, &steps, planes, out);
                }
                let size = [floats.len() / self.n, self.n];
                kernels.quantize_rows(floats, size, &steps, planes, out);
            }
            _ => unreachable!("the plan has matched the output with its kind"),
        }
    }

    /// Rows that become floats together, with their residual, and leave: enough that calls cost little, few enough that
    /// their floats stay in the first-level cache. So a block is passed over once.
    fn rows_together(&self) -> usize {
        (2048 / self.n.max(1)).clamp(1, 64)
    }

    /// Rows `rows` of a residual as floats.
    fn residual_floats<'s>(
        &self,
        kernels: &Kernels,
        residual: Residual<'s>,
        rows: std::ops::Range<usize>,
        scratch: &'s mut [i32],
    ) -> &'s [f32] {
        let some = rows.start * self.n..rows.end * self.n;
        let (floats, bytes) = scratch.split_at_mut(some.len());
        let bytes = &mut bytemuck::cast_slice_mut(bytes)[..some.len()];
        let floats: &mut [f32] = bytemuck::cast_slice_mut(floats);
        let (encoding, codes, scale) = match residual {
            Residual::Floats(all) => return &all[some],
            Residual::F16(all) => {
                Float::widen(&all[some], floats);
                return floats;
            }
            Residual::Bf16(all) => {
                Float::widen(&all[some], floats);
                return floats;
            }
            Residual::Bytes { codes, scale } => (codes.encoding(), &codes.data()[some], scale),
            Residual::Planes { codes, scale } => {
                kernels.unpack(codes.slice_rows(rows), self.n, bytes);
                (codes.encoding(), &*bytes, scale)
            }
        };
        kernels.row(values(encoding, codes, scale, floats));
        floats
    }
}

/// Codes of rows of `n` floats, a divisor of 32: many rows are quantized as one, and its words cut.
fn short_rows(
    kernels: &Kernels,
    floats: &[f32],
    n: usize,
    steps: &Steps,
    planes: usize,
    out: &mut [u32],
) {
    const WORDS: usize = 16;
    let (together, mask) = (32 / n, u32::MAX >> (32 - n));
    let some = out.chunks_mut(WORDS * together * planes);
    for (floats, out) in floats.chunks(WORDS * 32).zip(some) {
        let (mut codes, words) = ([0u32; 8 * WORDS], words(floats.len()));
        let codes = &mut codes[..planes * words];
        kernels.quantize(floats, steps, planes, codes);
        for (row, out) in out.chunks_exact_mut(planes).enumerate() {
            let (word, shift) = (row / together, row % together * n);
            for (plane, out) in out.iter_mut().enumerate() {
                *out = codes[plane * words + word] >> shift & mask;
            }
        }
    }
}

/// The task that turns codes of `encoding`, a byte each as [`Kernels::unpack`] gives them, into floats.
pub(super) fn values<'a>(
    encoding: Encoding,
    codes: &'a [u8],
    scale: f32,
    out: &'a mut [f32],
) -> RowTask<'a> {
    // A bipolar code is a bit; all others are their integers.
    let (apart, low) = match encoding {
        Encoding::Bipolar => (2, -1),
        _ => (1, 0),
    };
    RowTask::Values {
        codes,
        signed: matches!(encoding, Encoding::Signed(_)),
        apart,
        low,
        scale,
        out,
    }
}

#[cfg(test)]
mod tests;
