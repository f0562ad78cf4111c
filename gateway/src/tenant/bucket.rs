//! A rate limit as a lock-free token bucket, and a count with a maximum.
//!
//! The bucket is stored as one moment: the time at which it will be full again (the "theoretical arrival time" of GCRA,
//! ITU-T I.371). Taking moves it forward; it may not be further ahead of now than the burst takes to refill. Each call is
//! one compare-and-swap, correct under any interleaving.
//!
//! Invariant: within any time `t`, [`Bucket::take`] gives out at most `burst + rate × t`. [`Bucket::charge`] may overdraw,
//! for amounts that are known only afterwards; [`Bucket::open`] then refuses until the debt is paid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::Moment;
use crate::telemetry::Peak;

/// An amount per time, and the burst that may be taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) amount: u64,
    pub(crate) per: Duration,
    pub(crate) burst: u64,
}

impl Rate {
    /// Without a configured `burst`, it is what refills within two seconds, or at least one.
    pub(crate) fn with_burst(amount: u64, per: Duration, burst: Option<u64>) -> Self {
        let two_seconds = u128::from(amount) * 2_000_000_000 / per.as_nanos().max(1);
        let burst = burst.unwrap_or_else(|| u64::try_from(two_seconds).unwrap_or(u64::MAX));
        Self { amount, per, burst: burst.max(1) }
    }

    /// Seconds in which the burst refills, at least one: the window in the `RateLimit-Policy` field.
    pub(crate) fn window_seconds(&self) -> u64 {
        seconds_up(u64::try_from(time_of(self.burst, self) / TICKS).unwrap_or(u64::MAX))
    }
}

/// The stored moment is in units of 1/64 ns. That is fine enough for a rate of fuel (2 G a second is half a nanosecond
/// each), and 64 bits last for nine years.
const TICKS: u128 = 64;

fn time_of(amount: u64, rate: &Rate) -> u128 {
    u128::from(amount) * rate.per.as_nanos() * TICKS / u128::from(rate.amount.max(1))
}

/// What refills within this many ticks, rounded up.
fn amount_of(ticks: u128, rate: &Rate) -> u128 {
    ticks.saturating_mul(u128::from(rate.amount)).div_ceil((rate.per.as_nanos() * TICKS).max(1))
}

/// Whole seconds, rounded up, at least one.
const fn seconds_up(nanoseconds: u64) -> u64 {
    let seconds = nanoseconds.div_ceil(1_000_000_000);
    if seconds == 0 { 1 } else { seconds }
}

/// Nothing was taken; a retry is useful after this many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Empty {
    pub(crate) retry_seconds: u64,
}

/// See the top of this file. Without a rate it always gives.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at: AtomicU64,
    // The rate of the last reload. A call during a reload may take one step at a mixture of the old and the new rate.
    amount: AtomicU64,
    per: AtomicU64,
    burst: AtomicU64,
    /// Everything that was ever taken or charged here while there was a rate.
    used: AtomicU64,
    /// How often the rate changed or the bucket was filled.
    changes: AtomicU64,
}

/// A bucket at a moment, for comparison with the fleet's bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BucketState {
    /// Everything that was ever taken here.
    pub(super) used: u64,
    /// The time after which it would have been full again.
    ahead: u64,
    /// How often its rate had changed.
    changes: u64,
}

impl Bucket {
    /// Sets another rate from now on. The missing amount stays missing, but is at most the new burst, so that nobody waits
    /// at the old rate's pace. Setting the same rate changes nothing.
    pub(super) fn set(&self, rate: Option<Rate>, now: Moment) {
        let old = self.rate();
        if old == rate {
            return;
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        let Some(new) = rate else {
            self.amount.store(0, Ordering::Relaxed);
            return;
        };
        self.per.store(u64::try_from(new.per.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.burst.store(new.burst, Ordering::Relaxed);
        self.amount.store(new.amount.max(1), Ordering::Relaxed);
        let now = u128::from(now.0) * TICKS;
        let next = |full_at| {
            let ahead = u128::from(full_at).saturating_sub(now);
            // Without a rate nothing was counted.
            let missing = old.map_or(0, |old| amount_of(ahead, &old));
            let missing = u64::try_from(missing).unwrap_or(u64::MAX).min(new.burst);
            Some(u64::try_from(now + time_of(missing, &new)).unwrap_or(u64::MAX))
        };
        // The closure always returns a value.
        let _moved = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Fills the bucket.
    pub(super) fn fill(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.full_at.store(0, Ordering::Relaxed);
    }

    pub(crate) fn rate(&self) -> Option<Rate> {
        let amount = self.amount.load(Ordering::Relaxed);
        let per = Duration::from_nanos(self.per.load(Ordering::Relaxed));
        (amount > 0).then(|| Rate { amount, per, burst: self.burst.load(Ordering::Relaxed) })
    }

    /// Takes this amount, or nothing.
    pub(crate) fn take(&self, amount: u64, now: Moment) -> Result<(), Empty> {
        let Some(rate) = self.rate() else { return Ok(()) };
        let (step, room) = (time_of(amount, &rate), time_of(rate.burst, &rate));
        let now = u128::from(now.0) * TICKS;
        let mut over = 0;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = u128::from(full_at).max(now) + step;
            over = next.saturating_sub(now + room);
            if over > 0 { None } else { u64::try_from(next).ok() }
        });
        taken.map(|_before| _ = self.used.fetch_add(amount, Ordering::Relaxed)).map_err(|_full_at| empty(over))
    }

    /// Takes what was already used, even if the bucket does not have it.
    pub(crate) fn charge(&self, amount: u64, now: Moment) {
        let Some(rate) = self.rate().filter(|_| amount > 0) else { return };
        let step = time_of(amount, &rate);
        let now = u128::from(now.0) * TICKS;
        let next = |full_at| Some(u64::try_from(u128::from(full_at).max(now) + step).unwrap_or(u64::MAX));
        // The closure always returns a value.
        let _charged = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        self.used.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bucket's present state. Nothing without a rate.
    pub(super) fn look(&self, now: Moment) -> Option<BucketState> {
        self.rate()?;
        let changes = self.changes.load(Ordering::Relaxed);
        // The order matters: an amount that is taken between the two is reported to the fleet the next time.
        let used = self.used.load(Ordering::Relaxed);
        let ahead = u128::from(self.full_at.load(Ordering::Relaxed)).saturating_sub(u128::from(now.0) * TICKS);
        Some(BucketState { used, ahead: u64::try_from(ahead).unwrap_or(u64::MAX), changes })
    }

    /// Moves the bucket to the state of the fleet's bucket, which will be full in this many microseconds. It moves by their
    /// difference at the time of `seen`, so that what was taken since is not lost. If the rate has changed since, nothing
    /// moves: the next exchange is at the new rate.
    pub(super) fn align(&self, seen: BucketState, fleet_micros: u64, now: Moment) {
        if seen.changes != self.changes.load(Ordering::Relaxed) {
            return;
        }
        let fleet = u128::from(fleet_micros) * 1000 * TICKS;
        let now = u128::from(now.0) * TICKS;
        let next = |full_at| {
            let at = u128::from(full_at).max(now) + fleet;
            Some(u64::try_from(at.saturating_sub(u128::from(seen.ahead)).max(now)).unwrap_or(u64::MAX))
        };
        let _aligned = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes one in any case, and returns how long it would have had to wait.
    pub(crate) fn wait(&self, now: Moment) -> Duration {
        self.charge(1, now);
        let Some(rate) = self.rate() else { return Duration::ZERO };
        let limit = u128::from(now.0) * TICKS + time_of(rate.burst, &rate);
        let ticks = u128::from(self.full_at.load(Ordering::Relaxed)).saturating_sub(limit);
        Duration::from_nanos(u64::try_from(ticks / TICKS).unwrap_or(u64::MAX))
    }

    /// Whether anything is left.
    pub(crate) fn open(&self, now: Moment) -> Result<(), Empty> {
        let Some(rate) = self.rate() else { return Ok(()) };
        let limit = u128::from(now.0) * TICKS + time_of(rate.burst, &rate);
        let full_at = u128::from(self.full_at.load(Ordering::Relaxed));
        if full_at < limit { Ok(()) } else { Err(empty(full_at - limit + 1)) }
    }

    /// How much is left now.
    pub(crate) fn left(&self, now: Moment) -> Option<u64> {
        let rate = self.rate()?;
        let limit = u128::from(now.0) * TICKS + time_of(rate.burst, &rate);
        let full_at = u128::from(self.full_at.load(Ordering::Relaxed)).max(u128::from(now.0) * TICKS);
        let time = limit.saturating_sub(full_at);
        let left = time * u128::from(rate.amount) / (rate.per.as_nanos() * TICKS).max(1);
        Some(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

fn empty(ticks: u128) -> Empty {
    Empty { retry_seconds: seconds_up(u64::try_from(ticks / TICKS).unwrap_or(u64::MAX)) }
}

/// A count that never exceeds its maximum, which a reload may change.
#[derive(Debug, Default)]
pub(crate) struct Count {
    now: AtomicU64,
    max: AtomicU64,
    peak: Peak,
}

impl Count {
    pub(crate) fn of(max: u64) -> Self {
        Self { max: AtomicU64::new(max), ..Self::default() }
    }

    pub(super) fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Adds, unless the result would exceed the maximum.
    pub(crate) fn add(&self, amount: u64) -> bool {
        let max = self.max();
        let more = |now: u64| now.checked_add(amount).filter(|sum| *sum <= max);
        // Another thread may have started to wait meanwhile (`supply.rs`).
        let added = self.now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        added.inspect(|before| self.peak.reached(before + amount)).is_ok()
    }

    /// Adds, even beyond the maximum.
    pub(super) fn add_anyway(&self, amount: u64) {
        let before = self.now.fetch_add(amount, Ordering::SeqCst);
        self.peak.reached(before.saturating_add(amount));
    }

    /// Returns the highest count since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.take(|| self.now())
    }

    pub(crate) fn give_back(&self, amount: u64) {
        self.now.fetch_sub(amount, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
