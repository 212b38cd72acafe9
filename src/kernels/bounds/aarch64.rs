//! The loops of AArch64. Each is one `asm!`; a round does a tile's worth of independent accumulators.

use std::arch::asm;

use super::{Block, Ports, Sequence};
use crate::isa::Isa;

/// The loop of a sequence on an ISA of AArch64.
pub(super) fn ports(isa: Isa, sequence: Sequence) -> Option<Ports> {
    let ports = |instructions, macs, run| {
        Some(Ports {
            instructions,
            macs,
            run,
        })
    };
    match (isa, sequence) {
        (_, Sequence::Count) => ports("eor or and, cnt, add", 16 * 128, count),
        (_, Sequence::CountMasked) => ports("eor, and, cnt, add", 16 * 128, count_masked),
        (_, Sequence::Fma) => ports("fmla", 16 * 4, fma),
        (_, Sequence::Lanes) => ports("smlal, smlal2", 16 * 8, lanes),
        (Isa::Neon, Sequence::Dot) => ports("umlal, umlal2", 16 * 16, long),
        (Isa::Neon, Sequence::DotWide) => {
            ports("umull, uadalp, umull2, uadalp", 16 * 16, long_wide)
        }
        (Isa::NeonDot, Sequence::Dot | Sequence::DotWide) => ports("udot or sdot", 16 * 16, dot),
        (Isa::NeonI8mm, Sequence::Dot | Sequence::DotWide) => ports("usmmla", 16 * 32, mixed_pairs),
        (_, Sequence::LookUp) => ports("tbl, add", 16 * 64, look_up),
        (_, Sequence::LookUpWiden) => ports("4 tbl, 4 add, usra", 16 * 256, look_up_widen),
        (_, Sequence::LookUpFloats) => ports("tbl of 4 registers, fadd", 16 * 16, look_up_floats),
        (_, Sequence::Dot | Sequence::DotWide | Sequence::LookUpWide) => None,
    }
}

/// `rounds` times 64 additions, each of which needs the one before. Registers are added, no constants: some
/// cores fold constants away.
pub(super) fn chain(rounds: u64) {
    let rounds = rounds.max(1);
    // SAFETY: additions in registers that are declared; the loop ends, for `rounds` is not 0.
    unsafe {
        asm!(
            "2:",
            ".rept 64",
            "add {x}, {x}, {y}",
            ".endr",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            x = inout(reg) 1u64 => _,
            y = in(reg) 1u64,
            n = inout(reg) rounds => _,
            options(nomem, nostack),
        );
    }
}

/// A function that repeats instructions for each `\i`, 16 accumulators, in as many rounds as it is told. Besides
/// those they may write v24 and v25; v26 to v31 are zero, for floats that are no ordinary numbers would slow some cores
/// down.
macro_rules! rounds {
    ($(#[$doc:meta])* $name:ident, $($line:literal),+) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has NEON, and `rounds` is not 0.
        unsafe fn $name(rounds: u64) {
            // SAFETY: registers alone, every written one declared as clobbered; the features and the end of
            // the loop are the contract.
            unsafe {
                asm!(
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29, 30, 31",
                    "movi v\\i\\().2d, #0",
                    ".endr",
                    "2:",
                    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23",
                    $($line,)+
                    ".endr",
                    "subs {n}, {n}, #1",
                    "b.ne 2b",
                    n = inout(reg) rounds => _,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

rounds!(
    /// 16 triples: the tile of the kernel.
    count,
    "eor v24.16b, v30.16b, v31.16b",
    "cnt v24.16b, v24.16b",
    "add v\\i\\().16b, v\\i\\().16b, v24.16b"
);

rounds!(
    /// The same with a mask.
    count_masked,
    "eor v24.16b, v30.16b, v31.16b",
    "and v24.16b, v24.16b, v31.16b",
    "cnt v24.16b, v24.16b",
    "add v\\i\\().16b, v\\i\\().16b, v24.16b"
);

rounds!(
    /// 16 look-ups of sums of four activations for 4 channels.
    look_up_floats,
    "tbl v24.16b, {{v26.16b, v27.16b, v28.16b, v29.16b}}, v31.16b",
    "fadd v\\i\\().4s, v\\i\\().4s, v24.4s"
);

rounds!(
    /// 16 look-ups of sums of four activations for 16 channels.
    look_up,
    "tbl v24.16b, {{v30.16b}}, v31.16b",
    "add v\\i\\().16b, v\\i\\().16b, v24.16b"
);

rounds!(
    /// Four of them, summed and widened.
    look_up_widen,
    "tbl v24.16b, {{v30.16b}}, v31.16b",
    "tbl v25.16b, {{v30.16b}}, v31.16b",
    "add v24.16b, v24.16b, v25.16b",
    "tbl v25.16b, {{v30.16b}}, v31.16b",
    "add v24.16b, v24.16b, v25.16b",
    "tbl v25.16b, {{v30.16b}}, v31.16b",
    "add v24.16b, v24.16b, v25.16b",
    "add v\\i\\().8h, v\\i\\().8h, v24.8h",
    "usra v\\i\\().8h, v24.8h, #8"
);

rounds!(
    /// 16 sums: at 4 a cycle they hide a latency of 4.
    fma,
    "fmla v\\i\\().4s, v30.4s, v31.4s"
);

rounds!(
    /// Both halves of 8 lanes of 16 bits.
    lanes,
    "smlal v\\i\\().4s, v30.4h, v31.4h",
    "smlal2 v\\i\\().4s, v30.8h, v31.8h"
);

rounds!(
    /// Both halves of 16 bytes; the kernel has an accumulator for each.
    long,
    "umlal v\\i\\().8h, v30.8b, v31.8b",
    "umlal2 v\\i\\().8h, v30.16b, v31.16b"
);

rounds!(
    /// The same where two products do not fit 16 bits.
    long_wide,
    "umull v24.8h, v30.8b, v31.8b",
    "umull2 v25.8h, v30.16b, v31.16b",
    "uadalp v\\i\\().4s, v24.8h",
    "uadalp v\\i\\().4s, v25.8h"
);

rounds!(
    /// 16 sums of four products in each lane.
    #[target_feature(enable = "neon,dotprod")]
    dot,
    "udot v\\i\\().4s, v30.16b, v31.16b"
);

rounds!(
    /// 16 times four sums of eight products, of bytes of two kinds.
    #[target_feature(enable = "neon,i8mm")]
    mixed_pairs,
    "usmmla v\\i\\().4s, v30.16b, v31.16b"
);

/// Loads all bytes of `count` blocks into registers that nobody looks at.
///
/// # Safety
/// `count` blocks, not 0, are readable from `first`.
pub(super) unsafe fn read(first: *const Block, count: u64) {
    // SAFETY: each round reads one block of 512 bytes, 32 at a time, and moves on by as much, `count` times.
    // Registers that are written are declared, and memory is only read.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "ldp q0, q1, [{p}, #32 * \\i]",
            ".endr",
            "add {p}, {p}, #512",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("v0") _, out("v1") _,
            options(readonly, nostack),
        );
    }
}

/// Stores zeros to all bytes of `count` blocks.
///
/// # Safety
/// `count` blocks, not 0, are writable from `first`.
pub(super) unsafe fn write(first: *mut Block, count: u64) {
    // SAFETY: each round writes one block of 512 bytes, 32 at a time, and moves on by as much, `count` times. The register
    // that is written is declared.
    unsafe {
        asm!(
            "movi v0.2d, #0",
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "stp q0, q0, [{p}, #32 * \\i]",
            ".endr",
            "add {p}, {p}, #512",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("v0") _,
            options(nostack),
        );
    }
}
