//! The limits of a core: loops that do what a kernel's inner loop does, on registers alone, or that only read or write.
//!
//! A kernel's speed says little by itself; beside the speed of its own instructions without operands from
//! memory it says how much is left to gain. These loops are for measuring: nothing else calls them.
//!
//! The loops are assembly, so that no compiler folds, widens or reorders them. Accumulators do not depend on
//! each other, as in the kernels, and there are enough of them to hide every latency.

use std::hint::black_box;
use std::time::Instant;

use crate::error::Result;
use crate::isa::Isa;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86;

/// What the inner loop of a product does between its loads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sequence {
    /// Combine a word of weights with one of activations, count the bits, add.
    Count,
    /// The same for ternary weights, whose nonzero plane masks.
    CountMasked,
    /// Multiply bytes and add; weights of 2 or 4 bits.
    Dot,
    /// The same for weights of 8 bits.
    DotWide,
    /// Look sums up and add them, activations of 1 or 2 bits: widening is so rare that the loop leaves it out.
    LookUp,
    /// The same for activations of 3 or 4 bits; the loop is that of 4 bits, widened every few look-ups.
    LookUpWiden,
    /// Look sums of 16 bits up and add them, activations of 5 to 8 bits.
    LookUpWide,
    /// Look sums of f32 up and add them, weights of 1 bit; of 2 bits it takes twice as many.
    LookUpFloats,
    /// Multiply f32 and add.
    Fma,
    /// Multiply 16-bit lanes and add: depthwise convolutions, where each lane is a channel. What widens bytes to lanes is
    /// left out, for it is the compiler's choice.
    Lanes,
}

impl Sequence {
    /// Every sequence, bits first.
    pub const ALL: [Sequence; 10] = [
        Sequence::Count,
        Sequence::CountMasked,
        Sequence::Dot,
        Sequence::DotWide,
        Sequence::LookUp,
        Sequence::LookUpWiden,
        Sequence::LookUpWide,
        Sequence::LookUpFloats,
        Sequence::Fma,
        Sequence::Lanes,
    ];
}

/// A loop on registers alone.
#[derive(Clone, Copy)]
struct Ports {
    /// Its instructions, for people.
    instructions: &'static str,
    /// Multiply-adds of a round.
    macs: u64,
    /// Runs a number of rounds, at least one. The CPU must have the features of the loop's ISA.
    run: unsafe fn(u64),
}

/// 512 bytes to read or write, aligned as the widest vectors want it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Block([u8; 512]);

impl Block {
    /// Blocks of `bytes` bytes in all, rounded up to whole ones, at least one; written, so that each page
    /// has memory of its own.
    pub fn some(bytes: usize) -> Vec<Block> {
        vec![Block([1; 512]); bytes.div_ceil(size_of::<Block>()).max(1)]
    }
}

/// The loops of an ISA.
#[derive(Clone, Copy, Debug)]
pub struct Loops {
    isa: Isa,
}

impl Loops {
    /// The loops of `isa`; errors if this build or this machine lacks it.
    pub fn of(isa: Isa) -> Result<Self> {
        Ok(Loops {
            isa: isa.require()?,
        })
    }

    /// The ISA.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The loop of a sequence: none for plain Rust, where instructions are the compiler's choice, nor where
    /// the ISA's kernels do not use the sequence.
    fn ports(&self, sequence: Sequence) -> Option<Ports> {
        match self.isa {
            Isa::Portable => None,
            #[cfg(target_arch = "x86_64")]
            isa => x86::ports(isa, sequence),
            #[cfg(target_arch = "aarch64")]
            isa => aarch64::ports(isa, sequence),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            _ => None,
        }
    }

    /// The instructions of a sequence, for people; `None` if there is no loop for it.
    pub fn instructions(&self, sequence: Sequence) -> Option<&'static str> {
        self.ports(sequence).map(|ports| ports.instructions)
    }

    /// Runs a sequence on registers alone, and tells its multiply-adds; `None` if there is no loop for it.
    pub fn run(&self, sequence: Sequence, rounds: u64) -> Option<u64> {
        let ports = self.ports(sequence)?;
        let rounds = rounds.max(1);
        // SAFETY: `of`, the only way to a Loops, has checked the features of `isa`, and `ports` gives loops
        // of this ISA alone. They touch registers that they declare and end after `rounds`, not 0.
        unsafe { (ports.run)(rounds) }
        Some(ports.macs * rounds)
    }

    /// Reads all of `blocks` once, in the widest vectors of the ISA.
    pub fn read(&self, blocks: &[Block]) {
        if blocks.is_empty() {
            return;
        }
        let (_first, _count) = (blocks.as_ptr(), blocks.len() as u64);
        match self.isa {
            // SAFETY: `of` has checked the features; `_count` blocks, at least one, are readable from
            // `_first`, which a Block aligns to 64 bytes.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bw => unsafe { x86::read_zmm(_first, _count) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx2Vnni => unsafe { x86::read_ymm(_first, _count) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => unsafe { aarch64::read(_first, _count) },
            _ => {
                let words = blocks.iter().flat_map(|b| b.0.as_chunks().0);
                let sum = words.fold(0u64, |sum, &w| sum.wrapping_add(u64::from_le_bytes(w)));
                black_box(sum);
            }
        }
    }

    /// Writes all of `blocks` once, in the widest vectors of the ISA, by stores that go through the caches.
    pub fn write(&self, blocks: &mut [Block]) {
        if blocks.is_empty() {
            return;
        }
        let (_first, _count) = (blocks.as_mut_ptr(), blocks.len() as u64);
        match self.isa {
            // SAFETY: `of` has checked the features; `_count` blocks, at least one, are writable from
            // `_first`, which a Block aligns to 64 bytes, and hold any bytes.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bw => unsafe { x86::write_zmm(_first, _count) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx2Vnni => unsafe { x86::write_ymm(_first, _count) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => unsafe { aarch64::write(_first, _count) },
            _ => {
                blocks.iter_mut().for_each(|block| block.0.fill(0));
                black_box(blocks);
            }
        }
    }
}

/// Additions in one measurement of the clock, a multiple of 64: 65 microseconds at 4 GHz.
const CHAIN: u64 = 1 << 18;

/// The clock of this core now, in Hz, by additions that depend on each other: one a cycle on every core that
/// qcore has ISAs for. `None` on other architectures.
///
/// A thread that is interrupted meanwhile sees a lower clock, never a higher one.
pub fn clock() -> Option<f64> {
    let start = Instant::now();
    #[cfg(target_arch = "x86_64")]
    x86::chain(CHAIN / 64);
    #[cfg(target_arch = "aarch64")]
    aarch64::chain(CHAIN / 64);
    let seconds = start.elapsed().as_secs_f64();
    let known = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    known.then(|| CHAIN as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_ends_and_counts_its_work() {
        for isa in Isa::available() {
            let loops = Loops::of(isa).unwrap();
            for sequence in Sequence::ALL {
                let macs = loops.run(sequence, 3);
                assert_eq!(macs.is_some(), loops.instructions(sequence).is_some());
                assert_eq!(macs.map(|m| m * 2), loops.run(sequence, 6), "{isa}");
                assert!(macs.is_none_or(|m| m > 0));
            }
            assert!(isa == Isa::Portable || loops.run(Sequence::Count, 0).is_some());
            for bytes in [0, 1, 512, 5000] {
                let mut blocks = Block::some(bytes);
                loops.read(&blocks);
                let last = blocks.len() - 1;
                loops.write(&mut blocks[..last]);
                let zero = |block: &Block| block.0 == [0; 512];
                assert!(blocks[..last].iter().all(zero) && blocks[last].0 == [1; 512]);
            }
            loops.read(&[]);
            loops.write(&mut []);
        }
        let absent = Isa::ALL.into_iter().find(|i| !i.is_available()).unwrap();
        assert!(Loops::of(absent).is_err());
    }

    #[test]
    fn the_clock_is_one_that_cores_have() {
        // Emulated cores are slower, and busy ones look slower; none is faster than 10 GHz.
        if !cfg!(miri)
            && let Some(hertz) = clock()
        {
            assert!(hertz > 1e5 && hertz < 1e10, "{hertz}");
        }
    }
}
