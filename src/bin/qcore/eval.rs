//! `qcore eval`: a packed model over the test images.

use std::path::PathBuf;
use std::time::Instant;

use qcore::model::{Mode, Model};
use qcore::ops::{Par, Pool};
use qcore::train::data::{Dataset, built_in, load_folder};
use qcore::{Error, Result};

use crate::table;

/// Images that go through the model at a time: enough to fill the tiles, little enough for the cache.
const AT_A_TIME: usize = 256;

#[derive(clap::Args)]
pub struct Args {
    /// The model file
    model: PathBuf,
    /// Folder of IDX files (MNIST's names, plain or .gz) or of CIFAR-10's binary files; the built-in digits if absent
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed of the built-in digits: the one that the model was trained with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads; 0 takes one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let model = Model::load(&args.model)?;
    let data = load_data(args.data.as_deref(), args.seed)?;
    let pool = Pool::new(args.threads)?;
    let images = &data.test;
    let input = model.input();
    if [images.height(), images.width(), images.channels()]
        != [input.height, input.width, input.channels]
    {
        let value = format!(
            "of {} x {} x {} pixels",
            images.height(),
            images.width(),
            images.channels()
        );
        let expected = format!(
            "{} x {} x {}, as the model takes",
            input.height, input.width, input.channels
        );
        return Err(Error::argument("data", value, expected));
    }
    let outputs = model.outputs()[0].len();
    if images.classes() > outputs {
        let value = format!("of {} classes", images.classes());
        return Err(Error::argument(
            "data",
            value,
            format!("at most {outputs}, the model's outputs"),
        ));
    }
    let mut logits = vec![0.0; images.len() * outputs];
    let mut workspace = model.workspace(AT_A_TIME, pool.threads(), Mode::Latency)?;
    let begin = Instant::now();
    model.run(
        images.pixels(),
        &mut logits,
        &mut workspace,
        Par::Pool(&pool),
    )?;
    let seconds = begin.elapsed().as_secs_f64();
    let right = correct(&logits, images.labels());
    let accuracy = 100.0 * right as f64 / images.len() as f64;
    let rate = images.len() as f64 / seconds;
    if args.json {
        let result = serde_json::json!({
            "model": args.model.display().to_string(),
            "data": data.name,
            "isa": model.isa().name(),
            "threads": pool.threads(),
            "images": images.len(),
            "correct": right,
            "accuracy": accuracy,
            "images_per_second": rate,
        });
        out!("{result:#}");
    } else {
        out!(
            "{}: {right} of {} test images right, {accuracy:.2} % ({rate:.0} images/s on {}, {})",
            data.name,
            images.len(),
            model.isa(),
            table::count(pool.threads(), "thread")
        );
    }
    Ok(())
}

/// The data set of a folder, or the built-in digits.
pub fn load_data(folder: Option<&std::path::Path>, seed: u64) -> Result<Dataset> {
    match folder {
        Some(folder) => load_folder(folder),
        None => built_in(seed),
    }
}

/// How many rows of logits are largest at their label; of equal ones the first counts.
pub fn correct(logits: &[f32], labels: &[u8]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    let hit = |row: &[f32], label: u8| {
        let best = (0..classes)
            .rev()
            .max_by(|&a, &b| row[a].total_cmp(&row[b]));
        best == Some(usize::from(label))
    };
    let rows = logits.chunks(classes.max(1));
    rows.zip(labels)
        .filter(|(row, label)| hit(row, **label))
        .count()
}
