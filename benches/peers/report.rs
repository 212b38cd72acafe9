//! What was measured, as tables and as JSON, and who is ahead.

use std::fmt::Write;

use qcore::isa::Isa;
use serde_json::json;

use super::common::Shape;

/// What is multiplied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F32,
    Bipolar,
    U1,
    BipolarU4,
    Ternary,
    Bytes,
    S2,
    S4,
    S8,
}

impl Kind {
    /// Weights and activations.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::F32 => ("f32", "f32"),
            Kind::Bipolar => ("bipolar", "bipolar"),
            Kind::U1 => ("u1", "u1"),
            Kind::BipolarU4 => ("bipolar", "u4"),
            Kind::Ternary => ("ternary", "s8"),
            Kind::Bytes => ("s8", "u8"),
            Kind::S2 => ("s2", "s8"),
            Kind::S4 => ("s4", "s8"),
            Kind::S8 => ("s8", "s8"),
        }
    }
}

/// One library and product.
pub struct Row {
    name: String,
    /// None of a peer's product.
    isa: Option<Isa>,
    kind: Kind,
    shape: Shape,
    weight_bytes: usize,
    pub kernel: String,
    /// Multiply-adds a cycle, and 10^9 of them a second.
    rates: [Vec<f64>; 2],
}

impl Row {
    pub fn peer(name: &str, kind: Kind, shape: Shape, weight_bytes: usize) -> Self {
        Row {
            name: name.to_string(),
            isa: None,
            kind,
            shape,
            weight_bytes,
            kernel: String::new(),
            rates: Default::default(),
        }
    }

    pub fn ours(isa: Isa, kind: Kind, shape: Shape, weight_bytes: usize, kernel: String) -> Self {
        Row {
            isa: Some(isa),
            kernel,
            ..Row::peer(&format!("qcore, {isa}"), kind, shape, weight_bytes)
        }
    }

    pub fn measured(&mut self, seconds: f64, cycles: f64) {
        let macs = self.shape.macs() as f64;
        self.rates[0].push(macs / cycles);
        self.rates[1].push(macs / seconds / 1e9);
    }

    /// The median rate.
    fn rate(&self, which: usize) -> f64 {
        let mut sorted = self.rates[which].clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// Whether it is known to do without AMX: our other ISAs, and the oneDNN that was told to.
    fn without_amx(&self) -> bool {
        match self.isa {
            Some(isa) => !isa.name().contains("amx"),
            None => {
                self.name.contains("without AMX")
                    || self.kind == Kind::Bipolar
                    || self.kind == Kind::U1
            }
        }
    }
}

/// A claim: how often our product is as fast as the best of some of theirs.
struct Claim {
    ours: Kind,
    theirs: &'static [Kind],
    /// Whose names begin so; all if empty.
    who: &'static str,
    /// Neither side with AMX.
    plain: bool,
    target: f64,
    on: fn(Shape) -> bool,
}

const INT8: &[Kind] = &[Kind::Bytes, Kind::S8];

fn gemm(shape: Shape) -> bool {
    shape.m > 1
}

const fn claim(ours: Kind, theirs: &'static [Kind], who: &'static str, target: f64) -> Claim {
    Claim {
        ours,
        theirs,
        who,
        plain: false,
        target,
        on: |_| true,
    }
}

const CLAIMS: [Claim; 14] = [
    Claim {
        on: gemm,
        ..claim(Kind::Bipolar, &[Kind::F32], "", 20.0)
    },
    claim(Kind::Bipolar, &[Kind::Bipolar, Kind::U1], "numkong", 1.5),
    Claim {
        on: |s| gemm(s) && s.n >= 1024,
        ..claim(Kind::BipolarU4, INT8, "", 2.0)
    },
    Claim {
        on: |s| gemm(s) && s.n >= 1024,
        plain: true,
        ..claim(Kind::BipolarU4, INT8, "", 2.0)
    },
    claim(Kind::Ternary, INT8, "", 1.0),
    Claim {
        plain: true,
        ..claim(Kind::Ternary, INT8, "", 1.0)
    },
    claim(Kind::Bytes, INT8, "", 1.0),
    Claim {
        plain: true,
        ..claim(Kind::Bytes, INT8, "", 1.0)
    },
    Claim {
        on: |s| !gemm(s),
        ..claim(Kind::S2, &[Kind::S2], "onnxruntime", 2.5)
    },
    Claim {
        on: |s| !gemm(s),
        ..claim(Kind::Ternary, &[Kind::S2], "onnxruntime", 2.5)
    },
    Claim {
        on: gemm,
        ..claim(Kind::S2, &[Kind::S2], "onnxruntime", 1.0)
    },
    claim(Kind::S4, &[Kind::S4], "onnxruntime", 1.0),
    claim(Kind::S8, &[Kind::S8], "onnxruntime", 1.0),
    claim(Kind::Bipolar, &[Kind::F32], "OpenBLAS", 1.0),
];

/// The best of some rows.
fn best<'a>(rows: &[&'a Row], keep: impl Fn(&Row) -> bool) -> Option<&'a Row> {
    let kept = rows.iter().filter(|r| keep(r) && r.rate(0) > 0.0);
    kept.max_by(|a, b| a.rate(0).total_cmp(&b.rate(0))).copied()
}

/// The claims on one shape, as lines of a table.
fn verdicts(rows: &[&Row]) -> Vec<String> {
    let Some(shape) = rows.first().map(|r| r.shape) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for claim in &CLAIMS {
        let fits = |r: &Row| !claim.plain || r.without_amx();
        let ours = best(rows, |r| r.isa.is_some() && r.kind == claim.ours && fits(r));
        let theirs = best(rows, |r| {
            r.isa.is_none()
                && claim.theirs.contains(&r.kind)
                && r.name.starts_with(claim.who)
                && fits(r)
        });
        let (Some(ours), Some(theirs), true) = (ours, theirs, (claim.on)(shape)) else {
            continue;
        };
        let ratio = ours.rate(0) / theirs.rate(0);
        let (w, a) = claim.ours.names();
        let winner = if ratio >= 1.0 { "qcore" } else { &theirs.name };
        let target = if ratio >= claim.target {
            "met"
        } else {
            "MISSED"
        };
        let memory = theirs.weight_bytes as f64 / ours.weight_bytes.max(1) as f64;
        lines.push(format!(
            "| {shape} | {w} x {a}, {} | {}{} | {:.1} | {:.1} | {ratio:.2} | {:.1}: {target} | {memory:.1} | {winner} |",
            ours.name,
            theirs.name,
            if claim.plain { " (neither with AMX)" } else { "" },
            ours.rate(0),
            theirs.rate(0),
            claim.target,
        ));
    }
    lines
}

/// A page: conditions, verdicts, all figures.
pub fn markdown(notes: &[String], rows: &[Row]) -> String {
    let mut page = String::from("# qcore beside its peers\n\n");
    let mut line = |text: &str| writeln!(page, "{text}").expect("a string takes everything");
    for note in notes {
        line(&format!("* {note}"));
    }
    line(NOTES);
    line("## Who is ahead\n");
    line(
        "| N x M x K | ours | the best of theirs | MAC/cycle | theirs | ratio | target | weight memory, theirs : ours | winner |",
    );
    line("|---|---|---|---|---|---|---|---|---|");
    let mut shapes: Vec<Shape> = Vec::new();
    for row in rows {
        if shapes
            .iter()
            .all(|s| s.to_string() != row.shape.to_string())
        {
            shapes.push(row.shape);
        }
    }
    for shape in &shapes {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|r| r.shape.to_string() == shape.to_string())
            .collect();
        for verdict in verdicts(&of) {
            line(&verdict);
        }
    }
    line("\n## All figures\n");
    line(
        "| N x M x K | weights x activations | library | MAC/cycle | GMAC/s | bytes of weights | kernel |",
    );
    line("|---|---|---|---|---|---|---|");
    for r in rows {
        let (w, a) = r.kind.names();
        line(&format!(
            "| {} | {w} x {a} | {} | {:.1} | {:.1} | {} | {} |",
            r.shape,
            r.name,
            r.rate(0),
            r.rate(1),
            r.weight_bytes,
            r.kernel
        ));
    }
    page
}

/// An array of objects, one a line.
pub fn json(rows: &[Row]) -> String {
    let object = |r: &Row| {
        let (w, a) = r.kind.names();
        json!({
            "op": if r.shape.m == 1 { "gemv" } else { "gemm" },
            "library": r.name,
            "w": w,
            "a": a,
            "isa": r.isa.map(|isa| isa.name()),
            "n": r.shape.n,
            "m": r.shape.m,
            "k": r.shape.k,
            "threads": 1,
            "kernel": r.kernel,
            "mac_per_cycle": r.rate(0),
            "gmac_per_s": r.rate(1),
            "weight_bytes": r.weight_bytes,
        })
    };
    let objects: Vec<String> = rows.iter().map(|r| object(r).to_string()).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

/// How to read the figures.
const NOTES: &str = "
One thread each; MAC: multiply-add; medians of interleaved rounds; cycles of the clock right before and after. Every
result of integers was compared with ours, element by element, and every result of floats with sampled products in f64,
before it was timed. What the figures contain: ours, numkong, the f32
products and oneDNN's matmul have weights packed beforehand, oneDNN's gemm_u8s8s32 packs them in each call;
activations come as packed codes or bytes, but those of MatMulNBits and DynamicQuantizeMatMul are floats that
onnxruntime quantizes inside, so that those figures hold work that ours leave out. onnxruntime takes AMX or not as it
chooses. Where a peer is ahead, it says so: it is a bug here.
";
