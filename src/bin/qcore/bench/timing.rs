//! Time in cycles of the clock that runs meanwhile, medians, and the threads that work is done on.

use std::time::Instant;

use qcore::kernels::bounds;
use qcore::ops::{Par, Pool};
use qcore::{Error, Result};

/// How long things are measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Repetitions, of which the median is taken.
    pub repetitions: usize,
    /// Seconds that a repetition should take, so that the clock of the system is fine enough.
    pub seconds: f64,
}

impl Effort {
    /// How many calls of `work` last as long as a repetition should; the second of two calls counts, for the
    /// first finds cold caches.
    pub fn calls(&self, mut work: impl FnMut()) -> usize {
        work();
        let start = Instant::now();
        work();
        let seconds = start.elapsed().as_secs_f64().max(1e-9);
        (self.seconds / seconds).ceil() as usize
    }
}

/// What some work took.
#[derive(Clone, Copy)]
pub struct Elapsed {
    pub seconds: f64,
    /// The clock right before and after, the mean.
    pub hertz: f64,
}

impl Elapsed {
    pub fn cycles(&self) -> f64 {
        self.seconds * self.hertz
    }
}

/// The clock of the calling thread's core now: the best of a few tries, for an interrupted one is too low.
/// 0 where there is none to be had; [`require_clock`] has refused to begin there.
pub fn hertz() -> f64 {
    let tries = (0..3).filter_map(|_| bounds::clock());
    tries.fold(0.0, f64::max)
}

/// Errors on an architecture whose clock cannot be measured.
pub fn require_clock() -> Result<()> {
    let known = bounds::clock().map(|_| ());
    known.ok_or_else(|| {
        let expected = "x86_64 or aarch64, whose clock can be measured";
        Error::argument("architecture", std::env::consts::ARCH, expected)
    })
}

/// Seconds that the calling thread has waited for a processor so far, where the system tells; else 0.
fn waited() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanos = text.ok().and_then(|t| t.split(' ').nth(1)?.parse().ok());
    nanos.unwrap_or(0.0) * 1e-9
}

/// The time of `calls` calls of `work`, of each one, without the time in which the calling thread waited for a
/// processor that others had; what the workers of a pool waited is not known and stays in. With more than one
/// call, another goes before and warms the caches.
pub fn timed(calls: usize, mut work: impl FnMut()) -> Elapsed {
    let before = hertz();
    if calls > 1 {
        work();
    }
    let waited_before = waited();
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    let wall = start.elapsed().as_secs_f64();
    let seconds = (wall - (waited() - waited_before)).max(wall / 100.0) / calls as f64;
    Elapsed {
        seconds,
        hertz: (before + hertz()) / 2.0,
    }
}

/// The median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The calling thread, or a pool of more.
pub struct Team(Option<Pool>);

impl Team {
    pub fn new(threads: usize) -> Result<Self> {
        match threads {
            0 => Err(Error::argument("threads", 0, "1 to 1024")),
            1 => Ok(Team(None)),
            _ => Ok(Team(Some(Pool::new(threads)?))),
        }
    }

    pub fn par(&self) -> Par<'_> {
        self.0.as_ref().map_or(Par::Caller, Par::Pool)
    }

    pub fn threads(&self) -> usize {
        self.par().threads()
    }

    /// Runs `work` on every thread at once, with the thread's number.
    pub fn all(&self, work: impl Fn(usize) + Sync) {
        match &self.0 {
            None => work(0),
            Some(pool) => pool.install(|| {
                rayon::broadcast(|thread| work(thread.index()));
            }),
        }
    }
}
