//! How this CPU counts: the list of ISAs, detection, and the override `QCORE_ISA`.
//!
//! The CPU is asked here and nowhere else. An [`Isa`] is a generation of CPUs that one would buy, a set
//! of features that come together, not a single flag. It does not change while a process runs.

use std::fmt;
use std::str::FromStr;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The environment variable that forces an ISA by name.
pub const OVERRIDE: &str = "QCORE_ISA";

/// A set of CPU features that kernels are written for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Isa {
    /// Plain Rust: the meaning of every other.
    Portable,
    /// 128-bit vectors of AArch64: Cortex-A53 (2012) and every other.
    Neon,
    /// NEON and a multiply-add of four bytes: Cortex-A75 and A55 (2017), Neoverse N1, Apple A13 and later. Feature
    /// `dotprod`.
    NeonDot,
    /// The same of unsigned by signed bytes: Neoverse V1 and N2, Apple M2 and later. Features `dotprod`, `i8mm`.
    NeonI8mm,
    /// 256-bit vectors of x86-64: Haswell (2013), Zen (2017) and later. Features `avx2`, `fma`, `popcnt`.
    Avx2,
    /// AVX2 and a multiply-add of bytes: Alder Lake (2021), Zen 5 (2024) and later. Feature `avxvnni` too.
    Avx2Vnni,
    /// 512-bit vectors: Skylake-X (2017), Cascade Lake (2019). Features `avx512f`, `avx512bw`, `avx512dq`,
    /// `avx512vl`.
    Avx512Bw,
    /// 512-bit vectors with a vector popcount, a multiply-add of bytes and a look-up of bytes: Ice Lake (2019),
    /// Zen 4 (2022) and later. Features `avx512f`, `avx512bw`, `avx512dq`, `avx512vl`, `avx512vpopcntdq`,
    /// `avx512vnni`, `avx512vbmi`, `avx512vbmi2`, `gfni`.
    Avx512,
}

impl Isa {
    /// Every ISA that qcore knows, worst first.
    pub const ALL: [Isa; 8] = [
        Isa::Portable,
        Isa::Neon,
        Isa::NeonDot,
        Isa::NeonI8mm,
        Isa::Avx2,
        Isa::Avx2Vnni,
        Isa::Avx512Bw,
        Isa::Avx512,
    ];

    /// The name that `QCORE_ISA` and the C functions take.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::NeonDot => "neondot",
            Isa::NeonI8mm => "neoni8mm",
            Isa::Avx2 => "avx2",
            Isa::Avx2Vnni => "avx2vnni",
            Isa::Avx512Bw => "avx512bw",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this build holds its kernels: a matter of the architecture it was compiled for.
    pub const fn is_compiled(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => cfg!(target_arch = "aarch64"),
            Isa::Avx2 | Isa::Avx2Vnni | Isa::Avx512Bw | Isa::Avx512 => {
                cfg!(target_arch = "x86_64")
            }
        }
    }

    /// Whether this machine can run its kernels. Under Miri only `Portable` can.
    pub fn is_available(self) -> bool {
        if cfg!(miri) {
            return self == Isa::Portable;
        }
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => {
                Isa::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => {
                Isa::NeonDot.is_available() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Vnni => Isa::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bw => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx512Bw.is_available()
                    && is_x86_feature_detected!("avx512vpopcntdq")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vbmi2")
                    && is_x86_feature_detected!("gfni")
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The ISAs that this build and this machine have, worst first; never empty.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The best ISA of this machine.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::Portable)
    }

    /// The ISA to use: what `QCORE_ISA` says, or else the best one.
    ///
    /// Errors if `QCORE_ISA` names an ISA that does not exist, that this build lacks or that this machine
    /// lacks; the message lists those that can be had.
    pub fn chosen() -> Result<Isa> {
        match std::env::var_os(OVERRIDE) {
            None => Ok(Isa::best()),
            Some(name) => name.to_string_lossy().parse::<Isa>()?.require(),
        }
    }

    /// This ISA, or an error that lists the available ones.
    pub fn require(self) -> Result<Isa> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(refuse(self.name()))
        }
    }
}

fn refuse(asked: &str) -> Error {
    let names: Vec<&str> = Isa::available().map(Isa::name).collect();
    Error::Isa {
        asked: asked.to_string(),
        available: names.join(", "),
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| refuse(name))
    }
}

/// Whether this core has pipes for masks and shifts of vectors beside all those that multiply, of the widest vectors too:
/// AMD's have four, Intel's two of 512 bits. What hangs on it was measured on Zen 5 and on Sapphire Rapids.
#[cfg(target_arch = "x86_64")]
pub(crate) fn spare_pipes() -> bool {
    // Asked once: in a virtual machine the instruction takes microseconds.
    static SPARE: OnceLock<bool> = OnceLock::new();
    *SPARE.get_or_init(|| {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes) == [*b"Auth", *b"enti", *b"cAMD"]
    })
}

/// The CPU's own name for itself, for reports; "unknown" where it has none to give.
pub fn cpu_name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        // Leaf 0x8000_0000 tells the last extended leaf; 2 to 4 hold 48 bytes of name.
        if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
            let bytes: Vec<u8> = (2..=4)
                .map(|leaf| __cpuid(0x8000_0000 + leaf))
                .flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx])
                .flat_map(u32::to_le_bytes)
                .take_while(|&b| b != 0)
                .collect();
            return String::from_utf8_lossy(&bytes).trim().to_string();
        }
    }
    "unknown".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_was_compiled_and_the_portable_one_always_runs() {
        assert!(Isa::available().all(Isa::is_compiled));
        assert_eq!(Isa::available().next(), Some(Isa::Portable));
        assert_eq!(Isa::available().last(), Some(Isa::best()));
    }

    #[test]
    fn an_isa_that_is_not_here_is_refused_with_a_list() {
        let here: Vec<&str> = Isa::available().map(Isa::name).collect();
        let here = here.join(", ");
        let absent = Isa::ALL.into_iter().find(|i| !i.is_available());
        let absent = absent.expect("no machine is both x86 and Arm");
        let said = absent.require().unwrap_err().to_string();
        let expected = format!("the ISA '{absent}' cannot be used here; available: {here}");
        assert_eq!(said, expected);
        let said = "sse9".parse::<Isa>().unwrap_err().to_string();
        assert!(said.ends_with(&here), "{said}");
    }
}
