//! Products of packed weights and packed activations.

use std::fmt;
use std::ops::Range;

use super::Par;
use crate::bits::{Encoding, PackedRef};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernels::{Kernels, MatMut, Out, Panels};
use crate::shape::{check_len, words};

/// Words of activations that a block of rows may take: half of a 1 MiB second-level cache, so that the
/// block stays there while the panels of weights pass by.
const BLOCK_WORDS: usize = 128 * 1024;

/// Bit operations below which splitting costs more than it gives: about ten microseconds of one core.
const SPLIT_BITS: u64 = 1 << 24;

/// What happens to the integer sums of a product.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Epilogue {
    /// They are the result, i32.
    #[default]
    None,
    /// `scale[n] * sum + bias[n]` in f32: the sum converted to the nearest even f32, the product rounded,
    /// then the sum rounded; never contracted into a fused operation. Both have N elements.
    ScaleBias {
        /// Factor of each output channel.
        scale: Vec<f32>,
        /// Summand of each output channel.
        bias: Vec<f32>,
    },
}

/// A plan for `activations [M, K] x weights [N, K] -> [M, N]`: weights prepacked, kernel chosen.
///
/// Weights are bipolar; activations are bipolar or unsigned of 1 to 8 bits. Sums are exact i32:
/// |sum| <= K x (largest activation), and a plan for which that bound exceeds 2^31 - 1 is refused. So K may
/// be up to [`Gemm::max_k`]: 2,147,483,647 for 1 bit, 143,165,576 for 4 bits, 8,421,504 for 8 bits.
/// The result is the same on every ISA and for every number of threads.
pub struct Gemm {
    kernels: &'static Kernels,
    panels: Panels,
    activation: Encoding,
    n: usize,
    k: usize,
    /// Scale and bias, padded to whole panels.
    scale_bias: Option<(Vec<f32>, Vec<f32>)>,
}

impl Gemm {
    /// A plan for `weights` `[N, K]` and activations of the encoding `activation`, on the ISA that
    /// [`Isa::chosen`] gives.
    ///
    /// Errors if an encoding is not served, if K exceeds the accumulator's bound, if the epilogue's
    /// lengths are not N, or if `QCORE_ISA` asks for an ISA that is not here.
    pub fn new(weights: PackedRef<'_>, activation: Encoding, epilogue: Epilogue) -> Result<Self> {
        Self::on(Isa::chosen()?, weights, activation, epilogue)
    }

    /// As [`Gemm::new`], on a given ISA.
    pub fn on(
        isa: Isa,
        weights: PackedRef<'_>,
        activation: Encoding,
        epilogue: Epilogue,
    ) -> Result<Self> {
        let kernels = Kernels::of(isa)?;
        if weights.encoding() != Encoding::Bipolar {
            return Err(Error::argument(
                "weights",
                weights.encoding(),
                "bipolar codes",
            ));
        }
        let (n, k) = (weights.rows(), weights.cols());
        let max_k = Self::max_k(activation)?;
        if k > max_k {
            let expected =
                format!("at most {max_k} for {activation} activations, or i32 sums overflow");
            return Err(Error::argument("K", k, expected));
        }
        let scale_bias = match epilogue {
            Epilogue::None => None,
            Epilogue::ScaleBias { scale, bias } => {
                check_len("scale", scale.len(), n, "N")?;
                check_len("bias", bias.len(), n, "N")?;
                let pad = |mut v: Vec<f32>| {
                    v.resize(n.next_multiple_of(kernels.nr()), 0.0);
                    v
                };
                Some((pad(scale), pad(bias)))
            }
        };
        Ok(Gemm {
            kernels,
            panels: Panels::new(weights, kernels.nr())?,
            activation,
            n,
            k,
            scale_bias,
        })
    }

    /// The largest K for which bipolar weights times `activation` cannot overflow an i32 sum:
    /// floor((2^31 - 1) / largest activation).
    ///
    /// Errors if the encoding is not served as activations.
    pub fn max_k(activation: Encoding) -> Result<usize> {
        match activation {
            Encoding::Bipolar | Encoding::Unsigned(_) => {
                Ok(i32::MAX as usize / activation.magnitude() as usize)
            }
            _ => Err(Error::argument(
                "activation",
                activation,
                "bipolar or u1..u8",
            )),
        }
    }

    /// Elements of i32 scratch that a run over `rows` rows needs.
    pub fn scratch_len(&self, rows: usize) -> usize {
        if self.activation == Encoding::Bipolar {
            0
        } else {
            rows
        }
    }

    /// The sums of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// `scratch` has [`Gemm::scratch_len`] elements or more. Errors if the encoding or K of the
    /// activations differ from the plan's, the range leaves the rows, or a length is wrong; then `out` is
    /// untouched.
    pub fn run_i32(
        &self,
        activations: PackedRef<'_>,
        rows: Range<usize>,
        out: &mut [i32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let activations = self.check(activations, rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.rows(), self.n)?;
        let part = |panel: usize, rows: PackedRef<'_>, sums: &[i32], out: MatMut<'_, i32>| {
            self.kernels
                .bitgemm(&self.panels, panel, rows, sums, Out::I32(out))
        };
        self.run(activations, out, scratch, par, &part);
        Ok(())
    }

    /// The floats `scale * sum + bias` of rows `rows` of `activations`, into `out` `[rows.len(), N]`.
    ///
    /// As [`Gemm::run_i32`]; errors also if the plan was made without [`Epilogue::ScaleBias`].
    pub fn run_f32(
        &self,
        activations: PackedRef<'_>,
        rows: Range<usize>,
        out: &mut [f32],
        scratch: &mut [i32],
        par: Par<'_>,
    ) -> Result<()> {
        let Some((scale, bias)) = &self.scale_bias else {
            return Err(Error::argument(
                "epilogue",
                "none",
                "scale and bias for a result in f32",
            ));
        };
        let activations = self.check(activations, rows, scratch.len())?;
        let out = MatMut::new("out", out, activations.rows(), self.n)?;
        let nr = self.kernels.nr();
        let part = |panel: usize, rows: PackedRef<'_>, sums: &[i32], out: MatMut<'_, f32>| {
            let lanes = panel * nr..(panel + 1) * nr;
            let out = Out::F32 {
                out,
                scale: &scale[lanes.clone()],
                bias: &bias[lanes],
            };
            self.kernels.bitgemm(&self.panels, panel, rows, sums, out)
        };
        self.run(activations, out, scratch, par, &part);
        Ok(())
    }

    /// The rows to work on, once everything fits.
    fn check<'a>(
        &self,
        activations: PackedRef<'a>,
        rows: Range<usize>,
        scratch: usize,
    ) -> Result<PackedRef<'a>> {
        if activations.encoding() != self.activation {
            let (got, expected) = (activations.encoding(), self.activation);
            return Err(Error::argument(
                "activations",
                got,
                format_args!("{expected} codes, as the plan says"),
            ));
        }
        if activations.cols() != self.k {
            return Err(Error::argument(
                "K of the activations",
                activations.cols(),
                self.k,
            ));
        }
        if rows.start > rows.end || rows.end > activations.rows() {
            let expected = format!("a range inside 0..{}", activations.rows());
            return Err(Error::argument("rows", format_args!("{rows:?}"), expected));
        }
        if scratch < self.scratch_len(rows.len()) {
            let expected = format!("at least {}", self.scratch_len(rows.len()));
            return Err(Error::argument(
                "scratch",
                format_args!("{scratch} elements long"),
                expected,
            ));
        }
        Ok(activations.slice_rows(rows))
    }

    fn run<T: Send>(
        &self,
        activations: PackedRef<'_>,
        out: MatMut<'_, T>,
        scratch: &mut [i32],
        par: Par<'_>,
        part: &(impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>) + Sync),
    ) {
        let sums = &mut scratch[..self.scratch_len(activations.rows())];
        if !sums.is_empty() {
            self.kernels.row_sums(activations, sums);
        }
        let planes = self.activation.planes() as u64;
        let bits = activations.rows() as u64 * self.n as u64 * self.k as u64 * planes;
        let pieces = (4 * par.threads() as u64).min(bits / SPLIT_BITS).max(1) as usize;
        let panels = 0..self.panels.len();
        if pieces == 1 || par.threads() == 1 {
            self.blocks(activations, sums, panels, out, part);
        } else {
            let work = || self.split(pieces, activations, sums, panels, out, par, part);
            par.enter(work);
        }
    }

    /// Halves the work until `pieces` is 1: rows while there are many, else panels.
    #[allow(clippy::too_many_arguments)]
    fn split<T: Send>(
        &self,
        pieces: usize,
        activations: PackedRef<'_>,
        sums: &[i32],
        panels: Range<usize>,
        out: MatMut<'_, T>,
        par: Par<'_>,
        part: &(impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>) + Sync),
    ) {
        let (mr, nr) = (self.kernels.mr(), self.kernels.nr());
        let tiles = activations.rows().div_ceil(mr);
        if pieces > 1 && tiles > 1 && tiles >= panels.len() {
            let at = tiles / 2 * mr;
            let (top, below) = out.split_rows(at);
            let (sums_top, sums_below) = sums.split_at(at.min(sums.len()));
            let (rows_top, rows_below) = (
                activations.slice_rows(0..at),
                activations.slice_rows(at..activations.rows()),
            );
            let panels_below = panels.clone();
            par.join(
                || self.split(pieces / 2, rows_top, sums_top, panels, top, par, part),
                || {
                    self.split(
                        pieces - pieces / 2,
                        rows_below,
                        sums_below,
                        panels_below,
                        below,
                        par,
                        part,
                    )
                },
            );
        } else if pieces > 1 && panels.len() > 1 {
            let at = panels.len() / 2;
            let (left, right) = out.split_cols(at * nr);
            let (panels_left, panels_right) = (
                panels.start..panels.start + at,
                panels.start + at..panels.end,
            );
            par.join(
                || self.split(pieces / 2, activations, sums, panels_left, left, par, part),
                || {
                    self.split(
                        pieces - pieces / 2,
                        activations,
                        sums,
                        panels_right,
                        right,
                        par,
                        part,
                    )
                },
            );
        } else {
            self.blocks(activations, sums, panels, out, part);
        }
    }

    /// Every panel times a block of rows that stays in the second-level cache, block after block.
    fn blocks<T>(
        &self,
        activations: PackedRef<'_>,
        sums: &[i32],
        panels: Range<usize>,
        mut out: MatMut<'_, T>,
        part: &impl Fn(usize, PackedRef<'_>, &[i32], MatMut<'_, T>),
    ) {
        let (mr, nr) = (self.kernels.mr(), self.kernels.nr());
        let fit = BLOCK_WORDS / activations.row_words().max(1);
        let block = (fit / mr * mr).max(mr);
        let mut row = 0;
        while row < activations.rows() {
            let end = activations.rows().min(row + block);
            let rows = activations.slice_rows(row..end);
            let sums = if sums.is_empty() {
                sums
            } else {
                &sums[row..end]
            };
            let (_, below) = out.reborrow().split_rows(row);
            let (mut block, _) = below.split_rows(end - row);
            for panel in panels.clone() {
                let (_, rest) = block.reborrow().split_cols((panel - panels.start) * nr);
                let lanes = nr.min(rest.cols());
                part(panel, rows, sums, rest.split_cols(lanes).0);
            }
            row = end;
        }
    }

    /// Output channels, N.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs of a channel, K.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The encoding of the activations.
    pub fn activation(&self) -> Encoding {
        self.activation
    }

    /// The ISA whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Bytes of weights in the canonical packed form, without the padding of panels.
    pub fn weight_bytes(&self) -> usize {
        self.n * words(self.k) * 4
    }

    /// Bytes of weights as prepacked for the kernel.
    pub fn prepacked_bytes(&self) -> usize {
        self.panels.bytes()
    }

    /// Which kernel runs, for people: ISA, method, tile and planes.
    pub fn describe(&self) -> String {
        let (planes, kernels) = (self.activation.planes(), self.kernels);
        let (isa, name) = (kernels.isa(), kernels.bitgemm_name());
        let pass = if planes == 1 {
            "1 pass".to_string()
        } else {
            format!("{planes} bit-serial passes")
        };
        format!(
            "{isa}: {name}, tile {}x{}, {pass}",
            kernels.mr(),
            kernels.nr()
        )
    }
}

impl fmt::Debug for Gemm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Gemm(N {}, K {}, {} activations, {})",
            self.n,
            self.k,
            self.activation,
            self.describe()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::PackedMatrix;
    use crate::ops::Pool;
    use proptest::prelude::*;

    fn codes(e: Encoding, rows: usize, cols: usize, seed: u64) -> PackedMatrix {
        let values: Vec<i32> = (0..=255).filter_map(|c| e.decode(c)).collect();
        let at = |i: usize| ((i as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize;
        let values: Vec<i32> = (0..rows * cols)
            .map(|i| values[at(i) % values.len()])
            .collect();
        PackedMatrix::pack(e, rows, cols, &values).unwrap()
    }

    fn naive(w: &PackedMatrix, a: &PackedMatrix) -> Vec<i32> {
        let (wv, av, k) = (w.unpack(), a.unpack(), w.cols());
        let dot = |m: usize, n: usize| (0..k).map(|c| wv[n * k + c] * av[m * k + c]).sum();
        (0..a.rows() * w.rows())
            .map(|i| dot(i / w.rows(), i % w.rows()))
            .collect()
    }

    proptest! {
        #[test]
        fn any_shape_any_range_any_threads(
            m in 0usize..40, n in 0usize..80, k in 0usize..200, bits in 0usize..9, seed: u64, threads in 1usize..4,
        ) {
            let e = if bits == 0 { Encoding::Bipolar } else { Encoding::unsigned(bits).unwrap() };
            let (w, a) = (codes(Encoding::Bipolar, n, k, seed), codes(e, m, k, seed ^ 77));
            let expected = naive(&w, &a);
            let pool = Pool::new(threads).unwrap();
            let rows = m / 3..m - m / 4;
            for isa in Isa::available() {
                let gemm = Gemm::on(isa, w.view(), e, Epilogue::None).unwrap();
                let mut scratch = vec![7; gemm.scratch_len(rows.len())];
                let mut out = vec![7; rows.len() * n];
                gemm.run_i32(a.view(), rows.clone(), &mut out, &mut scratch, Par::Pool(&pool)).unwrap();
                prop_assert_eq!(&out, &expected[rows.start * n..rows.end * n]);
            }
        }
    }

    #[test]
    fn splitting_among_threads_changes_nothing() {
        // Big enough to be split, odd enough to leave tails; one shape splits by rows, one by panels.
        for (m, n, k) in [(601, 333, 700), (5, 3001, 4099)] {
            let e = Encoding::unsigned(2).unwrap();
            let (w, a) = (codes(Encoding::Bipolar, n, k, 1), codes(e, m, k, 2));
            let scale: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / 97.0).collect();
            let epilogue = Epilogue::ScaleBias {
                bias: scale.clone(),
                scale,
            };
            let gemm = Gemm::new(w.view(), e, epilogue).unwrap();
            let mut scratch = vec![0; gemm.scratch_len(m)];
            let (mut ints, mut floats) = (vec![0; m * n], vec![0.0; m * n]);
            gemm.run_i32(a.view(), 0..m, &mut ints, &mut scratch, Par::Caller)
                .unwrap();
            gemm.run_f32(a.view(), 0..m, &mut floats, &mut scratch, Par::Caller)
                .unwrap();
            let some: Vec<usize> = (0..m * n).step_by(4001).collect();
            let expected = naive(&w, &a);
            assert!(some.iter().all(|&i| ints[i] == expected[i]));
            for threads in 2..=5 {
                let pool = Pool::new(threads).unwrap();
                let (mut i2, mut f2) = (vec![1; m * n], vec![1.0; m * n]);
                gemm.run_i32(a.view(), 0..m, &mut i2, &mut scratch, Par::Pool(&pool))
                    .unwrap();
                gemm.run_f32(a.view(), 0..m, &mut f2, &mut scratch, Par::Pool(&pool))
                    .unwrap();
                assert!(i2 == ints && f2 == floats, "{threads} threads");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_written() {
        let (u4, w) = (
            Encoding::unsigned(4).unwrap(),
            codes(Encoding::Bipolar, 3, 40, 1),
        );
        let ternary = codes(Encoding::Ternary, 3, 40, 1);
        let new =
            |w: &PackedMatrix, e| Gemm::new(w.view(), e, Epilogue::None).map_err(|e| e.to_string());
        assert_eq!(
            new(&ternary, u4).unwrap_err(),
            "weights is ternary; expected bipolar codes"
        );
        assert_eq!(
            new(&w, Encoding::Ternary).unwrap_err(),
            "activation is ternary; expected bipolar or u1..u8"
        );
        let epilogue = Epilogue::ScaleBias {
            scale: vec![1.0; 2],
            bias: vec![1.0; 3],
        };
        let said = Gemm::new(w.view(), u4, epilogue).unwrap_err().to_string();
        assert_eq!(said, "scale is 2 elements long; expected 3 (N)");

        let gemm = new(&w, u4).unwrap();
        let (a, b) = (codes(u4, 2, 40, 3), codes(u4, 2, 41, 3));
        let run = |a: &PackedMatrix, rows, out: usize, scratch: usize| {
            let (mut out, mut scratch) = (vec![9; out], vec![9; scratch]);
            let said = gemm.run_i32(a.view(), rows, &mut out, &mut scratch, Par::Caller);
            assert!(out.iter().all(|&o| o == 9), "written");
            said.unwrap_err().to_string()
        };
        assert_eq!(
            run(&b, 0..2, 6, 2),
            "K of the activations is 41; expected 40"
        );
        assert_eq!(
            run(&w, 0..2, 6, 2),
            "activations is bipolar; expected u4 codes, as the plan says"
        );
        assert_eq!(
            run(&a, 0..3, 9, 3),
            "rows is 0..3; expected a range inside 0..2"
        );
        assert_eq!(
            run(&a, 0..2, 5, 2),
            "out is 5 elements long; expected 6 (rows x N)"
        );
        assert_eq!(
            run(&a, 0..2, 6, 1),
            "scratch is 1 elements long; expected at least 2"
        );
        let said = gemm
            .run_f32(a.view(), 0..2, &mut [0.0; 6], &mut [0; 2], Par::Caller)
            .unwrap_err();
        assert_eq!(
            said.to_string(),
            "epilogue is none; expected scale and bias for a result in f32"
        );
    }

    #[test]
    fn k_beyond_the_bound_is_refused_and_at_the_bound_is_exact() {
        let u8s = Encoding::unsigned(8).unwrap();
        let max = Gemm::max_k(u8s).unwrap();
        assert_eq!(max, 8_421_504);
        assert_eq!(Gemm::max_k(Encoding::Bipolar).unwrap(), i32::MAX as usize);
        let plus = PackedMatrix::pack(Encoding::Bipolar, 1, max + 1, &vec![1; max + 1]).unwrap();
        let said = Gemm::new(plus.view(), u8s, Epilogue::None)
            .unwrap_err()
            .to_string();
        assert_eq!(
            said,
            "K is 8421505; expected at most 8421504 for u8 activations, or i32 sums overflow"
        );
        for (sign, expected) in [(1, 255 * max as i32), (-1, -255 * max as i32)] {
            let w = PackedMatrix::pack(Encoding::Bipolar, 1, max, &vec![sign; max]).unwrap();
            let a = PackedMatrix::pack(u8s, 1, max, &vec![255; max]).unwrap();
            for isa in Isa::available() {
                let gemm = Gemm::on(isa, w.view(), u8s, Epilogue::None).unwrap();
                let mut out = [0];
                gemm.run_i32(a.view(), 0..1, &mut out, &mut [0], Par::Caller)
                    .unwrap();
                assert_eq!(out[0], expected, "{isa}");
            }
        }
    }
}
