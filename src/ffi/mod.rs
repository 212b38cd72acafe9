//! The C functions of `include/qcore.h`: pointers, status numbers and panics; no arithmetic.
//!
//! Status. Every function that can fail returns an `int32_t`: `QC_OK`, which is 0, or an error number.
//! Numbers are never reused. The text that goes with the last error of the calling thread is
//! `qc_last_error()`; it names the argument, the value that came and what was expected.
//!
//! Handles. `qc_..._new` or `qc_..._load` makes one, `qc_..._free` ends it and does nothing with NULL.
//! A handle that is passed is one that this library made and that is not freed yet, nor freed by
//! another thread during the call.
//!
//! Pointers. NULL is refused by name wherever it is not said to mean something. A pointer to elements
//! with a length of 0 may be NULL. Addresses are multiples of the size of the element. The caller
//! promises that a length does not exceed the memory behind its pointer, and that during a call nobody
//! writes to what it reads and nobody touches what it writes; so outputs overlap with nothing.
//! Results are written only if the call succeeds.
//!
//! Structs that begin with `struct_size` may grow at their end. Set it to the `sizeof` of the struct,
//! or let `qc_..._init` do it, which fills in the defaults too. Bytes that this version does not know
//! must be zero in options and stay as they are in results.
//!
//! Threads. A `qc_gemm`, a `qc_weight_only`, a `qc_conv2d`, a `qc_float_conv2d`, a `qc_max_pool`, a
//! `qc_average_pool`, a `qc_model` and a `qc_pool` may be used by many threads at once. A
//! `qc_workspace`, a `qc_model_builder`, a `qc_freezer` and a `qc_trainer` are for one call at a time; a second one is
//! refused with `QC_ERROR_BUSY`. Where a call
//! takes a pool, NULL means the calling thread alone. Results do not depend on the threads nor on the
//! ISA. After `fork` the child may use what it inherited; a pool has no workers there, so its work runs
//! on the calling thread.
//!
//! Panics. A defect inside the library does not unwind into the caller: the call returns
//! `QC_ERROR_PANIC`, and the handle that it worked on refuses every later call with
//! `QC_ERROR_POISONED`. Running out of memory aborts the process.

// The header has one page of promises, above, instead of a section in each function.
#![allow(clippy::missing_safety_doc)]
// The Rust name of a type is its C name, so that a search finds both.
#![allow(non_camel_case_types)]

mod conv;
mod finish;
mod float_conv;
mod gemm;
mod gemm_options;
mod isa;
mod last_error;
mod model;
mod model_builder;
mod model_nodes;
mod model_run;
mod pack;
mod pointer;
mod pool;
mod pooling;
mod pooling_kinds;
mod quantize;
mod quantize_rows;
mod status;
#[cfg(feature = "train")]
mod steps;
#[cfg(feature = "train")]
mod steps_masks;
#[cfg(feature = "train")]
mod steps_rules;
#[cfg(test)]
mod tests;
#[cfg(feature = "train")]
mod trainer;
#[cfg(feature = "train")]
mod trainer_batch;
#[cfg(feature = "train")]
mod trainer_info;
mod weight_only;

pub use conv::*;
pub use finish::*;
pub use float_conv::*;
pub use gemm::*;
pub use gemm_options::*;
pub use isa::*;
pub use last_error::*;
pub use model::*;
pub use model_builder::*;
pub use model_nodes::*;
pub use model_run::*;
pub use pack::*;
pub use pool::*;
pub use pooling::*;
pub use pooling_kinds::*;
pub use quantize::*;
pub use quantize_rows::*;
pub use status::*;
#[cfg(feature = "train")]
pub use steps::*;
#[cfg(feature = "train")]
pub use steps_masks::*;
#[cfg(feature = "train")]
pub use steps_rules::*;
#[cfg(feature = "train")]
pub use trainer::*;
#[cfg(feature = "train")]
pub use trainer_info::*;
pub use weight_only::*;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use last_error::remember;
use status::{Answer, Failure};

/// Runs the body of an exported function: an error or a panic becomes a status, and its text the
/// thread's last one.
fn enter(body: impl FnOnce() -> Answer<()>) -> i32 {
    // What a panic may have left half done is a handle's inside, and `Handle` sees to that.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return QC_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure {
            status: QC_ERROR_PANIC,
            text: format!("a defect in qcore: {}", panic_text(&*panic)),
        },
    };
    remember(&failure.text);
    failure.status
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

/// The inside of a handle that many threads share, and whether a panic has broken it.
struct Handle<T> {
    value: T,
    poisoned: AtomicBool,
}

impl<T> Handle<T> {
    fn new(value: T) -> Self {
        Handle {
            value,
            poisoned: AtomicBool::new(false),
        }
    }

    /// Works on the value; `name` is the argument's. A panic goes on, and the handle refuses from then on.
    fn with<R>(&self, name: &str, work: impl FnOnce(&T) -> Answer<R>) -> Answer<R> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Failure::poisoned(name));
        }
        catch_unwind(AssertUnwindSafe(|| work(&self.value))).unwrap_or_else(|panic| {
            self.poisoned.store(true, Ordering::Release);
            resume_unwind(panic)
        })
    }
}

/// Ends a handle that `Box::into_raw` gave out; NULL is no handle.
///
/// # Safety
///
/// `handle` is NULL or such a handle, and nobody uses it any more.
unsafe fn free<T>(handle: *mut T) {
    if handle.is_null() {
        return;
    }
    // There is no status to return, but the text can be had.
    enter(|| {
        // SAFETY: by this function's contract the box is whole and this is its only owner.
        drop(unsafe { Box::from_raw(handle) });
        Ok(())
    });
}
