//! What is sent to a collector, and the metrics about that.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::super::labels::OfSignal;
use super::super::otlp::Signal;
use super::super::trace::Spans;
use super::Metrics;

impl Metrics {
    pub(super) fn register_otlp(&mut self) {
        for signal in Signal::ALL {
            let _zero = self.otlp_lost.get_or_create(&OfSignal { signal: signal.name() });
        }
        self.registry.register(
            "otlp_lost",
            "Spans, data points and log records that the collector did not accept",
            self.otlp_lost.clone(),
        );
    }

    /// Counts lost items, for the code that delivers them.
    pub(in crate::telemetry) fn otlp_lost(&self) -> Family<OfSignal, Counter> {
        self.otlp_lost.clone()
    }

    /// Traces requests from now on.
    pub(crate) fn trace_to(&self, spans: Arc<Spans>) {
        let _first = self.spans.set(spans);
    }

    pub(in crate::telemetry) fn spans(&self) -> Option<&Arc<Spans>> {
        self.spans.get()
    }
}
