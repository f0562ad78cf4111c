//! Items that did not reach the collector: counted for each signal, and logged once when the loss begins and once when it
//! ends.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::super::labels::OfSignal;

/// The kinds of data that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub(crate) const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The name in OTLP's paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// The outcome of one delivery.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The collector accepted it.
    Taken,
    /// The collector accepted it except for this many items, or sent a message.
    Partly(u64, String),
    /// The collector accepted nothing.
    Lost(String),
}

/// The state of one signal.
#[derive(Debug, Default)]
struct Losing {
    is_told: AtomicBool,
}

/// The state of all signals.
#[derive(Debug, Default)]
pub(super) struct Losses {
    traces: Losing,
    metrics: Losing,
    logs: Losing,
    /// The counter, once there are metrics.
    counted: OnceLock<Family<OfSignal, Counter>>,
}

impl Losses {
    pub(super) fn count_in(&self, lost: Family<OfSignal, Counter>) {
        let _first = self.counted.set(lost);
    }

    /// Notes the outcome of a delivery of this many items.
    pub(super) fn note(&self, signal: Signal, items: u64, outcome: &Outcome) {
        let (lost, said) = match outcome {
            Outcome::Taken => (0, None),
            Outcome::Partly(lost, said) => ((*lost).min(items), Some(said)),
            Outcome::Lost(said) => (items, Some(said)),
        };
        if let Some(counted) = self.counted.get().filter(|_| lost > 0) {
            counted.get_or_create(&OfSignal { signal: signal.name() }).inc_by(lost);
        }
        let losing = match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
        };
        let was_told = losing.is_told.swap(said.is_some(), Ordering::Relaxed);
        let signal = signal.name();
        match (said, was_told) {
            (Some(said), false) => {
                tracing::warn!(target: "telemetry", signal, lost, items, error = %said, "the collector does not accept \
                    all data");
            }
            (None, true) => tracing::info!(target: "telemetry", signal, "the collector accepts all data again"),
            _ => {}
        }
    }
}
