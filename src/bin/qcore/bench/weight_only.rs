//! Weight-only products of one shape on one team: checked, then timed beside f32 GEMM and the limits of the core.

use std::fmt;
use std::str::FromStr;

use qcore::bits::Encoding;
use qcore::isa::Isa;
use qcore::kernels::bounds::{Block, Loops};
use qcore::ops::WeightOnlyGemm;
use qcore::quant::{Granularity, Scales};
use qcore::{Error, Result};

use super::limits::{port_rate, read_rate};
use super::operands::{Pair, Random, Shape, check};
use super::product::Floats;
use super::report::Product;
use super::timing::{Effort, Team, median, timed};

/// What is asked for by `--pair`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Codes times codes.
    Codes(Pair),
    /// Weights of this encoding times f32.
    Floats(Encoding),
}

impl FromStr for Asked {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_suffix(":f32") {
            Some(w) => w.parse().map(Asked::Floats),
            None => text.parse().map(Asked::Codes),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Codes(pair) => pair.fmt(f),
            Asked::Floats(w) => write!(f, "{w}:f32"),
        }
    }
}

/// A plan, its operands, and what was measured so far.
struct Case {
    isa: Isa,
    w: Encoding,
    shape: Shape,
    plan: WeightOnlyGemm,
    activations: Vec<f32>,
    out: Vec<f32>,
    scratch: Vec<f32>,
    calls: usize,
    /// As in a product of codes.
    rates: [Vec<f64>; 5],
}

impl Case {
    /// A product of random weights, a scale a channel, and random floats, run once and checked.
    fn new(isa: Isa, w: Encoding, shape: Shape, team: &Team, effort: Effort) -> Result<Self> {
        let Shape { n, m, k } = shape;
        let mut random = Random((n * m + k) as u64);
        let weights = random.packed(w, n, k)?;
        let (activations, values) = (random.floats(m * k), random.floats(n));
        let scales = Scales::new(Granularity::Channel, values.clone())?;
        let plan = WeightOnlyGemm::on(isa, weights.view(), &scales, None)?;
        let mut case = Case {
            isa,
            w,
            shape,
            activations,
            out: vec![0.0; m * n],
            scratch: vec![0.0; plan.scratch_len(m)],
            plan,
            calls: 1,
            rates: Default::default(),
        };
        case.run(team)?;
        // The sum in the plan's order gives the plan's bits.
        let dot = |row: usize, lane: usize| {
            let w = weights.view().slice_rows(lane..lane + 1).unpack();
            let a = &case.activations[row * k..][..k];
            values[lane].mul_add(sum(&w, a, weights.encoding().planes()), 0.0)
        };
        let wrong = |at: usize, expected: &f32| {
            let same = case.out[at].to_bits() == expected.to_bits();
            (!same).then_some(case.out[at])
        };
        check(&format!("{isa} {w}:f32"), shape, dot, wrong)?;
        // Errors cannot come: the run that was checked gave none. Here and below.
        case.calls = effort.calls(|| drop(case.run(team)));
        Ok(case)
    }

    fn run(&mut self, team: &Team) -> Result<()> {
        let (m, out, scratch) = (self.shape.m, &mut self.out, &mut self.scratch);
        self.plan
            .run(&self.activations, m, 0..m, out, scratch, team.par())
    }

    /// Bytes that a run reads at least: the weights as prepacked, and the activations.
    fn bytes_read(&self) -> usize {
        self.plan.prepacked_bytes() + size_of_val(&self.activations[..])
    }

    fn finish(self, threads: usize) -> Product {
        let bytes = self.bytes_read() + size_of_val(&self.out[..]);
        let [rate, bound, giga, ratio, clock] = self.rates.map(|r| median(&r));
        Product {
            w: self.w.to_string(),
            a: "f32".to_string(),
            isa: self.isa,
            shape: self.shape,
            threads,
            kernel: self.plan.describe(),
            rate: rate.unwrap_or(0.0),
            bound,
            giga: giga.unwrap_or(0.0),
            ratio: ratio.unwrap_or(0.0),
            clock: clock.unwrap_or(0.0),
            intensity: self.shape.macs() / bytes as f64,
        }
    }
}

/// The sum of a row and a channel in the order that [`WeightOnlyGemm`] gives.
fn sum(w: &[i32], a: &[f32], bits: usize) -> f32 {
    let pair = |w: &[i32], a: &[f32]| match (w, a) {
        (&[w, next_w], &[a, next_a]) => (next_w as f32).mul_add(next_a, w as f32 * a),
        (&[w], &[a]) => w as f32 * a,
        _ => 0.0,
    };
    let both = |w: &[i32], a: &[f32]| {
        let at = w.len().min(2);
        pair(&w[..at], &a[..at]) + pair(&w[at..], &a[at..])
    };
    match bits {
        1 => w
            .chunks(4)
            .zip(a.chunks(4))
            .fold(0.0, |s, (w, a)| s + both(w, a)),
        2 => w
            .chunks(2)
            .zip(a.chunks(2))
            .fold(0.0, |s, (w, a)| s + pair(w, a)),
        _ => w
            .iter()
            .zip(a)
            .fold(0.0, |s, (&w, &a)| (w as f32).mul_add(a, s)),
    }
}

/// All `weights` on all ISAs, in one shape on one team, each right after f32 GEMM.
pub fn measure(
    isas: &[Isa],
    weights: &[Encoding],
    shape: Shape,
    team: &Team,
    effort: Effort,
) -> Result<Vec<Product>> {
    if weights.is_empty() {
        return Ok(Vec::new());
    }
    let mut floats = Floats::new(shape, team)?;
    let float_calls = effort.calls(|| drop(floats.run(team)));
    let mut cases = Vec::new();
    for &isa in isas {
        for &w in weights {
            cases.push(Case::new(isa, w, shape, team, effort)?);
        }
    }
    let largest = cases.iter().map(Case::bytes_read).max().unwrap_or(0);
    let blocks = Block::some(if shape.m == 1 { largest } else { 0 });
    let macs = shape.macs();
    for _ in 0..effort.repetitions {
        for case in &mut cases {
            let loops = Loops::of(case.isa)?;
            let (sequence, passes) = case.plan.sequence(shape.m);
            let mut bound = port_rate(loops, sequence, team, effort).map(|r| r / passes as f64);
            if shape.m == 1 && bound.is_some() {
                let bytes = case.bytes_read();
                let blocks = &blocks[..bytes.div_ceil(size_of::<Block>()).min(blocks.len())];
                let read = read_rate(loops, blocks, team, effort);
                bound = bound.map(|bound| bound.min(macs / bytes as f64 * read));
            }
            let float = timed(float_calls, || drop(floats.run(team)));
            let calls = case.calls;
            let run = timed(calls, || drop(case.run(team)));
            case.rates[0].push(macs / run.cycles());
            case.rates[1].extend(bound);
            case.rates[2].push(macs / run.seconds / 1e9);
            case.rates[3].push(float.seconds / run.seconds);
            case.rates[4].push(run.hertz / 1e9);
        }
    }
    let threads = team.threads();
    Ok(cases.into_iter().map(|case| case.finish(threads)).collect())
}
