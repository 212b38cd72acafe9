//! On which threads an operation runs.

use std::sync::Arc;

use crate::error::{Error, Result};

/// A pool of worker threads of its own, never a global one.
///
/// It lives until it is dropped. In a process that was forked from the one that made it, the workers do
/// not exist; work given to it there runs on the caller instead of hanging.
pub struct Pool {
    threads: Arc<rayon::ThreadPool>,
    process: u32,
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // Ending the workers takes locks that one of them may have held when the process was forked,
            // and nobody here will ever release those. So the pool is left to the process's end.
            std::mem::forget(Arc::clone(&self.threads));
        }
    }
}

impl Pool {
    /// A pool of `threads` workers, 1 to 1024; 0 asks for one a processor.
    ///
    /// Errors if `threads` is out of range or the system refuses to start them.
    pub fn new(threads: usize) -> Result<Self> {
        if threads > 1024 {
            return Err(Error::argument(
                "threads",
                threads,
                "0 (one a processor) to 1024",
            ));
        }
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("qcore-{i}"))
            .build()
            .map_err(|e| Error::Threads {
                problem: e.to_string(),
            })?;
        Ok(Pool {
            threads: Arc::new(threads),
            process: std::process::id(),
        })
    }

    /// Number of workers.
    pub fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `work` inside the pool, so that what it splits off runs on the workers.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if std::process::id() == self.process {
            self.threads.install(work)
        } else {
            work()
        }
    }
}

/// On which threads an operation runs: the same results on all.
#[derive(Clone, Copy, Default)]
pub enum Par<'a> {
    /// The calling thread alone.
    #[default]
    Caller,
    /// The workers of a pool. Small work stays on one thread.
    Pool(&'a Pool),
}

impl Par<'_> {
    /// Number of threads that may work.
    pub fn threads(&self) -> usize {
        match self {
            Par::Caller => 1,
            Par::Pool(pool) if std::process::id() == pool.process => pool.threads(),
            Par::Pool(_) => 1,
        }
    }

    /// Runs `work` where it may call [`Par::join`].
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Par::Caller => work(),
            Par::Pool(pool) => pool.install(work),
        }
    }

    /// Runs both halves, at once if there are threads for it. Only inside [`Par::enter`].
    pub(crate) fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        if self.threads() > 1 {
            rayon::join(a, b);
        } else {
            a();
            b();
        }
    }
}
