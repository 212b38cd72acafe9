//! `qcore train`: a recipe from options, the loop with a progress bar, then model, checkpoint, log and curves.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use qcore::isa::Isa;
use qcore::model::{self, Model};
use qcore::nn::freeze;
use qcore::nn::net::Net;
use qcore::ops::{Par, Pool};
use qcore::train::data::Dataset;
use qcore::train::recipe::Recipe;
use qcore::train::recipe::named::{self, NAMED};
use qcore::train::trainer::Trainer;
use qcore::{Error, Result};

use crate::curves;
use crate::eval::{correct, load_data};
use crate::out;
use crate::table::{self, bytes};

mod interrupt;
mod options;
mod seeds;
mod watch;

pub use options::Args;
use watch::Watch;

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.list || args.show.is_some() {
        return list(args.show.as_deref());
    }
    interrupt::listen()?;
    if !args.seeds.is_empty() {
        return seeds::run(args, &options::recipe(args)?);
    }
    let recipe = match &args.resume {
        Some(_) => None,
        None => Some(options::recipe(args)?),
    };
    match train(args, recipe, &args.out)? {
        Outcome::Done { .. } => Ok(ExitCode::SUCCESS),
        Outcome::Interrupted => Ok(interrupted()),
    }
}

/// How a run ended.
enum Outcome {
    Done {
        /// Share of the test images that are right after the last epoch, 0 to 1.
        accuracy: f64,
        /// Of the epochs that were trained here.
        seconds: f64,
        epochs: usize,
    },
    Interrupted,
}

fn interrupted() -> ExitCode {
    ExitCode::from(interrupt::STATUS)
}

/// Trains `recipe`, or goes on from the checkpoint if there is none; writes to the folder `out`.
fn train(args: &Args, recipe: Option<Recipe>, out: &Path) -> Result<Outcome> {
    let isa = Isa::chosen()?;
    let recipe = match (recipe, &args.resume) {
        (Some(recipe), _) => recipe,
        (None, Some(path)) => Recipe::of_checkpoint(path)?,
        (None, None) => options::recipe(args)?,
    };
    let pool = Pool::new(args.threads)?;
    let data = load_data(args.data.as_deref(), recipe.seed)?;
    let mut trainer = match &args.resume {
        Some(path) => {
            let mut trainer = Trainer::resume(path, &data)?;
            args.lr.map_or(Ok(()), |lr| trainer.set_lr(lr))?;
            trainer
        }
        None => Trainer::new(recipe, &data)?,
    };
    let mut watch = Watch::new(out, &mut trainer, &data)?;
    let recipe = trainer.recipe().clone();
    out!(
        "{}: {} training and {} test images, {} classes",
        data.name,
        data.train.len(),
        data.test.len(),
        data.train.classes()
    );
    out!(
        "net {}: {}-bit weights, {}-bit activations; {} float and {} quantized epochs; {isa}, {}",
        recipe.arch,
        recipe.bits_w,
        recipe.bits_a,
        recipe.float_epochs,
        recipe.epochs,
        table::count(pool.threads(), "thread")
    );
    let (begin, done) = (Instant::now(), trainer.done());
    let trained = trainer.run(Par::Pool(&pool), &mut watch);
    watch.bar.finish_and_clear();
    let checkpoint = out.join("checkpoint.safetensors");
    if let Err(error) = trained {
        let epoch = watch.save()?;
        let path = checkpoint.display();
        err!("{path} has the run as it was after epoch {epoch}");
        return Err(error);
    }
    watch.failed.take().map_or(Ok(()), Err)?;
    if interrupt::asked() && trainer.done() < trainer.epochs() {
        let epoch = watch.save()?;
        out!(
            "interrupted after epoch {epoch} of {}; go on with --resume {}",
            trainer.epochs(),
            checkpoint.display()
        );
        return Ok(Outcome::Interrupted);
    }
    let seconds = begin.elapsed().as_secs_f64();
    out!("trained in {seconds:.1} s");
    let epochs = trainer.done() - done;
    trainer.save(&checkpoint)?;
    let svg = out.join("curves.svg");
    let title = format!(
        "{} {}: {}W{}A",
        data.name, recipe.arch, recipe.bits_w, recipe.bits_a
    );
    curves::write(&svg, &title, &watch.points)?;
    if let Some(accuracy) = watch.float_accuracy {
        out!(
            "float net:      {:.2} % of the test images right",
            100.0 * accuracy
        );
    }
    let mut files = vec![checkpoint, out.join("log.jsonl"), svg];
    let net = trainer.into_net();
    let frozen = freeze(&net);
    if let Ok(frozen) = frozen {
        let model = out.join("model.safetensors");
        finish(&net, &frozen, &data, &model, &pool, &mut watch)?;
        files.insert(0, model);
    } else {
        if let Some(last) = watch.points.last() {
            let accuracy = last.test_accuracy;
            out!("the net:        {accuracy:.2} % of the test images right");
        }
        if let Err(error) = frozen {
            out!("no packed model: {error}");
        }
    }
    let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    out!("wrote {}", files.join(", "));
    let last = watch.points.last();
    Ok(Outcome::Done {
        accuracy: last.map_or(0.0, |point| point.test_accuracy / 100.0),
        seconds,
        epochs,
    })
}

/// The recipes that come with the tool; or one of them, as it is.
fn list(name: Option<&str>) -> Result<ExitCode> {
    match name {
        None => {
            let width = NAMED.iter().map(|n| n.name.len()).max().unwrap_or(0);
            for named in NAMED {
                let mut name = named.name;
                for line in folded(named.about(), COLUMNS - width - 2) {
                    out!("{name:width$}  {line}");
                    name = "";
                }
            }
        }
        Some(name) => out::text(named::find(name)?.text),
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns of a terminal that a list of recipes fits in.
const COLUMNS: usize = 100;

/// `text` in lines of at most `columns` characters, broken between words.
fn folded(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

/// Saves the frozen net, reads it back and runs what was saved: what is told is what the file does.
fn finish(
    net: &Net,
    frozen: &Model,
    data: &Dataset,
    path: &Path,
    pool: &Pool,
    watch: &mut Watch,
) -> Result<()> {
    frozen.save(path)?;
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
    out!(
        "quantized net:  {:.2} % (the packed model, its logits those of training bit for bit)",
        100.0 * accuracy
    );
    let (packed, float) = model.bytes();
    let ratio = float as f64 / packed as f64;
    out!(
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
