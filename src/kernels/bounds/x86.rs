//! The loops of x86-64. Each is one `asm!`; a round does a tile's worth of independent accumulators.

use std::arch::asm;

use super::{Block, Ports, Sequence};
use crate::isa::Isa;

/// The loop of a sequence on an ISA of x86-64.
pub(super) fn ports(isa: Isa, sequence: Sequence) -> Option<Ports> {
    let ports = |instructions, macs, run| {
        Some(Ports {
            instructions,
            macs,
            run,
        })
    };
    match (isa, sequence) {
        (Isa::Avx512, Sequence::Count) => {
            ports("vpxord or vpandd, vpopcntd, vpaddd", 12 * 512, zmm_count)
        }
        (Isa::Avx512, Sequence::CountMasked) => {
            ports("vpternlogd, vpopcntd, vpaddd", 12 * 512, zmm_count_masked)
        }
        (Isa::Avx512, Sequence::Dot | Sequence::DotWide) => ports("vpdpbusd", 14 * 64, zmm_dot),
        (Isa::Avx512, Sequence::LookUp) => ports("vpermb, vpaddb", 12 * 384, zmm_look_up),
        (Isa::Avx512, Sequence::LookUpWiden) => ports(
            "2 vpermb, vpaddb, vpsrlw, 2 vpaddw",
            6 * 768,
            zmm_look_up_widen,
        ),
        (Isa::Avx512, Sequence::LookUpWide) => {
            ports("vpermi2w, vpaddw", 12 * 192, zmm_look_up_wide)
        }
        (Isa::Avx512Bw, Sequence::Count) => ports(
            "vpxord or vpandd, 2 vpandd, vpsrlw, 2 vpshufb, 2 vpaddb",
            6 * 512,
            zmm_count_bytes,
        ),
        (Isa::Avx512Bw, Sequence::CountMasked) => ports(
            "vpternlogd, 2 vpandd, vpsrlw, 2 vpshufb, 2 vpaddb",
            6 * 512,
            zmm_count_bytes,
        ),
        (Isa::Avx512Bw, Sequence::LookUp) => {
            ports("vpshufb, vpaddb", 12 * 256, zmm_look_up_nibbles)
        }
        (Isa::Avx512Bw, Sequence::LookUpWiden) => ports(
            "4 vpshufb, 3 vpaddb, vpsrlw, 2 vpaddw",
            6 * 1024,
            zmm_look_up_nibbles_widen,
        ),
        (Isa::Avx512Bw, Sequence::Dot) => ports("vpmaddubsw, vpaddw", 8 * 64, zmm_madd),
        (Isa::Avx512Bw, Sequence::DotWide) => ports("vpmaddwd, vpaddd", 8 * 32, zmm_madd_wide),
        (Isa::Avx512 | Isa::Avx512Bw, Sequence::LookUpFloats) => {
            ports("vpermps, vaddps", 12 * 64, zmm_look_up_floats)
        }
        (Isa::Avx512 | Isa::Avx512Bw, Sequence::Fma) => ports("vfmadd231ps", 14 * 16, zmm_fma),
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::Count) => ports(
            "vpxor or vpand, 2 vpand, vpsrlw, 2 vpshufb, 2 vpaddb",
            6 * 256,
            ymm_count,
        ),
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::CountMasked) => ports(
            "vpxor, 3 vpand, vpsrlw, 2 vpshufb, 2 vpaddb",
            6 * 256,
            ymm_count_masked,
        ),
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::LookUp) => {
            ports("vpshufb, vpaddb", 8 * 128, ymm_look_up)
        }
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::LookUpWiden) => ports(
            "4 vpshufb, 3 vpaddb, vpsrlw, 2 vpaddw",
            4 * 512,
            ymm_look_up_widen,
        ),
        (Isa::Avx2Vnni, Sequence::Dot | Sequence::DotWide) => {
            ports("vpdpbusd (VEX)", 14 * 32, ymm_vnni)
        }
        (Isa::Avx2, Sequence::Dot) => ports("vpmaddubsw, vpaddw", 8 * 32, ymm_dot),
        (Isa::Avx2, Sequence::DotWide) => ports("vpmaddwd, vpaddd", 8 * 16, ymm_dot_wide),
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::LookUpFloats) => {
            ports("2 vpermilps, 2 vaddps", 8 * 32, ymm_look_up_floats)
        }
        (Isa::Avx512 | Isa::Avx512Bw, Sequence::Lanes) => {
            ports("vpmaddwd, vpaddd of one product", 8 * 16, zmm_madd_wide)
        }
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::Lanes) => {
            ports("vpmaddwd, vpaddd of one product", 8 * 8, ymm_dot_wide)
        }
        (Isa::Avx2 | Isa::Avx2Vnni, Sequence::Fma) => ports("vfmadd231ps", 14 * 8, ymm_fma),
        _ => None,
    }
}

/// `rounds` times 64 additions, each of which needs the one before. Registers are added, no constants: some
/// cores fold constants away.
pub(super) fn chain(rounds: u64) {
    let rounds = rounds.max(1);
    // SAFETY: additions in registers that are declared, of every x86-64; the loop ends, for `rounds` is not 0.
    unsafe {
        asm!(
            "2:",
            ".rept 64",
            "add {x}, {y}",
            ".endr",
            "dec {n}",
            "jnz 2b",
            x = inout(reg) 1u64 => _,
            y = in(reg) 1u64,
            n = inout(reg) rounds => _,
            options(nomem, nostack),
        );
    }
}

/// A function that repeats instructions for each `\i`, in as many rounds as it is told. They may write every
/// vector register below 28; those below 16 are zero at first, for floats that are no ordinary numbers would slow
/// some cores down.
macro_rules! rounds {
    ($(#[$doc:meta])* $name:ident, $each:literal, $($line:literal),+) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has the features of the instructions, and `rounds` is not 0.
        unsafe fn $name(rounds: u64) {
            // SAFETY: registers alone, every one that may be written declared as clobbered; the features and
            // the end of the loop are the contract.
            unsafe {
                asm!(
                    "vzeroall",
                    "2:",
                    concat!(".irp i, ", $each),
                    $($line,)+
                    ".endr",
                    "dec {n}",
                    "jnz 2b",
                    "vzeroupper",
                    n = inout(reg) rounds => _,
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                    out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                    out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                    out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
                    out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                    out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                    out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

rounds!(
    /// 12 triples: the tile of the kernel.
    zmm_count,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "vpxord zmm16, zmm14, zmm15",
    "vpopcntd zmm16, zmm16",
    "vpaddd zmm\\i, zmm\\i, zmm16"
);

rounds!(
    /// 6 triples twice. vpternlogd overwrites what it reads: each has a register of its own, as if it had just
    /// been loaded. One right before its vpopcntd would take the ports that others want: 9 % slower on Zen 5.
    zmm_count_masked,
    "0, 0",
    ".irp j, 0, 1, 2, 3, 4, 5",
    "vpternlogd zmm2\\j, zmm14, zmm15, 0x28",
    ".endr",
    ".irp j, 0, 1, 2, 3, 4, 5",
    "vpopcntd zmm16, zmm2\\j",
    "vpaddd zmm\\j, zmm\\j, zmm16",
    ".endr"
);

rounds!(
    /// 14 counters: at 2 a cycle, 10 hide a latency of 5.
    zmm_dot,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13",
    "vpdpbusd zmm\\i, zmm14, zmm15"
);

rounds!(
    /// 12 look-ups of sums of six activations for 64 channels.
    zmm_look_up,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "vpermb zmm16, zmm26, zmm27",
    "vpaddb zmm\\i, zmm\\i, zmm16"
);

rounds!(
    /// 6 pairs of look-ups, each of sums of six activations for 64 channels.
    zmm_look_up_widen,
    "0, 1, 2, 3, 4, 5",
    "vpermb zmm16, zmm26, zmm27",
    "vpermb zmm17, zmm27, zmm26",
    "vpaddb zmm16, zmm16, zmm17",
    "vpaddw zmm\\i, zmm\\i, zmm16",
    "vpsrlw zmm16, zmm16, 8",
    "vpaddw zmm1\\i, zmm1\\i, zmm16"
);

rounds!(
    /// 12 look-ups of sums of six activations for 32 channels. zmm16 is the index, and then what was found.
    zmm_look_up_wide,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "vmovdqa64 zmm16, zmm15",
    "vpermi2w zmm16, zmm26, zmm27",
    "vpaddw zmm\\i, zmm\\i, zmm16"
);

rounds!(
    /// 12 look-ups of sums of four activations for 16 channels.
    zmm_look_up_floats,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "vpermps zmm16, zmm15, zmm14",
    "vaddps zmm\\i, zmm\\i, zmm16"
);

rounds!(
    /// 14 sums, as above.
    zmm_fma,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13",
    "vfmadd231ps zmm\\i, zmm14, zmm15"
);

rounds!(
    /// 6 octets, as of AVX2. zmm12 stands for the table, zmm13 for the mask.
    zmm_count_bytes,
    "0, 1, 2, 3, 4, 5",
    "vpxord zmm6, zmm14, zmm15",
    "vpandd zmm7, zmm6, zmm13",
    "vpsrlw zmm6, zmm6, 4",
    "vpandd zmm6, zmm6, zmm13",
    "vpshufb zmm7, zmm12, zmm7",
    "vpshufb zmm6, zmm12, zmm6",
    "vpaddb zmm\\i, zmm\\i, zmm7",
    "vpaddb zmm\\i, zmm\\i, zmm6"
);

rounds!(
    /// 8 pairs, as of AVX2.
    zmm_madd,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpmaddubsw zmm8, zmm14, zmm15",
    "vpaddw zmm\\i, zmm\\i, zmm8"
);

rounds!(
    /// The same in 16 bits.
    zmm_madd_wide,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpmaddwd zmm8, zmm14, zmm15",
    "vpaddd zmm\\i, zmm\\i, zmm8"
);

rounds!(
    /// 6 octets: the tile of the kernel. ymm12 stands for the table, ymm13 for the mask.
    ymm_count,
    "0, 1, 2, 3, 4, 5",
    "vpxor ymm6, ymm14, ymm15",
    "vpand ymm7, ymm6, ymm13",
    "vpsrlw ymm6, ymm6, 4",
    "vpand ymm6, ymm6, ymm13",
    "vpshufb ymm7, ymm12, ymm7",
    "vpshufb ymm6, ymm12, ymm6",
    "vpaddb ymm\\i, ymm\\i, ymm7",
    "vpaddb ymm\\i, ymm\\i, ymm6"
);

rounds!(
    /// The same and the nonzero plane, ymm11.
    ymm_count_masked,
    "0, 1, 2, 3, 4, 5",
    "vpxor ymm6, ymm14, ymm15",
    "vpand ymm6, ymm6, ymm11",
    "vpand ymm7, ymm6, ymm13",
    "vpsrlw ymm6, ymm6, 4",
    "vpand ymm6, ymm6, ymm13",
    "vpshufb ymm7, ymm12, ymm7",
    "vpshufb ymm6, ymm12, ymm6",
    "vpaddb ymm\\i, ymm\\i, ymm7",
    "vpaddb ymm\\i, ymm\\i, ymm6"
);

rounds!(
    /// 12 look-ups of sums of four activations for 64 channels.
    zmm_look_up_nibbles,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    "vpshufb zmm16, zmm26, zmm27",
    "vpaddb zmm\\i, zmm\\i, zmm16"
);

rounds!(
    /// 6 sums of four of them.
    zmm_look_up_nibbles_widen,
    "0, 1, 2, 3, 4, 5",
    "vpshufb zmm16, zmm26, zmm27",
    "vpshufb zmm17, zmm27, zmm26",
    "vpaddb zmm16, zmm16, zmm17",
    "vpshufb zmm17, zmm26, zmm27",
    "vpshufb zmm18, zmm27, zmm26",
    "vpaddb zmm16, zmm16, zmm17",
    "vpaddb zmm16, zmm16, zmm18",
    "vpaddw zmm\\i, zmm\\i, zmm16",
    "vpsrlw zmm16, zmm16, 8",
    "vpaddw zmm1\\i, zmm1\\i, zmm16"
);

rounds!(
    /// 8 look-ups of sums of four activations for 8 channels, each of two halves.
    ymm_look_up_floats,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpermilps ymm8, ymm14, ymm15",
    "vpermilps ymm9, ymm14, ymm13",
    "vaddps ymm8, ymm8, ymm9",
    "vaddps ymm\\i, ymm\\i, ymm8"
);

rounds!(
    /// 8 look-ups of sums of four activations for 32 channels.
    ymm_look_up,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpshufb ymm8, ymm14, ymm15",
    "vpaddb ymm\\i, ymm\\i, ymm8"
);

rounds!(
    /// 4 sums of four look-ups, the tile of the kernel; each of sums of four activations for 32 channels.
    ymm_look_up_widen,
    "0, 1, 2, 3",
    "vpshufb ymm8, ymm14, ymm15",
    "vpshufb ymm9, ymm15, ymm14",
    "vpaddb ymm8, ymm8, ymm9",
    "vpshufb ymm9, ymm14, ymm15",
    "vpshufb ymm7, ymm15, ymm14",
    "vpaddb ymm8, ymm8, ymm9",
    "vpaddb ymm8, ymm8, ymm7",
    "vpaddw ymm\\i, ymm\\i, ymm8",
    "vpsrlw ymm8, ymm8, 8",
    "vpaddw ymm1\\i, ymm1\\i, ymm8"
);

rounds!(
    /// 8 pairs, as the tile of the kernel has.
    ymm_dot,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpmaddubsw ymm8, ymm14, ymm15",
    "vpaddw ymm\\i, ymm\\i, ymm8"
);

rounds!(
    /// The same in 16 bits. What makes bytes into words is not here: that much more a kernel must do.
    ymm_dot_wide,
    "0, 1, 2, 3, 4, 5, 6, 7",
    "vpmaddwd ymm8, ymm14, ymm15",
    "vpaddd ymm\\i, ymm\\i, ymm8"
);

rounds!(
    /// 14 counters, as in AVX-512.
    ymm_vnni,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13",
    "{{vex}} vpdpbusd ymm\\i, ymm14, ymm15"
);

rounds!(
    /// 14 sums, as in AVX-512.
    ymm_fma,
    "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13",
    "vfmadd231ps ymm\\i, ymm14, ymm15"
);

/// Loads all bytes of `count` blocks into registers that nobody looks at.
///
/// # Safety
/// The CPU has AVX-512F, and `count` blocks, not 0, are readable from `first`.
pub(super) unsafe fn read_zmm(first: *const Block, count: u64) {
    // SAFETY: each round reads one block of 512 bytes and moves on by as much, `count` times. Registers that are
    // written, and those whose upper halves vzeroupper clears, are declared, and memory is only read.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
            "vmovdqa64 zmm\\i, [{p} + 64 * \\i]",
            ".endr",
            "add {p}, 512",
            "dec {n}",
            "jnz 2b",
            "vzeroupper",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            options(readonly, nostack),
        );
    }
}

/// Loads all bytes of `count` blocks into registers that nobody looks at.
///
/// # Safety
/// The CPU has AVX2, and `count` blocks, not 0, are readable from `first`.
pub(super) unsafe fn read_ymm(first: *const Block, count: u64) {
    // SAFETY: as in `read_zmm`.
    unsafe {
        asm!(
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovdqa ymm\\i, [{p} + 32 * \\i]",
            ".endr",
            "add {p}, 512",
            "dec {n}",
            "jnz 2b",
            "vzeroupper",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(readonly, nostack),
        );
    }
}

/// Stores zeros to all bytes of `count` blocks.
///
/// # Safety
/// The CPU has AVX-512F, and `count` blocks, not 0, are writable from `first`.
pub(super) unsafe fn write_zmm(first: *mut Block, count: u64) {
    // SAFETY: each round writes one block of 512 bytes and moves on by as much, `count` times. The register that is
    // written, and those whose upper halves vzeroupper clears, are declared.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7",
            "vmovdqa64 [{p} + 64 * \\i], zmm0",
            ".endr",
            "add {p}, 512",
            "dec {n}",
            "jnz 2b",
            "vzeroupper",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            options(nostack),
        );
    }
}

/// Stores zeros to all bytes of `count` blocks.
///
/// # Safety
/// The CPU has AVX2, and `count` blocks, not 0, are writable from `first`.
pub(super) unsafe fn write_ymm(first: *mut Block, count: u64) {
    // SAFETY: as in `write_zmm`.
    unsafe {
        asm!(
            "vpxor xmm0, xmm0, xmm0",
            "2:",
            ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "vmovdqa [{p} + 32 * \\i], ymm0",
            ".endr",
            "add {p}, 512",
            "dec {n}",
            "jnz 2b",
            "vzeroupper",
            p = inout(reg) first => _,
            n = inout(reg) count => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}
