//! A quota over time as a token bucket without a lock, and a count against a maximum.
//!
//! The bucket is kept as one moment, the one at which it will be full again (the "theoretical arrival time" of GCRA,
//! ITU-T I.371): taking moves it on, and what is taken must not move it further ahead of now than the burst takes to come
//! in. One compare-and-swap a call, right under any interleaving.
//!
//! Invariant: within any time `t`, [`Bucket::take`] gives out `burst + rate × t` at the most. [`Bucket::charge`] may
//! overdraw, for what is known only afterwards; [`Bucket::open`] then says no until the debt is paid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::Moment;

/// So much in so much time, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) amount: u64,
    pub(crate) per: Duration,
    pub(crate) burst: u64,
}

impl Rate {
    /// `burst` where the operator says none: what comes in within two seconds, or at least one.
    pub(crate) fn with_burst(amount: u64, per: Duration, burst: Option<u64>) -> Self {
        let two_seconds = u128::from(amount) * 2_000_000_000 / per.as_nanos().max(1);
        let burst = burst.unwrap_or_else(|| u64::try_from(two_seconds).unwrap_or(u64::MAX));
        Self { amount, per, burst: burst.max(1) }
    }

    /// In how many seconds, at least one, the burst comes in: the window of the `RateLimit-Policy` field.
    pub(crate) fn window_seconds(&self) -> u64 {
        seconds_up(u64::try_from(time_of(self.burst, self) / TICKS).unwrap_or(u64::MAX))
    }
}

/// The unit of the stored moment is 1/64 ns: small enough for a rate of fuel (2 G a second is half a nanosecond each),
/// and 64 bits of it last for nine years.
const TICKS: u128 = 64;

fn time_of(amount: u64, rate: &Rate) -> u128 {
    u128::from(amount) * rate.per.as_nanos() * TICKS / u128::from(rate.amount.max(1))
}

/// Whole seconds, rounded up, at least one.
const fn seconds_up(nanoseconds: u64) -> u64 {
    let seconds = nanoseconds.div_ceil(1_000_000_000);
    if seconds == 0 { 1 } else { seconds }
}

/// Why nothing was given, and in how many seconds asking again is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Empty {
    pub(crate) retry_seconds: u64,
}

/// See the top of this file. Without a rate it gives whatever is asked.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    full_at: AtomicU64,
    // The rate as the last reload has it; a call that meets a reload half way takes one step at a mixture of both.
    amount: AtomicU64,
    per: AtomicU64,
    burst: AtomicU64,
    /// All that was ever taken or charged here, while there was a rate.
    used: AtomicU64,
}

/// A bucket as it was at a moment: what to compare with what the fleet says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// All that was ever taken here.
    pub(super) used: u64,
    /// In which time it would have been full again.
    ahead: u64,
}

impl Bucket {
    /// Another rate from now on. What was taken before stays taken.
    pub(super) fn set(&self, rate: Option<Rate>) {
        let Some(rate) = rate else {
            self.amount.store(0, Ordering::Relaxed);
            return;
        };
        self.per.store(u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.burst.store(rate.burst, Ordering::Relaxed);
        self.amount.store(rate.amount.max(1), Ordering::Relaxed);
    }

    pub(crate) fn rate(&self) -> Option<Rate> {
        let amount = self.amount.load(Ordering::Relaxed);
        let per = Duration::from_nanos(self.per.load(Ordering::Relaxed));
        (amount > 0).then(|| Rate { amount, per, burst: self.burst.load(Ordering::Relaxed) })
    }

    /// Takes so much, or nothing.
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

    /// Takes what was used already, whether it is there or not.
    pub(crate) fn charge(&self, amount: u64, now: Moment) {
        let Some(rate) = self.rate().filter(|_| amount > 0) else { return };
        let step = time_of(amount, &rate);
        let now = u128::from(now.0) * TICKS;
        let next = |full_at| Some(u64::try_from(u128::from(full_at).max(now) + step).unwrap_or(u64::MAX));
        // The closure always says something.
        let _charged = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        self.used.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What it was until now; nothing without a rate.
    pub(super) fn look(&self, now: Moment) -> Option<Seen> {
        self.rate()?;
        // In this order: what is taken between the two is told to the fleet the next time.
        let used = self.used.load(Ordering::Relaxed);
        let ahead = u128::from(self.full_at.load(Ordering::Relaxed)).saturating_sub(u128::from(now.0) * TICKS);
        Some(Seen { used, ahead: u64::try_from(ahead).unwrap_or(u64::MAX) })
    }

    /// Moves it to where the fleet's bucket is, which will be full in so many microseconds: by as much as they differed when
    /// this one was looked at, so that nothing is lost of what was taken since.
    pub(super) fn align(&self, seen: Seen, fleet_micros: u64, now: Moment) {
        let fleet = u128::from(fleet_micros) * 1000 * TICKS;
        let now = u128::from(now.0) * TICKS;
        let next = |full_at| {
            let at = u128::from(full_at).max(now) + fleet;
            Some(u64::try_from(at.saturating_sub(u128::from(seen.ahead)).max(now)).unwrap_or(u64::MAX))
        };
        let _aligned = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes one in any case, and says in how long it would have been there.
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

/// A count that never passes its maximum, which a reload may move.
#[derive(Debug, Default)]
pub(crate) struct Count {
    now: AtomicU64,
    max: AtomicU64,
}

impl Count {
    pub(crate) fn of(max: u64) -> Self {
        Self { now: AtomicU64::new(0), max: AtomicU64::new(max) }
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

    /// Adds, or does nothing where that would pass the maximum.
    pub(crate) fn add(&self, amount: u64) -> bool {
        let max = self.max();
        let more = |now: u64| now.checked_add(amount).filter(|sum| *sum <= max);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(crate) fn give_back(&self, amount: u64) {
        self.now.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(amount: u64, burst: u64) -> Bucket {
        let bucket = Bucket::default();
        bucket.set(Some(Rate { amount, per: Duration::from_secs(1), burst }));
        bucket
    }

    #[test]
    fn a_bucket_follows_the_fleets() {
        let bucket = bucket(10, 10);
        let now = Moment(5_000_000_000);
        bucket.take(4, now).unwrap();
        let seen = bucket.look(now).unwrap();
        assert_eq!(seen.used, 4);
        bucket.take(1, now).unwrap();
        // Others took three: the fleet's bucket, without the last one here, is full in 0.7 s.
        bucket.align(seen, 700_000, now);
        assert_eq!(bucket.left(now), Some(2));
        // The others' debt was less than it seemed.
        let seen = bucket.look(now).unwrap();
        bucket.align(seen, 100_000, now);
        assert_eq!(bucket.left(now), Some(9));
        // Far over: nothing is given until it is paid.
        let seen = bucket.look(now).unwrap();
        bucket.align(seen, 3_000_000, now);
        assert_eq!(bucket.take(1, now), Err(Empty { retry_seconds: 3 }));
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = bucket(10, 3);
        let at = |ms: u64| Moment(5_000_000_000 + ms * 1_000_000);
        for _ in 0..3 {
            bucket.take(1, at(0)).unwrap();
        }
        assert_eq!(bucket.take(1, at(0)), Err(Empty { retry_seconds: 1 }));
        assert_eq!(bucket.left(at(0)), Some(0));
        assert!(bucket.take(1, at(99)).is_err());
        bucket.take(1, at(100)).unwrap();
        assert!(bucket.take(2, at(200)).is_err(), "one came in");
        assert_eq!(bucket.left(at(60_000)), Some(3), "and never more than the burst");
        assert!(bucket.take(4, at(60_000)).is_err(), "more than the burst is never given");
    }

    #[test]
    fn what_is_charged_afterwards_is_owed() {
        let bucket = bucket(100, 100);
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        bucket.open(at(1)).unwrap();
        bucket.charge(600, at(1));
        assert_eq!(bucket.open(at(1)), Err(Empty { retry_seconds: 5 }), "to pay the debt");
        assert!(bucket.open(at(5)).is_err());
        bucket.open(at(7)).unwrap();
    }

    #[test]
    fn whoever_waits_for_each_comes_at_the_rate() {
        let bucket = bucket(1000, 3);
        let waits: Vec<u128> = (0..6).map(|_| bucket.wait(Moment(0)).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn another_rate_forgives_nothing() {
        let slow = bucket(1, 2);
        slow.take(2, Moment(0)).unwrap();
        slow.set(Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 2 }));
        assert!(slow.take(1, Moment(0)).is_err());
        slow.set(None);
        slow.take(1_000_000, Moment(0)).unwrap();
    }

    proptest! {
        /// Whatever is asked for when: never more than the burst and what came in.
        #[test]
        fn never_more_than_the_burst_and_what_came_in(
            rate in 1u64..100_000,
            burst in 1u64..5_000,
            asks in proptest::collection::vec((0u64..50_000_000, 1u64..200), 1..200),
        ) {
            let bucket = bucket(rate, burst);
            let (mut now, mut given) = (1_000_000_000u64, 0u64);
            let start = now;
            for (wait, amount) in asks {
                now += wait;
                if bucket.take(amount, Moment(now)).is_ok() {
                    given += amount;
                }
                let came = u128::from(rate) * u128::from(now - start) / 1_000_000_000;
                prop_assert!(u128::from(given) <= u128::from(burst) + came + 1, "{given} of {burst} and {came}");
            }
        }

        #[test]
        fn a_refusal_says_when_to_come_back(rate in 1u64..1000, burst in 1u64..100, taken in 1u64..100) {
            let bucket = bucket(rate, burst);
            bucket.charge(taken, Moment(0));
            if let Err(Empty { retry_seconds }) = bucket.take(1, Moment(0)) {
                bucket.take(1, Moment(retry_seconds * 1_000_000_000)).unwrap();
            }
        }
    }

    /// Eight threads against one bucket and one count: the bound holds whatever they do at once.
    #[test]
    fn threads_together_never_get_more_than_one_would() {
        let bucket = bucket(1, 10_000);
        let count = Count::default();
        count.set_max(5);
        let given = AtomicU64::new(0);
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if bucket.take(1, Moment(0)).is_ok() {
                            given.fetch_add(1, Ordering::Relaxed);
                        }
                        if count.add(1) {
                            most.fetch_max(count.now(), Ordering::Relaxed);
                            count.give_back(1);
                        }
                    }
                });
            }
        });
        assert_eq!(given.load(Ordering::Relaxed), 10_000);
        assert!(most.load(Ordering::Relaxed) <= 5);
        assert_eq!(count.now(), 0);
    }
}
