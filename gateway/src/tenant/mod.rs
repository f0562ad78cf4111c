//! Who a tenant is and what it may use: identity, limits of one request, quota of the tenant as a whole.
//!
//! What must outlive a reload (who is in flight) is kept here, keyed by identity; the rest comes from files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// Counts what a tenant has in flight. A reload that changes the quota resizes it; it forgives nothing.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    /// One more request in flight, or nothing where the quota is used up.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// The gates of all tenants by identity: what outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    gates: Mutex<HashMap<TenantId, (Arc<Semaphore>, u32)>>,
}

impl Registry {
    /// The tenant's gate, made on first sight and resized to the quota.
    pub(crate) fn gate(&self, id: &TenantId, quota: &Quota) -> Gate {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || (Arc::new(Semaphore::new(quota.in_flight as usize)), quota.in_flight);
        let (gate, size) = gates.entry(id.clone()).or_insert_with(fresh);
        if quota.in_flight > *size {
            gate.add_permits((quota.in_flight - *size) as usize);
            *size = quota.in_flight;
        } else if quota.in_flight < *size {
            // What is in flight above the new quota finishes; its permits are gone already.
            let gone = gate.forget_permits((*size - quota.in_flight) as usize);
            *size -= u32::try_from(gone).unwrap_or(0);
        }
        Gate(Arc::clone(gate))
    }

    /// Forgets tenants that are gone, so that the map does not grow with every name that ever was.
    pub(crate) fn keep_only(&self, present: impl Fn(&TenantId) -> bool) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|id, (gate, _)| present(id) || Arc::strong_count(gate) > 1);
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

        drop((held, third));
        let narrower = registry.gate(&id, &Quota { in_flight: 1 });
        let one = narrower.enter().unwrap();
        assert!(narrower.enter().is_none());
        drop(one);
    }
}
