//! `qcore info`: what this build and this machine can do.

use qcore::Result;
use qcore::isa::{Isa, OVERRIDE, cpu_name};
use qcore::kernels::Kernels;

use crate::out;
use crate::table::{self, Table};

#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let chosen = Isa::chosen()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = |isa: Isa| match Kernels::of(isa) {
        Ok(k) => format!("{}, tile {}x{}", k.bitgemm_name(), k.mr(), k.nr()),
        Err(_) => String::new(),
    };
    if args.json {
        let isas: Vec<_> = Isa::ALL
            .into_iter()
            .map(|isa| {
                serde_json::json!({
                    "name": isa.name(),
                    "compiled": isa.is_compiled(),
                    "available": isa.is_available(),
                    "chosen": isa == chosen,
                    "bit_gemm": kernel(isa),
                })
            })
            .collect();
        let info = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": cpu_name(),
            "arch": std::env::consts::ARCH,
            "threads": threads,
            "isas": isas,
        });
        out!("{info:#}");
        return Ok(());
    }
    out!("qcore {}", env!("CARGO_PKG_VERSION"));
    out!(
        "CPU: {} ({}), {}",
        cpu_name(),
        std::env::consts::ARCH,
        table::count(threads, "thread")
    );
    let mut table = Table::new(&["ISA", "compiled", "available", "chosen", "bit GEMM"]);
    for isa in Isa::ALL {
        let yes = |b: bool| if b { "yes" } else { "-" }.to_string();
        table.row(vec![
            isa.to_string(),
            yes(isa.is_compiled()),
            yes(isa.is_available()),
            yes(isa == chosen),
            kernel(isa),
        ]);
    }
    out::text(table);
    out!("{OVERRIDE}=NAME forces an available one.");
    Ok(())
}
