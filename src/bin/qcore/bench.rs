//! `qcore bench`: the limits of this core, and how near to them products and conversions come.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use qcore::isa::{Isa, OVERRIDE};
use qcore::model::write_whole;
use qcore::{Error, Result};

mod conversion;
mod limits;
mod operands;
mod product;
mod report;
mod roofline;
mod timing;
mod weight_only;

use limits::{LEVELS, Limits, QUICK_LEVELS};
use operands::Shape;
use report::{Conditions, Report};
use timing::{Effort, Team};
use weight_only::Asked;

use crate::out;
use crate::table;

/// GEMM and GEMV, N x M x K.
const SHAPES: [Shape; 7] = [
    Shape::new(512, 512, 512),
    Shape::new(1024, 1024, 1024),
    Shape::new(4096, 256, 4096),
    Shape::new(256, 3136, 1152),
    Shape::new(64, 1024, 576),
    Shape::new(4096, 1, 4096),
    Shape::new(11008, 1, 4096),
];
const QUICK_SHAPES: [Shape; 2] = [Shape::new(128, 96, 256), Shape::new(512, 1, 512)];

/// Multiply-adds and floats above which plain Rust would take most of the time to tell little.
const PORTABLE_MACS: f64 = 512.0 * 512.0 * 512.0;
const PORTABLE_FLOATS: usize = 1 << 16;

const PAIRS: [&str; 10] = [
    "bipolar:bipolar",
    "bipolar:u2",
    "bipolar:u4",
    "u2:u2",
    "bipolar:u8",
    "ternary:s8",
    "ternary:bipolar",
    "s8:s8",
    "bipolar:f32",
    "s4:f32",
];

const EFFORT: Effort = Effort {
    repetitions: 11,
    seconds: 2e-3,
};
const QUICK: Effort = Effort {
    repetitions: 3,
    seconds: 2e-4,
};

#[derive(clap::Args)]
pub struct Args {
    /// An ISA to measure; again for more; all available ones if absent, or the one that QCORE_ISA names
    #[arg(long, value_name = "NAME")]
    isa: Vec<Isa>,
    /// Encodings of weights and activations, as in bipolar:u4 or, for float activations, s4:f32; again for more; ten usual pairs if absent
    #[arg(long, value_name = "W:A")]
    pair: Vec<Asked>,
    /// Outputs, rows and inputs, as in 512x512x512; one row is a GEMV; again for more
    #[arg(long, value_name = "NxMxK")]
    shape: Vec<Shape>,
    /// Numbers of threads; 1 and 2 if absent, as far as there are processors
    #[arg(long, value_delimiter = ',', value_name = "T,T")]
    threads: Vec<usize>,
    /// Few repetitions and small shapes: a look whether all is well rather than a measurement
    #[arg(long)]
    quick: bool,
    /// Print an array of JSON objects
    #[arg(long)]
    json: bool,
    /// Write a page of Markdown tables
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a roofline of one thread
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    timing::require_clock()?;
    for path in [&args.markdown, &args.svg].into_iter().flatten() {
        require_folder(path)?;
    }
    let isas = isas(args)?;
    let asked = match &args.pair[..] {
        [] => PAIRS.iter().map(|p| p.parse()).collect::<Result<_>>()?,
        given => given.to_vec(),
    };
    let (mut pairs, mut weights) = (Vec::new(), Vec::new());
    for asked in asked {
        match asked {
            Asked::Codes(pair) => pairs.push(pair),
            Asked::Floats(w) => weights.push(w),
        }
    }
    let shapes = match (&args.shape[..], args.quick) {
        ([], false) => SHAPES.to_vec(),
        ([], true) => QUICK_SHAPES.to_vec(),
        (given, _) => given.to_vec(),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let teams: Vec<Team> = match &args.threads[..] {
        [] => (1..=processors.min(2))
            .map(Team::new)
            .collect::<Result<_>>()?,
        given => given.iter().map(|&t| Team::new(t)).collect::<Result<_>>()?,
    };
    let (effort, levels) = match args.quick {
        false => (EFFORT, &LEVELS),
        true => (QUICK, &QUICK_LEVELS),
    };
    let rows_of = |bytes: usize| bytes / (4 * conversion::COLS);
    let converted: Vec<_> = levels.iter().filter(|(_, b)| rows_of(*b) > 1).collect();
    let conditions = Conditions::now();

    let steps = Limits::steps(&isas, levels)
        + effort.repetitions * (teams.len() * shapes.len() + converted.len());
    let bar = ProgressBar::new(steps as u64);
    let style = "{bar:24} {percent:>3} %  {msg}  [{elapsed}, {eta} left]";
    bar.set_style(ProgressStyle::with_template(style).expect("a template that is right"));
    let tick = || bar.inc(1);

    bar.set_message("limits of the core");
    let limits = Limits::measure(&isas, levels, effort, tick)?;
    let swift = |slow: bool| -> Vec<Isa> {
        // Who asks for plain Rust by name gets it in every size.
        let keep = |isa: &Isa| *isa != Isa::Portable || !slow || isas.len() == 1;
        let asked = args.isa.contains(&Isa::Portable);
        isas.iter()
            .copied()
            .filter(|isa| asked || keep(isa))
            .collect()
    };
    let mut products = Vec::new();
    for &shape in &shapes {
        for team in &teams {
            bar.set_message(format!(
                "{shape}, {}",
                table::count(team.threads(), "thread")
            ));
            let isas = swift(shape.macs() > PORTABLE_MACS);
            let measured = product::measure(&isas, &pairs, shape, team, effort, tick)?;
            products.extend(measured);
            let measured = weight_only::measure(&isas, &weights, shape, team, effort)?;
            products.extend(measured);
        }
    }
    let mut conversions = Vec::new();
    for &&(level, bytes) in &converted {
        bar.set_message(format!("floats in {level}"));
        let rows = rows_of(bytes);
        let isas = swift(rows * conversion::COLS > PORTABLE_FLOATS);
        conversions.extend(conversion::measure(&isas, level, rows, effort, tick)?);
    }
    bar.finish_and_clear();
    let report = Report {
        conditions,
        limits,
        products,
        conversions,
    };
    if args.json {
        err!("{}", report.conditions.line());
        out::text(report.json());
    } else {
        out::text(report.text());
    }
    if let Some(path) = &args.markdown {
        write_whole(path, report.markdown().as_bytes())?;
    }
    if let Some(path) = &args.svg {
        roofline::write(path, &report)?;
    }
    Ok(())
}

/// The ISAs to measure, each once, worst first.
fn isas(args: &Args) -> Result<Vec<Isa>> {
    let chosen = Isa::chosen()?;
    for isa in &args.isa {
        isa.require()?;
    }
    let forced = std::env::var_os(OVERRIDE).is_some();
    let wanted = |isa: &Isa| match &args.isa[..] {
        [] => !forced || *isa == chosen,
        given => given.contains(isa),
    };
    Ok(Isa::available().filter(wanted).collect())
}

/// Errors if a file could not be written at the end for want of its folder, before all the time is spent.
fn require_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let found = std::fs::metadata(folder.join("."));
    found.map(|_| ()).map_err(|e| Error::io(path, "write", e))
}
