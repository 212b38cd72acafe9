//! The limits of the core itself: multiply-adds a cycle on registers alone, bytes a cycle by footprint.

use qcore::Result;
use qcore::isa::Isa;
use qcore::kernels::bounds::{Block, Loops, Sequence};

use super::timing::{Effort, Team, hertz, median, timed};
use crate::table::{Table, bytes};

/// Where data lies, and how much of it is sure to lie there: most cores' L1, L2, L3 and what is beyond.
pub const LEVELS: [(&str, usize); 4] = [
    ("L1", 16 << 10),
    ("L2", 256 << 10),
    ("L3", 4 << 20),
    ("DRAM", 256 << 20),
];

/// The same in a hurry: the last is not surely beyond every cache.
pub const QUICK_LEVELS: [(&str, usize); 4] = [
    ("L1", 16 << 10),
    ("L2", 256 << 10),
    ("L3", 4 << 20),
    ("DRAM", 64 << 20),
];

/// Multiply-adds a cycle of all threads, of a sequence on registers alone.
pub fn port_rate(loops: Loops, sequence: Sequence, team: &Team, effort: Effort) -> Option<f64> {
    // A thousand rounds are some ten thousand cycles. The count of calls comes from one thread: to wake others
    // takes longer than a call.
    let rounds = 1000;
    let macs = loops.run(sequence, 1)? * rounds;
    let calls = effort.calls(|| _ = loops.run(sequence, rounds)) as u64;
    let run = timed(1, || team.all(|_| _ = loops.run(sequence, rounds * calls)));
    Some((macs * calls * team.threads() as u64) as f64 / run.cycles())
}

/// Bytes a cycle of all threads that read `blocks`, each its own part, again and again.
pub fn read_rate(loops: Loops, blocks: &[Block], team: &Team, effort: Effort) -> f64 {
    let part = blocks.len().div_ceil(team.threads());
    // As above, on one thread.
    let calls = effort.calls(|| loops.read(&blocks[..part]));
    let run = timed(1, || {
        team.all(|thread| {
            let end = blocks.len().min((thread + 1) * part);
            for _ in 0..calls {
                loops.read(&blocks[end.min(thread * part)..end]);
            }
        })
    });
    (calls * size_of_val(blocks)) as f64 / run.cycles()
}

/// The limits of one core, one thread.
pub struct Limits {
    pub ports: Vec<Port>,
    pub reads: Vec<Read>,
}

/// A sequence on registers alone.
pub struct Port {
    pub isa: Isa,
    pub instructions: &'static str,
    /// Multiply-adds a cycle.
    pub rate: f64,
}

/// Reads of a footprint in the widest vectors.
pub struct Read {
    pub level: &'static str,
    pub bytes: usize,
    /// Bytes a cycle, and 10^9 bytes a second.
    pub rate: f64,
    pub giga: f64,
    /// The same of a copy of floats, source and copy being of this size each.
    pub copied: f64,
}

impl Limits {
    /// Measures them; `tick` is told of each step, [`Limits::steps`] in all.
    pub fn measure(
        isas: &[Isa],
        levels: &[(&'static str, usize)],
        effort: Effort,
        mut tick: impl FnMut(),
    ) -> Result<Self> {
        let team = Team::new(1)?;
        let mut ports = Vec::new();
        for &isa in isas {
            let loops = Loops::of(isa)?;
            for sequence in Sequence::ALL {
                let rates = (0..effort.repetitions)
                    .filter_map(|_| port_rate(loops, sequence, &team, effort));
                let rate = median(&rates.collect::<Vec<_>>());
                let both = loops.instructions(sequence).zip(rate);
                // Where one instruction serves two sequences, one line is enough.
                let known = |p: &&Port| p.isa == isa && Some(p.instructions) == both.map(|b| b.0);
                if ports.iter().find(known).is_none() {
                    ports.extend(both.map(|(instructions, rate)| Port {
                        isa,
                        instructions,
                        rate,
                    }));
                }
                tick();
            }
        }
        let loops = Loops::of(Isa::best())?;
        let mut reads = Vec::new();
        for &(level, bytes) in levels {
            let blocks = Block::some(bytes);
            let (from, mut to) = (vec![1f32; bytes / 4], vec![0f32; bytes / 4]);
            let mut copy = || std::hint::black_box(&mut to[..]).copy_from_slice(&from);
            let calls = effort.calls(&mut copy);
            let (mut rates, mut gigas, mut copies) = (Vec::new(), Vec::new(), Vec::new());
            // Large footprints take long enough to be even.
            let repetitions = effort
                .repetitions
                .min(if bytes > 64 << 20 { 5 } else { usize::MAX });
            for _ in 0..repetitions {
                let rate = read_rate(loops, &blocks, &team, effort);
                rates.push(rate);
                gigas.push(rate * hertz() / 1e9);
                copies.push(bytes as f64 / timed(calls, &mut copy).seconds / 1e9);
            }
            reads.push(Read {
                level,
                bytes,
                rate: median(&rates).unwrap_or(0.0),
                giga: median(&gigas).unwrap_or(0.0),
                copied: median(&copies).unwrap_or(0.0),
            });
            tick();
        }
        Ok(Limits { ports, reads })
    }

    /// Steps of [`Limits::measure`].
    pub fn steps(isas: &[Isa], levels: &[(&'static str, usize)]) -> usize {
        isas.len() * Sequence::ALL.len() + levels.len()
    }

    /// As tables: of instructions, and of bandwidth.
    pub fn tables(&self) -> [Table; 2] {
        let mut ports = Table::new(&["ISA", "on registers alone", "MAC/cycle"]);
        for p in &self.ports {
            let (isa, rate) = (p.isa.to_string(), format!("{:.1}", p.rate));
            ports.row(vec![isa, p.instructions.to_string(), rate]);
        }
        let heading = ["reads from", "footprint", "B/cycle", "GB/s", "copies, GB/s"];
        let mut reads = Table::new(&heading);
        for r in &self.reads {
            reads.row(vec![
                r.level.to_string(),
                bytes(r.bytes),
                format!("{:.1}", r.rate),
                format!("{:.1}", r.giga),
                format!("{:.1}", r.copied),
            ]);
        }
        [ports, reads]
    }
}
