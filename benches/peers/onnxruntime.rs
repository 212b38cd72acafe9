//! onnxruntime in a process of its own, which `products.py` runs.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::operands::Operands;

/// The process, and a folder for operands and results.
pub struct Onnxruntime {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
    pub version: String,
    cases: usize,
}

/// An operator and the width of its weights.
pub struct Operator {
    pub name: &'static str,
    pub bits: usize,
    /// Weights that share a scale; 0 for the operators that have one scale.
    pub block: usize,
}

impl Onnxruntime {
    /// Starts `PYTHON`, or `python3`; errors tell what is missing.
    pub fn start() -> Result<Self, String> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/products.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", python.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut process = Onnxruntime {
            child,
            input: input.expect("a pipe"),
            output: BufReader::new(output.expect("a pipe")),
            folder: tempfile::tempdir().map_err(|e| e.to_string())?,
            version: String::new(),
            cases: 0,
        };
        process.version = process.answer()?;
        Ok(process)
    }

    /// What stands behind "ok"; errors hold what stands behind "skip".
    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        match line.trim().split_once(' ') {
            Some(("ok", rest)) => Ok(rest.to_string()),
            None if line.trim() == "ok" => Ok(String::new()),
            Some(("skip", why)) => Err(why.to_string()),
            _ => Err(format!("it said {line:?}")),
        }
    }

    fn ask(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.input, "{command}").map_err(|e| e.to_string())?;
        self.input.flush().map_err(|e| e.to_string())?;
        self.answer()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A product, run once: its number, its result and the bytes of its weights.
    pub fn case(
        &mut self,
        operator: &Operator,
        operands: &Operands,
    ) -> Result<(usize, Vec<f64>, usize), String> {
        let Operands {
            shape,
            weights,
            activations,
        } = operands;
        let id = self.cases;
        self.cases += 1;
        let paths = ["w", "a", "y"].map(|name| self.path(name));
        let bytes = |v: &[i32]| v.iter().map(|&v| v as u8).collect::<Vec<u8>>();
        std::fs::write(&paths[0], bytes(weights)).map_err(|e| e.to_string())?;
        std::fs::write(&paths[1], bytes(activations)).map_err(|e| e.to_string())?;
        let [w, a, y] = paths.each_ref().map(|p| p.display());
        let Operator { name, bits, block } = operator;
        let (n, m, k) = (shape.n, shape.m, shape.k);
        let said = self.ask(&format!(
            "case {id} {name} {bits} {block} {n} {m} {k} {w} {a} {y}"
        ))?;
        let result = std::fs::read(&paths[2]).map_err(|e| e.to_string())?;
        let words = result.as_chunks().0.iter();
        let result = match *name {
            "MatMulInteger" => words.map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
            _ => words.map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        };
        Ok((id, result, said.parse().unwrap_or(0)))
    }

    /// Seconds of one call of a product.
    pub fn seconds(&mut self, id: usize, least: f64) -> Result<f64, String> {
        let said = self.ask(&format!("run {id} {least}"))?;
        said.parse().map_err(|_| said)
    }

    pub fn drop_case(&mut self, id: usize) {
        // A process that is gone has dropped it too.
        let _ = self.ask(&format!("drop {id}"));
    }
}

impl Drop for Onnxruntime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
