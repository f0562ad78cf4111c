//! Every metric, its name and its help text: here and in the folder beside. Names follow Prometheus: base units, `_total` for counters.

mod fields;
mod isolation;
mod otlp;
mod peaks;
mod plain;
mod series;
mod store;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
#[cfg(test)]
use std::time::Duration as Time;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::peaks::Peaks;
use super::access_log::AccessLog;
use super::figures::{FaultSeen, Totals};
use super::labels::{
    Answer, Duration, OfCache, OfCheck, OfCode, OfFault, OfMessage, OfQuota, OfSignal, OfSkipped, OfSlice, OfTenant,
    Seconds, SliceSeconds, StorageCall,
};
use super::latencies::Latencies;
use super::peak::Level;
use super::recent::Recent;
use super::trace::Spans;
use crate::fault::Fault;
use crate::ids::TenantId;

/// How many faults of all tenants are kept.
const FAULTS_KEPT: usize = 200;
/// The tenant of requests that belong to no tenant, and the label of tenants beyond `metrics_tenants`.
pub(super) const NOBODY: &str = "-";
const OTHERS: &str = "+";

/// The classes of status codes.
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metrics. Cheap to update from anywhere; read by the admin listener.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    duration: Family<OfTenant, Duration, Seconds>,
    fuel: Family<OfTenant, Counter>,
    faults: Family<OfFault, Counter>,
    quota_refusals: Family<OfQuota, Counter>,
    outbound_denied: Family<OfTenant, Counter>,
    cache: Family<OfCache, Counter>,
    storage: Family<StorageCall, Counter>,
    storage_duration: Histogram,
    store_slices: Family<OfSlice, Histogram, SliceSeconds>,
    store_refusals: Family<OfCode, Counter>,
    /// Calls on the embedded store that were skipped, because their caller had left.
    pub(crate) store_jobs_dropped: Counter,
    messages: Family<OfMessage, Counter>,
    messages_dropped: Family<OfTenant, Counter>,
    messages_redelivered: Family<OfTenant, Counter>,
    messages_dead: Family<OfTenant, Counter>,
    messages_refused: Family<OfTenant, Counter>,
    runs: Family<OfMessage, Counter>,
    runs_skipped: Family<OfSkipped, Counter>,
    log_lines_dropped: Counter,
    access_lines_dropped: Counter,
    fields_dropped: Counter,
    connections_refused: Counter,
    handshakes_failed: Counter,
    certificates_issued: Counter,
    certificates_failed: Counter,
    compilations: Counter,
    component_loads: Counter,
    isolation_checks: Family<OfCheck, Counter>,
    otlp_lost: Family<OfSignal, Counter>,
    /// Connections to origins that were opened, requests that reused one, and requests that waited for a place of their
    /// tenant.
    pub(crate) outbound_opened: Counter,
    pub(crate) outbound_reused: Counter,
    pub(crate) outbound_waits: Counter,
    pub(crate) outbound_kept: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) requests_in_flight: Level,
    pub(crate) instances: Level,
    peaks: Peaks,
    pub(crate) fleet_gateways: Gauge,
    pub(crate) config_generation: Gauge<u64, AtomicU64>,
    pub(crate) config_problems: Gauge,
    pub(crate) config_loading: Gauge,
    /// When the first of the tenants' own certificates expires, in seconds since 1970; 0 if there is none.
    pub(crate) certificate_expiry: Gauge,
    /// All tenants together, for the dashboard.
    pub(crate) totals: Totals,
    pub(crate) storage_latencies: Latencies,
    /// Cache lookups, and how many of them found a response.
    cache_counts: [AtomicU64; 2],
    pub(crate) last_faults: Recent<FaultSeen>,
    /// Tenants with series of their own, and their maximum number.
    labelled: Mutex<HashMap<TenantId, usize>>,
    tenants_max: usize,
    /// Where spans are sent, if anywhere.
    spans: OnceLock<Arc<Spans>>,
    /// The destination of the access log, if it is separate from the other lines.
    access_log: OnceLock<AccessLog>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Metrics {
    /// This many tenants have series of their own; the others share one.
    pub(crate) fn new(tenants_max: usize) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tollgate"),
            requests: Family::default(),
            duration: Family::new_with_constructor(Seconds),
            fuel: Family::default(),
            faults: Family::default(),
            quota_refusals: Family::default(),
            outbound_denied: Family::default(),
            cache: Family::default(),
            storage: Family::default(),
            storage_duration: Seconds.new_metric(),
            store_slices: Family::new_with_constructor(SliceSeconds),
            store_refusals: Family::default(),
            store_jobs_dropped: Counter::default(),
            messages: Family::default(),
            messages_dropped: Family::default(),
            messages_redelivered: Family::default(),
            messages_dead: Family::default(),
            messages_refused: Family::default(),
            runs: Family::default(),
            runs_skipped: Family::default(),
            log_lines_dropped: Counter::default(),
            access_lines_dropped: Counter::default(),
            fields_dropped: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            certificates_issued: Counter::default(),
            certificates_failed: Counter::default(),
            compilations: Counter::default(),
            component_loads: Counter::default(),
            isolation_checks: Family::default(),
            otlp_lost: Family::default(),
            outbound_opened: Counter::default(),
            outbound_reused: Counter::default(),
            outbound_waits: Counter::default(),
            outbound_kept: Gauge::default(),
            connections: Gauge::default(),
            requests_in_flight: Level::default(),
            instances: Level::default(),
            peaks: Peaks::default(),
            fleet_gateways: Gauge::default(),
            config_generation: Gauge::default(),
            config_problems: Gauge::default(),
            config_loading: Gauge::default(),
            certificate_expiry: Gauge::default(),
            totals: Totals::default(),
            storage_latencies: Latencies::default(),
            cache_counts: Default::default(),
            last_faults: Recent::new(FAULTS_KEPT),
            labelled: Mutex::default(),
            tenants_max,
            spans: OnceLock::new(),
            access_log: OnceLock::new(),
        };
        metrics.register();
        metrics.register_messages();
        metrics.register_outbound();
        metrics.register_store();
        metrics.register_isolation();
        metrics.register_otlp();
        metrics.register_fields();
        metrics.register_peaks();
        for fault in Fault::ALL {
            let _zero = metrics.faults.get_or_create(&OfFault { kind: fault.kind() });
        }
        metrics
    }
}

impl Metrics {
    fn register_messages(&mut self) {
        let r = &mut self.registry;
        r.register("messages", "Messages that started a component", self.messages.clone());
        r.register(
            "messages_dropped",
            "Messages dropped because their tenant's queue was full, or because of their size",
            self.messages_dropped.clone(),
        );
        r.register(
            "messages_redelivered",
            "Messages with delivery once that were handled again because the outcome of the first attempt is unknown",
            self.messages_redelivered.clone(),
        );
        r.register(
            "messages_dead",
            "Messages with delivery once that failed too often and were set aside",
            self.messages_dead.clone(),
        );
        r.register(
            "messages_refused",
            "Messages refused because their line was too long, or their cause had too many messages",
            self.messages_refused.clone(),
        );
        r.register("scheduled_runs", "Runs that a schedule started", self.runs.clone());
        r.register(
            "scheduled_runs_skipped",
            "Scheduled runs that this gateway skipped, by reason",
            self.runs_skipped.clone(),
        );
    }

    fn register_outbound(&mut self) {
        let r = &mut self.registry;
        let opened = self.outbound_opened.clone();
        r.register("outbound_connections_opened", "Connections opened to origins for outbound requests", opened);
        let reused = self.outbound_reused.clone();
        r.register("outbound_connections_reused", "Outbound requests that used a kept connection", reused);
        let waits = self.outbound_waits.clone();
        r.register("outbound_waits", "Outbound requests that waited for another one of their tenant", waits);
        let kept = self.outbound_kept.clone();
        r.register("outbound_connections_kept", "Idle connections to origins that are kept for later requests", kept);
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests, by status", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "Time from the request head to the last byte of the response",
            self.duration.clone(),
        );
        r.register("fuel", "Fuel burned by components", self.fuel.clone());
        r.register("faults", "Requests that failed or were refused, by kind of fault", self.faults.clone());
        r.register(
            "quota_refusals",
            "Requests, host calls and log lines refused by a quota of the tenant",
            self.quota_refusals.clone(),
        );
        r.register(
            "outbound_denied",
            "Outbound requests denied because no grant names their origin",
            self.outbound_denied.clone(),
        );
        r.register("cache_requests", "Requests that looked for a kept response, by outcome", self.cache.clone());
        r.register(
            "guest_log_lines_dropped",
            "Log lines of components that were dropped because the queue was full",
            self.log_lines_dropped.clone(),
        );
        r.register(
            "access_log_lines_dropped",
            "Lines of the access log that were dropped because the queue was full",
            self.access_lines_dropped.clone(),
        );
        r.register("connections_refused", "Connections refused at a limit", self.connections_refused.clone());
        r.register("certificates_issued", "Certificates issued by a CA", self.certificates_issued.clone());
        r.register("certificates_failed", "Certificate orders that failed", self.certificates_failed.clone());
        r.register("tls_handshakes_failed", "TLS handshakes that failed or timed out", self.handshakes_failed.clone());
        r.register("compilations", "Components compiled by this process", self.compilations.clone());
        r.register(
            "component_loads",
            "Components loaded into memory because they were not there",
            self.component_loads.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        r.register(
            "fleet_gateways",
            "Gateways that share tenants' rates on this Redis, including this one",
            self.fleet_gateways.clone(),
        );
        r.register("config_generation", "Generation of the current configuration", self.config_generation.clone());
        r.register(
            "config_loading",
            "Tenants that are not served yet because a component is compiling",
            self.config_loading.clone(),
        );
        r.register("config_problems", "Problems in the current configuration", self.config_problems.clone());
        r.register(
            "certificate_expiry_seconds",
            "Expiry of the tenants' certificate that expires first, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
    }

    /// Sends the access log to this destination from now on.
    pub(crate) fn log_to(&self, access_log: AccessLog) {
        let _first = self.access_log.set(access_log);
    }

    pub(crate) fn access_log(&self) -> Option<&AccessLog> {
        self.access_log.get()
    }

    pub(super) fn fault(&self, seen: Option<FaultSeen>, fault: Fault) {
        self.faults.get_or_create(&OfFault { kind: fault.kind() }).inc();
        self.totals.fault(fault);
        seen.into_iter().for_each(|seen| self.last_faults.add(seen));
    }

    pub(crate) fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inc_by(lines);
    }

    pub(crate) fn access_lines_dropped(&self, lines: u64) {
        self.access_lines_dropped.inc_by(lines);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn certificate_issued(&self) {
        self.certificates_issued.inc();
    }

    pub(crate) fn certificate_failed(&self) {
        self.certificates_failed.inc();
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    pub(crate) fn compiled(&self) {
        self.compilations.inc();
    }

    pub(crate) fn component_loaded(&self) {
        self.component_loads.inc();
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
impl Metrics {
    /// Metrics with a series of each kind, so that all names and labels are visible.
    pub(crate) fn with_one_of_each() -> Self {
        let metrics = Self::default();
        metrics.answered_nobody(200, Time::ZERO, None);
        metrics.fuel_of("-").inc_by(1);
        metrics.storage_call("get", "ok", Time::ZERO);
        metrics.store_slice("writer", Time::ZERO);
        metrics.store_refused("OOM");
        metrics.message("-", "ok");
        metrics.message_dropped("-");
        metrics.message_redelivered("-");
        metrics.message_dead("-");
        metrics.message_refused("-");
        metrics.run("-", "ok");
        metrics.runs_skipped("-", "overlap", 1);
        for quota in crate::fault::QuotaKind::ALL {
            metrics.quota_refused("-", quota);
        }
        metrics.outbound_denied("-");
        metrics.cache_asked("-", "hit");
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_metrics_is_the_documented_one() {
        let metrics = Metrics::with_one_of_each();
        let text = metrics.text();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        names.sort_unstable();
        let golden = include_str!("../../tests/golden/metrics.txt");
        assert_eq!(names.join("\n"), golden.trim_end(), "tests/golden/metrics.txt is out of date");
    }

    #[test]
    fn strangers_cannot_create_series() {
        let metrics = Metrics::default();
        metrics.answered_nobody(404, Time::ZERO, None);
        let before = metrics.text().lines().count();
        metrics.answered_nobody(404, Time::from_secs(1), None);
        assert_eq!(metrics.text().lines().count(), before);
    }
}
