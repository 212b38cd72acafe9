//! C: thread pools.

use super::pointer::{Out, handle};
use super::status::Answer;
use super::{enter, free};
use crate::ops::{Par, Pool};

/// Worker threads of the library's own. Many threads may give work to one pool at once.
pub struct qc_pool {
    // Without a poison flag: what a worker does that panics belongs to the handle that was being run.
    pool: Pool,
}

/// The threads that a call may use: those of the pool, or the caller's alone if it is NULL.
///
/// # Safety
///
/// `pool` is NULL or a handle that lives longer than `'a`.
pub(super) unsafe fn par<'a>(pool: *const qc_pool) -> Answer<Par<'a>> {
    if pool.is_null() {
        return Ok(Par::Caller);
    }
    // SAFETY: the contract is this function's.
    Ok(Par::Pool(unsafe { &handle("pool", pool)?.pool }))
}

/// Starts a pool of `threads` workers, 1 to 1024; 0 asks for one a processor.
///
/// Free it with `qc_pool_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_pool_new(threads: usize, pool: *mut *mut qc_pool) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about pointers.
        let out = unsafe { Out::new("pool", pool)? };
        let pool = Pool::new(threads)?;
        out.give(qc_pool { pool });
        Ok(())
    })
}

/// The number of workers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_pool_threads(pool: *const qc_pool, threads: *mut usize) -> i32 {
    enter(|| {
        // SAFETY: the caller promises what the head of the header says about handles and pointers.
        let (pool, threads) = unsafe { (handle("pool", pool)?, Out::new("threads", threads)?) };
        threads.write(pool.pool.threads());
        Ok(())
    })
}

/// Ends a pool and its workers; NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qc_pool_free(pool: *mut qc_pool) {
    // SAFETY: the caller promises what the head of the header says about handles.
    unsafe { free(pool) }
}
