//! Floats into codes, checked, then timed beside a copy of the same floats.

use qcore::bits::{ByteRef, Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::kernels::Kernels;
use qcore::ops;
use qcore::quant::{ActQuantizer, Linear, QuantRelu, Quantizer, Rounding, RowQuantizer};
use qcore::{Error, Result};

use super::operands::Random;
use super::report::Conversion;
use super::timing::{Effort, median, timed};

/// Columns of a row.
pub const COLS: usize = 4096;

/// What makes the codes.
#[derive(Clone, Copy)]
enum Maker {
    Fixed(Quantizer),
    /// A scale for each row, made of it.
    Rows(RowQuantizer),
}

/// Where codes go.
enum Codes {
    Planes(PackedMatrix),
    Bytes(Vec<u8>),
}

impl Maker {
    fn encoding(&self) -> Encoding {
        match self {
            Maker::Fixed(q) => q.encoding(),
            Maker::Rows(q) => q.encoding(),
        }
    }
}

/// Sign, the quantized ReLU and linear quantizers of some widths; whether as planes.
fn makers() -> Result<Vec<(Maker, bool)>> {
    let mut all = vec![(Maker::Fixed(ActQuantizer::Sign.into()), true)];
    for bits in [1, 2, 4, 8] {
        let alpha = 1.0 / ((1 << bits) - 1) as f32;
        let relu = QuantRelu::new(bits, alpha, Rounding::Nearest)?;
        all.push((Maker::Fixed(relu.into()), true));
        all.push((Maker::Fixed(relu.into()), false));
    }
    all.push((
        Maker::Fixed(Linear::symmetric(8, 1.0 / 127.0)?.into()),
        false,
    ));
    for bits in [4, 8] {
        all.push((Maker::Rows(RowQuantizer::symmetric(bits)?), true));
    }
    all.push((Maker::Rows(RowQuantizer::symmetric(8)?), false));
    let affine = RowQuantizer::affine(Encoding::unsigned(8)?)?;
    all.push((Maker::Rows(affine), false));
    Ok(all)
}

/// An ISA, a quantizer, where its codes go, and what was measured.
struct Case {
    kernels: &'static Kernels,
    maker: Maker,
    out: Codes,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    calls: usize,
    gigas: Vec<f64>,
    percents: Vec<f64>,
}

impl Case {
    fn run(&mut self, x: &[f32]) -> Result<()> {
        let (kernels, scales, zeros) = (self.kernels, &mut self.scales, &mut self.zeros);
        match (&self.maker, &mut self.out) {
            (Maker::Fixed(q), Codes::Planes(out)) => {
                ops::quantize(kernels, x, q, out, ops::Par::Caller)
            }
            (Maker::Fixed(q), Codes::Bytes(out)) => {
                ops::quantize_bytes(kernels, x, q, out, ops::Par::Caller)
            }
            (Maker::Rows(q), Codes::Planes(out)) => {
                ops::quantize_rows(kernels, x, q, out, scales, zeros, ops::Par::Caller)
            }
            (Maker::Rows(q), Codes::Bytes(out)) => {
                ops::quantize_rows_bytes(kernels, x, q, out, scales, zeros, ops::Par::Caller)
            }
        }
    }

    /// What the bench calls it.
    fn form(&self) -> &'static str {
        match (&self.maker, &self.out) {
            (Maker::Fixed(_), Codes::Planes(_)) => "planes",
            (Maker::Fixed(_), Codes::Bytes(_)) => "bytes",
            (Maker::Rows(q), out) => match (q.is_symmetric(), out) {
                (true, Codes::Planes(_)) => "planes, scale of the row",
                (true, Codes::Bytes(_)) => "bytes, scale of the row",
                (false, Codes::Planes(_)) => "planes, scale and zero point of the row",
                (false, Codes::Bytes(_)) => "bytes, scale and zero point of the row",
            },
        }
    }

    /// Errors unless the first, middle and last row are what the quantizer says.
    fn check(&self, x: &[f32]) -> Result<()> {
        let (e, rows) = (self.maker.encoding(), x.len() / COLS);
        for row in [0, rows / 2, rows - 1] {
            let x = &x[row * COLS..][..COLS];
            let quantizer = match &self.maker {
                Maker::Fixed(q) => *q,
                Maker::Rows(q) => q.of(x).into(),
            };
            let got = match &self.out {
                Codes::Planes(out) => out.view().slice_rows(row..row + 1).unpack(),
                Codes::Bytes(out) => {
                    let out = ByteRef::new(e, rows, COLS, out)?;
                    let bytes = out.slice_rows(row..row + 1).data().iter();
                    match e.min() {
                        0 => bytes.map(|&b| i32::from(b)).collect(),
                        _ => bytes.map(|&b| i32::from(b as i8)).collect(),
                    }
                }
            };
            for (col, (&x, got)) in x.iter().zip(got).enumerate() {
                if e.decode(quantizer.code(x)) != Some(got) {
                    let what = format!("{}: {x} to {e} {}", self.kernels.isa(), self.form());
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
        for (maker, planes) in makers()? {
            let mut case = Case {
                kernels: Kernels::of(isa)?,
                out: match planes {
                    true => Codes::Planes(PackedMatrix::zeros(maker.encoding(), rows, COLS)?),
                    false => Codes::Bytes(vec![0; x.len()]),
                },
                maker,
                scales: vec![0.0; rows],
                zeros: vec![0; rows],
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
    let finish = |case: Case| Conversion {
        a: case.maker.encoding().to_string(),
        form: case.form(),
        isa: case.kernels.isa(),
        level,
        rows,
        cols: COLS,
        giga: median(&case.gigas).unwrap_or(0.0),
        memcpy,
        percent: median(&case.percents).unwrap_or(0.0),
    };
    Ok(cases.into_iter().map(finish).collect())
}
