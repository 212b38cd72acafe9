//! What was measured, as a Markdown table or JSON.

use std::fmt;

use qcore::isa::{Isa, cpu_name};
use serde_json::{Value, json};

use crate::onnxruntime::Floats;

/// A measurement of ours.
pub struct Row {
    pub net: &'static str,
    /// Of activations.
    pub bits: usize,
    pub threads: usize,
    pub batch: usize,
    /// Of a run of the whole batch.
    pub seconds: f64,
}

pub struct Report {
    isa: Isa,
    pub rows: Vec<Row>,
    /// Or why they are absent.
    pub floats: Result<Floats, String>,
}

impl Report {
    pub fn new(isa: Isa) -> Self {
        Report {
            isa,
            rows: Vec::new(),
            floats: Err(String::new()),
        }
    }

    /// Seconds of the same net in f32.
    fn float_seconds(&self, row: &Row) -> Option<f64> {
        let floats = self.floats.as_ref().ok()?;
        floats.seconds(row.net, row.threads, row.batch)
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let float = self.float_seconds(row);
            json!({
                "net": row.net,
                "activation_bits": row.bits,
                "threads": row.threads,
                "batch": row.batch,
                "seconds": row.seconds,
                "images_per_second": row.batch as f64 / row.seconds,
                "onnxruntime_f32_seconds": float,
                "times_onnxruntime": float.map(|float| float / row.seconds),
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({
            "cpu": cpu_name(),
            "isa": self.isa.name(),
            "onnxruntime": self.floats.as_ref().ok().map(|floats| &floats.version),
            "rows": rows,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {}; weights of 1 bit", cpu_name(), self.isa)?;
        match &self.floats {
            Ok(floats) => writeln!(f, "onnxruntime {}, f32\n", floats.version)?,
            Err(why) => writeln!(f, "onnxruntime: skipped: {why}\n")?,
        }
        let heading = [
            "net",
            "activations",
            "threads",
            "batch",
            "ms",
            "images/s",
            "onnxruntime",
            "times",
        ];
        writeln!(
            f,
            "| {} |\n|{}",
            heading.join(" | "),
            "---|".repeat(heading.len())
        )?;
        for row in &self.rows {
            let rate = |seconds: f64| format!("{:.1}", row.batch as f64 / seconds);
            let float = self.float_seconds(row);
            let cells = [
                row.net.to_string(),
                format!("{} bit{}", row.bits, if row.bits == 1 { "" } else { "s" }),
                row.threads.to_string(),
                row.batch.to_string(),
                format!("{:.3}", 1e3 * row.seconds),
                rate(row.seconds),
                float.map_or_else(String::new, rate),
                float.map_or_else(String::new, |float| format!("{:.1}", float / row.seconds)),
            ];
            writeln!(f, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}
