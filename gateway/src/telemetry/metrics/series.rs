//! The series of tenants. Each tenant has its own, up to a maximum number, and releases them when it is removed; further
//! tenants share one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration as Time;

use prometheus_client::metrics::counter::Counter;

use super::super::figures::Skipped;
use super::super::labels::{Answer, Duration, OfCache, OfMessage, OfQuota, OfSkipped, OfTenant, OfTrace};
use super::{Metrics, NOBODY, OTHERS, STATUSES};
use crate::fault::{Fault, QuotaKind};
use crate::ids::TenantId;

impl Metrics {
    /// The label of a tenant's series.
    pub(in crate::telemetry) fn label_of(&self, tenant: &TenantId) -> String {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let has_its_own = labelled.contains_key(tenant) || labelled.len() < self.tenants_max;
        if has_its_own {
            *labelled.entry(tenant.clone()).or_default() += 1;
        }
        if has_its_own { tenant.to_string() } else { OTHERS.to_owned() }
    }

    /// Releases a tenant's label with its series, unless another tenant shares it. The tenant may come back later.
    pub(in crate::telemetry) fn forget(&self, tenant: &TenantId, label: &str) {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = labelled.get_mut(tenant).filter(|_| label != OTHERS) else { return };
        *held -= 1;
        if *held > 0 {
            return;
        }
        labelled.remove(tenant);
        let of = || OfTenant { tenant: label.to_owned() };
        for status in STATUSES {
            self.requests.remove(&Answer { tenant: label.to_owned(), status });
        }
        self.duration.remove(&of());
        let counters = [&self.fuel, &self.outbound_denied, &self.messages_dropped, &self.messages_redelivered];
        for counters in counters.into_iter().chain([&self.messages_dead, &self.messages_refused]) {
            counters.remove(&of());
        }
        for quota in QuotaKind::ALL {
            self.quota_refusals.remove(&OfQuota { tenant: label.to_owned(), quota: quota.name() });
        }
        for outcome in ["hit", "miss", "stale"] {
            self.cache.remove(&OfCache { tenant: label.to_owned(), outcome });
        }
        for outcome in Fault::ALL.iter().map(|fault| fault.kind()).chain(["ok", "refused"]) {
            let of = OfMessage { tenant: label.to_owned(), outcome };
            self.messages.remove(&of);
            self.runs.remove(&of);
        }
        for reason in Skipped::ALL.map(Skipped::name) {
            self.runs_skipped.remove(&OfSkipped { tenant: label.to_owned(), reason });
        }
    }

    /// Counts a request that belongs to no tenant.
    pub(in crate::telemetry) fn answered_nobody(&self, status: u16, took: Time, trace: Option<&str>) {
        self.answered_of(NOBODY, status).inc();
        Self::observe(&self.duration_of(NOBODY), took, trace);
    }

    pub(in crate::telemetry) fn answered_of(&self, label: &str, status: u16) -> Counter {
        let status = STATUSES.get(usize::from(status / 100).saturating_sub(1)).copied().unwrap_or("5xx");
        self.requests.get_or_create_owned(&Answer { tenant: label.to_owned(), status })
    }

    pub(in crate::telemetry) fn duration_of(&self, label: &str) -> Duration {
        self.duration.get_or_create_owned(&OfTenant { tenant: label.to_owned() })
    }

    pub(in crate::telemetry) fn fuel_of(&self, label: &str) -> Counter {
        self.fuel.get_or_create_owned(&OfTenant { tenant: label.to_owned() })
    }

    /// Observes a time, with its trace as an exemplar if there is one (OpenMetrics 1.0, "Exemplars").
    pub(in crate::telemetry) fn observe(duration: &Duration, took: Time, trace: Option<&str>) {
        duration.observe(took.as_secs_f64(), trace.map(|id| OfTrace { trace_id: id.to_owned() }), None);
    }

    /// Creates the series of lost messages, starting at zero.
    pub(in crate::telemetry) fn no_message_lost(&self, label: &str) {
        for lost in [&self.messages_dropped, &self.messages_dead] {
            let _zero = lost.get_or_create(&OfTenant { tenant: label.to_owned() });
        }
    }

    pub(in crate::telemetry) fn message(&self, label: &str, outcome: &'static str) {
        self.messages.get_or_create(&OfMessage { tenant: label.to_owned(), outcome }).inc();
    }

    pub(in crate::telemetry) fn message_dropped(&self, label: &str) {
        self.messages_dropped.get_or_create(&OfTenant { tenant: label.to_owned() }).inc();
    }

    pub(in crate::telemetry) fn message_redelivered(&self, label: &str) {
        self.messages_redelivered.get_or_create(&OfTenant { tenant: label.to_owned() }).inc();
    }

    pub(in crate::telemetry) fn message_dead(&self, label: &str) {
        self.messages_dead.get_or_create(&OfTenant { tenant: label.to_owned() }).inc();
    }

    pub(in crate::telemetry) fn message_refused(&self, label: &str) {
        self.messages_refused.get_or_create(&OfTenant { tenant: label.to_owned() }).inc();
    }

    pub(in crate::telemetry) fn run(&self, label: &str, outcome: &'static str) {
        self.runs.get_or_create(&OfMessage { tenant: label.to_owned(), outcome }).inc();
    }

    pub(in crate::telemetry) fn runs_skipped(&self, label: &str, reason: &'static str, count: u64) {
        self.runs_skipped.get_or_create(&OfSkipped { tenant: label.to_owned(), reason }).inc_by(count);
    }

    pub(in crate::telemetry) fn quota_refused(&self, label: &str, quota: QuotaKind) {
        self.quota_refusals.get_or_create(&OfQuota { tenant: label.to_owned(), quota: quota.name() }).inc();
    }

    pub(in crate::telemetry) fn outbound_denied(&self, label: &str) {
        self.outbound_denied.get_or_create(&OfTenant { tenant: label.to_owned() }).inc();
    }

    pub(in crate::telemetry) fn cache_asked(&self, label: &str, outcome: &'static str) {
        self.cache.get_or_create(&OfCache { tenant: label.to_owned(), outcome }).inc();
        let [asked, hits] = &self.cache_counts;
        asked.fetch_add(1, Ordering::Relaxed);
        hits.fetch_add(u64::from(outcome != "miss"), Ordering::Relaxed);
    }

    /// Cache lookups, and how many of them found a response.
    pub(crate) fn cache_counted(&self) -> (u64, u64) {
        let [asked, hits] = &self.cache_counts;
        (asked.load(Ordering::Relaxed), hits.load(Ordering::Relaxed))
    }
}
