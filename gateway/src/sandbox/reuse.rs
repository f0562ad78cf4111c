//! Keeps instances that have answered a request and may answer another, if a tenant configures that for a component
//! (`reuse`).
//!
//! Isolation: only the same component of the same tenant, as in the file in force, takes such an instance. What it
//! remembers between requests is the tenant's own concern; limits, fuel and the record belong to each request. Limit:
//! [`IDLE_SHARE`] of all instances, each for at most [`IDLE_TIME_MAX`]. A request that finds none creates an instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime_wasi_http::p3::bindings::Service;

use super::memories::More;
use super::reaper::Reaper;
use crate::host::Guest;
use crate::telemetry::{Metrics, Record};
use crate::tenant::Component;

/// One in this many instances may wait for another request.
const IDLE_SHARE: u32 = 4;
/// How long an instance waits for another request. Meanwhile its memory counts for its tenant.
const IDLE_TIME_MAX: Duration = Duration::from_secs(5);

/// How many instances may wait, if `instances` may run. The pool has slots for both.
pub(super) fn idle_max(instances: u32) -> u32 {
    instances.div_ceil(IDLE_SHARE)
}

/// An idle instance.
pub(super) struct IdleInstance {
    pub(super) store: Store<Guest>,
    /// Declared after the store, because the memories belong to it.
    pub(super) more_memories: More,
    pub(super) service: Service,
    /// Number of requests that it has answered.
    pub(super) answered: u32,
    _component: Arc<Component>,
    since: Instant,
}

impl IdleInstance {
    pub(super) fn clear_away(mut self, reaper: &Reaper) {
        let guest = self.store.data_mut();
        let (ledger, bytes) = (Arc::clone(&guest.ledger), guest.meter.peak());
        guest.meter.is_over();
        reaper.clear_away(Some(ledger), bytes, Box::new(self));
    }
}

/// All idle instances, by tenant (the ledger's serial) and component (its address, which no other component can have while
/// an instance holds it).
#[derive(Clone)]
pub(super) struct IdleInstances {
    lines: Arc<Mutex<Lines>>,
    max: usize,
    /// The record for the time between requests.
    nobody: Arc<Record>,
}

#[derive(Default)]
struct Lines {
    lines: HashMap<(u64, usize), Vec<IdleInstance>>,
    count: usize,
}

impl std::fmt::Debug for IdleInstances {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdleInstances").field("max", &self.max).finish_non_exhaustive()
    }
}

fn key(serial: u64, component: &Arc<Component>) -> (u64, usize) {
    (serial, Arc::as_ptr(component) as usize)
}

impl IdleInstances {
    pub(super) fn new(instances: u32, metrics: &Arc<Metrics>) -> Self {
        Self { lines: Arc::default(), max: idle_max(instances) as usize, nobody: Record::of_nobody(metrics) }
    }

    pub(super) const fn nobody(&self) -> &Arc<Record> {
        &self.nobody
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the instance that has rested for the shortest time, whose pages are warm.
    pub(super) fn take(&self, serial: u64, component: &Arc<Component>) -> Option<IdleInstance> {
        if component.reuse <= 1 {
            return None;
        }
        let mut all = self.lines();
        let idle = all.lines.get_mut(&key(serial, component))?.pop()?;
        all.count -= 1;
        Some(idle)
    }

    /// Keeps an instance for the next request, or returns it if there is no room or it has answered often enough.
    pub(super) fn put(
        &self,
        serial: u64,
        component: &Arc<Component>,
        (store, more_memories, service, answered): (Store<Guest>, More, Service, u32),
    ) -> Option<(Store<Guest>, More)> {
        let mut all = self.lines();
        if answered >= component.reuse || all.count >= self.max {
            return Some((store, more_memories));
        }
        let idle = IdleInstance {
            store,
            more_memories,
            service,
            answered,
            _component: Arc::clone(component),
            since: Instant::now(),
        };
        all.lines.entry(key(serial, component)).or_default().push(idle);
        all.count += 1;
        None
    }

    /// Takes all of them, so that none is used again.
    pub(super) fn all(&self) -> Vec<IdleInstance> {
        let mut all = self.lines();
        all.count = 0;
        std::mem::take(&mut all.lines).into_values().flatten().collect()
    }

    /// Takes those that rested too long.
    pub(super) fn expired(&self) -> Vec<IdleInstance> {
        let mut all = self.lines();
        let mut expired = Vec::new();
        for line in all.lines.values_mut() {
            // The last one is taken first, so the first one has rested longest.
            let fresh = line.iter().position(|idle| idle.since.elapsed() < IDLE_TIME_MAX).unwrap_or(line.len());
            expired.extend(line.drain(..fresh));
        }
        all.lines.retain(|_, line| !line.is_empty());
        all.count -= expired.len();
        expired
    }
}
