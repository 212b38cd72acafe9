//! Products of one shape on one team: checked, then timed beside f32 GEMM and the limits of the core.

use qcore::Result;
use qcore::bits::{ByteRef, Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::kernels::bounds::{Block, Loops, Sequence};
use qcore::nn::sgemm::{Matrix, sgemm};
use qcore::ops::{Activations, Epilogue, Gemm};

use super::limits::{port_rate, read_rate};
use super::operands::{Pair, Random, Shape, check};
use super::report::Product;
use super::timing::{Effort, Elapsed, Team, median, timed};

/// Activations as a plan reads them without conversion.
enum Form {
    Planes(PackedMatrix),
    Bytes(Vec<u8>),
}

/// A plan, its activations and buffers, and what was measured so far.
struct Case {
    isa: Isa,
    pair: Pair,
    shape: Shape,
    gemm: Gemm,
    form: Form,
    out: Vec<i32>,
    scratch: Vec<i32>,
    calls: usize,
    /// Multiply-adds a cycle, those of the bound, 10^9 a second, times f32, and the clock in GHz.
    rates: [Vec<f64>; 5],
}

impl Case {
    /// A product of random codes, run once and checked.
    fn new(isa: Isa, pair: Pair, shape: Shape, team: &Team) -> Result<Self> {
        let Shape { n, m, k } = shape;
        let mut random = Random((n * m + k) as u64);
        let weights = random.packed(pair.w, n, k)?;
        let planes = random.packed(pair.a, m, k)?;
        let gemm = Gemm::on(isa, weights.view(), pair.a, Epilogue::None)?;
        let has_bytes = matches!(pair.a, Encoding::Unsigned(_) | Encoding::Signed(_));
        let (form, scratch) = if has_bytes && gemm.scratch_len_bytes(m) <= gemm.scratch_len(m) {
            let bytes = planes.unpack().into_iter().map(|v| v as u8).collect();
            (Form::Bytes(bytes), gemm.scratch_len_bytes(m))
        } else {
            (Form::Planes(planes.clone()), gemm.scratch_len(m))
        };
        let mut case = Case {
            isa,
            pair,
            shape,
            gemm,
            form,
            out: vec![0; m * n],
            scratch: vec![0; scratch],
            calls: 1,
            rates: Default::default(),
        };
        case.runner(team)?()?;
        let row = |of: &PackedMatrix, row| of.view().slice_rows(row..row + 1).unpack();
        let dot = |i, lane| {
            let (w, a) = (row(&weights, lane), row(&planes, i));
            w.iter().zip(&a).map(|(w, a)| w * a).sum::<i32>()
        };
        let wrong = |at: usize, expected: &i32| Some(case.out[at]).filter(|got| got != expected);
        check(&format!("{isa} {pair}"), shape, dot, wrong)?;
        Ok(case)
    }

    /// What runs the product once. Bytes are looked through here, not in each run.
    fn runner<'a>(&'a mut self, team: &'a Team) -> Result<impl FnMut() -> Result<()> + 'a> {
        let Shape { m, k, .. } = self.shape;
        let activations: Activations<'a> = match &self.form {
            Form::Planes(planes) => planes.view().into(),
            Form::Bytes(bytes) => ByteRef::new(self.pair.a, m, k, bytes)?.into(),
        };
        let (gemm, out, scratch) = (&self.gemm, &mut self.out[..], &mut self.scratch[..]);
        Ok(move || gemm.run_i32(activations, 0..m, out, scratch, team.par()))
    }

    /// Decides how often a timed run repeats the product.
    fn calibrate(&mut self, team: &Team, effort: Effort) -> Result<()> {
        let mut run = self.runner(team)?;
        // Errors cannot come: the run that was checked gave none, and nothing has changed. Here and below.
        let calls = effort.calls(|| drop(run()));
        drop(run);
        self.calls = calls;
        Ok(())
    }

    /// The time of a run.
    fn time(&mut self, team: &Team) -> Result<Elapsed> {
        let calls = self.calls;
        let mut run = self.runner(team)?;
        Ok(timed(calls, || drop(run())))
    }

    /// Bytes that a run reads at least: the weights as prepacked, and the activations.
    fn bytes_read(&self) -> usize {
        let activations = match &self.form {
            Form::Planes(a) => size_of_val(a.words()),
            Form::Bytes(a) => a.len(),
        };
        self.gemm.bytes_read(self.shape.m) + activations
    }

    fn finish(self, threads: usize) -> Product {
        let bytes = self.bytes_read() + size_of_val(&self.out[..]);
        let [rate, bound, giga, ratio, clock] = self.rates.map(|r| median(&r));
        Product {
            w: self.pair.w.to_string(),
            a: self.pair.a.to_string(),
            isa: self.isa,
            shape: self.shape,
            threads,
            kernel: self.gemm.describe(),
            rate: rate.unwrap_or(0.0),
            bound,
            giga: giga.unwrap_or(0.0),
            ratio: ratio.unwrap_or(0.0),
            clock: clock.unwrap_or(0.0),
            intensity: self.shape.macs() / bytes as f64,
        }
    }
}

/// An f32 product of the same shape. Weights are `[K, N]`, transposed beforehand as ours are prepacked: as `[N, K]`
/// the crate `gemm` needs up to 1.6 times as long, and whatever is compared with it would look better than it is.
pub struct Floats {
    shape: Shape,
    weights: Vec<f32>,
    activations: Vec<f32>,
    out: Vec<f32>,
}

impl Floats {
    /// A product of random floats, run once and checked.
    pub fn new(shape: Shape, team: &Team) -> Result<Self> {
        let Shape { n, m, k } = shape;
        let mut random = Random((n * m + k) as u64);
        let mut floats = Floats {
            shape,
            weights: random.floats(n * k),
            activations: random.floats(m * k),
            out: vec![0.0; m * n],
        };
        floats.run(team)?;
        let dot = |row: usize, lane: usize| {
            let w = floats.weights[lane..].iter().step_by(n);
            let a = &floats.activations[row * k..][..k];
            w.zip(a).map(|(w, a)| f64::from(w * a)).sum::<f64>()
        };
        // Rounding of K products below 1, each sum below K.
        let bound = (k as f64).powf(1.5) * f64::from(f32::EPSILON);
        let wrong = |at: usize, expected: &f64| {
            let got = f64::from(floats.out[at]);
            Some(got).filter(|got| (got - expected).abs() > bound)
        };
        check("f32", shape, dot, wrong)?;
        Ok(floats)
    }

    pub fn run(&mut self, team: &Team) -> Result<()> {
        let Shape { n, m, k } = self.shape;
        let (a, b) = (
            Matrix::new(&self.activations, m, k)?,
            Matrix::new(&self.weights, k, n)?,
        );
        sgemm(0.0, &mut self.out, a, b, team.par())
    }
}

/// All pairs on all ISAs, in one shape on one team; interleaved, so that a machine that is busy with something else
/// disturbs all alike. `tick` is told of each repetition.
pub fn measure(
    isas: &[Isa],
    pairs: &[Pair],
    shape: Shape,
    team: &Team,
    effort: Effort,
    mut tick: impl FnMut(),
) -> Result<Vec<Product>> {
    let mut floats = Floats::new(shape, team)?;
    let float_calls = effort.calls(|| drop(floats.run(team)));
    let mut groups = Vec::new();
    for &isa in isas {
        let mut cases = Vec::new();
        for &pair in pairs {
            let mut case = Case::new(isa, pair, shape, team)?;
            case.calibrate(team, effort)?;
            cases.push(case);
        }
        groups.push((Loops::of(isa)?, cases));
    }
    // One buffer for the bandwidth of every footprint.
    let footprints = groups.iter().flat_map(|(_, cases)| cases);
    let largest = footprints.map(Case::bytes_read).max().unwrap_or(0);
    let blocks = Block::some(if shape.m == 1 { largest } else { 0 });
    let threads = team.threads();
    let (macs, mut float_rates) = (shape.macs(), <[Vec<f64>; 4]>::default());
    for _ in 0..effort.repetitions {
        // The crate `gemm` takes the best ISA, whatever ours is.
        let best = Loops::of(Isa::best())?;
        float_rates[1].extend(port_rate(best, Sequence::Fma, team, effort));
        for (loops, cases) in &mut groups {
            let float = timed(float_calls, || drop(floats.run(team)));
            float_rates[0].push(macs / float.cycles());
            float_rates[2].push(macs / float.seconds / 1e9);
            float_rates[3].push(float.hertz / 1e9);
            let mut ports: Vec<(Sequence, Option<f64>)> = Vec::new();
            for case in cases {
                let (sequence, passes) = case.gemm.sequence(shape.m);
                let known = ports.iter().find(|(s, _)| *s == sequence);
                let rate = known.map(|(_, rate)| *rate).unwrap_or_else(|| {
                    let rate = port_rate(*loops, sequence, team, effort);
                    ports.push((sequence, rate));
                    rate
                });
                let mut bound = rate.map(|rate| rate / passes as f64);
                if shape.m == 1 && bound.is_some() {
                    let bytes = case.bytes_read();
                    let blocks = &blocks[..bytes.div_ceil(size_of::<Block>()).min(blocks.len())];
                    let read = read_rate(*loops, blocks, team, effort);
                    bound = bound.map(|bound| bound.min(macs / bytes as f64 * read));
                }
                let run = case.time(team)?;
                case.rates[0].push(macs / run.cycles());
                case.rates[1].extend(bound);
                case.rates[2].push(macs / run.seconds / 1e9);
                case.rates[3].push(float.seconds / run.seconds);
                case.rates[4].push(run.hertz / 1e9);
            }
        }
        tick();
    }
    let [rate, bound, giga, clock] = float_rates.map(|r| median(&r));
    let elements = floats.weights.len() + floats.activations.len() + floats.out.len();
    let mut rows = vec![Product {
        w: "f32".to_string(),
        a: "f32".to_string(),
        isa: Isa::best(),
        shape,
        threads,
        kernel: "the crate gemm".to_string(),
        rate: rate.unwrap_or(0.0),
        bound,
        giga: giga.unwrap_or(0.0),
        ratio: 1.0,
        clock: clock.unwrap_or(0.0),
        intensity: macs / (4 * elements) as f64,
    }];
    let cases = groups.into_iter().flat_map(|(_, cases)| cases);
    rows.extend(cases.map(|case| case.finish(threads)));
    Ok(rows)
}
