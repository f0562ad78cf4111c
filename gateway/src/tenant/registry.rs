//! Every tenant's ledger, by identity: what outlives a reload.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ledger, Quota};
use crate::ids::TenantId;
use crate::telemetry::{Figures, Metrics};

/// The ledgers of all tenants by identity, which outlive a reload.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    ledgers: Mutex<HashMap<TenantId, Arc<Ledger>>>,
    /// Tenants that an operator suspended, whether they exist or not.
    suspended: Mutex<HashSet<TenantId>>,
    serial: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Registry {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// The tenant's ledger, created at first use. Its quota is updated.
    pub(crate) fn ledger(&self, id: &TenantId, quota: &Quota, enabled: bool) -> Arc<Ledger> {
        let mut ledgers = self.ledgers();
        let serial = || self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let fresh = || Arc::new(Ledger::new(id.clone(), serial(), Figures::new(id.clone(), &self.metrics)));
        let ledger = Arc::clone(ledgers.entry(id.clone()).or_insert_with(fresh));
        drop(ledgers);
        ledger.set(quota);
        ledger.disable(!enabled);
        ledger.suspend(self.suspended().contains(id));
        ledger
    }

    fn ledgers(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Ledger>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspended(&self) -> MutexGuard<'_, HashSet<TenantId>> {
        self.suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspends a tenant, including its running guests, or lets it continue.
    pub(crate) fn suspend(&self, id: &TenantId, suspended: bool) {
        let mut all = self.suspended();
        if suspended {
            all.insert(id.clone());
        } else {
            all.remove(id);
        }
        drop(all);
        if let Some(ledger) = self.find(id) {
            ledger.suspend(suspended);
        }
    }

    /// Ends running requests of all tenants. Later ones are not affected.
    pub(crate) fn interrupt(&self) {
        self.all().iter().for_each(|ledger| ledger.interrupt());
    }

    /// A ledger for a tenant of the gateway's own. It is in no list and no metric, and other gateways do not see it.
    pub(crate) fn aside(&self, id: &TenantId, quota: &Quota) -> Arc<Ledger> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let ledger = Arc::new(Ledger::new(id.clone(), serial, Figures::aside(id.clone(), &self.metrics)));
        ledger.set(quota);
        ledger
    }

    /// The ledger of an existing tenant.
    pub(crate) fn find(&self, id: &TenantId) -> Option<Arc<Ledger>> {
        self.ledgers().get(id).cloned()
    }

    /// Drops the ledgers of tenants that are gone, so that the map does not grow with every name that ever existed.
    pub(crate) fn keep_only(&self, present: impl Fn(&TenantId) -> bool) {
        let mut ledgers = self.ledgers();
        ledgers.retain(|id, ledger| present(id) || Arc::strong_count(ledger) > 1);
    }

    /// The ledgers of all existing tenants.
    pub(crate) fn all(&self) -> Vec<Arc<Ledger>> {
        self.ledgers().values().cloned().collect()
    }
}
