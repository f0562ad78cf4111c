//! Counters of what one tenant did since the gateway started, and of all tenants together. Each costs one addition.
//!
//! Limit: [`FAULTS_KEPT`] faults of a tenant are kept. `telemetry.metrics_tenants` bounds the labels of metrics.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;

use super::labels::Duration as DurationMetric;
use super::latencies::{Counts, Latencies};
use super::metrics::{Metrics, NOBODY};
use super::recent::Recent;
use crate::fault::{Fault, QuotaKind};
use crate::ids::{RequestId, TenantId};

/// The latest faults, for questions about what happened.
const FAULTS_KEPT: usize = 20;
/// Faults of a tenant by request id, of about 100 bytes each.
const EACH_KEPT: usize = 64;

/// Within this time, at most one fault of each kind and tenant is kept.
const KEPT_EACH: Duration = Duration::from_secs(1);

/// Counters without a name.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// By the first digit of the status.
    answered: [AtomicU64; 5],
    faults: [AtomicU64; Fault::ALL.len()],
    fuel: AtomicU64,
    pub(crate) latencies: Latencies,
}

/// What [`Totals`] had counted at some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct TotalsSnapshot {
    pub(crate) answered: [u64; 5],
    pub(crate) fuel: u64,
    pub(crate) latencies: Counts,
}

impl Totals {
    pub(super) fn answered(&self, status: u16, took: Duration, fuel: u64) {
        if let Some(class) = self.answered.get(class(status)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.latencies.observe(took);
        self.burned(fuel);
    }

    pub(super) fn burned(&self, fuel: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
    }

    pub(super) fn fault(&self, fault: Fault) {
        let index = Fault::ALL.iter().position(|known| known.kind() == fault.kind());
        if let Some(count) = index.and_then(|index| self.faults.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counted(&self) -> TotalsSnapshot {
        TotalsSnapshot {
            answered: self.answered.each_ref().map(|count| count.load(Ordering::Relaxed)),
            fuel: self.fuel.load(Ordering::Relaxed),
            latencies: self.latencies.counts(),
        }
    }

    pub(crate) fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    /// The number of answered requests, and how many of them with a 5xx status.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (self.answered.iter().map(load).sum(), self.answered.last().map_or(0, load))
    }

    /// The kinds of faults that happened, with their counts.
    pub(crate) fn faults(&self) -> Vec<(&'static str, u64)> {
        let counted =
            Fault::ALL.iter().zip(&self.faults).map(|(fault, count)| (fault.kind(), count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// The index for a status: 0 for 1xx to 4 for 5xx.
const fn class(status: u16) -> usize {
    match status / 100 {
        1 => 0,
        2 => 1,
        3 => 2,
        4 => 3,
        _ => 4,
    }
}

/// Why nothing ran although a schedule was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skipped {
    /// The previous run was still in progress.
    Overlap,
    /// The gateway was too late.
    Missed,
    Suspended,
    /// The store did not say which gateway has the run.
    Unclaimed,
}

impl Skipped {
    pub(super) const ALL: [Self; 4] = [Self::Overlap, Self::Missed, Self::Suspended, Self::Unclaimed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Missed => "missed",
            Self::Suspended => "suspended",
            Self::Unclaimed => "unclaimed",
        }
    }
}

/// A request that failed or was refused.
#[derive(Clone, Debug)]
pub(crate) struct FaultSeen {
    pub(crate) at: SystemTime,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) request: RequestId,
    pub(crate) kind: &'static str,
    pub(crate) status: u16,
    pub(crate) route: String,
    /// How many faults of this kind happened within the same second.
    pub(crate) count: Arc<AtomicU64>,
}

/// A single fault, for a search by request id. It may not be in the list of kept faults.
#[derive(Clone, Debug)]
pub(crate) struct FaultLooked {
    pub(crate) at: SystemTime,
    pub(crate) request: RequestId,
    pub(crate) kind: &'static str,
    pub(crate) status: u16,
    pub(crate) route: Box<str>,
}

/// One tenant's figures.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) tenant: TenantId,
    /// The label of its series. If there are more tenants than may have their own, several share one.
    label: String,
    metrics: Arc<Metrics>,
    pub(crate) totals: Totals,
    pub(crate) faults: Recent<FaultSeen>,
    /// The latest faults, each individually.
    pub(crate) each_fault: Recent<FaultLooked>,
    /// The series, cached at first use so that a request needs no lookup in a map.
    answered: [OnceLock<Counter>; 5],
    duration: OnceLock<DurationMetric>,
    fuel: OnceLock<Counter>,
    /// Whether the series of lost messages exist, starting at zero.
    has_messages: Once,
}

impl Figures {
    pub(crate) fn new(tenant: TenantId, metrics: &Arc<Metrics>) -> Self {
        Self::labelled(metrics.label_of(&tenant), tenant, metrics)
    }

    /// The figures of a tenant of the gateway's own, which takes no tenant's label.
    pub(crate) fn aside(tenant: TenantId, metrics: &Arc<Metrics>) -> Self {
        Self::labelled(NOBODY.to_owned(), tenant, metrics)
    }

    fn labelled(label: String, tenant: TenantId, metrics: &Arc<Metrics>) -> Self {
        Self {
            label,
            tenant,
            metrics: Arc::clone(metrics),
            totals: Totals::default(),
            faults: Recent::new(FAULTS_KEPT),
            each_fault: Recent::new(EACH_KEPT),
            answered: [const { OnceLock::new() }; 5],
            duration: OnceLock::new(),
            fuel: OnceLock::new(),
            has_messages: Once::new(),
        }
    }

    pub(super) fn answered(&self, status: u16, took: Duration, fuel: u64, trace: Option<&str>) {
        self.totals.answered(status, took, fuel);
        if let Some(answered) = self.answered.get(class(status)) {
            answered.get_or_init(|| self.metrics.answered_of(&self.label, status)).inc();
        }
        let duration = self.duration.get_or_init(|| self.metrics.duration_of(&self.label));
        Metrics::observe(duration, took, trace);
        self.burned(fuel);
    }

    fn burned(&self, fuel: u64) {
        if fuel > 0 {
            self.fuel.get_or_init(|| self.metrics.fuel_of(&self.label)).inc_by(fuel);
        }
    }

    /// Counts a fault. Returns it to be kept, unless a fault of the same kind was kept within the last second.
    pub(super) fn fault(&self, fault: Fault, seen: impl FnOnce() -> FaultSeen) -> Option<FaultSeen> {
        self.totals.fault(fault);
        let seen = seen();
        self.each_fault.add(FaultLooked {
            at: seen.at,
            request: seen.request,
            kind: seen.kind,
            status: seen.status,
            route: seen.route.clone().into(),
        });
        let now = SystemTime::now();
        let is_new = |seen: &&FaultSeen| now.duration_since(seen.at).unwrap_or_default() < KEPT_EACH;
        // Many faults of one kind must not displace the others.
        let is_first = |kept: &VecDeque<FaultSeen>| {
            let like = kept.iter().take_while(is_new).find(|seen| seen.kind == fault.kind());
            like.map(|like| like.count.fetch_add(1, Ordering::Relaxed)).is_none()
        };
        self.faults.add_where(is_first, || seen)
    }

    pub(crate) fn quota_refused(&self, quota: QuotaKind) {
        self.metrics.quota_refused(&self.label, quota);
    }

    pub(crate) fn outbound_denied(&self) {
        self.metrics.outbound_denied(&self.label);
    }

    /// Counts a cache lookup: a hit, a miss, or a stale response.
    pub(crate) fn cache_asked(&self, outcome: &'static str) {
        self.metrics.cache_asked(&self.label, outcome);
    }

    /// Counts a message that started a component, with its outcome.
    pub(super) fn message(&self, outcome: &'static str, fuel: u64) {
        // A loss is visible only in a series that starts at zero.
        self.has_messages.call_once(|| self.metrics.no_message_lost(&self.label));
        self.metrics.message(&self.label, outcome);
        self.totals.burned(fuel);
        self.burned(fuel);
    }

    /// Counts a schedule's run, with its outcome.
    pub(super) fn run(&self, outcome: &'static str, fuel: u64) {
        self.metrics.run(&self.label, outcome);
        self.totals.burned(fuel);
        self.burned(fuel);
    }

    /// Counts times at which a schedule was due and nothing ran.
    pub(crate) fn runs_skipped(&self, why: Skipped, count: u64) {
        self.metrics.runs_skipped(&self.label, why.name(), count);
    }

    pub(crate) fn message_dropped(&self) {
        self.metrics.message_dropped(&self.label);
    }

    pub(crate) fn message_redelivered(&self) {
        self.metrics.message_redelivered(&self.label);
    }

    /// Counts a message that was refused because its chain of messages was too long.
    pub(crate) fn message_refused(&self) {
        self.metrics.message_refused(&self.label);
    }

    pub(crate) fn message_dead(&self) {
        self.metrics.message_dead(&self.label);
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.metrics.forget(&self.tenant, &self.label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_beyond_the_bound_share_one_series() -> Result<(), std::num::ParseIntError> {
        let metrics = Arc::new(Metrics::new(2));
        let of = |name: &str| TenantId::parse(name).map(|id| Figures::new(id, &metrics));
        let mut all: Vec<_> = ["a", "b", "c", "d"].into_iter().filter_map(of).collect();
        let answer = |of: &Figures| of.answered(200, Duration::from_millis(1), 7, None);
        all.iter().for_each(answer);
        let text = metrics.text();
        let series = |label: &str| {
            let start = format!("tollgate_fuel_total{{tenant=\"{label}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("0").parse::<u64>()
        };
        assert_eq!((series("a")?, series("b")?, series("c")?, series("+")?), (7, 7, 0, 14), "{text}");
        // A tenant that is removed leaves its series to the next.
        all.remove(0);
        all.extend(of("e"));
        all.last().into_iter().for_each(answer);
        let text = metrics.text();
        assert!(text.contains("tollgate_fuel_total{tenant=\"e\"} 7") && !text.contains("tenant=\"a\""), "{text}");
        Ok(())
    }
}
