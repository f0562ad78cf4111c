//! A circuit breaker: a server that is down is not called for a while, so that nobody waits in vain.
//!
//! Source: the pattern in Michael Nygard's "Release It!". The breaker opens when the *server* is down: if [`FAILURES`]
//! calls in a row cannot connect or hear that it serves nobody ([`CallOutcome::Gone`]), or if it does not answer the gateway's own
//! PING. A late answer ([`CallOutcome::Late`]) may be one tenant's doing and does not prove that: after [`FAILURES`] of them in a
//! row, the gateway sends a PING. While the breaker is open, a PING every [`PING_EVERY`] finds out when to close it; no
//! tenant's call is used for that.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::Moment;

const FAILURES: u32 = 5;
const PING_EVERY: Duration = Duration::from_millis(200);

/// How a call ended, as far as the server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    Answer,
    /// The server was not reached, or says that it serves nobody now.
    Gone,
    /// The server was reached, but did not answer in time or closed the connection.
    Late,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    is_open: AtomicBool,
    /// Failures in a row.
    gone: AtomicU32,
    late: AtomicU32,
    /// A PING is in progress.
    is_asking: AtomicBool,
    ask_at: AtomicU64,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether to send a PING now. A caller that gets `true` sends it and reports the result ([`Self::asked`]).
    pub(super) fn wants_to_ask(&self, now: Moment) -> bool {
        let is_due = if self.is_open() {
            now.0 >= self.ask_at.load(Ordering::Relaxed)
        } else {
            self.late.load(Ordering::Relaxed) >= FAILURES
        };
        is_due && self.is_asking.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes how a call ended.
    pub(super) fn note(&self, seen: CallOutcome, now: Moment) {
        let count = match seen {
            CallOutcome::Answer => {
                for count in [&self.gone, &self.late] {
                    if count.load(Ordering::Relaxed) != 0 {
                        count.store(0, Ordering::Relaxed);
                    }
                }
                return;
            }
            CallOutcome::Gone => &self.gone,
            CallOutcome::Late => &self.late,
        };
        let before = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_add(1)));
        if seen == CallOutcome::Gone && before.is_ok_and(|before| before + 1 >= FAILURES) {
            self.open(now);
        }
    }

    /// Notes whether the server answered the gateway's own PING.
    pub(super) fn asked(&self, is_there: bool, now: Moment) {
        if is_there {
            self.gone.store(0, Ordering::Relaxed);
            self.late.store(0, Ordering::Relaxed);
            self.is_open.store(false, Ordering::Relaxed);
        } else {
            self.open(now);
        }
        self.is_asking.store(false, Ordering::Relaxed);
    }

    fn open(&self, now: Moment) {
        let next = now.0.saturating_add(u64::try_from(PING_EVERY.as_nanos()).unwrap_or(u64::MAX));
        self.ask_at.store(next, Ordering::Relaxed);
        self.is_open.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    #[test]
    fn a_server_that_is_down_opens_the_breaker_and_a_ping_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            breaker.note(CallOutcome::Gone, at(0));
        }
        breaker.note(CallOutcome::Answer, at(0));
        for n in 1..=FAILURES {
            assert!(!breaker.is_open(), "{n}: a success in between starts the count anew");
            breaker.note(CallOutcome::Gone, at(1));
        }
        assert!(breaker.is_open());
        assert!(!breaker.wants_to_ask(at(2)));
        assert!(breaker.wants_to_ask(at(201)) && !breaker.wants_to_ask(at(201)), "one at a time");
        breaker.asked(false, at(202));
        assert!(breaker.is_open() && !breaker.wants_to_ask(at(203)) && breaker.wants_to_ask(at(402)));
        breaker.asked(true, at(403));
        assert!(!breaker.is_open() && !breaker.wants_to_ask(at(999)));
    }

    #[test]
    fn late_answers_cause_a_ping_and_do_not_open_the_breaker() {
        let breaker = Breaker::default();
        for n in 1..=100 {
            breaker.note(CallOutcome::Late, at(n));
            assert!(!breaker.is_open(), "{n}");
        }
        assert!(breaker.wants_to_ask(at(100)));
        breaker.asked(true, at(101));
        assert!(!breaker.is_open() && !breaker.wants_to_ask(at(101)), "it is there");
        for _ in 0..FAILURES {
            breaker.note(CallOutcome::Late, at(102));
        }
        assert!(breaker.wants_to_ask(at(103)));
        breaker.asked(false, at(104));
        assert!(breaker.is_open());
    }
}
