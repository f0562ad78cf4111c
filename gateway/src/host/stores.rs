//! The stores that an instance may open: its component's grants, in its tenant's namespace.
//!
//! Security: a name is found among the component's grants; no call of a guest carries a tenant.

use std::sync::Arc;

use super::cursors::Cursors;
use super::setup::GuestSetup;
use super::sizes::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};
use crate::store::{Allowance, Raw, Scoped, Store};
use crate::tenant::{Component, Tenant};

/// The stores that an instance may open, and how many operations it may still perform.
pub(crate) struct Stores {
    store: Arc<Store>,
    tenant: Arc<Tenant>,
    component: Arc<Component>,
    pub(super) ops_max: u64,
    /// For listings whose cursors are numbers.
    pub(super) cursors: Cursors,
}

impl Stores {
    pub(super) fn new(make: &GuestSetup<'_>) -> Self {
        Self {
            store: Arc::clone(make.store),
            tenant: Arc::clone(make.tenant),
            component: Arc::clone(make.component),
            ops_max: make.limits.storage_ops,
            cursors: Cursors::default(),
        }
    }

    /// Prepares for another request with this many operations.
    pub(super) const fn begin_again(&mut self, ops_max: u64) {
        self.ops_max = ops_max;
    }

    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    fn allowance(&self) -> Option<Allowance> {
        self.tenant.ledger.space().map(|space| Allowance { bytes: space.bytes, keys: space.keys })
    }

    /// The empty name means `default`.
    pub(super) fn open(&self, name: &str) -> Option<Scoped> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let name = if name.is_empty() { "default" } else { name };
        let granted = self.component.stores.iter().find(|granted| granted.as_str() == name)?;
        let ttl = self.tenant.store_ttl.of(granted);
        Some(self.store.scoped(&self.tenant.id, granted, self.allowance(), ttl))
    }

    /// The tenant's raw keys, if this address is granted.
    pub(super) fn redis(&self, address: &str) -> Option<Raw> {
        if address.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        self.component.may_name(address).then(|| self.store.raw(&self.tenant.id, self.allowance()))
    }
}
