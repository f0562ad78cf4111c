//! Bytes that an instance has: its memories and tables, and what the host keeps for it.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::tenant::{Count, Ledger};

/// Counts the bytes of all linear memories and tables of an instance together, against the request's limit, the tenant's
/// quota and the gateway's bound. All of it goes back when the instance ends.
#[derive(Debug)]
pub(crate) struct Meter {
    used: u64,
    peak: u64,
    max: u64,
    ledger: Arc<Ledger>,
    gateway: Arc<Count>,
    denied: Option<Denied>,
    /// What was granted last, until it is known to have been made.
    granted: u64,
    /// Bytes that memories and tables grew by while the guest ran.
    grown: u64,
}

/// Whose bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Request,
    Tenant,
    Gateway,
}

/// What a table's element costs: a pointer.
const ELEMENT_BYTES: u64 = 8;
/// The most core instances, memories and tables that a component is made of.
const PARTS_MAX: usize = 100;

impl Meter {
    pub(crate) const fn new(max: u64, ledger: Arc<Ledger>, gateway: Arc<Count>) -> Self {
        Self { used: 0, peak: 0, max, ledger, gateway, denied: None, granted: 0, grown: 0 }
    }

    /// For another request in the same instance, which may have so many bytes.
    pub(super) const fn begin_again(&mut self, max: u64) {
        (self.max, self.peak, self.grown) = (max, self.used, 0);
    }

    /// Bytes that memories and tables grew by since this was asked last.
    pub(super) const fn take_grown(&mut self) -> u64 {
        std::mem::replace(&mut self.grown, 0)
    }

    /// The most it ever had.
    pub(crate) const fn peak(&self) -> u64 {
        self.peak
    }

    /// Counts bytes that the host keeps for the guest. Returns whether there was room.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        self.grow(bytes)
    }

    /// Gives back bytes that were held.
    pub(crate) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.ledger.shrink(bytes);
        self.gateway.give_back(bytes);
    }

    /// Whose bound refused it more, the last time one did.
    pub(crate) const fn denied(&self) -> Option<Denied> {
        self.denied
    }

    fn grow(&mut self, by: u64) -> bool {
        let wanted = self.used.saturating_add(by);
        self.denied = if wanted > self.max {
            Some(Denied::Request)
        } else if !self.ledger.grow(by) {
            Some(Denied::Tenant)
        } else if !self.gateway.add(by) {
            self.ledger.shrink(by);
            Some(Denied::Gateway)
        } else {
            self.used = wanted;
            self.peak = self.peak.max(wanted);
            self.granted = by;
            return true;
        };
        false
    }

    /// What is there from the start is part of what an instance costs.
    fn grow_from(&mut self, current: usize, by: u64) -> bool {
        let grows = self.grow(by);
        if grows && current > 0 {
            self.grown += by;
        }
        grows
    }

    /// What was granted last was not made after all.
    fn not_made(&mut self) {
        let by = std::mem::take(&mut self.granted);
        self.used -= by;
        self.peak = self.peak.saturating_sub(by).max(self.used);
        self.grown = self.grown.saturating_sub(by);
        self.ledger.shrink(by);
        self.gateway.give_back(by);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ledger.shrink(self.used);
        self.gateway.give_back(self.used);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own maximum, which is the component's doing.
            return Ok(false);
        }
        Ok(self.grow_from(current, desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.not_made();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow_from(current, (desired.saturating_sub(current) as u64).saturating_mul(ELEMENT_BYTES)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.not_made();
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::tenant::{Quota, Registry};

    #[test]
    fn memories_and_tables_share_a_limit_a_quota_and_the_gateways_bound() {
        let id = TenantId::parse("acme").unwrap();
        let ledger = Registry::default().ledger(&id, &Quota { memory: 1500, ..Quota::unbounded() }, true);
        let gateway = Arc::new(Count::of(2000));
        let meter = |max| Meter::new(max, Arc::clone(&ledger), Arc::clone(&gateway));
        let mut one = meter(1000);
        assert!(one.memory_growing(0, 400, None).unwrap());
        assert!(one.memory_growing(0, 400, None).unwrap(), "a second memory");
        assert!(one.table_growing(0, 10, None).unwrap());
        assert_eq!(one.denied(), None);
        assert!(!one.memory_growing(400, 600, None).unwrap());
        assert_eq!((one.denied(), one.peak()), (Some(Denied::Request), 880));

        let mut two = meter(1000);
        assert!(two.memory_growing(0, 620, None).unwrap(), "up to the last byte of the tenant's quota");
        assert!(!two.memory_growing(620, 621, None).unwrap());
        assert_eq!(two.denied(), Some(Denied::Tenant));

        let other = Registry::default().ledger(&id, &Quota::unbounded(), true);
        let mut three = Meter::new(1000, other, Arc::clone(&gateway));
        assert!(three.memory_growing(0, 500, None).unwrap());
        assert!(!three.memory_growing(500, 501, None).unwrap());
        assert_eq!(three.denied(), Some(Denied::Gateway));
        drop((one, three));
        assert!(two.memory_growing(620, 1000, None).unwrap(), "what ended gave all of it back");
        two.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!((two.peak(), gateway.now()), (620, 620), "what was not made is not counted");
        drop(two);
        assert_eq!((gateway.now(), ledger.memory_now()), (0, 0));
    }
}
