//! A breaker: a server that fails again and again is not asked for a while, so that nobody waits for what will not come.
//!
//! Source: the pattern of Michael Nygard's "Release It!". Closed, it lets everything through; after [`FAILURES`] in a row it
//! is open, and lets one call through every [`PROBE_EVERY`]; a call that succeeds closes it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::Moment;

const FAILURES: u32 = 5;
const PROBE_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: AtomicU32,
    probe_at: AtomicU64,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Whether a call may be made now. Of many that ask at once while it is open, one may.
    pub(super) fn lets_through(&self, now: Moment) -> bool {
        if !self.is_open() {
            return true;
        }
        let due = self.probe_at.load(Ordering::Relaxed);
        now.0 >= due
            && self.probe_at.compare_exchange(due, next_probe(now), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes how a call ended; whether this opened it.
    pub(super) fn note(&self, failed: bool, now: Moment) -> bool {
        if !failed {
            if self.failures.load(Ordering::Relaxed) != 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let before = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_add(1)));
        let opened = before.is_ok_and(|before| before + 1 == FAILURES);
        if opened {
            self.probe_at.store(next_probe(now), Ordering::Relaxed);
        }
        opened
    }
}

fn next_probe(now: Moment) -> u64 {
    now.0.saturating_add(u64::try_from(PROBE_EVERY.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_a_probe_that_succeeds() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            assert!(!breaker.note(true, at(0)));
        }
        breaker.note(false, at(0));
        for n in 1..=FAILURES {
            assert!(breaker.lets_through(at(1)));
            assert_eq!(breaker.note(true, at(1)), n == FAILURES, "{n}: a success in between starts the count anew");
        }
        assert!(!breaker.lets_through(at(2)));
        assert!(breaker.lets_through(at(201)), "a probe");
        assert!(!breaker.lets_through(at(201)), "and one only");
        assert!(!breaker.note(true, at(202)), "it was open already");
        assert!(breaker.lets_through(at(402)));
        breaker.note(false, at(403));
        assert!(breaker.lets_through(at(403)) && breaker.lets_through(at(403)));
    }
}
