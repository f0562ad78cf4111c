//! A tenant's supply of something (places in flight, outbound requests, bytes of memory), and the queue of requests that
//! wait for a part of it. The queue is first in, first out, but a request that needs less passes requests that need more
//! than is left.
//!
//! Limit: the quota bounds the number of waiting requests. A wait has no clock of its own: it ends when its receiver is
//! dropped.
//!
//! Invariant: a drop gives back what was taken. A part that was handed to a request which no longer waits goes to the next
//! one in the queue.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::bucket::Count;

/// What to do with a request if nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    Wait,
    /// Refuse it at once.
    Refuse,
}

/// A count, and the queue for it.
#[derive(Debug, Default)]
pub(super) struct QuotaSemaphore {
    count: Count,
    waiting_max: AtomicUsize,
    /// Length of the queue, so that nobody locks an empty one. Sequentially consistent, as the count is: either the one
    /// that gives back sees the waiting request, or the waiting request sees what came back.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<(u64, oneshot::Sender<QuotaPermit>)>>,
}

/// A part of a supply, released on drop.
#[derive(Debug)]
pub(crate) struct QuotaPermit {
    supply: Arc<QuotaSemaphore>,
    amount: u64,
}

/// A part, or a place in the queue for it.
#[derive(Debug)]
pub(crate) enum Entry {
    Granted(QuotaPermit),
    /// Resolves to the part when it is this request's turn.
    Awaited(oneshot::Receiver<QuotaPermit>),
}

impl QuotaPermit {
    /// Takes over the amount; the caller gives it back.
    pub(crate) fn keep(mut self) -> u64 {
        std::mem::replace(&mut self.amount, 0)
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.supply.give_back(self.amount);
        }
    }
}

impl QuotaSemaphore {
    /// Sets other bounds from now on.
    pub(super) fn set(self: &Arc<Self>, max: u64, waiting: usize) {
        self.count.set_max(max);
        self.waiting_max.store(waiting, Ordering::Relaxed);
        self.hand_over();
    }

    pub(super) const fn count(&self) -> &Count {
        &self.count
    }

    /// Takes this amount in any case, before all waiting requests. The holder gives it back.
    pub(super) fn take_anyway(&self, amount: u64) {
        self.count.add_anyway(amount);
    }

    /// Takes a part of this size, or queues for it. Nothing if the queue is full too.
    pub(super) fn enter(self: &Arc<Self>, amount: u64, when_full: WhenFull) -> Option<Entry> {
        // A new request does not pass those that wait.
        if self.waiting.load(Ordering::SeqCst) == 0 && self.count.add(amount) {
            return Some(Entry::Granted(QuotaPermit { supply: Arc::clone(self), amount }));
        }
        if when_full == WhenFull::Refuse || amount > self.count.max() {
            return None;
        }
        let (turn, awaited) = oneshot::channel();
        {
            let mut queue = self.queue();
            let max = self.waiting_max.load(Ordering::Relaxed);
            if queue.len() >= max {
                queue.retain(|(_, waiting)| !waiting.is_closed());
            }
            let has_room = queue.len() < max;
            if has_room {
                queue.push_back((amount, turn));
            }
            self.waiting.store(queue.len(), Ordering::SeqCst);
            if !has_room {
                return None;
            }
        }
        // Something may have been given back before the request was in the queue.
        self.hand_over();
        Some(Entry::Awaited(awaited))
    }

    pub(super) fn give_back(self: &Arc<Self>, amount: u64) {
        self.count.give_back(amount);
        self.hand_over();
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, oneshot::Sender<QuotaPermit>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what is left to the waiting requests, in order.
    fn hand_over(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut unclaimed = Vec::new();
        let mut queue = self.queue();
        let (mut at, mut too_much) = (0, u64::MAX);
        while let Some((amount, waiting)) = queue.get(at) {
            let amount = *amount;
            // After a reload the amount may exceed the maximum: the request is told that nothing will come.
            if waiting.is_closed() || amount > self.count.max() {
                queue.remove(at);
            } else if amount < too_much && self.count.add(amount) {
                let granted = QuotaPermit { supply: Arc::clone(self), amount };
                unclaimed.extend(queue.remove(at).and_then(|(_, waiting)| waiting.send(granted).err()));
            } else {
                // A request that needs less passes one that needs more than is left.
                too_much = too_much.min(amount);
                if too_much <= 1 {
                    break;
                }
                at += 1;
            }
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        // A part that nobody takes is given back here by its drop, which locks the queue.
        drop(queue);
        drop(unclaimed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(max: u64, waiting: usize) -> Arc<QuotaSemaphore> {
        let supply = Arc::<QuotaSemaphore>::default();
        supply.set(max, waiting);
        supply
    }

    fn taken(place: Option<Entry>) -> QuotaPermit {
        match place {
            Some(Entry::Granted(taken)) => taken,
            other => panic!("{other:?}"),
        }
    }

    fn awaited(place: Option<Entry>) -> oneshot::Receiver<QuotaPermit> {
        match place {
            Some(Entry::Awaited(awaited)) => awaited,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn waiting_requests_are_served_in_order() {
        let supply = supply(1, 2);
        let first = taken(supply.enter(1, WhenFull::Wait));
        assert!(supply.enter(1, WhenFull::Refuse).is_none());
        let mut second = awaited(supply.enter(1, WhenFull::Wait));
        let mut third = awaited(supply.enter(1, WhenFull::Wait));
        assert!(supply.enter(1, WhenFull::Wait).is_none(), "the queue has its bound");
        drop(first);
        let second = second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        assert!(supply.enter(1, WhenFull::Refuse).is_none(), "nobody passes the one who waits");
        drop(second);
        drop(third.try_recv().unwrap());
        assert_eq!(supply.count.now(), 0);
    }

    #[test]
    fn a_part_that_nobody_claims_goes_to_the_next() {
        let supply = supply(1, 9);
        let first = taken(supply.enter(1, WhenFull::Wait));
        let gone = awaited(supply.enter(1, WhenFull::Wait));
        let late = awaited(supply.enter(1, WhenFull::Wait));
        let mut last = awaited(supply.enter(1, WhenFull::Wait));
        drop(gone);
        drop(first);
        // It was handed over and dropped before its receiver looked.
        drop(late);
        drop(last.try_recv().unwrap());
        assert_eq!(supply.count.now(), 0);
        drop(taken(supply.enter(1, WhenFull::Refuse)));
    }

    #[test]
    fn a_request_that_stops_waiting_frees_its_place_in_the_queue() {
        let supply = supply(1, 1);
        let held = taken(supply.enter(1, WhenFull::Wait));
        drop(awaited(supply.enter(1, WhenFull::Wait)));
        let mut waiting = awaited(supply.enter(1, WhenFull::Wait));
        supply.set(2, 1);
        drop(waiting.try_recv().unwrap());
        drop(held);
        assert_eq!(supply.count.now(), 0);
    }

    #[test]
    fn a_request_for_more_than_a_reload_left_blocks_nobody() {
        let supply = supply(100, 9);
        let held = taken(supply.enter(90, WhenFull::Wait));
        let mut large = awaited(supply.enter(80, WhenFull::Wait));
        let mut small = awaited(supply.enter(20, WhenFull::Wait));
        supply.set(50, 9);
        assert!(large.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        drop(held);
        drop(small.try_recv().unwrap());
    }

    #[test]
    fn parts_have_sizes_and_forced_amounts_come_before_waiting_requests() {
        let supply = supply(100, 9);
        let first = taken(supply.enter(60, WhenFull::Wait));
        assert!(supply.enter(101, WhenFull::Wait).is_none(), "it may never have so many");
        let mut second = awaited(supply.enter(60, WhenFull::Wait));
        let gone = awaited(supply.enter(45, WhenFull::Wait));
        let mut third = awaited(supply.enter(50, WhenFull::Wait));
        supply.take_anyway(40);
        assert!(second.try_recv().is_err());
        drop((gone, first));
        assert_eq!(second.try_recv().unwrap().keep(), 60);
        assert!(third.try_recv().is_err());
        let mut small = awaited(supply.enter(10, WhenFull::Wait));
        supply.give_back(30);
        drop(small.try_recv().unwrap());
        assert!(third.try_recv().is_err(), "whoever wants less has passed it");
        supply.give_back(30);
        drop(third.try_recv().unwrap());
        supply.give_back(40);
        assert_eq!((supply.count.now(), supply.waiting.load(Ordering::Relaxed)), (0, 0));
    }

    /// A request that arrives between the last look at the count and its place in the queue is not forgotten.
    #[test]
    fn no_request_keeps_waiting_while_there_is_room() {
        let supply = supply(2, 1000);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let supply = Arc::clone(&supply);
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        match supply.enter(1, WhenFull::Wait).unwrap() {
                            Entry::Granted(taken) => drop(taken),
                            Entry::Awaited(awaited) => drop(awaited.blocking_recv().unwrap()),
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((supply.count.now(), supply.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
