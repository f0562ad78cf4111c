//! How long requests took, in buckets. An observation costs one atomic addition; percentiles are at most a tenth off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Number of buckets for each doubling of the time.
const PER_OCTAVE: usize = 4;
/// The first octave begins at 32 µs; the last one ends at 67 s.
const FIRST_OCTAVE: usize = 5;
const OCTAVES: usize = 21;
const BUCKETS: usize = PER_OCTAVE * OCTAVES;

/// A histogram of times.
#[derive(Debug)]
pub(crate) struct Latencies([AtomicU64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latencies {
    pub(crate) fn observe(&self, time: Duration) {
        if let Some(bucket) = self.0.get(bucket(time)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The present counts. The difference of two of them is what was observed in between.
    pub(crate) fn counts(&self) -> Counts {
        Counts(self.0.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// What a [`Latencies`] had counted at some time.
#[derive(Clone, Debug)]
pub(crate) struct Counts([u64; BUCKETS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Counts {
    /// What was observed since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (count, before) in since.0.iter_mut().zip(before.0) {
            *count = count.saturating_sub(before);
        }
        since
    }

    /// The number of observations.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that this many of a thousand observations did not exceed. Nothing if there are no observations.
    pub(crate) fn per_mille(&self, per_mille: u64) -> Option<Duration> {
        let rank = (self.count() * per_mille).div_ceil(1000).max(1);
        let mut below = 0;
        let index = self.0.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(Duration::from_micros(middle(index)))
    }
}

fn bucket(time: Duration) -> usize {
    let us = usize::try_from(time.as_micros()).unwrap_or(usize::MAX).max(1);
    let octave = us.ilog2() as usize;
    if octave < FIRST_OCTAVE {
        return 0;
    }
    // The two bits below the highest one.
    let part = (us >> (octave - 2)) & (PER_OCTAVE - 1);
    ((octave - FIRST_OCTAVE) * PER_OCTAVE + part).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
const fn middle(index: usize) -> u64 {
    let (octave, part) = (index / PER_OCTAVE + FIRST_OCTAVE, index % PER_OCTAVE);
    let width = (1u64 << octave) / PER_OCTAVE as u64;
    (1u64 << octave) + part as u64 * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_tenth() {
        let latencies = Latencies::default();
        assert!(latencies.counts().per_mille(500).is_none());
        for us in 1..=10_000u64 {
            latencies.observe(Duration::from_micros(us * 10));
        }
        let counts = latencies.counts();
        for (per_mille, us) in [(500, 50_000.0), (900, 90_000.0), (990, 99_000.0)] {
            let told = counts.per_mille(per_mille).unwrap_or_default().as_secs_f64() * 1e6;
            assert!((told / us - 1.0).abs() < 0.13, "{per_mille}: {told}");
        }
        latencies.observe(Duration::from_secs(3600));
        latencies.observe(Duration::ZERO);
        assert_eq!(latencies.counts().since(&counts).0.iter().sum::<u64>(), 2);
    }
}
