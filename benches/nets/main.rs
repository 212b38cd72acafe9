//! Whole nets beside the same nets in f32 on onnxruntime: `cargo bench --bench nets [-- OPTIONS]`.
//!
//! `--nets A,B`, `--bits 1,2,4`, `--threads 1,2`, `--batch 1,32`, `--seconds S` of each measurement at least, `--json` for
//! JSON in place of the table. `--save FOLDER` writes the model files, for `qcore profile`, and measures nothing.
//! `--check` measures nothing either: every net gives the same logits whatever the batch, the mode, the threads and the
//! ISA, which is checked before it is timed too.
//!
//! `onnx_nets.py` runs if `PYTHON`, or `python3`, has numpy, onnx and onnxruntime; `--onnxruntime FILE` takes what it
//! printed before, and `--onnxruntime none` does without.

#[path = "../common/mod.rs"]
mod common;
mod nets;
mod onnxruntime;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use nets::{NETS, Net};
use onnxruntime::Floats;
use qcore::isa::Isa;
use qcore::model::{Mode, Model, Workspace};
use qcore::ops::{Par, Pool};
use report::{Report, Row};

/// What the command line asks for.
struct Options {
    nets: Vec<&'static Net>,
    bits: Vec<usize>,
    threads: Vec<usize>,
    batch: Vec<usize>,
    seconds: f64,
    json: bool,
    check: bool,
    save: Option<PathBuf>,
    onnxruntime: Option<String>,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Options {
            nets: NETS.iter().collect(),
            bits: vec![1, 2, 4],
            threads: vec![1, 2],
            batch: vec![1, 32],
            seconds: 0.3,
            json: false,
            check: false,
            save: None,
            onnxruntime: None,
        };
        // Cargo adds `--bench`; `cargo test --benches` adds `--test`.
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => options.json = true,
                "--check" | "--test" => options.check = true,
                _ => {
                    let value = args.next().ok_or(format!("{arg} needs a value"))?;
                    options.set(&arg, &value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, arg: &str, value: &str) -> Result<(), String> {
        let numbers = || {
            let numbers = value
                .split(',')
                .map(|n| n.parse::<usize>().ok().filter(|&n| n > 0));
            let numbers: Option<Vec<usize>> = numbers.collect();
            numbers.ok_or(format!(
                "{arg} is {value}; expected numbers with commas between"
            ))
        };
        match arg {
            "--nets" => {
                let find = |name| {
                    let net = NETS.iter().find(|net| net.name == name);
                    net.ok_or(format!(
                        "no net {name}; there are {}",
                        NETS.each_ref().map(|n| n.name).join(", ")
                    ))
                };
                self.nets = value.split(',').map(find).collect::<Result<_, _>>()?;
            }
            "--bits" => self.bits = numbers()?,
            "--threads" => self.threads = numbers()?,
            "--batch" => self.batch = numbers()?,
            "--seconds" => {
                self.seconds = value.parse().map_err(|_| format!("--seconds is {value}"))?;
            }
            "--save" => self.save = Some(value.into()),
            "--onnxruntime" => self.onnxruntime = Some(value.to_string()),
            _ => return Err(format!("no option {arg}")),
        }
        Ok(())
    }
}

fn main() {
    let options = Options::parse().unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        std::process::exit(2);
    });
    let isa = Isa::chosen().expect("an ISA");
    let mut report = Report::new(isa);
    for &net in &options.nets {
        for &bits in &options.bits {
            let model = net.model(isa, bits).expect("a net that is right");
            if let Some(folder) = &options.save {
                let path = folder.join(format!("{}-1w{bits}a.qcore", net.name));
                model.save(&path).expect("a folder that can be written");
                println!("{}", path.display());
                continue;
            }
            check(net, bits, &model);
            if options.check {
                println!("{} with {bits}-bit activations: checked on {isa}", net.name);
                continue;
            }
            for &batch in &options.batch {
                for &threads in &options.threads {
                    let seconds = measure(net, &model, [threads, batch], options.seconds);
                    report.rows.push(Row {
                        net: net.name,
                        bits,
                        threads,
                        batch,
                        seconds,
                    });
                }
            }
        }
    }
    if options.check || options.save.is_some() {
        return;
    }
    let floats = match options.onnxruntime.as_deref() {
        Some("none") => Err("not asked for".to_string()),
        Some(file) => Floats::read(file),
        None => {
            let names: Vec<&str> = options.nets.iter().map(|net| net.name).collect();
            Floats::measure(&names, &options.threads, &options.batch, options.seconds)
        }
    };
    report.floats = floats;
    match options.json {
        true => println!("{:#}", report.json()),
        false => print!("{report}"),
    }
}

/// A model and all that its runs need.
struct Runner<'a> {
    model: &'a Model,
    images: &'a [u8],
    logits: Vec<f32>,
    workspace: Workspace,
    pool: Option<Pool>,
}

impl<'a> Runner<'a> {
    /// For runs of all `images`, `at_a_time` images at a time.
    fn new(
        net: &Net,
        model: &'a Model,
        images: &'a [u8],
        at_a_time: usize,
        threads: usize,
        mode: Mode,
    ) -> Self {
        let count = images.len() / (net.size * net.size * 3);
        Runner {
            model,
            images,
            logits: vec![0.0; count * net.classes],
            workspace: model.workspace(at_a_time, threads, mode).expect("memory"),
            pool: (threads > 1).then(|| Pool::new(threads).expect("threads")),
        }
    }

    fn run(&mut self) {
        let par = self.pool.as_ref().map_or(Par::Caller, Par::Pool);
        self.model
            .run(self.images, &mut self.logits, &mut self.workspace, par)
            .expect("a run");
    }

    fn logits(mut self) -> Vec<f32> {
        self.run();
        self.logits
    }
}

/// Panics unless a few images have the same logits, bit for bit, one by one and together, in both modes, on two
/// threads, and on another ISA; and logits of their own.
fn check(net: &Net, bits: usize, model: &Model) {
    let images = net.images(3);
    let what = |how: &str| format!("{} with {bits}-bit activations, {how}", net.name);
    let bits_of = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    let expected = bits_of(Runner::new(net, model, &images, 1, 1, Mode::Latency).logits());
    let mut rows = expected.chunks(net.classes);
    let first = rows.next();
    assert!(
        rows.all(|row| Some(row) != first),
        "{}",
        what("images of equal logits")
    );
    for (at_a_time, threads, mode) in [
        (3, 1, Mode::Throughput),
        (3, 2, Mode::Throughput),
        (3, 2, Mode::Latency),
        (1, 2, Mode::Latency),
    ] {
        let logits = Runner::new(net, model, &images, at_a_time, threads, mode).logits();
        assert!(
            bits_of(logits) == expected,
            "{}",
            what("batch, mode or threads")
        );
    }
    let others = Isa::available().filter(|&isa| isa != model.isa() && isa != Isa::Portable);
    if let Some(isa) = others.last() {
        let other = net.model(isa, bits).expect("a net that is right");
        let logits = Runner::new(net, &other, &images, 3, 1, Mode::Throughput).logits();
        assert!(bits_of(logits) == expected, "{}", what(isa.name()));
    }
}

/// Seconds of a run of `batch` images on `threads` threads: the median of three runs or more, over `least` seconds or more.
fn measure(net: &Net, model: &Model, [threads, batch]: [usize; 2], least: f64) -> f64 {
    let images = net.images(batch);
    // Threads within an image if there are fewer images than threads, else across them.
    let mode = if batch < threads {
        Mode::Latency
    } else {
        Mode::Throughput
    };
    let mut runner = Runner::new(net, model, &images, batch, threads, mode);
    runner.run();
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || begin.elapsed().as_secs_f64() < least {
        let start = Instant::now();
        runner.run();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
