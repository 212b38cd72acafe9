//! The nets in f32, by `onnx_nets.py`.

use std::process::Command;

use serde::Deserialize;

/// What the script prints.
#[derive(Deserialize)]
pub struct Floats {
    /// That of onnxruntime.
    pub version: String,
    pub results: Vec<Measured>,
}

/// A measurement.
#[derive(Deserialize)]
pub struct Measured {
    pub net: String,
    pub threads: usize,
    pub batch: usize,
    /// Of a run of the whole batch.
    pub seconds: f64,
}

impl Floats {
    /// What the script measures now; errors tell what is missing.
    pub fn measure(
        nets: &[&str],
        threads: &[usize],
        batch: &[usize],
        seconds: f64,
    ) -> Result<Self, String> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/nets/onnx_nets.py");
        let list = |numbers: &[usize]| {
            numbers
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let output = Command::new(&python)
            .arg(script)
            .args(["--nets", &nets.join(",")])
            .args(["--threads", &list(threads)])
            .args(["--batch", &list(batch)])
            .args(["--seconds", &seconds.to_string()])
            .output()
            .map_err(|e| format!("{}: {e}", python.display()))?;
        if !output.status.success() {
            // The last line of a traceback says what it was.
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said.lines().last().unwrap_or("it failed").to_string());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
    }

    /// What the script printed into a file.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
        serde_json::from_slice(&text).map_err(|e| format!("{path}: {e}"))
    }

    /// Seconds of a run of a net.
    pub fn seconds(&self, net: &str, threads: usize, batch: usize) -> Option<f64> {
        let same = |m: &&Measured| (m.net.as_str(), m.threads, m.batch) == (net, threads, batch);
        self.results.iter().find(same).map(|m| m.seconds)
    }
}
