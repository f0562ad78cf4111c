//! Peaks of levels such as requests in flight. A sampler that reads a level once a second misses most of what lives for milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The highest level since the last [`take`](Self::take). The code that counts reports each rise, and one task takes the peak.
#[derive(Debug, Default)]
pub(crate) struct Peak(AtomicU64);

impl Peak {
    /// Reports a level. This costs one relaxed load, and an atomic maximum only if the level is a new peak.
    pub(crate) fn reached(&self, level: u64) {
        if level > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(level, Ordering::Relaxed);
        }
    }

    /// Returns the highest level since the last call, which is at least the current level. The next peak starts from the current
    /// level, so a level that stays high counts for both.
    pub(crate) fn take(&self, now: impl Fn() -> u64) -> u64 {
        let peak = self.0.swap(0, Ordering::Relaxed).max(now());
        self.reached(now());
        peak
    }
}

/// A gauge and its peak.
#[derive(Debug, Default)]
pub(crate) struct Level {
    gauge: Gauge,
    peak: Peak,
}

impl Level {
    pub(crate) fn one_more(&self) {
        let before = self.gauge.inc();
        self.peak.reached(u64::try_from(before + 1).unwrap_or(0));
    }

    pub(crate) fn one_less(&self) {
        self.gauge.dec();
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.gauge.get()).unwrap_or(0)
    }

    /// Returns the highest level since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.take(|| self.now())
    }

    pub(super) fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_kept_until_it_is_taken() {
        let level = Level::default();
        for _ in 0..3 {
            level.one_more();
        }
        for _ in 0..2 {
            level.one_less();
        }
        assert_eq!((level.now(), level.take_peak()), (1, 3));
        assert_eq!(level.take_peak(), 1, "the next peak starts from the current level");
        level.one_less();
        assert_eq!((level.take_peak(), level.take_peak()), (1, 0));
    }

    #[test]
    fn concurrent_rises_are_not_lost() {
        let level = Level::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| level.one_more()));
            }
            scope.spawn(|| (0..1000).for_each(|_| _ = level.take_peak()));
        });
        assert_eq!((level.now(), level.take_peak()), (40_000, 40_000));
    }
}
