//! A lane: lines, and the runners that take turns from them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::{Job, outbox};
use crate::deadline::Moment;

/// A runner that was busy for so long hands over what it has and lets the kernel look whether somebody else wants the
/// processor.
const YIELD_AFTER: Duration = Duration::from_micros(250);
/// When a turn is taken to be one that does not end; other threads may have had the processor meanwhile.
const STUCK: Duration = Duration::from_millis(2);

#[derive(Default)]
pub(super) struct Lane {
    lines: Mutex<Lines>,
    ready: Condvar,
    /// What each runner is busy with.
    pub(super) runners: Vec<Runner>,
    /// In line and in turns.
    jobs: AtomicUsize,
}

/// A runner's turn: since when, and whose; zero where there is none.
#[derive(Default)]
pub(super) struct Runner {
    pub(super) since: AtomicU64,
    pub(super) serial: AtomicU64,
}

impl Lane {
    pub(super) fn of(runners: usize) -> Self {
        Self { runners: (0..runners).map(|_| Runner::default()).collect(), ..Self::default() }
    }

    /// One beside this one, with as many runners.
    pub(super) fn beside(&self) -> Self {
        let lines = Lines::beside(self.lines().floor());
        Self { lines: Mutex::new(lines), ..Self::of(self.runners.len()) }
    }

    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) == 0
    }

    /// Whether every runner is in a turn that does not end.
    pub(super) fn is_stuck(&self) -> bool {
        let now = Moment::now().0;
        let is_stuck = |runner: &Runner| {
            let since = runner.since.load(Ordering::Relaxed);
            since > 0 && Duration::from_nanos(now.saturating_sub(since)) > STUCK
        };
        self.runners.iter().all(is_stuck)
    }

    pub(super) fn add(&self, job: Arc<Job>) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let mut lines = self.lines();
        lines.add(job);
        let sleeping = lines.sleeping;
        drop(lines);
        if sleeping > 0 {
            self.ready.notify_one();
        }
    }

    /// A turn of a job that was taken from here.
    pub(super) fn run(&self, job: Arc<Job>) {
        job.run(self);
        self.jobs.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the runners, which look whether the lines are closed.
    pub(super) fn close(&self) {
        self.lines().is_closed = true;
        self.ready.notify_all();
    }

    /// Takes turns until the lane is closed.
    pub(super) fn take_turns(&self, runner: usize) {
        let Some(busy) = self.runners.get(runner) else { return };
        outbox::open();
        let mut since = Instant::now();
        while let Some(job) = self.next(&mut since) {
            busy.serial.store(job.ledger.serial, Ordering::Relaxed);
            busy.since.store(Moment::now().0.max(1), Ordering::Relaxed);
            self.run(job);
            busy.since.store(0, Ordering::Relaxed);
            // To the kernel this thread computes without end, and it would let it go on for a millisecond or more while a
            // socket's thread has just been woken.
            if since.elapsed() >= YIELD_AFTER {
                outbox::flush();
                std::thread::yield_now();
                since = Instant::now();
            }
        }
    }

    /// The next job. Where there is none, it hands over what waited for that, and sleeps until there is one.
    fn next(&self, since: &mut Instant) -> Option<Arc<Job>> {
        let mut lines = self.lines();
        loop {
            if let Some(job) = lines.next() {
                return Some(job);
            }
            drop(lines);
            let handed_over = outbox::flush();
            lines = self.lines();
            if lines.is_closed {
                return None;
            }
            if !handed_over && lines.is_empty() {
                lines.sleeping += 1;
                lines = self.ready.wait(lines).unwrap_or_else(PoisonError::into_inner);
                lines.sleeping -= 1;
                *since = Instant::now();
            }
        }
    }
}
