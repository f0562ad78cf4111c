//! Counts the bytes of an instance: its memories and tables, and what the host keeps for it.
//!
//! Invariant: every value that the host keeps for a guest has a [`Held`] beside it, which releases its bytes on drop. So an
//! error in this code can release bytes too early, and never too late.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::ResourceLimiter;

use crate::tenant::{Count, Ledger, QuotaPermit};

/// The error for something that the host cannot keep for the guest.
pub(super) const NO_MEMORY: &str = "quota-exceeded: memory";

/// Counts the bytes of all linear memories and tables of an instance and of what the host keeps for it, together, against
/// the request's limit, the tenant's quota and the gateway's limit. Everything is released when the instance ends.
#[derive(Debug)]
pub(crate) struct Meter {
    account: Arc<Account>,
    /// The part of memories and tables.
    own: u64,
    /// The bytes granted last, until the growth is known to have succeeded.
    granted: u64,
    /// Bytes that memories and tables grew by while the guest ran.
    grown: u64,
}

/// Whose limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Request,
    Tenant,
    Gateway,
}

/// One instance's sum. Requests that it sent may hold some of it after it has ended.
#[derive(Debug)]
pub(super) struct Account {
    used: AtomicU64,
    peak: AtomicU64,
    max: AtomicU64,
    /// The index in [`DENIED`] of the limit that last refused something.
    denied: AtomicU8,
    ledger: Arc<Ledger>,
    /// Memory of the tenant that was reserved for it and is not used yet. Changes only while `whole` is locked.
    reserved: AtomicU64,
    gateway: Arc<Count>,
    /// Bytes of all instances of the request's budget, including these. Locked while the sum changes.
    whole: Mutex<Option<Arc<Count>>>,
}

const DENIED: [Option<Denied>; 4] = [None, Some(Denied::Request), Some(Denied::Tenant), Some(Denied::Gateway)];

/// How much of its reservation a guest that answers may still need: a fraction of what it has, and a little more.
const MORE_SHARE: u64 = 8;
const MORE_BYTES: u64 = 1 << 20;

/// The size of a table's element: a pointer.
const ELEMENT_BYTES: u64 = 8;
/// The most core instances, memories and tables of a component.
const PARTS_MAX: usize = 100;

impl Account {
    /// Locks the request's sum, and with it the right to change this account.
    fn whole(&self) -> MutexGuard<'_, Option<Arc<Count>>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, by: u64) -> bool {
        let grown = self.try_grow(by);
        grown.inspect_err(|denied| self.denied.store(*denied, Ordering::Relaxed)).is_ok()
    }

    /// Grows without noting whose limit was reached. The error is the index in [`DENIED`].
    fn try_grow(&self, by: u64) -> Result<(), u8> {
        let whole = self.whole();
        let leave_whole = || whole.iter().for_each(|whole| whole.give_back(by));
        let of_reserved = self.reserved.load(Ordering::Relaxed).min(by);
        let wanted = self.used().checked_add(by).filter(|wanted| *wanted <= self.max());
        match wanted.filter(|_| whole.as_ref().is_none_or(|whole| whole.add(by))) {
            None => Err(1),
            Some(_) if !self.ledger.grow(by, of_reserved) => {
                leave_whole();
                Err(2)
            }
            Some(_) if !self.gateway.add(by) => {
                leave_whole();
                self.ledger.shrink(by);
                // The reservation was used up by the refused growth.
                self.reserved.fetch_sub(of_reserved, Ordering::Relaxed);
                Err(3)
            }
            Some(wanted) => {
                self.reserved.fetch_sub(of_reserved, Ordering::Relaxed);
                self.used.store(wanted, Ordering::Relaxed);
                self.peak.fetch_max(wanted, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    fn shrink(&self, by: u64) {
        let whole = self.whole();
        self.used.fetch_sub(by, Ordering::Relaxed);
        self.ledger.shrink(by);
        self.gateway.give_back(by);
        whole.iter().for_each(|whole| whole.give_back(by));
    }

    fn join(&self, new: &Arc<Count>) -> bool {
        let mut whole = self.whole();
        whole.take().iter().for_each(|old| old.give_back(self.used()));
        let joins = new.add(self.used());
        if joins {
            *whole = Some(Arc::clone(new));
        }
        joins
    }

    /// Releases most of the unused reservation: a guest that answers needs little more, and an answer may take hours.
    pub(super) fn answers(&self) {
        self.reserve_at_most((self.used() / MORE_SHARE).saturating_add(MORE_BYTES));
    }

    fn reserve_at_most(&self, bytes: u64) {
        if self.reserved.load(Ordering::Relaxed) <= bytes {
            return;
        }
        let _whole = self.whole();
        let reserved = self.reserved.load(Ordering::Relaxed);
        if let Some(unused) = reserved.checked_sub(bytes) {
            self.reserved.store(bytes, Ordering::Relaxed);
            self.ledger.not_needed(unused);
        }
    }

    fn leave(&self) {
        self.whole().take().iter().for_each(|old| old.give_back(self.used()));
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts bytes that the host keeps for the guest. Nothing if there is no room.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let mut held = Held::nothing(self);
        held.grow(bytes).then_some(held)
    }
}

/// Bytes that the host keeps for an instance, released on drop.
#[derive(Debug)]
pub(crate) struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Held {
    pub(super) fn nothing(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), bytes: 0 }
    }

    /// Counts more bytes. Returns whether there was room; if not, nothing changes.
    pub(crate) fn grow(&mut self, by: u64) -> bool {
        let grows = by == 0 || self.account.grow(by);
        self.bytes += if grows { by } else { 0 };
        grows
    }

    /// The same, for cases in which a lack of room is not the guest's fault.
    pub(super) fn try_grow(&mut self, by: u64) -> bool {
        let grows = self.account.try_grow(by).is_ok();
        self.bytes += if grows { by } else { 0 };
        grows
    }

    /// Sets the number of bytes. Returns whether there was room; if not, nothing changes.
    pub(super) fn set(&mut self, bytes: u64) -> bool {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.account.shrink(less);
            self.bytes = bytes;
            return true;
        }
        self.grow(bytes - self.bytes)
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.shrink(self.bytes);
    }
}

impl Meter {
    pub(crate) fn new(max: u64, ledger: Arc<Ledger>, gateway: Arc<Count>) -> Self {
        let (used, peak, denied, reserved, whole) = Default::default();
        let account = Arc::new(Account { used, peak, max: max.into(), denied, ledger, reserved, gateway, whole });
        Self { account, own: 0, granted: 0, grown: 0 }
    }

    /// Counts everything that it has and will have in this sum and in no other. Returns whether there is room.
    pub(crate) fn join(&self, whole: &Arc<Count>) -> bool {
        self.account.join(whole)
    }

    /// Removes it from its request's sum.
    pub(crate) fn leave(&self) {
        self.account.leave();
        self.account.reserve_at_most(0);
    }

    /// Prepares for another request in the same instance, with this limit.
    pub(super) fn begin_again(&mut self, max: u64) {
        self.account.max.store(max, Ordering::Relaxed);
        self.account.peak.store(self.account.used(), Ordering::Relaxed);
        self.account.denied.store(0, Ordering::Relaxed);
        self.grown = 0;
    }

    /// Bytes that memories and tables grew by since the last call.
    pub(super) const fn take_grown(&mut self) -> u64 {
        std::mem::replace(&mut self.grown, 0)
    }

    /// Releases its memories and tables. Call it when nothing runs in them any more.
    pub(crate) fn is_over(&mut self) {
        self.account.shrink(std::mem::take(&mut self.own));
        self.account.reserve_at_most(0);
    }

    /// Lets it use this reservation before it takes more.
    pub(crate) fn uses(&self, reserved: QuotaPermit) {
        self.account.reserved.fetch_add(reserved.keep(), Ordering::Relaxed);
    }

    /// The most bytes it ever had.
    pub(crate) fn peak(&self) -> u64 {
        self.account.peak.load(Ordering::Relaxed)
    }

    pub(super) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Counts bytes that the host keeps for the guest. Nothing if there is no room.
    pub(crate) fn hold(&self, bytes: u64) -> Option<Held> {
        self.account.hold(bytes)
    }

    /// Counts more bytes in `held`, which is created if needed. Returns whether there was room.
    pub(super) fn keep(&self, held: &mut Option<Held>, bytes: u64) -> bool {
        match held {
            Some(held) => held.grow(bytes),
            None => {
                *held = self.hold(bytes);
                held.is_some()
            }
        }
    }

    /// Whose limit last refused it memory for this request. Smaller growths that succeeded since do not reset it, because a
    /// guest that runs out of memory still prints a last line.
    pub(crate) fn denied(&self) -> Option<Denied> {
        DENIED.get(usize::from(self.account.denied.load(Ordering::Relaxed))).copied().flatten()
    }

    fn grow(&mut self, by: u64) -> bool {
        let grows = self.account.grow(by);
        if grows {
            (self.own, self.granted) = (self.own + by, by);
        }
        grows
    }

    /// The initial size is part of an instance's price.
    fn grow_from(&mut self, current: usize, by: u64) -> bool {
        let grows = self.grow(by);
        if grows && current > 0 {
            self.grown += by;
        }
        grows
    }

    /// The last growth that was granted failed.
    fn not_made(&mut self) {
        let by = std::mem::take(&mut self.granted);
        self.own -= by;
        self.account.shrink(by);
        let peak = self.peak().saturating_sub(by).max(self.account.used());
        self.account.peak.store(peak, Ordering::Relaxed);
        self.grown = self.grown.saturating_sub(by);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own maximum, which the component chose.
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
mod tests;
