//! Who a tenant is and what it may use: identity, limits of one request, quota of the tenant as a whole.
//!
//! What must outlive a reload (who is in flight) is kept here, keyed by identity; the rest comes from files.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ids::{ComponentName, Digest, StoreName, TenantId};

/// Bounds of any one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Fuel is Wasmtime's count: about one a wasm instruction.
    pub(crate) fuel: u64,
    /// Bytes of all linear memories and tables of the instance together.
    pub(crate) memory: u64,
    /// Wall-clock time from instantiation to the last byte of the response.
    pub(crate) time: Duration,
    /// Bytes of the request's body.
    pub(crate) request_body: u64,
    /// Keys read or written.
    pub(crate) storage_ops: u64,
}

/// Bounds of the tenant as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Requests being answered at once.
    pub(crate) in_flight: u32,
}

/// One of a tenant's components, as far as the files tell.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: ComponentName,
    pub(crate) digest: Digest,
    /// The stores it was granted; everything else is not there.
    pub(crate) stores: Vec<StoreName>,
}

/// A tenant as its file describes it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) enabled: bool,
    /// What the guest finds in its environment: `[env]` and `[secrets]` of the file.
    pub(crate) environment: Vec<(String, String)>,
    /// Shared by every version of this tenant that a reload brings.
    pub(crate) gate: Gate,
}

/// Counts what a tenant has in flight, against a maximum that a reload may move. A reload forgives nothing: what was in
/// flight before it still counts.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    in_flight: AtomicU32,
    max: AtomicU32,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counts>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// One more request in flight, or nothing where the quota is used up.
    pub(crate) fn enter(&self) -> Option<InFlight> {
        let max = self.0.max.load(Ordering::Relaxed);
        let more = |in_flight: u32| (in_flight < max).then(|| in_flight + 1);
        self.0.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(InFlight(Arc::clone(&self.0)))
    }
}

/// The gates of all tenants by identity: what outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    gates: Mutex<HashMap<TenantId, Gate>>,
}

impl Registry {
    /// The tenant's gate, made on first sight, with the quota as it is now.
    pub(crate) fn gate(&self, id: &TenantId, quota: &Quota) -> Gate {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Gate(Arc::new(Counts { in_flight: AtomicU32::new(0), max: AtomicU32::new(0) }));
        let gate = gates.entry(id.clone()).or_insert_with(fresh);
        gate.0.max.store(quota.in_flight, Ordering::Relaxed);
        gate.clone()
    }

    /// Forgets tenants that are gone, so that the map does not grow with every name that ever was.
    pub(crate) fn keep_only(&self, present: impl Fn(&TenantId) -> bool) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|id, gate| present(id) || Arc::strong_count(&gate.0) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_resizes_a_gate_and_forgives_nothing() {
        let registry = Registry::default();
        let id = TenantId::parse("acme").unwrap();
        let gate = registry.gate(&id, &Quota { in_flight: 2 });
        let held = (gate.enter().unwrap(), gate.enter().unwrap());
        assert!(gate.enter().is_none());

        let wider = registry.gate(&id, &Quota { in_flight: 3 });
        let third = wider.enter().unwrap();
        assert!(wider.enter().is_none(), "the two of before the reload still count");

        let narrower = registry.gate(&id, &Quota { in_flight: 1 });
        drop((held.0, third));
        assert!(narrower.enter().is_none(), "one of before the reload is still in flight");
        drop(held.1);
        let one = narrower.enter().unwrap();
        assert!(narrower.enter().is_none());
        drop(one);
    }
}
