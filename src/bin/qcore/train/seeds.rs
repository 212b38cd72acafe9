//! A recipe with several seeds, one after the other: each in a folder of its own, then mean and spread.

use std::process::ExitCode;

use qcore::model::write_whole;
use qcore::train::recipe::Recipe;
use qcore::{Error, Result};
use serde_json::{Value, json};

use super::options::Args;
use super::{Outcome, train};
use crate::table;

/// Trains `recipe` with each of the seeds; `seeds.jsonl` in the output folder has a line for each that is done, then
/// one for all.
pub fn run(args: &Args, recipe: &Recipe) -> Result<ExitCode> {
    let seeds = &args.seeds;
    if let Some(again) = (1..seeds.len()).find(|i| seeds[..*i].contains(&seeds[*i])) {
        let expected = "seeds that differ";
        return Err(Error::argument("--seeds", seeds[again], expected));
    }
    let mut lines = Vec::new();
    let (mut accuracies, mut seconds, mut epochs) = (Vec::new(), 0.0, 0);
    for seed in seeds {
        let recipe = Recipe {
            seed: *seed,
            ..recipe.clone()
        };
        out!("seed {seed}");
        let out = args.out.join(format!("seed-{seed}"));
        let Outcome::Done {
            accuracy,
            seconds: s,
            epochs: e,
        } = train(args, Some(recipe), &out)?
        else {
            return Ok(super::interrupted());
        };
        lines.push(json!({
            "seed": seed,
            "test_accuracy": accuracy,
            "epochs": e,
            "seconds_per_epoch": s / e.max(1) as f64,
        }));
        write(args, &lines)?;
        accuracies.push(accuracy);
        (seconds, epochs) = (seconds + s, epochs + e);
    }
    let (mean, spread) = mean_and_spread(&accuracies);
    lines.push(json!({
        "seeds": seeds,
        "mean": mean,
        "spread": spread,
        "seconds_per_epoch": seconds / epochs.max(1) as f64,
    }));
    write(args, &lines)?;
    let spread = match spread {
        Some(spread) => format!(", standard deviation {:.2}", 100.0 * spread),
        None => String::new(),
    };
    out!(
        "{}: {:.2} % of the test images right in the mean{spread}",
        table::count(seeds.len(), "seed"),
        100.0 * mean
    );
    Ok(ExitCode::SUCCESS)
}

fn write(args: &Args, lines: &[Value]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write_whole(&args.out.join("seeds.jsonl"), text.as_bytes())
}

/// The mean, and the standard deviation of a sample, which a single number does not have.
fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let spread = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
    (mean, spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let (mean, spread) = mean_and_spread(&[0.98, 0.99, 1.0]);
        assert!((mean - 0.99).abs() < 1e-12 && (spread.unwrap() - 0.01).abs() < 1e-12);
        assert_eq!(mean_and_spread(&[0.5]), (0.5, None));
    }
}
