//! A tenant's memory (`quota.memory`): what its instances have, and who waits for some.
//!
//! An instance that is about to begin takes what it is known to need, or waits in line until others have given it back: what is
//! short for a moment is no refusal. What runs grows before anybody who waits.
//!
//! Limit: as many wait as requests are in flight. The wait has no clock: it ends when its receiver is dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Ledger;
use super::bucket::Count;

/// Bytes that were taken for somebody who has not made use of them yet.
#[derive(Debug)]
pub(crate) struct Reserved {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Reserved {
    /// Whoever calls this gives them back.
    pub(crate) const fn take(&mut self) -> u64 {
        std::mem::replace(&mut self.bytes, 0)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.ledger.shrink(self.bytes);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) count: Count,
    /// How many are in the queue, so that nobody locks it where there are none.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<(u64, oneshot::Sender<Reserved>)>>,
}

impl Memory {
    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, oneshot::Sender<Reserved>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes at once, or the prospect of them; nothing where the tenant may never have so many.
    pub(super) fn enter(ledger: &Arc<Ledger>, bytes: u64) -> Option<Result<Reserved, oneshot::Receiver<Reserved>>> {
        let own = &ledger.memory;
        let reserved = || Reserved { ledger: Arc::clone(ledger), bytes };
        if own.waiting.load(Ordering::Acquire) == 0 && own.count.add(bytes) {
            return Some(Ok(reserved()));
        }
        if bytes > own.count.max() {
            return None;
        }
        let (turn, awaited) = oneshot::channel();
        let mut queue = own.queue();
        queue.push_back((bytes, turn));
        own.waiting.store(queue.len(), Ordering::Release);
        drop(queue);
        // Some may have come back before it was in line.
        Self::hand_over(ledger);
        Some(Err(awaited))
    }

    pub(super) fn give_back(ledger: &Arc<Ledger>, bytes: u64) {
        ledger.memory.count.give_back(bytes);
        Self::hand_over(ledger);
    }

    /// Gives those who wait what there is, the first one first.
    fn hand_over(ledger: &Arc<Ledger>) {
        let own = &ledger.memory;
        if own.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut unclaimed = Vec::new();
        let mut queue = own.queue();
        while let Some((bytes, turn)) = queue.front() {
            if turn.is_closed() {
                queue.pop_front();
            } else if own.count.add(*bytes) {
                let reserved = Reserved { ledger: Arc::clone(ledger), bytes: *bytes };
                unclaimed.extend(queue.pop_front().and_then(|(_, turn)| turn.send(reserved).err()));
            } else {
                break;
            }
        }
        own.waiting.store(queue.len(), Ordering::Release);
        drop(queue);
        // What nobody took comes back here by its drop, which locks the queue.
        drop(unclaimed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::tenant::{Quota, Registry};

    #[test]
    fn who_finds_no_memory_waits_in_line_for_what_others_give_back() {
        let id = TenantId::parse("acme").unwrap();
        let ledger = Registry::default().ledger(&id, &Quota { memory: 100, ..Quota::unbounded() }, true);
        let first = ledger.memory_for(60).unwrap().unwrap();
        assert!(ledger.memory_for(101).is_none(), "it may never have so many");
        let mut second = ledger.memory_for(60).unwrap().unwrap_err();
        let gone = ledger.memory_for(30).unwrap().unwrap_err();
        let mut third = ledger.memory_for(40).unwrap().unwrap_err();
        assert!(second.try_recv().is_err() && ledger.grow(40), "what runs grows before them");
        drop((gone, first));
        let mut second = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        assert_eq!(second.take(), 60);
        ledger.shrink(60);
        drop(third.try_recv().unwrap());
        ledger.shrink(40);
        assert_eq!((ledger.memory_now(), ledger.memory.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
