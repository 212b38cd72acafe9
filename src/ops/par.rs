//! On which threads an operation runs.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::Yield;

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

    /// Runs `work` on the caller and on up to `threads - 1` workers. Not generic, or all of rayon would be compiled for
    /// each operation.
    fn on_each(&self, threads: usize, work: &(dyn Fn() + Sync)) {
        if self.threads.current_thread_index().is_some() {
            return fork_join(threads, work);
        }
        // From outside of the pool rayon allocates: it boxes each job of a scope, and what passes its queue of entry lies
        // in blocks. `broadcast` collects its jobs in a vector, and both that and `join` let the caller sleep meanwhile.
        let busy = AtomicUsize::new(threads - 1);
        self.threads.in_place_scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|_| {
                    work();
                    busy.fetch_sub(1, Ordering::Release);
                });
            }
            work();
            spin_while(|| busy.load(Ordering::Acquire) != 0);
        });
    }
}

/// On which threads an operation runs: the same results on all.
#[derive(Clone, Copy, Default)]
pub enum Par<'a> {
    /// The calling thread alone.
    #[default]
    Caller,
    /// As many threads as a pool has workers: the calling one, and workers beside it. Small work stays on the caller. Jobs
    /// for the others are allocated, unless the caller is one of the workers ([`Pool::install`]).
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
    #[cfg(feature = "train")]
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self {
            Par::Caller => work(),
            Par::Pool(pool) => pool.install(work),
        }
    }

    /// Runs `work`, many small operations one after the other, on one worker, and keeps the others looking for what it
    /// shares out: each operation would have to wake them up again.
    pub(crate) fn stay_awake<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let (Par::Pool(pool), threads @ 2..) = (self, self.threads()) else {
            return work();
        };
        let done = AtomicBool::new(false);
        let (mut work, mut result) = (Some(work), None);
        let mut lead = || {
            // Dropped, whether the work returns or panics.
            let _end = Raised(&done);
            let _awaited = Awaited::new();
            result = work.take().map(|work| work());
        };
        let watch = || {
            // Not for ever, and shortly if somebody waits for this worker: it came here while it waited for a piece, and
            // whoever has that may watch over its own work.
            let most = WATCHES[usize::from(Awaited::is_here())];
            let _awaited = Awaited::new();
            let mut idle = 0;
            while idle < most && !done.load(Ordering::Acquire) {
                idle = match rayon::yield_now() {
                    Some(Yield::Executed) => 0,
                    _ => idle + 1,
                };
                pause(idle);
            }
        };
        pool.install(|| fork(threads, &mut lead, &watch));
        result.expect("the lead has run, or its panic is passed on")
    }

    /// Runs both halves, at once if there are threads for it. Only inside [`Par::enter`].
    #[cfg(feature = "train")]
    pub(crate) fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        if self.threads() > 1 {
            rayon::join(a, b);
        } else {
            a();
            b();
        }
    }

    /// Calls `work` with everything that `pieces` gives, each once, on all threads and in any order.
    ///
    /// The caller is one of these threads: it is at work while the others wake up, which takes them ten to twenty
    /// microseconds, and whoever is done takes the next piece.
    pub(crate) fn share<P: Send>(
        &self,
        pieces: impl Iterator<Item = P> + Send,
        work: &(impl Fn(P) + Sync),
    ) {
        let threads = self.threads();
        let Par::Pool(pool) = self else {
            return pieces.for_each(work);
        };
        if threads == 1 {
            return pieces.for_each(work);
        }
        let pieces = Mutex::new(pieces);
        let take = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        pool.on_each(threads, &|| {
            while let Some(piece) = take() {
                work(piece);
            }
        });
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
        let pieces = self.pieces((rows as u64).saturating_mul(cost as u64));
        let each = rows.div_ceil(pieces).max(1);
        let pieces = out.chunks_mut(each * width).enumerate();
        let work = |(piece, some): (usize, &mut [T])| {
            for (i, row) in some.chunks_exact_mut(width).enumerate() {
                work(piece * each + i, row);
            }
        };
        if each >= rows {
            pieces.for_each(work);
        } else {
            self.share(pieces, &work);
        }
    }

    /// How many pieces to cut work of about `cost` vector instructions into: several for each thread, so that one that
    /// wakes up late leaves them to others, or one if the work is small.
    pub(crate) fn pieces(&self, cost: u64) -> usize {
        match self.threads() {
            1 => 1,
            _ if cost < 2 * SPLIT_COST => 1,
            threads => (4 * threads).min((4 * cost / SPLIT_COST) as usize),
        }
    }
}

/// Calls `lead` on the calling worker and `help` on as many others as are free, `threads` in all: halves of halves, so that
/// many threads wake up in few steps.
fn fork(threads: usize, lead: &mut (dyn FnMut() + Send), help: &(dyn Fn() + Sync)) {
    match threads / 2 {
        0 => lead(),
        half => {
            let first = || fork(threads - half, lead, help);
            rayon::join(first, || fork(half, &mut || help(), help));
        }
    }
}

/// A worker inside of work that was shared out, whose end somebody waits for.
struct Awaited;

thread_local! {
    static AWAITED: Cell<usize> = const { Cell::new(0) };
}

impl Awaited {
    fn new() -> Self {
        AWAITED.set(AWAITED.get() + 1);
        Awaited
    }

    /// Whether this thread is such a one.
    fn is_here() -> bool {
        AWAITED.get() > 0
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        AWAITED.set(AWAITED.get() - 1);
    }
}

/// Raises a flag when it is dropped.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Calls `work` on the calling worker and, at the same time, on as many others as are free, `threads` in all: by jobs on
/// the stack, so that nothing is allocated.
fn fork_join(threads: usize, work: &(dyn Fn() + Sync)) {
    let busy = AtomicUsize::new(0);
    let help = || {
        let _awaited = Awaited::new();
        busy.fetch_add(1, Ordering::Relaxed);
        work();
        busy.fetch_sub(1, Ordering::Release);
    };
    let mut lead = || {
        let _awaited = Awaited::new();
        work();
        spin_while(|| busy.load(Ordering::Acquire) != 0);
    };
    fork(threads, &mut lead, &help);
}

/// Waits as long as others may be at their last pieces: to sleep for so short a time takes longer than it.
fn spin_while(waits: impl Fn() -> bool) {
    for i in 0..WAITS {
        if !waits() {
            break;
        }
        pause(i);
    }
}

/// A moment between two looks, the `i`-th: after some of them other threads may want the processor more.
fn pause(i: usize) {
    match i < SPINS {
        true => std::hint::spin_loop(),
        false => std::thread::yield_now(),
    }
}

/// Vector instructions below which splitting costs more than it gives: about ten microseconds of a core.
const SPLIT_COST: u64 = 1 << 15;

/// Looks before others may have the processor in between: about as long as to wake a thread up.
const SPINS: usize = 512;

/// Times that the caller looks whether the other threads are done before it sleeps: a few tenths of a millisecond, longer
/// than a piece takes. On a virtual machine who sleeps wakes up late: with `SPINS` alone two threads gained little there.
const WAITS: usize = 2 * SPINS;

/// Times that a worker looks for work in vain before it ends its watch over a run: about ten milliseconds, longer than
/// any operation that stays on one thread; if the worker is waited for, a few tenths of one.
const WATCHES: [usize; 2] = [1 << 14, 1 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_on_the_caller_and_its_helpers() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for par in [Par::Caller, Par::Pool(&pool)] {
                for count in [0, 1, 2, 100] {
                    let mut done = vec![0; count];
                    par.share(done.iter_mut(), &|piece: &mut i32| *piece += 1);
                    assert!(done.iter().all(|&d| d == 1), "{count} on {threads}");
                }
                for (rows, width, cost) in [(1, 3, 1 << 20), (77, 5, 1 << 13), (9, 1, 1 << 18)] {
                    let mut out = vec![0; rows * width];
                    par.rows(&mut out, width, cost, &|row, out: &mut [usize]| {
                        out.iter_mut().for_each(|o| *o += row + 1);
                    });
                    let expected = (0..rows * width).map(|i| i / width + 1);
                    assert!(out.into_iter().eq(expected), "{rows} on {threads}");
                }
            }
            // From one of the workers, as a plan inside a plan would be run.
            pool.install(|| {
                for count in [0, 1, 9, 1000] {
                    let mut done = vec![0; count];
                    Par::Pool(&pool).share(done.iter_mut(), &|piece: &mut i32| *piece += 1);
                    assert!(done.iter().all(|&d| d == 1), "{count} inside of {threads}");
                }
            });
        }
    }

    /// Two runs on one pool, whose workers find the watches of each other, end both.
    #[test]
    fn runs_that_keep_a_pool_awake_share_it() {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            let run = || {
                Par::Pool(&pool).stay_awake(|| {
                    let mut total = 0;
                    for _ in 0..200 {
                        let mut done = [0; 16];
                        Par::Pool(&pool).share(done.iter_mut(), &|piece: &mut i32| *piece += 1);
                        total += done.iter().sum::<i32>();
                    }
                    total
                })
            };
            std::thread::scope(|scope| {
                let others = [(); 3].map(|()| scope.spawn(run));
                assert_eq!(run(), 3200);
                assert!(
                    others
                        .into_iter()
                        .all(|other| other.join().unwrap() == 3200)
                );
            });
            assert_eq!(pool.install(run), 3200);
            let panics = || Par::Pool(&pool).stay_awake(|| panic!("as asked"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        }
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller() {
        let pool = Pool::new(2).unwrap();
        let run = || Par::Pool(&pool).share(0..50, &|i: i32| assert!(i != 40));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        let inside = || pool.install(run);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).is_err());
    }
}
