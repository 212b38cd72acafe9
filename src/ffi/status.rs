//! C: status numbers, and what an error becomes.

use std::ffi::CStr;

use crate::error::Error;

/// Everything went well.
pub const QC_OK: i32 = 0;
/// A pointer is NULL that must not be.
pub const QC_ERROR_NULL: i32 = 100;
/// An argument is outside of what the call takes.
pub const QC_ERROR_ARGUMENT: i32 = 101;
/// An ISA was asked for, by name or by QCORE_ISA, that this build or this machine lacks.
pub const QC_ERROR_ISA: i32 = 102;
/// The operating system refused to read or write.
pub const QC_ERROR_IO: i32 = 200;
/// A file or buffer is foreign, truncated, damaged or of an unknown version.
pub const QC_ERROR_FORMAT: i32 = 201;
/// A thread pool could not be started.
pub const QC_ERROR_THREADS: i32 = 300;
/// Another call is using the workspace.
pub const QC_ERROR_BUSY: i32 = 301;
/// Training met a loss that is not finite.
pub const QC_ERROR_DIVERGED: i32 = 400;
/// A defect in qcore: the call panicked.
pub const QC_ERROR_PANIC: i32 = 900;
/// An earlier call on this handle panicked; it can only be freed.
pub const QC_ERROR_POISONED: i32 = 901;

/// Every status and its name. A number that was once in a release is never given to another status.
pub(super) static NAMES: [(i32, &CStr); 11] = [
    (QC_OK, c"QC_OK"),
    (QC_ERROR_NULL, c"QC_ERROR_NULL"),
    (QC_ERROR_ARGUMENT, c"QC_ERROR_ARGUMENT"),
    (QC_ERROR_ISA, c"QC_ERROR_ISA"),
    (QC_ERROR_IO, c"QC_ERROR_IO"),
    (QC_ERROR_FORMAT, c"QC_ERROR_FORMAT"),
    (QC_ERROR_THREADS, c"QC_ERROR_THREADS"),
    (QC_ERROR_BUSY, c"QC_ERROR_BUSY"),
    (QC_ERROR_DIVERGED, c"QC_ERROR_DIVERGED"),
    (QC_ERROR_PANIC, c"QC_ERROR_PANIC"),
    (QC_ERROR_POISONED, c"QC_ERROR_POISONED"),
];

/// What an exported function's body gives.
pub(super) type Answer<T> = Result<T, Failure>;

/// A status that is not `QC_OK`, and its text.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: i32,
    pub text: String,
}

impl Failure {
    pub fn null(name: &str) -> Self {
        Failure {
            status: QC_ERROR_NULL,
            text: format!("{name} is NULL"),
        }
    }

    /// An error whose argument goes by another name in C.
    pub fn named(name: &'static str, error: Error) -> Self {
        match error {
            Error::Argument {
                value, expected, ..
            } => Error::argument(name, value, expected).into(),
            other => other.into(),
        }
    }

    pub fn busy(name: &str) -> Self {
        Failure {
            status: QC_ERROR_BUSY,
            text: format!("{name} is in use by another call; each thread needs its own"),
        }
    }

    pub fn poisoned(name: &str) -> Self {
        Failure {
            status: QC_ERROR_POISONED,
            text: format!("{name} was left broken by an earlier panic; free it"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Argument { .. } => QC_ERROR_ARGUMENT,
            Error::Isa { .. } => QC_ERROR_ISA,
            Error::Io { .. } => QC_ERROR_IO,
            Error::Format { .. } => QC_ERROR_FORMAT,
            Error::Threads { .. } => QC_ERROR_THREADS,
            Error::Diverged { .. } => QC_ERROR_DIVERGED,
        };
        Failure {
            status,
            text: error.to_string(),
        }
    }
}
