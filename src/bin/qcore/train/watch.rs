//! Who watches a run of `qcore train`: progress bar, log, points of the curves, checkpoints.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use qcore::model::write_whole;
use qcore::nn::net::Mode;
use qcore::train::data::Dataset;
use qcore::train::recipe::Recipe;
use qcore::train::trainer::{Callback, EpochReport, StepReport, Trainer};
use qcore::train::{LayerReport, NetReport};
use qcore::{Error, Result};

use super::interrupt;
use crate::curves::Point;

/// The least time between two checkpoints within a run.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);

/// The first line of the log.
#[derive(serde::Serialize)]
struct Head<'a> {
    version: &'a str,
    data: &'a str,
    train_images: usize,
    test_images: usize,
    epochs_done: usize,
    recipe: &'a Recipe,
}

/// How the weights of a layer behaved in an epoch.
#[derive(serde::Serialize)]
struct LayerLine<'a> {
    epoch: usize,
    #[serde(flatten)]
    layer: &'a LayerReport,
}

/// How the quantized net behaved in an epoch.
#[derive(serde::Serialize)]
struct NetLine<'a> {
    epoch: usize,
    #[serde(flatten)]
    net: &'a NetReport,
}

/// Who watches: bar, log, points of the curves, checkpoints.
pub struct Watch {
    pub bar: ProgressBar,
    log: File,
    log_path: PathBuf,
    checkpoint: PathBuf,
    saved: Instant,
    /// The run as it was after the last whole epoch, as a checkpoint holds it, and that epoch.
    good: (Vec<u8>, usize),
    epochs: usize,
    pub points: Vec<Point>,
    pub float_accuracy: Option<f32>,
    /// What went wrong while watching; it stops the run.
    pub failed: Option<Error>,
    tested: String,
}

impl Watch {
    /// Makes the folder and begins the log, so that an output that cannot be written ends the run before it
    /// has begun.
    pub fn new(out: &Path, trainer: &mut Trainer<'_>, data: &Dataset) -> Result<Self> {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, "create", e))?;
        let log_path = out.join("log.jsonl");
        let log = File::create(&log_path).map_err(|e| Error::io(&log_path, "create", e))?;
        let bar = ProgressBar::new(0);
        let style = "{bar:24} {percent:>3} %  {msg}  [{elapsed}, {eta} left]";
        bar.set_style(ProgressStyle::with_template(style).expect("a template that is right"));
        let mut watch = Watch {
            bar,
            log,
            log_path,
            checkpoint: out.join("checkpoint.safetensors"),
            saved: Instant::now(),
            good: (trainer.to_bytes()?, trainer.done()),
            epochs: trainer.epochs(),
            points: Vec::new(),
            float_accuracy: None,
            failed: None,
            tested: String::new(),
        };
        watch.line(&Head {
            version: env!("CARGO_PKG_VERSION"),
            data: &data.name,
            train_images: data.train.len(),
            test_images: data.test.len(),
            epochs_done: trainer.done(),
            recipe: trainer.recipe(),
        })?;
        Ok(watch)
    }

    /// Writes the run as it was after the last whole epoch; that epoch.
    pub fn save(&self) -> Result<usize> {
        write_whole(&self.checkpoint, &self.good.0)?;
        Ok(self.good.1)
    }

    /// A line of the log.
    pub fn line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let mut text =
            serde_json::to_string(value).map_err(|e| Error::format("a line of the log", e))?;
        text.push('\n');
        self.log
            .write_all(text.as_bytes())
            .map_err(|e| Error::io(&self.log_path, "write", e))
    }

    fn epoch(&mut self, trainer: &mut Trainer<'_>, report: &EpochReport) -> Result<()> {
        self.line(report)?;
        if let Some(net) = trainer.net_report() {
            let epoch = report.epoch;
            self.line(&NetLine { epoch, net })?;
        }
        for layer in trainer.layer_reports() {
            self.line(&LayerLine {
                epoch: report.epoch,
                layer,
            })?;
        }
        let quantized = report.phase == Mode::Quantized;
        if !quantized {
            self.float_accuracy = Some(report.test_accuracy);
        }
        let point = Point {
            quantized,
            loss: f64::from(report.train_loss),
            train_accuracy: 100.0 * f64::from(report.train_accuracy),
            test_accuracy: 100.0 * f64::from(report.test_accuracy),
        };
        self.tested = format!("test {:.2} %", point.test_accuracy);
        let text = format!(
            "epoch {:>3}/{} {:<9} loss {:.4}  training {:.2} %  {}  {:.0} images/s",
            report.epoch,
            report.epochs,
            if quantized { "quantized" } else { "float" },
            report.train_loss,
            point.train_accuracy,
            self.tested,
            report.images_per_second
        );
        self.points.push(point);
        // On a terminal the bar says it; elsewhere a line an epoch does.
        if !std::io::stderr().is_terminal() {
            out!("{text}");
        } else if report.epoch.is_multiple_of(10) || report.epoch == report.epochs {
            self.bar.println(text);
        }
        // An error if a number is not finite: then the checkpoint of the epoch before stays the good one.
        self.good = (trainer.to_bytes()?, trainer.done());
        if self.saved.elapsed() >= CHECKPOINT_EVERY {
            self.save()?;
            self.saved = Instant::now();
        }
        Ok(())
    }
}

impl Callback for Watch {
    fn on_step(&mut self, report: &StepReport) -> ControlFlow<()> {
        if interrupt::asked() {
            return ControlFlow::Break(());
        }
        // Often enough for the eye.
        if report.step.is_multiple_of(16) || report.step == report.steps {
            let done = (report.epoch - 1) * report.steps + report.step;
            self.bar.set_length((self.epochs * report.steps) as u64);
            self.bar.set_position(done as u64);
            self.bar.set_message(format!(
                "epoch {} loss {:.3} batch {:>3.0} % {} {:>6.0} images/s",
                report.epoch,
                report.loss,
                100.0 * report.accuracy,
                self.tested,
                report.images_per_second
            ));
        }
        ControlFlow::Continue(())
    }

    fn on_epoch(&mut self, trainer: &mut Trainer<'_>, report: &EpochReport) -> ControlFlow<()> {
        if let Err(error) = self.epoch(trainer, report) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        match interrupt::asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
