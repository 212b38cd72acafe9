//! Ctrl-C and the polite signals: the run ends after the step that it is in, and what it has is saved.

use std::sync::atomic::{AtomicBool, Ordering};

use qcore::{Error, Result};

/// The status of a tool that an interrupt has ended, as shells have it.
pub const STATUS: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt asks the run to end; a second one ends the process at once.
pub fn listen() -> Result<()> {
    let done = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STATUS));
        }
    });
    done.map_err(|e| Error::format("the handler of interrupts", e))
}

/// Whether an interrupt has come.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
