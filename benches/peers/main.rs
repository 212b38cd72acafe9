//! qcore beside other libraries, in the same run: `cargo bench --features peers --bench peers [-- OPTIONS]`.
//!
//! `--shape NxMxK` (again for more), `--rounds R`, `--json FILE`, `--markdown FILE`. One thread each. Every product
//! is compared with ours (integers whole, floats by samples) before it is timed; rounds go through all of them in turn, so that a busy machine
//! disturbs all alike, and medians count. A library that is absent is skipped and named. `PYTHON` is the interpreter
//! that has numpy, onnx and onnxruntime.

#[path = "../common/mod.rs"]
mod common;
mod libraries;
mod onnxruntime;
mod operands;
mod report;

use std::cell::RefCell;
use std::time::Instant;

use common::{Floats, Shape};
use libraries::{OneDnn, OpenBlas};
use numkong::matrix::{Dots, Hammings};
use numkong::types::u1x8;
use onnxruntime::{Onnxruntime, Operator};
use operands::{Operands, Ours};
use qcore::bits::Encoding;
use qcore::isa::Isa;
use qcore::kernels::bounds;
use report::{Kind, Row};

const SHAPES: [Shape; 7] = [
    Shape::new(512, 512, 512),
    Shape::new(1024, 1024, 1024),
    Shape::new(4096, 256, 4096),
    Shape::new(256, 3136, 1152),
    Shape::new(64, 1024, 576),
    Shape::new(4096, 1, 4096),
    Shape::new(11008, 1, 4096),
];

/// Seconds of one measurement, at least.
const SECONDS: f64 = 3e-3;

/// A product that was found right, and what runs it.
struct Case<'a> {
    row: Row,
    run: Run<'a>,
}

enum Run<'a> {
    Here(Box<dyn FnMut() + 'a>),
    /// By number.
    Onnxruntime(usize),
}

/// The libraries that were found.
struct Peers {
    blas: Option<OpenBlas>,
    /// With what it is called in tables.
    dnns: Vec<(OneDnn, &'static str)>,
    ort: Option<RefCell<Onnxruntime>>,
    /// What was found, and what not and why.
    notes: Vec<String>,
}

impl Peers {
    fn find() -> Self {
        let mut notes = Vec::new();
        let mut note = |name: &str, found: Result<&str, &String>| {
            let text = match found {
                Ok(version) => format!("{name}: {version}"),
                Err(why) => format!("{name}: skipped: {why}"),
            };
            println!("{text}");
            notes.push(text);
        };
        note("gemm", Ok("0.19, as the crate is built here"));
        numkong::configure_thread();
        let kernels = match numkong::uses_dynamic_dispatch() {
            true => "7.8, kernels chosen when it runs",
            false => "7.8, kernels chosen when it was built",
        };
        note("numkong", Ok(kernels));
        let blas = OpenBlas::load();
        note("OpenBLAS", blas.as_ref().map(|b| &b.version[..]));
        let mut dnns = Vec::new();
        for (name, found) in [
            ("oneDNN", OneDnn::load()),
            ("oneDNN without AMX", OneDnn::without_amx()),
        ] {
            note(name, found.as_ref().map(|d| &d.version[..]));
            dnns.extend(found.ok().map(|d| (d, name)));
        }
        let ort = Onnxruntime::start();
        note("onnxruntime", ort.as_ref().map(|o| &o.version[..]));
        Peers {
            blas: blas.ok(),
            dnns,
            ort: ort.ok().map(RefCell::new),
            notes,
        }
    }

    /// f32: the crate `gemm` and OpenBLAS.
    fn floats<'a>(&'a self, shape: Shape, cases: &mut Vec<Case<'a>>) {
        let mut floats = Floats::new(shape);
        let row = Row::peer("gemm crate", Kind::F32, shape, 4 * shape.n * shape.k);
        cases.push(Case::here(row, move || floats.run()));
        if let Some(blas) = &self.blas {
            let mut floats = Floats::new(shape);
            let row = Row::peer("OpenBLAS sgemm", Kind::F32, shape, 4 * shape.n * shape.k);
            let run = move |floats: &mut Floats| {
                let (w, a, out) = floats.parts();
                blas.run(shape, a, w, out);
            };
            run(&mut floats);
            floats.check("OpenBLAS");
            cases.push(Case::here(row, move || run(&mut floats)));
        }
    }

    /// Bits by bits: numkong's distances and its dot products.
    fn bits<'a>(&'a self, isas: &[Isa], shape: Shape, cases: &mut Vec<Case<'a>>) {
        let u1 = Encoding::unsigned(1).expect("1 bit");
        for (encoding, kind) in [(Encoding::Bipolar, Kind::Bipolar), (u1, Kind::U1)] {
            let operands = Operands::new(shape, encoding, encoding);
            let want = ours(isas, encoding, encoding, kind, &operands, cases);
            let bits = |values: &[i32]| -> Vec<u8> {
                let byte = |c: &[i32]| c.iter().rev().fold(0, |b, &v| b << 1 | u8::from(v > 0));
                values.chunks_exact(8).map(byte).collect()
            };
            let Shape { n, m, k } = shape;
            if k % 8 != 0 {
                println!("numkong: skipped: {shape}: rows that are no whole bytes");
                continue;
            }
            let (weights, activations) = (bits(&operands.weights), bits(&operands.activations));
            let mut packed = vec![0u8; u1x8::dots_packed_size(n, k)];
            let mut out = vec![0u32; m * n];
            // SAFETY: n rows of k bits, k / 8 bytes each, into a buffer of the size that was asked for.
            unsafe { u1x8::dots_pack(weights.as_ptr().cast(), n, k, k / 8, packed.as_mut_ptr()) };
            let bytes = packed.len();
            let run = move |out: &mut Vec<u32>| {
                let (a, w, to) = (
                    activations.as_ptr().cast(),
                    packed.as_ptr(),
                    out.as_mut_ptr(),
                );
                // SAFETY: m rows of k / 8 bytes, weights as packed above, and m rows of n results of 4 bytes.
                unsafe {
                    match kind {
                        Kind::U1 => u1x8::dots_packed(a, w, to, m, n, k, k / 8, 4 * n),
                        _ => u1x8::hammings_packed(a, w, to, m, n, k, k / 8, 4 * n),
                    }
                }
            };
            run(&mut out);
            let sums = out.iter().map(|&x| match kind {
                Kind::U1 => x as i32,
                _ => k as i32 - 2 * x as i32,
            });
            let name = match kind {
                Kind::U1 => "numkong dots",
                _ => "numkong hammings",
            };
            if equal(name, shape, sums.map(f64::from), &want, 0.0) {
                let row = Row::peer(name, kind, shape, bytes);
                cases.push(Case::here(row, move || run(&mut out)));
            }
        }
    }

    /// Bytes by bytes: oneDNN and onnxruntime.
    fn bytes<'a>(&'a self, isas: &[Isa], shape: Shape, cases: &mut Vec<Case<'a>>) {
        let (s8, u8s) = (encoding("s8"), encoding("u8"));
        let operands = Operands::new(shape, s8, u8s).with_seven_bits();
        let want = ours(isas, s8, u8s, Kind::Bytes, &operands, cases);
        let Shape { n, m, k } = shape;
        let a: Vec<u8> = operands.activations.iter().map(|&v| v as u8).collect();
        let w: Vec<i8> = operands.weights.iter().map(|&v| v as i8).collect();
        let across: Vec<i8> = (0..k * n).map(|i| w[i % n * k + i / n]).collect();
        for (dnn, name) in &self.dnns {
            let mut out = vec![0i32; m * n];
            let title = format!("{name}, gemm_u8s8s32");
            match dnn.gemm(shape, &a, &across, &mut out) {
                Err(why) => println!("{title}: skipped: {shape}: {why}"),
                Ok(()) => {
                    if equal(&title, shape, out.iter().map(|&x| x.into()), &want, 0.0) {
                        let (a, across) = (a.clone(), across.clone());
                        let row = Row::peer(&title, Kind::Bytes, shape, n * k);
                        // It gave no error when it was checked.
                        let run = move || drop(dnn.gemm(shape, &a, &across, &mut out));
                        cases.push(Case::here(row, run));
                    }
                }
            }
            let title = format!("{name}, matmul");
            let made = dnn.matmul(shape, &a, &w);
            let made = made.and_then(|mut made| made.run().map(|()| made));
            match made {
                Err(why) => println!("{title}: skipped: {shape}: {why}"),
                Ok(mut made) => {
                    if equal(
                        &title,
                        shape,
                        made.out().iter().map(|&x| x.into()),
                        &want,
                        0.0,
                    ) {
                        let mut row = Row::peer(&title, Kind::Bytes, shape, made.weight_bytes());
                        row.kernel = made.name.clone();
                        cases.push(Case::here(row, move || drop(made.run())));
                    }
                }
            }
        }
        for name in ["MatMulInteger", "DynamicQuantizeMatMul"] {
            let operator = Operator {
                name,
                bits: 8,
                block: 0,
            };
            // The second quantizes its activations again, by the range that it finds: within half a step.
            let slack = if name == "MatMulInteger" {
                0.0
            } else {
                0.51 * 128.0 * k as f64
            };
            self.ort(&operator, name, Kind::Bytes, &operands, &want, slack, cases);
        }
    }

    /// Weights of 2, 4 and 8 bits by bytes: onnxruntime, whose activations are floats that it quantizes itself.
    fn narrow<'a>(&'a self, isas: &[Isa], shape: Shape, cases: &mut Vec<Case<'a>>) {
        let s8 = encoding("s8");
        for (bits, kind) in [(2, Kind::S2), (4, Kind::S4), (8, Kind::S8)] {
            let weight = Encoding::signed(bits).expect("1 to 8 bits");
            let operands = Operands::new(shape, weight, s8).with_full_blocks();
            let want = ours(isas, weight, s8, kind, &operands, cases);
            for block in [32, 128] {
                let name = "MatMulNBits";
                let operator = Operator { name, bits, block };
                let title = format!("{name} {bits}, block {block}");
                // Sums of whole numbers, in f32 by blocks.
                let slack = 1e-6 * shape.k as f64 * f64::from(127 << (bits - 1));
                self.ort(&operator, &title, kind, &operands, &want, slack, cases);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn ort<'a>(
        &'a self,
        operator: &Operator,
        title: &str,
        kind: Kind,
        operands: &Operands,
        want: &[i32],
        slack: f64,
        cases: &mut Vec<Case<'a>>,
    ) {
        let (Some(ort), shape) = (&self.ort, operands.shape) else {
            return;
        };
        let title = format!("onnxruntime, {title}");
        match ort.borrow_mut().case(operator, operands) {
            Err(why) => println!("{title}: skipped: {shape}: {why}"),
            Ok((id, result, bytes)) => {
                if equal(&title, shape, result.into_iter(), want, slack) {
                    let row = Row::peer(&title, kind, shape, bytes);
                    cases.push(Case {
                        row,
                        run: Run::Onnxruntime(id),
                    });
                }
            }
        }
    }
}

impl<'a> Case<'a> {
    fn here(row: Row, run: impl FnMut() + 'a) -> Self {
        Case {
            row,
            run: Run::Here(Box::new(run)),
        }
    }

    /// Seconds of one call.
    fn seconds(&mut self, ort: Option<&RefCell<Onnxruntime>>) -> Option<f64> {
        match &mut self.run {
            Run::Here(run) => {
                run();
                let (start, mut calls) = (Instant::now(), 0);
                loop {
                    run();
                    calls += 1;
                    let passed = start.elapsed().as_secs_f64();
                    if passed >= SECONDS {
                        return Some(passed / f64::from(calls));
                    }
                }
            }
            Run::Onnxruntime(id) => ort?.borrow_mut().seconds(*id, SECONDS).ok(),
        }
    }
}

fn encoding(name: &str) -> Encoding {
    name.parse().expect("the name of an encoding")
}

/// Our product on each ISA as cases, and its result.
fn ours(
    isas: &[Isa],
    weight: Encoding,
    activation: Encoding,
    kind: Kind,
    operands: &Operands,
    cases: &mut Vec<Case<'_>>,
) -> Vec<i32> {
    let mut result = Vec::new();
    for &isa in isas {
        let mut ours = Ours::new(isa, weight, activation, operands);
        let row = Row::ours(
            isa,
            kind,
            operands.shape,
            ours.weight_bytes(),
            ours.describe(),
        );
        result = ours.out().to_vec();
        cases.push(Case::here(row, move || ours.run()));
    }
    result
}

/// Whether a peer's result is ours; if not, that is said and the peer is not timed.
fn equal(
    name: &str,
    shape: Shape,
    got: impl Iterator<Item = f64>,
    want: &[i32],
    slack: f64,
) -> bool {
    let got: Vec<f64> = got.collect();
    let is = |(g, &w): (&f64, &i32)| (g - f64::from(w)).abs() <= slack;
    let wrong = got.iter().zip(want).position(|pair| !is(pair));
    match wrong {
        None if got.len() == want.len() => true,
        _ => {
            let at = wrong.unwrap_or(0);
            println!(
                "{name}: skipped: {shape}: element {at} is {:?}, not {}",
                got.get(at),
                want[at]
            );
            false
        }
    }
}

/// The clock now, the best of a few tries.
fn hertz() -> f64 {
    (0..3).filter_map(|_| bounds::clock()).fold(0.0, f64::max)
}

/// All products of a shape.
fn measure(peers: &Peers, isas: &[Isa], shape: Shape, rounds: usize) -> Vec<Row> {
    let mut cases = Vec::new();
    peers.floats(shape, &mut cases);
    peers.bits(isas, shape, &mut cases);
    for (w, a, kind) in [
        ("bipolar", "u4", Kind::BipolarU4),
        ("ternary", "s8", Kind::Ternary),
    ] {
        let (w, a) = (encoding(w), encoding(a));
        ours(isas, w, a, kind, &Operands::new(shape, w, a), &mut cases);
    }
    peers.bytes(isas, shape, &mut cases);
    peers.narrow(isas, shape, &mut cases);
    let ort = peers.ort.as_ref();
    for _ in 0..rounds {
        for case in &mut cases {
            let before = hertz();
            if let Some(seconds) = case.seconds(ort) {
                let cycles = seconds * (before + hertz()) / 2.0;
                case.row.measured(seconds, cycles);
            }
        }
    }
    if let Some(ort) = ort {
        for case in &cases {
            if let Run::Onnxruntime(id) = case.run {
                ort.borrow_mut().drop_case(id);
            }
        }
    }
    cases.into_iter().map(|case| case.row).collect()
}

fn shape(text: &str) -> Shape {
    let sizes: Vec<usize> = text.split('x').filter_map(|s| s.parse().ok()).collect();
    match sizes[..] {
        [n, m, k] if n * m * k > 0 => Shape::new(n, m, k),
        _ => panic!("{text} is no NxMxK"),
    }
}

fn main() {
    // SAFETY: no other thread is there yet. Variables that would hold OpenBLAS back are taken away, and everybody
    // gets one thread.
    unsafe {
        for name in [
            "OPENBLAS_CORETYPE",
            "OPENBLAS_L2_SIZE",
            "ONEDNN_MAX_CPU_ISA",
            "DNNL_MAX_CPU_ISA",
        ] {
            std::env::remove_var(name);
        }
        for name in ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"] {
            std::env::set_var(name, "1");
        }
    }
    let (mut shapes, mut rounds, mut json, mut markdown) = (Vec::new(), 7, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .unwrap_or_else(|| panic!("{name} wants a value"))
        };
        match &name[..] {
            "--shape" => shapes.push(shape(&value())),
            "--rounds" => rounds = value().parse().expect("a number of rounds"),
            "--json" => json = Some(value()),
            "--markdown" => markdown = Some(value()),
            // From cargo.
            "--bench" => {}
            _ => panic!("{name} is no option: --shape, --rounds, --json, --markdown"),
        }
    }
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    // The best ISA, and that of the peers' usual kernels if the best is more.
    let mut isas = vec![Isa::best()];
    isas.extend(Isa::available().filter(|i| *i == Isa::Avx512 && *i != Isa::best()));
    let peers = Peers::find();
    let mut rows = Vec::new();
    for shape in shapes {
        eprintln!("{shape}");
        rows.extend(measure(&peers, &isas, shape, rounds));
    }
    let page = report::markdown(&peers.notes, &rows);
    println!("{page}");
    let write = |path: Option<String>, text: String| {
        if let Some(path) = path {
            std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    };
    write(markdown, page);
    write(json, report::json(&rows));
}
