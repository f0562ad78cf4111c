//! The values of one step.

use serde::Serialize;
use utoipa::ToSchema;

use crate::telemetry::Counts;

/// A step of the whole gateway.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Step {
    /// When it ended, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// How long it was, in milliseconds: about ten seconds.
    pub(super) took_ms: u64,
    /// Requests that were answered, by the first digit of their status, from 1xx to 5xx.
    pub(super) requests_by_class: [u64; 5],
    pub(super) fuel: u64,
    pub(super) latency: Latency,
    /// Requests that failed or were refused.
    pub(super) faults: u64,
    /// Open connections at its end.
    pub(super) connections: u64,
    /// Most requests in flight at once.
    pub(super) in_flight_peak: u64,
    /// Most instances at once.
    pub(super) instances_peak: u64,
    /// Most requests that waited for an instance at once.
    pub(super) waiting_peak: u64,
    /// Most memory of all instances at once, in bytes.
    pub(super) memory_peak: u64,
    /// Requests that looked for a kept response, and those that found one.
    pub(super) cache_asked: u64,
    pub(super) cache_hits: u64,
    pub(super) storage_calls: u64,
    pub(super) storage_latency: Latency,
}

/// A step of one tenant.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct TenantStep {
    /// When it ended, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// How long it was, in milliseconds: about ten seconds.
    pub(super) took_ms: u32,
    /// Requests that were answered, by the first digit of their status, from 1xx to 5xx.
    pub(super) requests_by_class: [u32; 5],
    pub(super) fuel: u64,
    pub(super) latency: Latency,
    /// Most requests in flight at once.
    pub(super) in_flight_peak: u32,
    /// Most memory of its instances at once, in bytes.
    pub(super) memory_peak: u64,
}

/// Percentiles of durations, in milliseconds; null if there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Latency {
    p50_ms: Option<f32>,
    p90_ms: Option<f32>,
    p99_ms: Option<f32>,
}

impl Latency {
    pub(super) fn of(counts: &Counts) -> Self {
        let ms = |per_mille| counts.per_mille(per_mille).map(|time| time.as_secs_f32() * 1000.0);
        Self { p50_ms: ms(500), p90_ms: ms(900), p99_ms: ms(990) }
    }
}

/// A step that has an end.
pub(super) trait Dated {
    fn at_ms(&self) -> u64;
}

impl Dated for Step {
    fn at_ms(&self) -> u64 {
        self.at_ms
    }
}

impl Dated for TenantStep {
    fn at_ms(&self) -> u64 {
        self.at_ms
    }
}
