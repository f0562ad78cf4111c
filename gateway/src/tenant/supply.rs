//! What a tenant has a number of (places in flight, outbound requests, bytes of memory), and who waits for some of it: first come,
//! first served, but for those who want more than there is: whoever wants less passes them.
//!
//! Limit: as many wait as the quota says. The wait itself has no clock: it ends when its receiver is dropped.
//!
//! Invariant: what was taken is given back by a drop. What was handed to somebody who no longer waits goes to the next in line.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::bucket::Count;

/// What a request does that finds nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    Wait,
    /// It is refused at once.
    Refuse,
}

/// A count, and who waits for a part of it.
#[derive(Debug, Default)]
pub(super) struct Supply {
    count: Count,
    waiting_max: AtomicUsize,
    /// How many are in the queue, so that nobody locks it where there are none. Sequentially consistent, as the count is: whoever
    /// gives back sees who waits, or who waits sees what came back.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<(u64, oneshot::Sender<Allotment>)>>,
}

/// A part of a supply, until it is dropped.
#[derive(Debug)]
pub(crate) struct Allotment {
    supply: Arc<Supply>,
    amount: u64,
}

/// A part, or the prospect of it.
#[derive(Debug)]
pub(crate) enum Entry {
    Granted(Allotment),
    /// Resolves to it once it is this request's turn.
    Awaited(oneshot::Receiver<Allotment>),
}

impl Allotment {
    /// Whoever calls this gives it back.
    pub(crate) fn keep(mut self) -> u64 {
        std::mem::replace(&mut self.amount, 0)
    }
}

impl Drop for Allotment {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.supply.give_back(self.amount);
        }
    }
}

impl Supply {
    /// Other bounds from now on.
    pub(super) fn set(self: &Arc<Self>, max: u64, waiting: usize) {
        self.count.set_max(max);
        self.waiting_max.store(waiting, Ordering::Relaxed);
        self.hand_over();
    }

    pub(super) const fn count(&self) -> &Count {
        &self.count
    }

    /// Takes more for somebody who has some already: nobody who waits comes before. Whoever has it gives it back.
    pub(super) fn grow(&self, amount: u64) -> bool {
        self.count.add(amount)
    }

    /// A part of so much; nothing where there is none and no room to wait either.
    pub(super) fn enter(self: &Arc<Self>, amount: u64, when_full: WhenFull) -> Option<Entry> {
        // Whoever comes while others wait does not pass them.
        if self.waiting.load(Ordering::SeqCst) == 0 && self.count.add(amount) {
            return Some(Entry::Granted(Allotment { supply: Arc::clone(self), amount }));
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
        // Some may have come back before it was in line.
        self.hand_over();
        Some(Entry::Awaited(awaited))
    }

    pub(super) fn give_back(self: &Arc<Self>, amount: u64) {
        self.count.give_back(amount);
        self.hand_over();
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, oneshot::Sender<Allotment>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what there is to those who wait, the first one first.
    fn hand_over(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut unclaimed = Vec::new();
        let mut queue = self.queue();
        let (mut at, mut too_much) = (0, u64::MAX);
        while let Some((amount, waiting)) = queue.get(at) {
            let amount = *amount;
            // More than there can be now, after a reload: whoever waits for it hears that nothing comes.
            if waiting.is_closed() || amount > self.count.max() {
                queue.remove(at);
            } else if amount < too_much && self.count.add(amount) {
                let granted = Allotment { supply: Arc::clone(self), amount };
                unclaimed.extend(queue.remove(at).and_then(|(_, waiting)| waiting.send(granted).err()));
            } else {
                // Whoever wants less passes whoever wants more than there is.
                too_much = too_much.min(amount);
                if too_much <= 1 {
                    break;
                }
                at += 1;
            }
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        // What nobody took comes back here by its drop, which locks the queue.
        drop(queue);
        drop(unclaimed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(max: u64, waiting: usize) -> Arc<Supply> {
        let supply = Arc::<Supply>::default();
        supply.set(max, waiting);
        supply
    }

    fn taken(place: Option<Entry>) -> Allotment {
        match place {
            Some(Entry::Granted(taken)) => taken,
            other => panic!("{other:?}"),
        }
    }

    fn awaited(place: Option<Entry>) -> oneshot::Receiver<Allotment> {
        match place {
            Some(Entry::Awaited(awaited)) => awaited,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_waits_is_served_in_turn_and_never_passed() {
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
        // It was handed over and dropped without a look at it.
        drop(late);
        drop(last.try_recv().unwrap());
        assert_eq!(supply.count.now(), 0);
        drop(taken(supply.enter(1, WhenFull::Refuse)));
    }

    #[test]
    fn those_who_gave_up_leave_their_room_to_others() {
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
    fn who_waits_for_more_than_a_reload_left_holds_nobody_up() {
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
    fn parts_have_sizes_and_what_grows_comes_before_who_waits() {
        let supply = supply(100, 9);
        let first = taken(supply.enter(60, WhenFull::Wait));
        assert!(supply.enter(101, WhenFull::Wait).is_none(), "it may never have so many");
        let mut second = awaited(supply.enter(60, WhenFull::Wait));
        let gone = awaited(supply.enter(45, WhenFull::Wait));
        let mut third = awaited(supply.enter(50, WhenFull::Wait));
        assert!(second.try_recv().is_err() && supply.grow(40));
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

    /// Whoever comes between the last look at the count and the place in the queue is not forgotten there.
    #[test]
    fn nobody_is_left_waiting_while_there_is_room() {
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
