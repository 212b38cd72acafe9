//! Status numbers, and the text of the last error of each thread.

use std::cell::Cell;
use std::ffi::{CStr, c_char};

use super::enter;
use super::pointer::{Out, copy_text};
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

/// Bytes of an error text that are kept, with the closing zero.
const TEXT: usize = 1024;

thread_local! {
    // A plain array: no destructor that would have to run when a thread ends, and an address that
    // stays the same while the thread lives.
    static LAST: [Cell<u8>; TEXT] = const { [const { Cell::new(0) }; TEXT] };
}

/// Makes `text` the thread's last error text, cut to what fits.
pub(super) fn remember(text: &str) {
    let mut end = text.len().min(TEXT - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = &text[..end];
    // A name out of a damaged file may hold a zero, which would end the text for C.
    let bytes = kept.bytes().map(|b| if b == 0 { b'?' } else { b });
    LAST.with(|last| {
        for (to, byte) in last.iter().zip(bytes.chain([0])) {
            to.set(byte);
        }
    });
}

fn last_bytes() -> Vec<u8> {
    LAST.with(|last| last.iter().map(Cell::get).take_while(|&b| b != 0).collect())
}

/// The text of the last error of the calling thread, in UTF-8; empty if there was none.
///
/// Never NULL. The pointer is valid until the next call of this thread that fails, or until the thread
/// ends. A text is up to 1023 bytes long; more is cut.
#[unsafe(no_mangle)]
pub extern "C" fn qc_last_error() -> *const c_char {
    LAST.with(|last| last.as_ptr().cast())
}

/// Copies the text of the last error of the calling thread, as `snprintf` does.
///
/// `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
/// `*length` receives the length of the whole text without its zero: the text was cut if that is not
/// below `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_last_error_copy(
    buf: *mut c_char,
    len: usize,
    length: *mut usize,
) -> i32 {
    // The text is taken first: a NULL among the arguments replaces it.
    let text = last_bytes();
    // SAFETY: the caller promises what the head of the header says about pointers and lengths.
    enter(|| unsafe { copy_text(&text, buf, len, Out::new("length", length)?) })
}

/// The name of a status, such as "QC_OK"; "unknown status" for a number that is none. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn qc_status_name(status: i32) -> *const c_char {
    let row = NAMES.iter().find(|row| row.0 == status);
    row.map_or(c"unknown status", |row| row.1).as_ptr()
}

/// The version of the library that runs, such as "1.2.3". Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn qc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
