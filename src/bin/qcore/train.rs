//! `qcore train`: a recipe from options, the loop with a progress bar, then model, checkpoint, log and curves.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use qcore::isa::Isa;
use qcore::model::{self, Model};
use qcore::nn::freeze;
use qcore::nn::net::{Kind, Mode, Net};
use qcore::ops::{Par, Pool};
use qcore::quant::Rounding;
use qcore::train::data::Dataset;
use qcore::train::recipe::Recipe;
use qcore::train::rule::Rule;
use qcore::train::schedule::Schedule;
use qcore::train::trainer::{Callback, EpochReport, StepReport, Trainer};
use qcore::{Error, Result};

use crate::curves::{self, Point};
use crate::eval::{correct, load_data};
use crate::table::bytes;

/// The least time between two checkpoints within a run.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// Folder of IDX files (MNIST's names, plain or .gz); the built-in digits if absent
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Hidden layers: tfc, sfc, lfc (three of 64, 256, 1024), or sizes as in 512-256
    #[arg(long)]
    arch: Option<String>,
    /// Bits of a weight: 1, or 32 for floats
    #[arg(long, value_name = "BITS")]
    bits_w: Option<usize>,
    /// Bits of an activation: 1 to 8, or 32 for floats
    #[arg(long, value_name = "BITS")]
    bits_a: Option<usize>,
    /// Hidden activation: relu, or sign (with 1 bit)
    #[arg(long, value_parser = one_of([("relu", Kind::Relu), ("sign", Kind::Sign)]))]
    activation: Option<Kind>,
    /// Where the steps of the quantized ReLU lie: ceil or nearest; nearest for 1 bit, else ceil, if absent
    #[arg(long, value_parser = one_of([("ceil", Rounding::Ceil), ("nearest", Rounding::Nearest)]))]
    rounding: Option<Rounding>,
    /// Weight rule: bcgd (blended coarse gradient descent) or binary-connect
    #[arg(long, value_parser = one_of([("bcgd", false), ("binary-connect", true)]), value_name = "RULE")]
    rule: Option<bool>,
    /// Blending of bcgd, 0 to 1; 0 is binary-connect
    #[arg(long)]
    rho: Option<f32>,
    /// Epochs in floats that come first; 0 for none
    #[arg(long, value_name = "N")]
    float_epochs: Option<usize>,
    /// Epochs of the quantized net
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images in a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate at the start of each phase
    #[arg(long)]
    lr: Option<f32>,
    /// Epochs of a phase after which the rate falls by --gamma, as in 80,140; a half cosine if absent
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    milestones: Option<Vec<usize>>,
    /// Factor of the rate at each milestone
    #[arg(long, default_value_t = 0.1, requires = "milestones")]
    gamma: f32,
    /// Momentum, 0 to below 1
    #[arg(long)]
    momentum: Option<f32>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Pixels by which training images are shifted at most
    #[arg(long, value_name = "PIXELS")]
    max_shift: Option<usize>,
    /// Seed of weights, order, shifts and of the built-in digits
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 takes one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Folder for model.safetensors, checkpoint.safetensors, log.jsonl and curves.svg
    #[arg(long, default_value = "qcore-out", value_name = "DIR")]
    out: PathBuf,
    /// Go on from a checkpoint, with its recipe; of the other options only --data, --threads and --out count
    #[arg(long, value_name = "CHECKPOINT")]
    resume: Option<PathBuf>,
}

/// A parser of one of a few names.
fn one_of<T: Clone + Send + Sync + 'static, const N: usize>(
    names: [(&'static str, T); N],
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone {
    move |name| {
        let found = names.iter().find(|(n, _)| *n == name);
        let all = || names.each_ref().map(|(n, _)| *n).join(" or ");
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| format!("expected {}", all()))
    }
}

pub fn run(args: &Args) -> Result<()> {
    let isa = Isa::chosen()?;
    let recipe = recipe(args)?;
    let pool = Pool::new(args.threads)?;
    let data = load_data(args.data.as_deref(), args.seed)?;
    let mut trainer = match &args.resume {
        Some(path) => Trainer::resume(path, &data)?,
        None => Trainer::new(recipe, &data)?,
    };
    let mut watch = Watch::new(&args.out, &trainer, &data)?;
    let recipe = trainer.recipe().clone();
    println!(
        "{}: {} training and {} test images, {} classes",
        data.name,
        data.train.len(),
        data.test.len(),
        data.train.classes()
    );
    println!(
        "net {}: {}-bit weights, {}-bit activations; {} float and {} quantized epochs; {isa}, {} threads",
        recipe.arch,
        recipe.bits_w,
        recipe.bits_a,
        recipe.float_epochs,
        recipe.epochs,
        pool.threads()
    );
    let begin = Instant::now();
    let trained = trainer.run(Par::Pool(&pool), &mut watch);
    watch.bar.finish_and_clear();
    trained?;
    watch.failed.take().map_or(Ok(()), Err)?;
    println!("trained in {:.1} s", begin.elapsed().as_secs_f64());
    let checkpoint = args.out.join("checkpoint.safetensors");
    trainer.save(&checkpoint)?;
    let svg = args.out.join("curves.svg");
    let title = format!(
        "{} {}: {}W{}A",
        data.name, recipe.arch, recipe.bits_w, recipe.bits_a
    );
    curves::write(&svg, &title, &watch.points)?;
    if let Some(accuracy) = watch.float_accuracy {
        println!(
            "float net:      {:.2} % of the test images right",
            100.0 * accuracy
        );
    }
    let mut files = vec![checkpoint, args.out.join("log.jsonl"), svg];
    let net = trainer.into_net();
    if net.mode() == Mode::Quantized && recipe.bits_w == 1 && recipe.bits_a <= 8 {
        let model = args.out.join("model.safetensors");
        finish(&net, &data, &model, &pool, &mut watch)?;
        files.insert(0, model);
    } else {
        if let Some(last) = watch.points.last() {
            let accuracy = last.test_accuracy;
            println!("the net:        {accuracy:.2} % of the test images right");
        }
        println!(
            "no packed model: it takes 1-bit weights, activations of 1 to 8 bits and a quantized epoch"
        );
    }
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    println!("wrote {}", files.join(", "));
    Ok(())
}

/// The recipe of the options: those that were given, over the defaults.
fn recipe(args: &Args) -> Result<Recipe> {
    let mut r = Recipe {
        seed: args.seed,
        ..Recipe::default()
    };
    let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
    set(&mut r.bits_w, args.bits_w);
    set(&mut r.bits_a, args.bits_a);
    set(&mut r.float_epochs, args.float_epochs);
    set(&mut r.epochs, args.epochs);
    set(&mut r.batch, args.batch);
    set(&mut r.max_shift, args.max_shift);
    let set = |to: &mut f32, from: Option<f32>| *to = from.unwrap_or(*to);
    set(&mut r.lr, args.lr);
    set(&mut r.momentum, args.momentum);
    set(&mut r.weight_decay, args.weight_decay);
    r.arch = args.arch.clone().unwrap_or(r.arch);
    r.activation = args.activation.unwrap_or(r.activation);
    r.rounding = args.rounding.or(r.rounding);
    if let Some(milestones) = args.milestones.clone() {
        r.schedule = Schedule::MultiStep {
            milestones,
            gamma: args.gamma,
        };
    }
    r.rule = match (args.rule, args.rho) {
        (Some(true), Some(rho)) => {
            return Err(Error::argument(
                "--rho",
                rho,
                "nothing beside --rule binary-connect, whose rho is 0",
            ));
        }
        (Some(true), None) => Rule::BinaryConnect,
        (_, Some(rho)) => Rule::Bcgd { rho },
        (_, None) => Rule::default(),
    };
    r.check()?;
    Ok(r)
}

/// Freezes, saves, reads back and runs what was saved: what is told is what the file does.
fn finish(net: &Net, data: &Dataset, path: &Path, pool: &Pool, watch: &mut Watch) -> Result<()> {
    freeze(net)?.save(path)?;
    let model = Model::load(path)?;
    let mut logits = vec![0.0; data.test.len() * model.outputs()[0].len()];
    let mut workspace = model.workspace(256, pool.threads(), model::Mode::Latency)?;
    model.run(
        data.test.pixels(),
        &mut logits,
        &mut workspace,
        Par::Pool(pool),
    )?;
    let in_training = net.evaluate(Isa::chosen()?, data.test.pixels(), Par::Pool(pool))?;
    let same = logits
        .iter()
        .zip(&in_training)
        .all(|(a, b)| a.to_bits() == b.to_bits());
    if !same {
        let problem = "its logits differ from those of the net in training; please report this";
        return Err(Error::format(path.display(), problem));
    }
    let accuracy = correct(&logits, data.test.labels()) as f64 / data.test.len() as f64;
    println!(
        "quantized net:  {:.2} % (the packed model, its logits those of training bit for bit)",
        100.0 * accuracy
    );
    let (packed, float) = model.bytes();
    let ratio = float as f64 / packed as f64;
    println!(
        "packed size:    {}, as floats {}: {ratio:.1} times smaller",
        bytes(packed),
        bytes(float)
    );
    watch.line(&serde_json::json!({
        "test_accuracy": accuracy,
        "float_test_accuracy": watch.float_accuracy,
        "packed_bytes": packed,
        "float_bytes": float,
    }))
}

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

/// Who watches: bar, log, points of the curves, checkpoints.
struct Watch {
    bar: ProgressBar,
    log: File,
    log_path: PathBuf,
    checkpoint: PathBuf,
    saved: Instant,
    epochs: usize,
    points: Vec<Point>,
    float_accuracy: Option<f32>,
    /// What went wrong while watching; it stops the run.
    failed: Option<Error>,
    tested: String,
}

impl Watch {
    /// Makes the folder and begins the log, so that an output that cannot be written ends the run before it
    /// has begun.
    fn new(out: &Path, trainer: &Trainer<'_>, data: &Dataset) -> Result<Self> {
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

    /// A line of the log.
    fn line(&mut self, value: &impl serde::Serialize) -> Result<()> {
        let mut text =
            serde_json::to_string(value).map_err(|e| Error::format("a line of the log", e))?;
        text.push('\n');
        self.log
            .write_all(text.as_bytes())
            .map_err(|e| Error::io(&self.log_path, "write", e))
    }

    fn epoch(&mut self, trainer: &mut Trainer<'_>, report: &EpochReport) -> Result<()> {
        self.line(report)?;
        let quantized = report.phase == Mode::Quantized;
        if !quantized {
            self.float_accuracy = Some(report.test_accuracy);
        }
        self.points.push(Point {
            quantized,
            loss: f64::from(report.train_loss),
            train_accuracy: 100.0 * f64::from(report.train_accuracy),
            test_accuracy: 100.0 * f64::from(report.test_accuracy),
        });
        self.tested = format!("test {:.2} %", 100.0 * report.test_accuracy);
        let text = format!(
            "epoch {:>3}/{} {:<9} loss {:.4}  training {:.2} %  {}  {:.0} images/s",
            report.epoch,
            report.epochs,
            if quantized { "quantized" } else { "float" },
            report.train_loss,
            100.0 * report.train_accuracy,
            self.tested,
            report.images_per_second
        );
        // On a terminal the bar says it; elsewhere a line an epoch does.
        if !std::io::stderr().is_terminal() {
            println!("{text}");
        } else if report.epoch.is_multiple_of(10) || report.epoch == report.epochs {
            self.bar.println(text);
        }
        if self.saved.elapsed() >= CHECKPOINT_EVERY {
            trainer.save(&self.checkpoint)?;
            self.saved = Instant::now();
        }
        Ok(())
    }
}

impl Callback for Watch {
    fn on_step(&mut self, report: &StepReport) -> ControlFlow<()> {
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
        ControlFlow::Continue(())
    }
}
