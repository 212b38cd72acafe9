//! `qcore profile`: the nodes of a packed model, what they take and where the time goes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use qcore::isa::cpu_name;
use qcore::model::{Kind, Mode, Model, NodeReport, Report, Workspace};
use qcore::ops::{Par, Pool};
use qcore::{Error, Result};
use serde_json::{Value, json};

use crate::image::{Given, Values};
use crate::out;
use crate::table::{self, Table, bytes};

#[derive(clap::Args)]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Threads, which work together on each node; 0 takes one a processor
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Images that go through together, of random values
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Runs, of which medians count; 0 takes as many as fit in half a second
    #[arg(long, default_value_t = 0)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Seconds of measuring, if the number of runs is left to us.
const SECONDS: f64 = 0.5;

pub fn run(args: &Args) -> Result<()> {
    if !(1..=1 << 16).contains(&args.batch) {
        return Err(Error::argument("batch", args.batch, "1 to 65536"));
    }
    let model = Model::load(&args.model)?;
    let pool = Pool::new(args.threads)?;
    let par = match pool.threads() {
        1 => Par::Caller,
        _ => Par::Pool(&pool),
    };
    let mut workspace = model.workspace(args.batch, par.threads(), Mode::Latency)?;
    let noise = noise(&model, args.batch);
    // Once to touch all memory, once more to see how long it takes.
    model.profile(noise.images(), &mut workspace, par, 1)?;
    let begin = Instant::now();
    model.profile(noise.images(), &mut workspace, par, 1)?;
    let runs = match args.runs {
        0 => (SECONDS / begin.elapsed().as_secs_f64().max(1e-6)).clamp(3.0, 1000.0) as usize,
        runs => runs,
    };
    let report = model.report(noise.images(), &mut workspace, par, runs)?;
    if args.json {
        let nodes: Vec<Value> = report.nodes.iter().map(json).collect();
        let result = json!({
            "model": args.model.display().to_string(),
            "cpu": cpu_name(),
            "isa": model.isa().name(),
            "threads": par.threads(),
            "batch": args.batch,
            "runs": runs,
            "seconds_per_image": report.measured().as_secs_f64(),
            "peak_bytes": model.peak_bytes(args.batch),
            "workspace_bytes": workspace.bytes(),
            "nodes": nodes,
        });
        out!("{result:#}");
        return Ok(());
    }
    show(args, &model, &workspace, &report);
    Ok(())
}

fn show(args: &Args, model: &Model, workspace: &Workspace, report: &Report) {
    let total = report.measured();
    out!(
        "{}: {} on {}, {}, batch {}; times are of one image",
        args.model.display(),
        model.input(),
        model.isa(),
        table::count(workspace.threads(), "thread"),
        args.batch
    );
    let heading = [
        "node", "op", "shape", "bits", "makes", "MACs", "bytes", "us", "share", "bound us",
        "of bound", "kernel",
    ];
    let mut table = Table::new(&heading);
    for (i, node) in report.nodes.iter().enumerate() {
        table.row(cells(node, i, total));
    }
    out::text(table);
    let macs = |run: bool| -> u64 {
        let nodes = report.nodes.iter();
        let some = nodes.filter(|node| measured(node).is_some() == run);
        some.map(|node| node.info.macs).sum()
    };
    let (macs, idle) = (macs(true), macs(false));
    out!(
        "in all {:.3} ms an image, {} MACs, {:.1} billion MACs a second",
        1e3 * total.as_secs_f64(),
        short(macs),
        macs as f64 / total.as_secs_f64().max(1e-9) / 1e9
    );
    if idle > 0 {
        let idle = short(idle);
        out!("{idle} MACs more are of nodes that no output needs: they do not run");
    }
    out!(
        "values take {} at most at a time, with scratch {}",
        bytes(model.peak_bytes(args.batch)),
        bytes(workspace.bytes())
    );
    out!(
        "bound: the longest of multiply-accumulates on registers alone, of reads and of writes, one thread of this core"
    );
}

/// None if the node does not run, for such a node has no bound: no output needs it, or it only names what is there.
fn measured(node: &NodeReport) -> Option<Duration> {
    node.predicted.map(|_| node.measured)
}

fn cells(node: &NodeReport, index: usize, total: Duration) -> Vec<String> {
    let (info, measured) = (&node.info, measured(node));
    let micros = |time: Duration| format!("{:.1}", 1e6 * time.as_secs_f64());
    let percent = |part: Duration, of: Duration| {
        format!(
            "{:.0} %",
            100.0 * part.as_secs_f64() / of.as_secs_f64().max(1e-12)
        )
    };
    let named = match info.name.as_str() {
        "" => index.to_string(),
        name => format!("{index} {name}"),
    };
    let of_bound = node.predicted.zip(measured);
    let of_bound = of_bound.map(|(bound, measured)| percent(bound, measured));
    let some = |count: u64, text: String| if count == 0 { String::new() } else { text };
    vec![
        named,
        info.op.to_string(),
        info.shape.clone(),
        info.bits.clone(),
        info.made.to_string(),
        some(info.macs, short(info.macs)),
        some(info.packed_bytes as u64, bytes(info.packed_bytes)),
        measured.map_or_else(String::new, micros),
        measured.map_or_else(String::new, |time| percent(time, total)),
        node.predicted.map_or_else(String::new, micros),
        of_bound.unwrap_or_default(),
        info.kernel.clone(),
    ]
}

fn json(node: &NodeReport) -> Value {
    let (info, measured) = (&node.info, measured(node));
    json!({
        "name": info.name,
        "op": info.op,
        "reads": info.reads,
        "shape": info.shape,
        "bits": info.bits,
        "makes": info.made.to_string(),
        "macs": info.macs,
        "packed_bytes": info.packed_bytes,
        "float_bytes": info.float_bytes,
        "kernel": info.kernel,
        "seconds": measured.map(|time| time.as_secs_f64()),
        "bound_seconds": node.predicted.map(|time| time.as_secs_f64()),
    })
}

/// 950, 18.2 k, 1.8 M.
fn short(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        _ => format!("{:.1} M", count as f64 / 1e6),
    }
}

/// Images of values that are nothing but varied.
fn noise(model: &Model, count: usize) -> Given {
    let input = model.input();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let places = 0..count * input.len();
    let values = match input.kind {
        Kind::Bytes(encoding) => {
            let (min, span) = (encoding.min(), encoding.max() - encoding.min() + 1);
            let code = |byte: u8| (min + i32::from(byte) % span) as u8;
            Values::Codes(places.map(|_| code(next())).collect())
        }
        _ => Values::Floats(places.map(|_| f32::from(next()) / 255.0).collect()),
    };
    Given::new(values, input.kind)
}
