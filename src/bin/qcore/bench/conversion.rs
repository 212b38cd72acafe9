//! Floats into bit planes, checked, then timed beside a copy of the same floats.

use qcore::bits::{Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::kernels::Kernels;
use qcore::ops;
use qcore::quant::{ActQuantizer, QuantRelu, Rounding};
use qcore::{Error, Result};

use super::operands::Random;
use super::report::Conversion;
use super::timing::{Effort, median, timed};

/// Columns of a row.
pub const COLS: usize = 4096;

/// Sign, and the quantized ReLU of some widths.
fn quantizers() -> Result<Vec<ActQuantizer>> {
    let mut all = vec![ActQuantizer::Sign];
    for bits in [1, 2, 4, 8] {
        let alpha = 1.0 / ((1 << bits) - 1) as f32;
        all.push(ActQuantizer::Relu(QuantRelu::new(
            bits,
            alpha,
            Rounding::Nearest,
        )?));
    }
    Ok(all)
}

/// An ISA, a quantizer, where its codes go, and what was measured.
struct Case {
    kernels: &'static Kernels,
    quantizer: ActQuantizer,
    out: PackedMatrix,
    calls: usize,
    gigas: Vec<f64>,
    percents: Vec<f64>,
}

impl Case {
    fn run(&mut self, x: &[f32]) -> Result<()> {
        ops::quantize(self.kernels, x, &self.quantizer, &mut self.out)
    }

    /// Errors unless the first, middle and last row are what the quantizer says.
    fn check(&self, x: &[f32]) -> Result<()> {
        let (e, rows) = (self.quantizer.encoding(), self.out.rows());
        for row in [0, rows / 2, rows - 1] {
            let got = self.out.view().slice_rows(row..row + 1).unpack();
            for (col, (&x, got)) in x[row * COLS..][..COLS].iter().zip(got).enumerate() {
                if e.decode(self.quantizer.code(x)) != Some(got) {
                    let what = format!("{}: {x} to {e}", self.kernels.isa());
                    let problem = format!("[{row}, {col}] is {got}");
                    return Err(Error::format(what, problem));
                }
            }
        }
        Ok(())
    }
}

/// Every width on all ISAs, `rows` rows of floats; interleaved with copies. `tick` is told of each repetition.
pub fn measure(
    isas: &[Isa],
    level: &'static str,
    rows: usize,
    effort: Effort,
    mut tick: impl FnMut(),
) -> Result<Vec<Conversion>> {
    let x = Random(rows as u64).floats(rows * COLS);
    let mut copied = vec![0f32; x.len()];
    let mut copy = || std::hint::black_box(&mut copied[..]).copy_from_slice(&x);
    let copies = effort.calls(&mut copy);
    let mut cases = Vec::new();
    for &isa in isas {
        for quantizer in quantizers()? {
            let mut case = Case {
                kernels: Kernels::of(isa)?,
                out: PackedMatrix::zeros(quantizer.encoding(), rows, COLS)?,
                quantizer,
                calls: 1,
                gigas: Vec::new(),
                percents: Vec::new(),
            };
            case.run(&x)?;
            case.check(&x)?;
            case.calls = effort.calls(|| drop(case.run(&x)));
            cases.push(case);
        }
    }
    let (bytes, mut memcpy) = (size_of_val(&x[..]) as f64, Vec::new());
    for _ in 0..effort.repetitions {
        let copy = timed(copies, &mut copy);
        memcpy.push(bytes / copy.seconds / 1e9);
        for case in &mut cases {
            // Errors cannot come: the run that was checked gave none.
            let run = timed(case.calls, || drop(case.run(&x)));
            case.gigas.push(bytes / run.seconds / 1e9);
            case.percents.push(100.0 * copy.seconds / run.seconds);
        }
        tick();
    }
    let memcpy = median(&memcpy).unwrap_or(0.0);
    let finish = |case: Case| {
        let e: Encoding = case.quantizer.encoding();
        Conversion {
            a: e.to_string(),
            isa: case.kernels.isa(),
            level,
            rows,
            cols: COLS,
            giga: median(&case.gigas).unwrap_or(0.0),
            memcpy,
            percent: median(&case.percents).unwrap_or(0.0),
        }
    };
    Ok(cases.into_iter().map(finish).collect())
}
