//! Places for a tenant's outbound requests (`quota.outbound_in_flight`): a request that finds none waits for one, first come,
//! first served.
//!
//! Limit: `quota.outbound_waiting` requests wait. The wait itself has no clock: it ends when its receiver is dropped, which is
//! with the request's own time or with its instance.
//!
//! Invariant: a place is given back by a drop. One that was handed to somebody who no longer waits goes to the next in line.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::Ledger;
use super::bucket::Count;

/// One outbound request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Outbound(Arc<Ledger>);

impl Drop for Outbound {
    fn drop(&mut self) {
        self.0.places.taken.give_back(1);
        Places::hand_over(&self.0);
    }
}

/// What a request does that finds all places taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    Wait,
    /// It is refused at once.
    Refuse,
}

/// A place, or the prospect of one.
#[derive(Debug)]
pub(crate) enum Place {
    Taken(Outbound),
    /// Resolves to the place once it is this request's turn.
    Awaited(oneshot::Receiver<Outbound>),
}

/// A tenant's places and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) taken: Count,
    waiting_max: AtomicU32,
    queue: Mutex<VecDeque<oneshot::Sender<Outbound>>>,
}

impl Places {
    /// Other bounds from now on.
    pub(super) fn set(ledger: &Arc<Ledger>, places: u32, waiting: u32) {
        let own = &ledger.places;
        own.taken.set_max(places.into());
        own.waiting_max.store(waiting, Ordering::Relaxed);
        Self::hand_over(ledger);
    }

    /// A place; nothing where there is none and no room to wait either.
    pub(super) fn enter(ledger: &Arc<Ledger>, when_full: WhenFull) -> Option<Place> {
        let own = &ledger.places;
        let mut queue = own.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever comes while others wait does not pass them.
        if queue.iter().all(oneshot::Sender::is_closed) {
            queue.clear();
            if own.taken.add(1) {
                return Some(Place::Taken(Outbound(Arc::clone(ledger))));
            }
        }
        if when_full == WhenFull::Refuse {
            return None;
        }
        let max = own.waiting_max.load(Ordering::Relaxed) as usize;
        if queue.len() >= max {
            queue.retain(|waiting| !waiting.is_closed());
        }
        if queue.len() >= max {
            return None;
        }
        let (turn, awaited) = oneshot::channel();
        queue.push_back(turn);
        Some(Place::Awaited(awaited))
    }

    /// Gives free places to those who wait, the first one first.
    fn hand_over(ledger: &Arc<Ledger>) {
        let own = &ledger.places;
        let mut unclaimed = Vec::new();
        let mut queue = own.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = queue.front() {
            if first.is_closed() {
                queue.pop_front();
            } else if own.taken.add(1) {
                let place = Outbound(Arc::clone(ledger));
                unclaimed.extend(queue.pop_front().and_then(|first| first.send(place).err()));
            } else {
                break;
            }
        }
        // A place that nobody took comes back here by its drop, which locks the queue.
        drop(queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TenantId;
    use crate::tenant::{Quota, Registry};

    fn ledger(places: u32, waiting: u32) -> Arc<Ledger> {
        let id = TenantId::parse("acme").unwrap();
        let quota = Quota { outbound_in_flight: places, outbound_waiting: waiting, ..Quota::unbounded() };
        Registry::default().ledger(&id, &quota, true)
    }

    fn taken(place: Option<Place>) -> Outbound {
        match place {
            Some(Place::Taken(outbound)) => outbound,
            other => panic!("{other:?}"),
        }
    }

    fn awaited(place: Option<Place>) -> oneshot::Receiver<Outbound> {
        match place {
            Some(Place::Awaited(awaited)) => awaited,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_waits_is_served_in_turn_and_never_passed() {
        let ledger = ledger(1, 2);
        let first = taken(Places::enter(&ledger, WhenFull::Wait));
        assert!(Places::enter(&ledger, WhenFull::Refuse).is_none());
        let mut second = awaited(Places::enter(&ledger, WhenFull::Wait));
        let mut third = awaited(Places::enter(&ledger, WhenFull::Wait));
        assert!(Places::enter(&ledger, WhenFull::Wait).is_none(), "the queue has its bound");
        drop(first);
        let second = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        assert!(Places::enter(&ledger, WhenFull::Refuse).is_none(), "nobody passes the one who waits");
        drop(second);
        drop(third.try_recv().unwrap());
        assert_eq!(ledger.places.taken.now(), 0);
    }

    #[test]
    fn a_place_that_nobody_claims_goes_to_the_next() {
        let ledger = ledger(1, 9);
        let first = taken(Places::enter(&ledger, WhenFull::Wait));
        let gone = awaited(Places::enter(&ledger, WhenFull::Wait));
        let late = awaited(Places::enter(&ledger, WhenFull::Wait));
        let mut last = awaited(Places::enter(&ledger, WhenFull::Wait));
        drop(gone);
        drop(first);
        // It was handed over and dropped without a look at it.
        drop(late);
        drop(last.try_recv().unwrap());
        assert_eq!(ledger.places.taken.now(), 0);
        drop(taken(Places::enter(&ledger, WhenFull::Refuse)));
    }

    #[test]
    fn those_who_gave_up_leave_their_room_to_others() {
        let ledger = ledger(1, 1);
        let held = taken(Places::enter(&ledger, WhenFull::Wait));
        drop(awaited(Places::enter(&ledger, WhenFull::Wait)));
        let mut waiting = awaited(Places::enter(&ledger, WhenFull::Wait));
        Places::set(&ledger, 2, 1);
        drop(waiting.try_recv().unwrap());
        drop(held);
        assert_eq!(ledger.places.taken.now(), 0);
    }
}
