//! Bit GEMM against the bound of the execution ports and against f32 GEMM, measured in the same run.
//!
//! Speed is a number of multiply-adds a cycle, so the clock is measured too, by a chain of additions that
//! depend on each other, right before and after each repetition. The bound is what the instructions of
//! the inner loop reach when they touch registers alone. Repetitions of all three are interleaved, and
//! medians are shown: a machine that is busy with something else disturbs all three alike.
//!
//! `cargo bench --bench bound`; `-- --json` for machines; `-- --test` runs everything once.
//! One thread. Every product is checked before it is timed.

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Case, Floats, Shape};
use qcore::bits::Encoding;
use qcore::isa::{self, Isa};

/// Shapes, N x M x K, for bipolar activations; the second for the other widths too.
const SHAPES: [Shape; 5] = [
    Shape::new(512, 512, 512),
    Shape::new(1024, 1024, 1024),
    Shape::new(4096, 256, 4096),
    Shape::new(256, 3136, 1152),
    Shape::new(64, 1024, 576),
];
const WIDTHS_SHAPE: Shape = SHAPES[1];

/// Repetitions, of which the median is taken.
const REPETITIONS: usize = 15;

/// Seconds that a repetition should take, so that the clock of the system is fine enough.
const SECONDS: f64 = 2e-3;

/// One line of the table.
struct Row {
    isa: Isa,
    activation: Encoding,
    shape: Shape,
    /// Multiply-adds a cycle.
    rate: f64,
    /// Those of the register-only loop over the planes; none for plain Rust.
    bound: Option<f64>,
    /// 10^9 multiply-adds a second.
    giga: f64,
    /// Time of f32 GEMM over the time of this.
    ratio: f64,
    /// Clock, GHz.
    clock: f64,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|a| a == flag);
    let repetitions = if has("--test") { 1 } else { REPETITIONS };
    let mut rows = Vec::new();
    for shape in SHAPES {
        let mut floats = Floats::new(shape);
        for isa in Isa::available() {
            // Plain Rust would take most of the time to tell little.
            if isa == Isa::Portable && shape.macs() > SHAPES[0].macs() {
                continue;
            }
            let mut widths = vec![Encoding::Bipolar];
            if shape.macs() == WIDTHS_SHAPE.macs() && isa != Isa::Portable {
                let unsigned = [2, 4, 8].map(|b| Encoding::unsigned(b).expect("1 to 8 bits"));
                widths.extend(unsigned);
            }
            for activation in widths {
                let mut case = Case::new(isa, activation, shape);
                rows.push(measure(&mut case, &mut floats, repetitions));
            }
        }
    }
    if has("--json") {
        print_json(&rows);
    } else {
        print_table(&rows);
    }
}

/// Interleaved repetitions of the register-only loop, f32 GEMM and the product.
fn measure(case: &mut Case, floats: &mut Floats, repetitions: usize) -> Row {
    let (isa, shape, activation) = (case.gemm.isa(), case.shape, case.gemm.activation());
    let planes = activation.planes() as f64;
    let macs = shape.macs() as f64;
    let runs = calls(|| case.run());
    let float_runs = calls(|| floats.run());
    let (mut rates, mut bounds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clocks, mut gigas) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let mut port_macs = 0.0;
        let port = cycles(|| port_macs = ports(isa));
        if port_macs > 0.0 {
            bounds.push(port_macs / port.cycles / planes);
        }
        let float = cycles(|| (0..float_runs).for_each(|_| floats.run()));
        let bit = cycles(|| (0..runs).for_each(|_| case.run()));
        let each = bit.seconds / runs as f64;
        rates.push(macs * runs as f64 / bit.cycles);
        ratios.push(float.seconds / float_runs as f64 / each);
        gigas.push(macs / each / 1e9);
        clocks.push(bit.cycles / bit.seconds / 1e9);
    }
    Row {
        isa,
        activation,
        shape,
        rate: median(rates),
        bound: (!bounds.is_empty()).then(|| median(bounds)),
        giga: median(gigas),
        ratio: median(ratios),
        clock: median(clocks),
    }
}

/// How many calls of `work` last [`SECONDS`].
fn calls(mut work: impl FnMut()) -> usize {
    let start = Instant::now();
    work();
    (SECONDS / start.elapsed().as_secs_f64()).ceil() as usize
}

struct Elapsed {
    seconds: f64,
    cycles: f64,
}

/// The time of `work`, also in cycles of the clock that ran right before and after it.
fn cycles(work: impl FnOnce()) -> Elapsed {
    let before = hertz();
    let start = Instant::now();
    work();
    let seconds = start.elapsed().as_secs_f64();
    let hertz = (before + hertz()) / 2.0;
    Elapsed {
        seconds,
        cycles: seconds * hertz,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Additions in the chain of one clock measurement: a quarter of a millisecond at 4 GHz.
const CHAIN: u64 = 1 << 20;

/// The clock of this core now. Registers are added, no constants: some cores fold constants away.
fn hertz() -> f64 {
    let start = Instant::now();
    // SAFETY: additions in registers that are declared.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "2:",
            ".rept 64",
            "add {x}, {y}",
            ".endr",
            "dec {n}",
            "jnz 2b",
            x = inout(reg) 1u64 => _,
            y = in(reg) black_box(1u64),
            n = inout(reg) CHAIN / 64 => _,
            options(nomem, nostack),
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "2:",
            ".rept 64",
            "add {x}, {x}, {y}",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            x = inout(reg) 1u64 => _,
            y = in(reg) black_box(1u64),
            n = inout(reg) CHAIN / 64 => _,
            options(nomem, nostack),
        );
    }
    CHAIN as f64 / start.elapsed().as_secs_f64()
}

/// Rounds of a register-only loop.
const ROUNDS: u64 = 100_000;

/// Runs the instructions of an ISA's inner loop on registers alone, and tells their multiply-adds;
/// 0 where there is no such loop. As in the kernels, accumulators do not depend on each other.
fn ports(isa: Isa) -> f64 {
    assert!(isa.is_available());
    match isa {
        Isa::Portable => 0.0,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            // SAFETY: registers alone, all declared; the CPU has the features, as asserted above.
            unsafe {
                std::arch::asm!(
                    "2:",
                    // 12 triples: the tile of the kernel.
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                    "vpxord zmm16, zmm30, zmm31",
                    "vpopcntd zmm16, zmm16",
                    "vpaddd zmm\\i, zmm\\i, zmm16",
                    ".endr",
                    "dec {n}",
                    "jnz 2b",
                    "vzeroupper",
                    n = inout(reg) ROUNDS => _,
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                    out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                    out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                    out("zmm16") _,
                    options(nomem, nostack),
                );
            }
            (12 * 512 * ROUNDS) as f64
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            // SAFETY: as above.
            unsafe {
                std::arch::asm!(
                    "2:",
                    // 6 octets: the tile of the kernel. ymm12 is the table, ymm13 the mask.
                    ".irp i, 0, 1, 2, 3, 4, 5",
                    "vpxor ymm6, ymm14, ymm15",
                    "vpand ymm7, ymm6, ymm13",
                    "vpsrlw ymm6, ymm6, 4",
                    "vpand ymm6, ymm6, ymm13",
                    "vpshufb ymm7, ymm12, ymm7",
                    "vpshufb ymm6, ymm12, ymm6",
                    "vpaddb ymm\\i, ymm\\i, ymm7",
                    "vpaddb ymm\\i, ymm\\i, ymm6",
                    ".endr",
                    "dec {n}",
                    "jnz 2b",
                    "vzeroupper",
                    n = inout(reg) ROUNDS => _,
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                    out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                    options(nomem, nostack),
                );
            }
            (6 * 256 * ROUNDS) as f64
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            // SAFETY: as above.
            unsafe {
                std::arch::asm!(
                    "2:",
                    // 16 triples: the tile of the kernel.
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23",
                    "eor v24.16b, v30.16b, v31.16b",
                    "cnt v24.16b, v24.16b",
                    "add v\\i\\().16b, v\\i\\().16b, v24.16b",
                    ".endr",
                    "subs {n}, {n}, #1",
                    "b.ne 2b",
                    n = inout(reg) ROUNDS => _,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _,
                    options(nomem, nostack),
                );
            }
            (16 * 128 * ROUNDS) as f64
        }
        #[allow(unreachable_patterns)]
        _ => unreachable!("an ISA of another architecture is not available"),
    }
}

/// The load averages, where the system tells them.
fn load() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let first: Vec<&str> = text.split_whitespace().take(3).collect();
    Some(first.join(" "))
}

fn print_table(rows: &[Row]) {
    let load = load().unwrap_or_else(|| "unknown".to_string());
    println!("CPU {}, load {load}, one thread", isa::cpu_name());
    println!(
        "{:<9} {:<8} {:<16} {:>9} {:>7} {:>6} {:>9} {:>6} {:>5}",
        "ISA", "acts", "N x M x K", "MAC/cycle", "bound", "%", "G MAC/s", "x f32", "GHz"
    );
    for r in rows {
        let (bound, percent) = match r.bound {
            Some(b) => (format!("{b:.1}"), format!("{:.0}", 100.0 * r.rate / b)),
            None => ("-".to_string(), "-".to_string()),
        };
        println!(
            "{:<9} {:<8} {:<16} {:>9.1} {:>7} {:>6} {:>9.1} {:>6.2} {:>5.2}",
            r.isa.name(),
            r.activation.to_string(),
            r.shape.to_string(),
            r.rate,
            bound,
            percent,
            r.giga,
            r.ratio,
            r.clock
        );
    }
}

fn print_json(rows: &[Row]) {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|r| {
            serde_json::json!({
                "isa": r.isa.name(),
                "activation": r.activation.to_string(),
                "n": r.shape.n,
                "m": r.shape.m,
                "k": r.shape.k,
                "mac_per_cycle": r.rate,
                "bound_mac_per_cycle": r.bound,
                "percent_of_bound": r.bound.map(|b| 100.0 * r.rate / b),
                "giga_mac_per_second": r.giga,
                "times_f32": r.ratio,
                "gigahertz": r.clock,
            })
        })
        .collect();
    let report = serde_json::json!({ "cpu": isa::cpu_name(), "load": load(), "rows": rows });
    println!("{report:#}");
}
