//! C: which ISAs there are.

use std::ffi::{CStr, c_char};

use super::enter;
use super::pointer::{Growing, Out, OutStruct};
use crate::error::Error;
use crate::isa::Isa;

/// An ISA, as `qc_isa_get` tells it. Set `struct_size` before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct qc_isa_info {
    /// `sizeof(qc_isa_info)`.
    pub struct_size: usize,
    /// Its name, as `QCORE_ISA` and `qc_gemm_options` take it; lives as long as the library.
    pub name: *const c_char,
    /// 1 if this build holds its kernels, else 0.
    pub compiled: i32,
    /// 1 if this machine can run them, else 0.
    pub available: i32,
    /// 1 if it is the one used where none is asked for: what `QCORE_ISA` says, or else the best.
    pub chosen: i32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: repr(C), the size first, a pointer as wide as it, then four fields of four bytes: no padding;
// integers and a raw pointer.
unsafe impl Growing for qc_isa_info {}
const _: () = assert!(size_of::<qc_isa_info>() == size_of::<[usize; 2]>() + 4 * 4);

pub(super) const fn c_name(isa: Isa) -> &'static CStr {
    match isa {
        Isa::Portable => c"portable",
        Isa::Neon => c"neon",
        Isa::NeonDot => c"neondot",
        Isa::NeonI8mm => c"neoni8mm",
        Isa::Avx2 => c"avx2",
        Isa::Avx2Vnni => c"avx2vnni",
        Isa::Avx512Bw => c"avx512bw",
        Isa::Avx512 => c"avx512",
    }
}

/// The number of ISAs that qcore knows, whether they are here or not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_isa_count(count: *mut usize) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let count = unsafe { Out::new("count", count)? };
        count.write(Isa::ALL.len());
        Ok(())
    })
}

/// ISA number `index`, 0 for the worst. Set `info->struct_size` first.
///
/// None is marked as chosen if `QCORE_ISA` names one that is not here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_isa_get(index: usize, info: *mut qc_isa_info) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let info = unsafe { OutStruct::new("info", info)? };
        let expected = || format!("below {}", Isa::ALL.len());
        let isa = Isa::ALL.get(index).copied();
        let isa = isa.ok_or_else(|| Error::argument("index", index, expected()))?;
        info.write(qc_isa_info {
            struct_size: 0,
            name: c_name(isa).as_ptr(),
            compiled: isa.is_compiled().into(),
            available: isa.is_available().into(),
            chosen: Isa::chosen().is_ok_and(|chosen| chosen == isa).into(),
            reserved: 0,
        });
        Ok(())
    })
}
