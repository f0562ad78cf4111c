//! A lane: lines of jobs, and the runners that take turns from them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::{Job, outbox};
use crate::deadline::Moment;

/// After this time a runner passes on what it has collected, and lets the kernel run other threads.
const YIELD_AFTER: Duration = Duration::from_micros(250);
/// When a turn counts as one that does not end. Other threads may have used the processor meanwhile.
const STUCK: Duration = Duration::from_millis(2);

#[derive(Default)]
pub(super) struct Lane {
    lines: Mutex<Lines>,
    ready: Condvar,
    /// What each runner is doing.
    pub(super) runners: Vec<Runner>,
    /// Jobs in line and in turns.
    jobs: AtomicUsize,
}

/// A runner's turn: since when, and for which tenant. Zero if there is none.
#[derive(Default)]
pub(super) struct Runner {
    pub(super) since: AtomicU64,
    pub(super) serial: AtomicU64,
}

impl Lane {
    pub(super) fn of(runners: usize) -> Self {
        Self { runners: (0..runners).map(|_| Runner::default()).collect(), ..Self::default() }
    }

    /// A lane beside this one, with as many runners.
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

    /// Runs a turn of a job that was taken from this lane.
    pub(super) fn run(&self, job: Arc<Job>) {
        job.run(self);
        self.jobs.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the runners, which then see that the lines are closed.
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
            // To the kernel this thread computes without end. Without this, it could run on for a millisecond or more while
            // a socket's thread has just been woken.
            if since.elapsed() >= YIELD_AFTER {
                outbox::flush();
                std::thread::yield_now();
                since = Instant::now();
            }
        }
    }

    /// The next job. If there is none, passes on what was collected and sleeps until there is one.
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
