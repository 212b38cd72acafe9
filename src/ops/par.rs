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

    /// Gives each thread a piece of `scratch`, `piece` elements each, and lets it work.
    pub(crate) fn pieces<T: Send>(
        &self,
        scratch: &mut [T],
        piece: usize,
        work: &(impl Fn(&mut [T]) + Sync),
    ) {
        self.enter(|| spread(*self, scratch, piece.max(1), work));
    }

    /// Calls `work(row, elements of that row)` for each row of `out`, `width` elements each and 1 or more, rows shared out to
    /// the threads. `cost` is what a row costs, in about vector instructions: small work stays on the caller.
    pub(crate) fn rows<T: Send>(
        &self,
        out: &mut [T],
        width: usize,
        cost: usize,
        work: &(impl Fn(usize, &mut [T]) + Sync),
    ) {
        let rows = out.len() / width;
        let least = (SPLIT_COST / cost.max(1)).max(1);
        let pieces = match self.threads() {
            1 => 1,
            threads => (4 * threads).min(rows / least).max(1),
        };
        if pieces == 1 {
            halve(*self, 1, 0, out, width, work);
        } else {
            self.enter(|| halve(*self, pieces, 0, out, width, work));
        }
    }
}

fn spread<T: Send>(
    par: Par<'_>,
    scratch: &mut [T],
    piece: usize,
    work: &(impl Fn(&mut [T]) + Sync),
) {
    let pieces = scratch.len() / piece;
    if pieces <= 1 {
        work(scratch);
    } else {
        let (mine, yours) = scratch.split_at_mut(pieces / 2 * piece);
        par.join(
            || spread(par, mine, piece, work),
            || spread(par, yours, piece, work),
        );
    }
}

/// Vector instructions below which splitting costs more than it gives: about ten microseconds of a core.
const SPLIT_COST: usize = 1 << 15;

fn halve<T: Send>(
    par: Par<'_>,
    pieces: usize,
    first: usize,
    out: &mut [T],
    width: usize,
    work: &(impl Fn(usize, &mut [T]) + Sync),
) {
    if pieces == 1 {
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            work(first + i, row);
        }
        return;
    }
    let middle = out.len() / width / 2;
    let (above, below) = out.split_at_mut(middle * width);
    par.join(
        || halve(par, pieces / 2, first, above, width, work),
        || halve(par, pieces - pieces / 2, first + middle, below, width, work),
    );
}
