//! The gateway's counters at one moment. The difference of two readings is what happened between them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::telemetry::{Counts, Metrics, TotalsSnapshot};

#[derive(Clone, Debug)]
pub(in crate::admin) struct Reading {
    pub(in crate::admin) at: Instant,
    pub(in crate::admin) all: TotalsSnapshot,
    pub(in crate::admin) faults: HashMap<&'static str, u64>,
    pub(in crate::admin) storage: Counts,
    /// Requests that looked for a kept response, and requests that found one.
    pub(in crate::admin) cache: (u64, u64),
}

/// What happened between two readings.
pub(in crate::admin) struct Between {
    pub(in crate::admin) took: Duration,
    pub(in crate::admin) answered: [u64; 5],
    pub(in crate::admin) fuel: u64,
    pub(in crate::admin) latencies: Counts,
    /// By kind. Kinds that did not happen are left out.
    pub(in crate::admin) faults: Vec<(&'static str, u64)>,
    pub(in crate::admin) storage: Counts,
    pub(in crate::admin) cache: (u64, u64),
}

impl Reading {
    pub(in crate::admin) fn of(metrics: &Metrics) -> Self {
        Self {
            at: Instant::now(),
            all: metrics.totals.counted(),
            faults: metrics.totals.faults().into_iter().collect(),
            storage: metrics.storage_latencies.counts(),
            cache: metrics.cache_counted(),
        }
    }

    pub(in crate::admin) fn since(&self, before: &Self) -> Between {
        let new = |(kind, count): (&&'static str, &u64)| {
            let count = count.saturating_sub(before.faults.get(kind).copied().unwrap_or(0));
            (count > 0).then_some((*kind, count))
        };
        Between {
            took: self.at.duration_since(before.at),
            answered: answered(&self.all, &before.all),
            fuel: self.all.fuel.saturating_sub(before.all.fuel),
            latencies: self.all.latencies.since(&before.all.latencies),
            faults: self.faults.iter().filter_map(new).collect(),
            storage: self.storage.since(&before.storage),
            cache: (self.cache.0.saturating_sub(before.cache.0), self.cache.1.saturating_sub(before.cache.1)),
        }
    }
}

/// Returns how many requests were answered between two readings, by class.
pub(super) fn answered(now: &TotalsSnapshot, before: &TotalsSnapshot) -> [u64; 5] {
    let mut answered = now.answered;
    answered.iter_mut().zip(before.answered).for_each(|(now, before)| *now = now.saturating_sub(before));
    answered
}
