//! What the tool says, on standard output and standard error.
//!
//! `println!` panics where nothing can be written. Here the first failure is kept, what would follow it is left out,
//! and the command does the rest of its work: files that it writes are worth as much when nobody listens. At the end
//! [`end`] tells. A reader that has gone away, as `head` does, is none of our business; a full device is an error.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use qcore::{Error, Result};

/// The first failure to write to standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line on standard output, as `println!` takes it.
macro_rules! out {
    ($($text:tt)*) => {
        $crate::out::line(format_args!($($text)*))
    };
}

/// A line on standard error, as `eprintln!` takes it.
macro_rules! err {
    ($($text:tt)*) => {
        $crate::out::error_line(format_args!($($text)*))
    };
}

/// What `out!` calls.
pub fn line(text: Arguments<'_>) {
    write(|out| writeln!(out, "{text}"));
}

/// On standard output as it is: something that brings its ends of lines along.
pub fn text(text: impl Display) {
    write(|out| write!(out, "{text}"));
}

/// Writes to standard output, if that has not failed already.
pub fn write(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        *failed = write(&mut io::stdout().lock()).err();
    }
}

/// What `err!` calls. Nobody is left to hear that standard error cannot be written.
pub fn error_line(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Everything is said: errors if standard output did not take all of it, unless its reader has gone away.
pub fn end() -> Result<()> {
    write(|out| out.flush());
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failed {
        Some(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("standard output", "write", e))
        }
        _ => Ok(()),
    }
}
