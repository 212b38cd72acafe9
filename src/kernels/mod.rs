//! The micro-kernels, by operation, and the one table in which operations and ISAs cross.
//!
//! `bitgemm`, `bytegemm`, `groupgemm`, `linegemm`, `lutgemm`, `floatgemm`, `floatsums`, `pack` and `quantize` hold the
//! algorithms, each once and generic over a small vector trait; `piece` says where they are cut into functions. A file
//! per ISA gives that trait its instructions and fills one row of [`Kernels`]. Whoever wants a kernel takes a row
//! ([`Kernels::of`]); tests, benches, `qcore info` and the C functions walk all of them ([`Kernels::available`]). A new
//! ISA is a file and a row here.
//!
//! Kernels allocate nothing, start no thread and ask nothing of the CPU. The methods of `Kernels` are
//! their safe doors: they check lengths, so that no caller needs `unsafe`.

mod algebra;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bw;
mod bitgemm;
mod bitrows;
pub mod bounds;
mod bytecount;
mod bytegemm;
mod byteweights;
mod depthwise;
mod floatgemm;
mod floatkernel;
mod floatsources;
mod floatsums;
mod floatweights;
mod groupgemm;
mod groupweights;
mod lanes;
mod linegemm;
mod lineweights;
// Plain Rust has no tables.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
mod lutgemm;
mod lutkernel;
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
mod luttask;
mod lutweights;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_bytes;
#[cfg(target_arch = "aarch64")]
mod neon_lut;
mod out;
mod pack;
mod panels;
mod piece;
mod portable;
mod quantize;
mod rows;
mod sink;
mod tablerows;
mod tilecodes;
mod view;

// Miri neither maps pages nor forks.
#[cfg(all(test, target_os = "linux", not(miri)))]
mod fences;
#[cfg(test)]
mod tests;

pub(crate) use algebra::BitWeights;
pub(crate) use algebra::bit_passes;
pub(crate) use bitrows::BitRows;
pub(crate) use byteweights::{ByteKernel, ByteWeights};
pub(crate) use depthwise::DepthwiseTask;
pub(crate) use floatgemm::{BLOCK, FEW, STRIDE};
pub(crate) use floatkernel::{Block, FloatKernel};
pub(crate) use floatweights::FloatWeights;
pub(crate) use groupweights::{GroupKernel, GroupOut, GroupWeights, ZeroPoints};
pub(crate) use lineweights::{LineKernel, LinePixels, LineRows, LineWeights};
pub(crate) use lutgemm::QUAD;
pub(crate) use lutkernel::{LutKernel, Worth};
pub(crate) use lutweights::LutWeights;
pub(crate) use out::Out;
use panels::{Panels, Strip};
pub(crate) use quantize::Steps;
pub(crate) use rows::{Function, RowTask};
use sink::Sink;
pub(crate) use tablerows::TableRows;
pub(crate) use tilecodes::CodeRows;
use tilecodes::TileCodes;
pub(crate) use view::MatMut;

use crate::bits::{ByteRef, Encoding, PackedRef};
use crate::error::Result;
use crate::isa::Isa;
use crate::shape::words;

/// The kernels of one ISA: a row of the table.
pub struct Kernels {
    isa: Isa,
    bitgemm_name: &'static str,
    mr: usize,
    nr: usize,
    bitgemm: unsafe fn(&bitgemm::Task<'_>),
    bytegemm: Option<ByteKernel>,
    groupgemm: GroupKernel,
    linegemm: LineKernel,
    lutgemms: &'static [LutKernel],
    quantize: quantize::Entries,
    floatgemm: FloatKernel,
    pack: unsafe fn(*const u8, usize, usize, *mut u32),
    requantize: unsafe fn(&pack::Requantize, *const i32, *mut u32),
    row_sums: unsafe fn(&[u32], Encoding, &mut [i32]),
    unpack: unsafe fn(&[u32], usize, Encoding, usize, &mut [u8]),
    byte_sums: unsafe fn(&[u8], usize, bool, i32, &mut [i32]),
    rows: unsafe fn(RowTask<'_>),
}

/// The rows that this build holds. Private, so that `Kernels::of` is the only way to one.
static TABLE: &[&Kernels] = &[
    &portable::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &neon::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &neon::DOT_KERNELS,
    #[cfg(target_arch = "aarch64")]
    &neon::I8MM_KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx2::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx2::VNNI_KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx512bw::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &avx512::KERNELS,
];

impl Kernels {
    /// The kernels of `isa`; errors if this build or this machine lacks it.
    pub fn of(isa: Isa) -> Result<&'static Kernels> {
        let isa = isa.require()?;
        let row = TABLE.iter().find(|k| k.isa == isa);
        Ok(row.expect("an ISA that is available was compiled, so it has a row"))
    }

    /// The kernels that this machine runs, worst first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        TABLE.iter().copied().filter(|k| k.isa.is_available())
    }

    /// The ISA.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What the bit GEMM does, in words, for `describe()`.
    pub fn bitgemm_name(&self) -> &'static str {
        self.bitgemm_name
    }

    /// Rows of activations in a tile.
    pub fn mr(&self) -> usize {
        self.mr
    }

    /// Output channels in a panel.
    pub fn nr(&self) -> usize {
        self.nr
    }

    /// Panels of `weights` from `panel` on times `activations`, into `out` (`[rows, channels of the panels]`): as
    /// many as `out` has channels for.
    ///
    /// Panics on encodings or lengths that do not fit together; the plan has checked them.
    pub(crate) fn bitgemm(
        &self,
        weights: &BitWeights,
        panel: usize,
        activations: BitRows<'_>,
        out: Out<'_>,
    ) {
        let (lanes, sink) = out.sink(activations.rows(), self.nr);
        self.run_bits(weights, panel, activations, lanes, sink, None);
    }

    /// Codes of the products of all `n` channels of `weights` with `activations`, on an ISA that [`Kernels::makes_codes`];
    /// `classes` says for each row where its thresholds begin, and is empty if all have the first.
    ///
    /// Panics as [`Kernels::bitgemm`].
    pub(crate) fn bit_codes(
        &self,
        weights: &BitWeights,
        n: usize,
        activations: BitRows<'_>,
        classes: &[u32],
        mut out: CodeRows<'_>,
    ) {
        assert!(self.makes_codes(), "panels of whole bytes");
        let (rows, codes) = out.raw(n, self.nr, classes);
        assert_eq!(rows, activations.rows(), "codes for each row");
        let nowhere = Sink::integers(std::ptr::null_mut(), 0);
        self.run_bits(weights, 0, activations, n, nowhere, Some(codes));
        out.turn();
    }

    /// Whether the bit GEMM can make codes: its panels are whole bytes of them.
    pub(crate) fn makes_codes(&self) -> bool {
        self.nr.is_multiple_of(8)
    }

    /// Panels of `weights` from `panel` on, of `lanes` channels, times `activations`: into `sink`, or `codes`.
    fn run_bits(
        &self,
        weights: &BitWeights,
        panel: usize,
        activations: BitRows<'_>,
        lanes: usize,
        sink: Sink,
        codes: Option<TileCodes>,
    ) {
        let rows = activations.rows();
        let algebra = &weights.algebra;
        assert!(
            weights.fits(activations),
            "weights and activations of one plan"
        );
        if rows == 0 || lanes == 0 {
            return;
        }
        let there = panel..panel + lanes.div_ceil(self.nr);
        let start = &algebra.start[there.start * self.nr..there.end * self.nr];
        let task = bitgemm::Task {
            strip: Strip {
                weights: weights.panels.panels(there).as_ptr(),
                panel_words: weights.panels.panel_words(),
                start: start.as_ptr(),
                lanes,
                sink,
            },
            activations,
            words: activations.words(),
            columns: activations.columns().unwrap_or(&weights.in_order).as_ptr(),
            combine: algebra.combine,
            passes: &algebra.passes,
            falling: &algebra.falling,
            codes,
        };
        // SAFETY: `of` and `available`, the only ways to a row, have checked the features. The lengths
        // are checked above, those of `activations` and where their columns lie by BitRows; the passes name planes that both have,
        // because they were made for these encodings; and sink or codes are of an exclusive view of rows x lanes, which
        // `Out::sink` or `CodeRows::raw` has checked, with thresholds of whole words of 32 channels, a multiple of panels.
        unsafe { (self.bitgemm)(&task) }
    }

    /// Bytes as planes, in `words`, which may be longer than they need.
    pub(crate) fn planes_of<'a>(&self, bytes: ByteRef<'_>, words: &'a mut [u32]) -> PackedRef<'a> {
        let (e, rows, cols) = (bytes.encoding(), bytes.rows(), bytes.cols());
        let row_words = e.planes() * crate::shape::words(cols);
        let words = &mut words[..rows * row_words];
        if cols > 0 {
            let out = words.chunks_exact_mut(row_words);
            for (row, out) in bytes.data().chunks_exact(cols).zip(out) {
                self.pack(row, e.planes(), out);
            }
        }
        PackedRef::packed_here(e, rows, cols, words)
    }

    /// Planes as bytes, rows `stride` apart, with zeros behind K. Panics unless `out` is rows x stride long.
    pub(crate) fn unpack(&self, planes: PackedRef<'_>, stride: usize, out: &mut [u8]) {
        assert_eq!(out.len(), planes.rows() * stride);
        if planes.cols() == 0 {
            out.fill(0);
            return;
        }
        // Rows of one plane of whole words are one long row.
        let (row, stride) = match planes.row_words() * 32 == planes.cols() {
            true if planes.cols() == stride => (planes.words().len(), out.len()),
            _ => (planes.row_words(), stride),
        };
        if !out.is_empty() {
            // SAFETY: features as in `bitgemm`; safe slices carry their lengths.
            unsafe { (self.unpack)(planes.words(), row, planes.encoding(), stride, out) }
        }
    }

    /// `factor` times the sum of each row of bytes, signed or not. Panics unless there are `stride` bytes for
    /// each sum.
    pub(crate) fn byte_sums(
        &self,
        bytes: &[u8],
        stride: usize,
        signed: bool,
        factor: i32,
        sums: &mut [i32],
    ) {
        assert_eq!(bytes.len(), sums.len() * stride);
        // SAFETY: features as in `bitgemm`; safe slices carry their lengths.
        unsafe { (self.byte_sums)(bytes, stride, signed, factor, sums) }
    }

    /// The byte GEMM, where this ISA has one.
    pub(crate) fn byte_kernel(&self) -> Option<&ByteKernel> {
        self.bytegemm.as_ref()
    }

    /// The byte GEMM with scales per group.
    pub(crate) fn group_kernel(&self) -> &GroupKernel {
        &self.groupgemm
    }

    /// The byte GEMM whose rows are taps in lines of an image.
    pub(crate) fn line_kernel(&self) -> &LineKernel {
        &self.linegemm
    }

    /// The table GEMM for a pair of encodings, where this ISA has one.
    pub(crate) fn lut_kernel(
        &self,
        weight: Encoding,
        activation: Encoding,
    ) -> Option<&'static LutKernel> {
        self.lutgemms.iter().find(|k| k.serves(weight, activation))
    }

    /// All table GEMMs.
    #[cfg(test)]
    fn lut_kernels(&self) -> &'static [LutKernel] {
        self.lutgemms
    }

    /// The GEMM of float activations.
    pub(crate) fn float_kernel(&self) -> &FloatKernel {
        &self.floatgemm
    }

    /// Quantizes a row of floats into its planes. Panics unless `out` is planes x ceil(K / 32) long.
    pub(crate) fn quantize(&self, x: &[f32], steps: &Steps, planes: usize, out: &mut [u32]) {
        self.quantize_rows(x, [1, x.len()], steps, planes, out);
    }

    /// Quantizes rows of floats `[rows, K]` into their planes. Panics unless `out` is rows x planes x ceil(K / 32) long.
    pub(crate) fn quantize_rows(
        &self,
        x: &[f32],
        [rows, cols]: [usize; 2],
        steps: &Steps,
        planes: usize,
        out: &mut [u32],
    ) {
        assert_eq!(x.len(), rows * cols);
        assert_eq!(out.len(), rows * planes * words(cols));
        let size = [rows, cols];
        // SAFETY: features as above; `x` and `out` have the lengths that are passed or follow.
        unsafe { (self.quantize.planes)(x.as_ptr(), size, steps, planes, out.as_mut_ptr()) }
    }

    /// Quantizes floats into a byte each, not by the sign. Panics unless `out` is as long as `x`.
    pub(crate) fn quantize_bytes(&self, x: &[f32], steps: &Steps, out: &mut [u8]) {
        assert_eq!(out.len(), x.len());
        // SAFETY: features as above; `x` and `out` have the length that is passed.
        unsafe { (self.quantize.bytes)(x.as_ptr(), x.len(), steps, out.as_mut_ptr()) }
    }

    /// Quantizes floats into a byte each by a linear quantizer, and gives the range of `next` as [`Kernels::range`] does.
    /// Panics unless `out` and `next` are as long as `x`.
    pub(crate) fn quantize_bytes_and_range(
        &self,
        x: &[f32],
        steps: &Steps,
        out: &mut [u8],
        next: &[f32],
    ) -> (f32, f32) {
        assert!(out.len() == x.len() && next.len() == x.len());
        let (from, out) = (x.as_ptr(), out.as_mut_ptr());
        let run = self.quantize.bytes_and_range;
        // SAFETY: features as above; `x`, `next` and `out` have the length that is passed.
        finite(
            unsafe { run(from, x.len(), steps, out, next.as_ptr()) },
            next,
        )
    }

    /// The least and greatest of 0 and the floats that are finite.
    pub(crate) fn range(&self, x: &[f32]) -> (f32, f32) {
        // SAFETY: features as above; `x` has the length that is passed.
        finite(unsafe { (self.quantize.range)(x.as_ptr(), x.len()) }, x)
    }

    /// Packs a row of codes into its planes. Panics unless `out` is planes x ceil(K / 32) long.
    pub(crate) fn pack(&self, codes: &[u8], planes: usize, out: &mut [u32]) {
        assert_eq!(out.len(), planes * words(codes.len()));
        // SAFETY: features as above; `codes` and `out` have the lengths that are passed or follow.
        unsafe { (self.pack)(codes.as_ptr(), codes.len(), planes, out.as_mut_ptr()) }
    }

    /// Turns rows of `cols` sums into codes by integer thresholds, `[levels, 32 ceil(N / 32)]`, and packs them: the
    /// code is the number of levels with `sum > threshold`, or, where the channel's bit of `flip` is set, with
    /// `sum <= threshold`. Panics on lengths that do not fit.
    pub(crate) fn requantize(
        &self,
        sums: &[i32],
        cols: usize,
        thresholds: &[i32],
        flip: &[u32],
        planes: usize,
        out: &mut [u32],
    ) {
        let (words, rows) = (words(cols), sums.len().checked_div(cols).unwrap_or(0));
        assert_eq!(sums.len(), rows * cols);
        assert_eq!(flip.len(), words);
        assert_eq!(out.len(), rows * planes * words);
        let levels = thresholds.len().checked_div(words * 32).unwrap_or(0);
        assert_eq!(thresholds.len(), levels * words * 32);
        assert!(levels <= 255, "a code is a byte");
        assert!(planes <= 8, "a code is a byte");
        let task = pack::Requantize {
            rows,
            cols,
            thresholds: thresholds.as_ptr(),
            levels,
            flip: flip.as_ptr(),
            planes,
        };
        // SAFETY: features as above; the lengths are checked above.
        unsafe { (self.requantize)(&task, sums.as_ptr(), out.as_mut_ptr()) }
    }

    /// Does `task`, element by element. Panics on lengths that do not fit together.
    pub(crate) fn row(&self, task: RowTask<'_>) {
        // SAFETY: features as in `bitgemm`; safe slices carry their lengths.
        unsafe { (self.rows)(task) }
    }

    /// The sum of the integers of each row, without the encoding's offset. Panics unless there is a sum for each row.
    pub(crate) fn row_sums(&self, codes: PackedRef<'_>, sums: &mut [i32]) {
        assert_eq!(sums.len(), codes.rows());
        // SAFETY: features as above; safe slices carry their lengths.
        unsafe { (self.row_sums)(codes.words(), codes.encoding(), sums) }
    }
}

/// Applies `row_sum` to each of `sums.len()` equal rows of `words`.
#[inline(always)]
fn row_sums_with(words: &[u32], sums: &mut [i32], row_sum: impl Fn(&[u32]) -> i32) {
    if words.is_empty() {
        sums.fill(0);
        return;
    }
    let rows = words.chunks_exact(words.len() / sums.len());
    for (sum, row) in sums.iter_mut().zip(rows) {
        *sum = row_sum(row);
    }
}

/// Applies `sum` to each of `sums.len()` rows of `stride` bytes.
#[inline(always)]
fn byte_sums_with(bytes: &[u8], stride: usize, sums: &mut [i32], sum: impl Fn(&[u8]) -> i32) {
    for (i, out) in sums.iter_mut().enumerate() {
        *out = sum(&bytes[i * stride..(i + 1) * stride]);
    }
}

/// The range of `x`, which is the one given if that is finite.
fn finite((lo, hi): (f32, f32), x: &[f32]) -> (f32, f32) {
    if lo.is_finite() && hi.is_finite() {
        return (lo, hi);
    }
    crate::quant::finite_range(x)
}
