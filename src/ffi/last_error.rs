//! C: the last error text of each thread, names of statuses, and the version.

use std::cell::Cell;
use std::ffi::c_char;

use super::enter;
use super::pointer::{Out, copy_text};
use super::status::NAMES;

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
