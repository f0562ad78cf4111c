//! Counts calls on the store, and the embedded store's work for them.

use std::time::Duration as Time;

use super::super::labels::{OfCode, OfSlice, StorageCall};
use super::Metrics;

impl Metrics {
    pub(super) fn register_store(&mut self) {
        let r = &mut self.registry;
        r.register("storage_calls", "Calls to the storage backend", self.storage.clone());
        r.register(
            "storage_call_duration_seconds",
            "Duration of a call to the storage backend",
            self.storage_duration.clone(),
        );
        r.register(
            "store_slice_seconds",
            "Time that one slice of a tenant's work used a reader or the writer of the embedded store",
            self.store_slices.clone(),
        );
        r.register(
            "store_refusals",
            "Calls or connections that a storage server refused, by its error code",
            self.store_refusals.clone(),
        );
        r.register(
            "store_jobs_dropped",
            "Calls to the embedded store that were not completed because the caller had ended",
            self.store_jobs_dropped.clone(),
        );
    }

    /// Counts a call of the gateway that a server of the store refused.
    pub(crate) fn store_refused(&self, code: &'static str) {
        self.store_refusals.get_or_create(&OfCode { code }).inc();
    }

    pub(crate) fn storage_call(&self, call: &'static str, outcome: &'static str, took: Time) {
        self.storage.get_or_create(&StorageCall { call, outcome }).inc();
        self.storage_duration.observe(took.as_secs_f64());
        self.storage_latencies.observe(took);
    }

    /// `by` is `reader` or `writer`.
    pub(crate) fn store_slice(&self, by: &'static str, took: Time) {
        self.store_slices.get_or_create(&OfSlice { by }).observe(took.as_secs_f64());
    }
}
