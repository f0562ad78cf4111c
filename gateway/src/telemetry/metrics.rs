//! Every metric, its name and its help text, in one place. Names follow Prometheus: base units, `_total` for counters.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::fault::{Fault, Quotum};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    tenant: String,
    /// The first digit of the status, as `2xx`.
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTenant {
    tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFault {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCache {
    tenant: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuota {
    tenant: String,
    quota: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StorageCall {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMessage {
    tenant: String,
    /// `ok`, `refused` by the component, or a fault.
    outcome: &'static str,
}

/// Makes the histograms of one family alike: seconds, from half a millisecond to a minute.
#[derive(Clone, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0])
    }
}

/// All metrics. Cheap to update from anywhere; read by the admin listener.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    duration: Family<OfTenant, Histogram, Seconds>,
    fuel: Family<OfTenant, Counter>,
    faults: Family<OfFault, Counter>,
    quota_refusals: Family<OfQuota, Counter>,
    cache: Family<OfCache, Counter>,
    storage: Family<StorageCall, Counter>,
    messages: Family<OfMessage, Counter>,
    messages_dropped: Family<OfTenant, Counter>,
    messages_redelivered: Family<OfTenant, Counter>,
    messages_dead: Family<OfTenant, Counter>,
    log_lines_dropped: Counter,
    connections_refused: Counter,
    handshakes_failed: Counter,
    certificates_issued: Counter,
    certificates_failed: Counter,
    compilations: Counter,
    component_loads: Counter,
    pub(crate) connections: Gauge,
    pub(crate) requests_in_flight: Gauge,
    pub(crate) instances: Gauge,
    pub(crate) fleet_gateways: Gauge,
    pub(crate) config_generation: Gauge<u64, AtomicU64>,
    pub(crate) config_problems: Gauge,
    /// Seconds since 1970 at which the first of the tenants' own certificates ends; 0 where there is none.
    pub(crate) certificate_expiry: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tollgate"),
            requests: Family::default(),
            duration: Family::new_with_constructor(Seconds),
            fuel: Family::default(),
            faults: Family::default(),
            quota_refusals: Family::default(),
            cache: Family::default(),
            storage: Family::default(),
            messages: Family::default(),
            messages_dropped: Family::default(),
            messages_redelivered: Family::default(),
            messages_dead: Family::default(),
            log_lines_dropped: Counter::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            certificates_issued: Counter::default(),
            certificates_failed: Counter::default(),
            compilations: Counter::default(),
            component_loads: Counter::default(),
            connections: Gauge::default(),
            requests_in_flight: Gauge::default(),
            instances: Gauge::default(),
            fleet_gateways: Gauge::default(),
            config_generation: Gauge::default(),
            config_problems: Gauge::default(),
            certificate_expiry: Gauge::default(),
        };
        metrics.register();
        for fault in Fault::ALL {
            let _zero = metrics.faults.get_or_create(&OfFault { kind: fault.kind() });
        }
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests answered", self.requests.clone());
        r.register(
            "request_duration_seconds",
            "From the request's head to its response's last byte",
            self.duration.clone(),
        );
        r.register("fuel", "Fuel burned by components", self.fuel.clone());
        r.register("faults", "Requests that were not answered as their tenant wished", self.faults.clone());
        r.register(
            "quota_refusals",
            "Requests, host calls and log lines that a quota of the tenant had no room for",
            self.quota_refusals.clone(),
        );
        r.register("cache_requests", "Requests that kept responses were looked up for", self.cache.clone());
        r.register("storage_calls", "Calls on the store", self.storage.clone());
        r.register("messages", "Messages that started a component", self.messages.clone());
        r.register(
            "messages_dropped",
            "Messages that found their tenant's queue full, or were over its size",
            self.messages_dropped.clone(),
        );
        r.register(
            "messages_redelivered",
            "Messages delivered once whose handler's outcome nobody knows, and that were handled again",
            self.messages_redelivered.clone(),
        );
        r.register(
            "messages_dead",
            "Messages delivered once that failed too often and were set aside",
            self.messages_dead.clone(),
        );
        r.register(
            "guest_log_lines_dropped",
            "Lines of guests that found the log's queue full",
            self.log_lines_dropped.clone(),
        );
        r.register("connections_refused", "Connections over the limit", self.connections_refused.clone());
        r.register("certificates_issued", "Certificates that a CA gave", self.certificates_issued.clone());
        r.register("certificates_failed", "Orders of certificates that failed", self.certificates_failed.clone());
        r.register("tls_handshakes_failed", "Handshakes that failed or took too long", self.handshakes_failed.clone());
        r.register("compilations", "Components compiled by this process", self.compilations.clone());
        r.register(
            "component_loads",
            "Components mapped and linked, since they were not in memory",
            self.component_loads.clone(),
        );
        r.register("connections", "Open connections", self.connections.clone());
        r.register("requests_in_flight", "Requests being answered", self.requests_in_flight.clone());
        r.register("instances", "Instances running", self.instances.clone());
        r.register(
            "fleet_gateways",
            "Gateways that share tenants' rates by this Redis, this one included",
            self.fleet_gateways.clone(),
        );
        r.register("config_generation", "The number of the configuration in force", self.config_generation.clone());
        r.register("config_problems", "Problems in the configuration in force", self.config_problems.clone());
        r.register(
            "certificate_expiry_seconds",
            "When the first of the tenants' certificates ends, in seconds since 1970",
            self.certificate_expiry.clone(),
        );
    }

    pub(crate) fn answered(&self, tenant: &str, status: u16, seconds: f64, fuel: u64) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&Answer { tenant: tenant.to_owned(), status: class }).inc();
        let of = OfTenant { tenant: tenant.to_owned() };
        self.duration.get_or_create(&of).observe(seconds);
        if fuel > 0 {
            self.fuel.get_or_create(&of).inc_by(fuel);
        }
    }

    /// A message that started a component, whatever came of it.
    pub(crate) fn message(&self, tenant: &str, outcome: &'static str, fuel: u64) {
        self.messages.get_or_create(&OfMessage { tenant: tenant.to_owned(), outcome }).inc();
        if fuel > 0 {
            self.fuel.get_or_create(&OfTenant { tenant: tenant.to_owned() }).inc_by(fuel);
        }
    }

    pub(crate) fn message_dropped(&self, tenant: &str) {
        self.messages_dropped.get_or_create(&OfTenant { tenant: tenant.to_owned() }).inc();
    }

    pub(crate) fn message_redelivered(&self, tenant: &str) {
        self.messages_redelivered.get_or_create(&OfTenant { tenant: tenant.to_owned() }).inc();
    }

    pub(crate) fn message_dead(&self, tenant: &str) {
        self.messages_dead.get_or_create(&OfTenant { tenant: tenant.to_owned() }).inc();
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.faults.get_or_create(&OfFault { kind: fault.kind() }).inc();
    }

    pub(crate) fn quota_refused(&self, tenant: &str, quotum: Quotum) {
        self.quota_refusals.get_or_create(&OfQuota { tenant: tenant.to_owned(), quota: quotum.name() }).inc();
    }

    /// What came of a look at what is kept: a hit, a miss, or something stale.
    pub(crate) fn cache_asked(&self, tenant: &str, outcome: &'static str) {
        self.cache.get_or_create(&OfCache { tenant: tenant.to_owned(), outcome }).inc();
    }

    pub(crate) fn storage_call(&self, call: &'static str, outcome: &'static str) {
        self.storage.get_or_create(&StorageCall { call, outcome }).inc();
    }

    pub(crate) fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inc_by(lines);
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

    /// The Prometheus text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_metrics_is_what_the_documentation_says() {
        let metrics = Metrics::default();
        metrics.answered("-", 200, 0.1, 1);
        metrics.storage_call("get", "ok");
        metrics.message("-", "ok", 1);
        metrics.message_dropped("-");
        metrics.message_redelivered("-");
        metrics.message_dead("-");
        for quotum in Quotum::ALL {
            metrics.quota_refused("-", quotum);
        }
        metrics.cache_asked("-", "hit");
        let text = metrics.text();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        names.sort_unstable();
        let golden = include_str!("../../tests/golden/metrics.txt");
        assert_eq!(names.join("\n"), golden.trim_end(), "tests/golden/metrics.txt is out of date");
    }

    #[test]
    fn strangers_cannot_make_series() {
        let metrics = Metrics::default();
        metrics.answered("-", 404, 0.1, 0);
        let before = metrics.text().lines().count();
        metrics.answered("-", 404, 0.2, 0);
        assert_eq!(metrics.text().lines().count(), before);
    }
}
