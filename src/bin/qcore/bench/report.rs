//! What was measured, for people, for machines and for a page: a table, JSON, Markdown.

use std::fmt::Write;

use qcore::isa::{Isa, cpu_name};
use serde_json::json;

use super::limits::Limits;
use super::operands::Shape;
use super::timing::hertz;
use crate::table::{Table, bytes};

/// A product, measured. Rates are those of all threads together.
pub struct Product {
    pub w: String,
    pub a: String,
    pub isa: Isa,
    pub shape: Shape,
    pub threads: usize,
    /// What runs, in words.
    pub kernel: String,
    /// Multiply-adds a cycle.
    pub rate: f64,
    /// Those that the instructions allow, or for a GEMV the memory; none for plain Rust.
    pub bound: Option<f64>,
    /// 10^9 multiply-adds a second.
    pub giga: f64,
    /// Time of f32 GEMM over the time of this.
    pub ratio: f64,
    /// Clock, GHz.
    pub clock: f64,
    /// Multiply-adds for each byte of weights, activations and sums.
    pub intensity: f64,
}

impl Product {
    fn percent(&self) -> Option<f64> {
        self.bound.map(|bound| 100.0 * self.rate / bound)
    }
}

/// Floats to codes, measured, on one thread.
pub struct Conversion {
    /// The encoding of the codes.
    pub a: String,
    /// Planes or bytes, and whose the scale is.
    pub form: &'static str,
    pub isa: Isa,
    /// Where the floats lie.
    pub level: &'static str,
    pub rows: usize,
    pub cols: usize,
    /// 10^9 bytes of floats a second, and those of a copy.
    pub giga: f64,
    pub memcpy: f64,
    /// Of the speed of the copy.
    pub percent: f64,
}

/// Under which conditions.
pub struct Conditions {
    cpu: String,
    processors: usize,
    /// Load averages before.
    before: String,
    /// GHz.
    clock: f64,
}

impl Conditions {
    pub fn now() -> Self {
        Conditions {
            cpu: cpu_name(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            before: load(),
            clock: hertz() / 1e9,
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        // Checks in the inner loops halve the speed of some.
        let build = match cfg!(debug_assertions) {
            true => " (with debug assertions: not for its figures)",
            false => "",
        };
        format!(
            "qcore {}{build} on {} ({}), {} processors at {:.2} GHz, load {} before",
            env!("CARGO_PKG_VERSION"),
            self.cpu,
            std::env::consts::ARCH,
            self.processors,
            self.clock,
            self.before,
        )
    }
}

/// The load averages, where the system tells them.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg");
    text.map_or("unknown".to_string(), |text| {
        let first: Vec<&str> = text.split_whitespace().take(3).collect();
        first.join(" ")
    })
}

/// All of a run.
pub struct Report {
    pub conditions: Conditions,
    pub limits: Limits,
    pub products: Vec<Product>,
    pub conversions: Vec<Conversion>,
}

impl Report {
    fn products(&self) -> Table {
        let mut table = Table::new(&[
            "op",
            "N x M x K",
            "threads",
            "weights x activations",
            "ISA",
            "MAC/cycle",
            "bound",
            "%",
            "GMAC/s",
            "x f32",
            "GHz",
        ]);
        let or_none =
            |x: Option<f64>, digits: usize| x.map_or_else(String::new, |x| format!("{x:.digits$}"));
        for p in &self.products {
            table.row(vec![
                p.shape.op().to_string(),
                p.shape.to_string(),
                p.threads.to_string(),
                format!("{} x {}", p.w, p.a),
                p.isa.to_string(),
                format!("{:.1}", p.rate),
                or_none(p.bound, 1),
                or_none(p.percent(), 0),
                format!("{:.1}", p.giga),
                format!("{:.2}", p.ratio),
                format!("{:.2}", p.clock),
            ]);
        }
        table
    }

    fn conversions(&self) -> Table {
        let mut table = Table::new(&[
            "f32 to",
            "ISA",
            "rows x cols",
            "floats in",
            "size",
            "GB/s",
            "copy, GB/s",
            "% of it",
        ]);
        for c in &self.conversions {
            table.row(vec![
                format!("{} {}", c.a, c.form),
                c.isa.to_string(),
                format!("{} x {}", c.rows, c.cols),
                c.level.to_string(),
                bytes(4 * c.rows * c.cols),
                format!("{:.1}", c.giga),
                format!("{:.1}", c.memcpy),
                format!("{:.0}", c.percent),
            ]);
        }
        table
    }

    /// The tables, each with a heading.
    fn tables(&self) -> Vec<(&'static str, Table)> {
        let [ports, reads] = self.limits.tables();
        vec![
            ("Limits of one core: instructions", ports),
            ("Limits of one core: memory", reads),
            ("Products", self.products()),
            ("Floats to codes, one thread", self.conversions()),
        ]
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.conditions.line());
        for (heading, table) in self.tables() {
            write!(text, "\n{heading}\n\n{table}").expect("a string takes everything");
        }
        text
    }

    /// As a page.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# qcore bench\n\n{}; load {} after.\n\n{}\n",
            self.conditions.line(),
            load(),
            NOTES
        );
        for (heading, table) in self.tables() {
            let table = table.markdown();
            write!(text, "\n## {heading}\n\n{table}").expect("a string takes everything");
        }
        text
    }

    /// An array of objects. What makes no sense for an op is null.
    pub fn json(&self) -> String {
        let products = self.products.iter().map(|p| {
            json!({
                "op": p.shape.op(),
                "w": p.w,
                "a": p.a,
                "isa": p.isa.name(),
                "n": p.shape.n,
                "m": p.shape.m,
                "k": p.shape.k,
                "threads": p.threads,
                "kernel": p.kernel,
                "mac_per_cycle": p.rate,
                "bound": p.bound,
                "percent": p.percent(),
                "gmac_per_s": p.giga,
                "ratio_to_f32": p.ratio,
                "ghz": p.clock,
                "gb_per_s": null,
                "memcpy_gb_per_s": null,
                "mac_per_byte": p.intensity,
            })
        });
        let conversions = self.conversions.iter().map(|c| {
            json!({
                "op": "quantize",
                "w": "f32",
                "a": c.a,
                "isa": c.isa.name(),
                "n": null,
                "m": c.rows,
                "k": c.cols,
                "threads": 1,
                "kernel": format!("f32 to {} {}, floats in {}", c.a, c.form, c.level),
                "mac_per_cycle": null,
                "bound": null,
                "percent": c.percent,
                "gmac_per_s": null,
                "ratio_to_f32": null,
                "ghz": null,
                "gb_per_s": c.giga,
                "memcpy_gb_per_s": c.memcpy,
                "mac_per_byte": null,
            })
        });
        let objects: Vec<String> = products.chain(conversions).map(|o| o.to_string()).collect();
        format!("[\n{}\n]\n", objects.join(",\n"))
    }
}

/// How to read the figures.
const NOTES: &str = "\
MAC: multiply-add. Rates are of all threads together; cycles are those of the clock measured right before and after
each repetition; medians of interleaved repetitions. The bound of a product is what the instructions of its inner loop
reach on registers alone, measured in the same repetitions on as many threads; of a GEMV the smaller of that and of
what reading weights and activations at the speed of their footprint allows. It leaves out loads, widening and
unpacking, and percentages include them. \"x f32\": the time of f32 GEMM by the crate gemm, same shape and threads, over
the time of the product. Every product and conversion was checked before it was timed.";
