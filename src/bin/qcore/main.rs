//! The command-line tool `qcore`: arguments in, words and files out. The work is in the library.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qcore::Result;

// Its macros `out!` and `err!` are for all that follow.
#[macro_use]
mod out;

mod bench;
mod curves;
mod eval;
mod figure;
mod image;
mod info;
mod inspect;
mod profile;
mod reproduce;
mod run;
mod table;
mod train;

/// Low-bit neural networks on ordinary CPUs: train them, look at them, run them.
#[derive(Parser)]
#[command(name = "qcore", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell the version, the CPU, and which ISAs are compiled, available and chosen
    Info(info::Args),
    /// Train a quantized net, on the built-in digits unless --data names a folder; --list shows recipes
    Train(Box<train::Args>),
    /// Run a packed model over the test images and tell its accuracy
    Eval(eval::Args),
    /// Show what a packed model consists of, layer by layer
    Inspect(inspect::Args),
    /// Run a packed model over images in files: PNG, PGM, PPM, .npy, raw
    Run(run::Args),
    /// Show where a packed model's time goes, node by node, beside the limits of this core
    Profile(profile::Args),
    /// Measure products and conversions against the limits of this core, and against f32
    Bench(bench::Args),
    /// Run the experiments behind the training layer and judge what comes out; a status of 1 if one fails
    Reproduce(reproduce::Args),
}

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(refusal) if refusal.use_stderr() => {
            // That standard error cannot be written, nobody is left to hear.
            let _ = refusal.print();
            return ExitCode::from(REFUSED);
        }
        Err(help) => {
            out::write(|_| help.print());
            Ok(ExitCode::SUCCESS)
        }
    };
    match done.and_then(|status| out::end().map(|()| status)) {
        Ok(status) => status,
        Err(error) => {
            err!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

/// The status if the tool could not do what it was asked for.
const REFUSED: u8 = 2;

fn run(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Info(args) => info::run(&args),
        Command::Train(args) => return train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Reproduce(args) => match reproduce::run(&args) {
            Ok(false) => return Ok(ExitCode::FAILURE),
            other => other.map(|_| ()),
        },
    };
    done.map(|()| ExitCode::SUCCESS)
}
