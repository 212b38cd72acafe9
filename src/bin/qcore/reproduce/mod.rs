//! `qcore reproduce`: the experiments behind the training layer, each judged by what theory or a reference run says.
//!
//! An experiment writes NAME.csv and NAME.svg and one line for each thing that was expected. Seeds are fixed: the same
//! numbers come out on every machine and for every number of threads, up to the last places of `exp` and `cos`.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use qcore::model::write_whole;
use qcore::ops::{Par, Pool};
use qcore::{Error, Result};

use crate::figure::Figure;

mod landscape;
mod lemma;
mod quantizers;
mod recurrence;
mod rounding;
mod subspaces;
mod zigzag;

#[derive(clap::Args)]
pub struct Args {
    /// Experiments by name, or all
    #[arg(value_name = "NAME", required_unless_present = "list")]
    names: Vec<String>,
    /// Tell the experiments and what they show
    #[arg(long)]
    list: bool,
    /// Fewer samples and steps: all in a minute
    #[arg(long)]
    quick: bool,
    /// Folder for NAME.csv and NAME.svg
    #[arg(long, default_value = "qcore-out/reproduce", value_name = "DIR")]
    out: PathBuf,
    /// Threads; 0 takes one a processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// How thorough, and on what.
#[derive(Clone, Copy)]
struct Setting<'a> {
    quick: bool,
    par: Par<'a>,
}

impl Setting<'_> {
    /// One of two numbers.
    fn choose(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Something that was expected.
struct Check {
    expected: String,
    got: String,
    pass: bool,
}

/// What an experiment gives.
struct Outcome {
    /// A heading and rows.
    csv: Csv,
    figure: Figure,
    checks: Vec<Check>,
}

impl Outcome {
    fn new(heading: &str, title: &str, columns: usize) -> Self {
        Outcome {
            csv: Csv(format!("{heading}\n")),
            figure: Figure {
                title: title.to_string(),
                columns,
                panels: Vec::new(),
            },
            checks: Vec::new(),
        }
    }

    fn check(&mut self, pass: bool, expected: impl Into<String>, got: impl Into<String>) {
        self.checks.push(Check {
            expected: expected.into(),
            got: got.into(),
            pass,
        });
    }
}

/// Comma-separated values.
struct Csv(String);

impl Csv {
    /// A row: words, then numbers. A comma in a word becomes a blank.
    fn row(&mut self, words: &[&str], numbers: &[f64]) {
        let mut cells: Vec<String> = words.iter().map(|w| w.replace(',', " ")).collect();
        cells.extend(numbers.iter().map(|x| format!("{x}")));
        let _ = writeln!(self.0, "{}", cells.join(","));
    }
}

struct Experiment {
    name: &'static str,
    about: &'static str,
    run: fn(Setting<'_>) -> Result<Outcome>,
}

/// In the order of the papers.
const EXPERIMENTS: [Experiment; 12] = [
    Experiment {
        name: "closed-forms",
        about: "two linear layers: loss, gradients and coarse gradients in closed form against samples (1903.05662)",
        run: landscape::closed_forms,
    },
    Experiment {
        name: "coarse-descent",
        about: "descent along each expected coarse gradient, and its angle to the true one (1903.05662)",
        run: landscape::coarse_descent,
    },
    Experiment {
        name: "spurious-minimum",
        about: "who stays at the spurious minimum and who leaves it (1903.05662)",
        run: landscape::spurious_minimum,
    },
    Experiment {
        name: "sampled-descent",
        about: "the empirical loss along sampled coarse gradients, by the size of the sample (1903.05662)",
        run: landscape::sampled_descent,
    },
    Experiment {
        name: "descent-lemma",
        about: "blended descent on a quadratic against the bound of the lemma, over rho (1808.05240)",
        run: lemma::descent_lemma,
    },
    Experiment {
        name: "recurrence",
        about: "how often the optimum is visited, against 1 - S; the cycle that never visits it (2012.05529)",
        run: recurrence::recurrence,
    },
    Experiment {
        name: "blending-window",
        about: "blending inside its window makes the optimum the only fixed point (1808.05240, 2012.05529)",
        run: recurrence::blending_window,
    },
    Experiment {
        name: "stochastic-rounding",
        about: "stochastic rounding against BinaryConnect in three valleys; the law of small steps (1706.02379)",
        run: rounding::stochastic_rounding,
    },
    Experiment {
        name: "rounding-floor",
        about: "the floor of stochastic rounding on a quadratic is linear in the spacing (1706.02379)",
        run: rounding::rounding_floor,
    },
    Experiment {
        name: "subspaces",
        about: "two classes in two planes: steps to zero loss by coarse gradient; identity fails (2011.11256)",
        run: subspaces::subspaces,
    },
    Experiment {
        name: "zigzag",
        about: "forward and backtrack against the loss-aware rule: the toy's multiplier, zig-zag on a quadratic (2401.16760)",
        run: zigzag::zigzag,
    },
    Experiment {
        name: "quantizers",
        about: "scales and errors of weight quantizers on a Gaussian; exactness by brute force (all)",
        run: quantizers::quantizers,
    },
];

/// Runs what was asked for; whether everything came out as expected.
pub fn run(args: &Args) -> Result<bool> {
    if args.list {
        for e in &EXPERIMENTS {
            out!("{:<20} {}", e.name, e.about);
        }
        return Ok(true);
    }
    let chosen = choose(&args.names)?;
    let pool = Pool::new(args.threads)?;
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io(&args.out, "create", e))?;
    let setting = Setting {
        quick: args.quick,
        par: Par::Pool(&pool),
    };
    let (mut failed, mut checks) = (Vec::new(), 0);
    for experiment in chosen {
        let begin = Instant::now();
        let outcome = (experiment.run)(setting)?;
        let write = |end: &str, text: &str| {
            let path = args.out.join(format!("{}.{end}", experiment.name));
            write_whole(&path, text.as_bytes())
        };
        write("csv", &outcome.csv.0)?;
        write("svg", &outcome.figure.svg()?)?;
        out!(
            "{} ({:.1} s)",
            experiment.name,
            begin.elapsed().as_secs_f64()
        );
        for check in &outcome.checks {
            let word = if check.pass { "pass" } else { "FAIL" };
            out!(
                "  {word}  expected {}; came out {}",
                check.expected,
                check.got
            );
        }
        checks += outcome.checks.len();
        if outcome.checks.iter().any(|c| !c.pass) {
            failed.push(experiment.name);
        }
    }
    out!("wrote {}", args.out.display());
    if failed.is_empty() {
        out!("{checks} checks, all passed");
    } else {
        out!("{checks} checks; failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// The experiments of these names, each once, in their own order.
fn choose(names: &[String]) -> Result<Vec<&'static Experiment>> {
    let mut known: Vec<&str> = EXPERIMENTS.iter().map(|e| e.name).collect();
    known.push("all");
    for name in names {
        if !known.contains(&&name[..]) {
            return Err(Error::unknown("experiment", name, &known));
        }
    }
    let all = names.iter().any(|n| n == "all");
    let wanted = |e: &&Experiment| all || names.iter().any(|n| n == e.name);
    Ok(EXPERIMENTS.iter().filter(wanted).collect())
}
