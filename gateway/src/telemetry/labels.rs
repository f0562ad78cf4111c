//! The labels of metrics. No label comes from what a stranger sent, so that nobody can create series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answer {
    pub(super) tenant: String,
    /// The class of the status, such as `2xx`.
    pub(super) status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTenant {
    pub(super) tenant: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFault {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCache {
    pub(super) tenant: String,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfQuota {
    pub(super) tenant: String,
    pub(super) quota: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCheck {
    pub(super) check: &'static str,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfSignal {
    pub(super) signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StorageCall {
    pub(super) call: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCode {
    pub(super) code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfSlice {
    pub(super) by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfMessage {
    pub(super) tenant: String,
    /// `ok`, `refused` by the component, or a fault.
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfSkipped {
    pub(super) tenant: String,
    pub(super) reason: &'static str,
}

/// Gives the histograms of one family the same buckets: seconds, from half a millisecond to a minute.
#[derive(Clone, Debug)]
pub(super) struct Seconds;

/// Half a millisecond to a minute.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// Buckets for slices of work, which should take a millisecond.
#[derive(Clone, Debug)]
pub(super) struct SliceSeconds;

impl MetricConstructor<Histogram> for SliceSeconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.1, 1.0])
    }
}

impl MetricConstructor<Duration> for Seconds {
    fn new_metric(&self) -> Duration {
        HistogramWithExemplars::new(SECONDS.into_iter())
    }
}

/// How long requests took, with an exemplar trace for each bucket.
pub(super) type Duration = HistogramWithExemplars<OfTrace>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTrace {
    pub(super) trace_id: String,
}
