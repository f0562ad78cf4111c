//! Gauges of levels, and their peaks within the last minute: a scraper that reads a gauge every 15 seconds misses what lives for
//! milliseconds.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;

#[derive(Debug, Default)]
pub(super) struct Peaks {
    instances: Gauge<u64, AtomicU64>,
    in_flight: Gauge<u64, AtomicU64>,
    memory: Gauge<u64, AtomicU64>,
}

impl Metrics {
    pub(super) fn register_peaks(&mut self) {
        let Peaks { instances, in_flight, memory } = &self.peaks;
        let r = &mut self.registry;
        r.register("requests_in_flight", "Requests in flight", self.requests_in_flight.gauge());
        r.register("instances", "Instances running", self.instances.gauge());
        r.register("instances_peak", "Most instances that ran at once within the last minute", instances.clone());
        r.register(
            "requests_in_flight_peak",
            "Most requests that were in flight at once within the last minute",
            in_flight.clone(),
        );
        r.register(
            "instance_memory_peak_bytes",
            "Most memory that all instances had together within the last minute",
            memory.clone(),
        );
    }

    /// Sets the peaks of the last minute.
    pub(crate) fn peaks_of_minute(&self, instances: u64, in_flight: u64, memory: u64) {
        self.peaks.instances.set(instances);
        self.peaks.in_flight.set(in_flight);
        self.peaks.memory.set(memory);
    }
}
