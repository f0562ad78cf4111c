//! The queue for instances: which request is next, and which one leaves when the queue is full.
//!
//! The tenant with the fewest running instances for its weight is next. When the queue is full, the tenant that holds most
//! for its weight (running and waiting) loses its newest place to a tenant that holds less, and that request is refused.
//! Pure: `mod.rs` notifies the waiting requests.
//!
//! Each step costs a few hash operations and the logarithm of the number of waiting tenants.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// A tenant's running and waiting requests.
#[derive(Debug)]
struct TenantQueue<T> {
    running: u64,
    weight: u64,
    waiting: VecDeque<(u64, T)>,
}

/// Running ÷ weight, in thousandths: an instance of a tenant with weight 3 counts as a third.
type Share = u64;

#[derive(Debug)]
pub(super) struct Queue<T> {
    free: u64,
    places: usize,
    waiting: usize,
    /// The most requests that waited at once since the last look.
    waiting_peak: usize,
    next_ticket: u64,
    lines: HashMap<u64, TenantQueue<T>>,
    /// (running share, serial) and (held share, serial) of the tenants that wait.
    by_running: BTreeSet<(Share, u64)>,
    by_held: BTreeSet<(Share, u64)>,
}

/// The answer to a request that asks for an instance.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<T> {
    /// An instance is free.
    Run,
    /// The request waits, under this ticket. If another request was evicted for it, that one is refused.
    Wait { ticket: u64, evicted: Option<T> },
    /// The queue is full, and no tenant in it holds more.
    Full,
    /// This tenant already has too many waiting requests.
    FullOfOwn,
}

impl<T> TenantQueue<T> {
    fn shares(&self) -> (Share, Share) {
        let share = |count: u64| count * 1000 / self.weight.max(1);
        (share(self.running), share(self.running + self.waiting.len() as u64))
    }
}

impl<T> Queue<T> {
    pub(super) fn new(instances: u32, places: u32) -> Self {
        Self {
            free: instances.into(),
            places: places as usize,
            waiting: 0,
            waiting_peak: 0,
            next_ticket: 0,
            lines: HashMap::new(),
            by_running: BTreeSet::new(),
            by_held: BTreeSet::new(),
        }
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the most requests that waited at once since the last call.
    pub(super) const fn take_waiting_peak(&mut self) -> usize {
        std::mem::replace(&mut self.waiting_peak, self.waiting)
    }

    /// Asks for an instance for a tenant's request. `waiter` is called only if the request must wait.
    pub(super) fn ask(&mut self, serial: u64, weight: u64, own_max: usize, waiter: impl FnOnce() -> T) -> Decision<T> {
        if self.free > 0 {
            self.free -= 1;
            self.change(serial, weight, |line| line.running += 1);
            return Decision::Run;
        }
        let own = self.lines.get(&serial);
        if own.is_some_and(|line| line.waiting.len() >= own_max) || own_max == 0 {
            return Decision::FullOfOwn;
        }
        let mut evicted = None;
        if self.waiting >= self.places {
            let held = own.map_or(0, |line| line.running + line.waiting.len() as u64);
            let with_this = (held + 1) * 1000 / weight.max(1);
            let Some(&(most, holder)) = self.by_held.last() else { return Decision::Full };
            if most <= with_this {
                return Decision::Full;
            }
            let (_, taken) = self.take_waiting(holder, VecDeque::pop_back);
            evicted = taken;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        self.waiting_peak = self.waiting_peak.max(self.waiting);
        self.change(serial, weight, |line| line.waiting.push_back((ticket, waiter())));
        Decision::Wait { ticket, evicted }
    }

    /// An instance was released: returns the request that gets it, with its serial, if any waits.
    pub(super) fn release(&mut self, serial: u64) -> Option<(u64, T)> {
        self.change(serial, 0, |line| line.running = line.running.saturating_sub(1));
        let Some(&(_, next)) = self.by_running.first() else {
            self.free += 1;
            return None;
        };
        let (serial, waiter) = self.take_waiting(next, VecDeque::pop_front);
        self.change(serial, 0, |line| line.running += 1);
        waiter.map(|waiter| (serial, waiter))
    }

    /// A request stopped waiting.
    pub(super) fn leave(&mut self, serial: u64, ticket: u64) {
        let mut found = false;
        self.change(serial, 0, |line| {
            let before = line.waiting.len();
            line.waiting.retain(|(other, _)| *other != ticket);
            found = line.waiting.len() < before;
        });
        self.waiting -= usize::from(found);
    }

    fn take_waiting(
        &mut self,
        serial: u64,
        take: impl FnOnce(&mut VecDeque<(u64, T)>) -> Option<(u64, T)>,
    ) -> (u64, Option<T>) {
        let mut taken = None;
        self.change(serial, 0, |line| taken = take(&mut line.waiting));
        self.waiting -= usize::from(taken.is_some());
        (serial, taken.map(|(_, waiter)| waiter))
    }

    /// Changes a tenant's line and updates the orders. A weight of zero keeps the old weight.
    fn change(&mut self, serial: u64, weight: u64, change: impl FnOnce(&mut TenantQueue<T>)) {
        let fresh = || TenantQueue { running: 0, weight: 1, waiting: VecDeque::new() };
        let line = self.lines.entry(serial).or_insert_with(fresh);
        if !line.waiting.is_empty() {
            let (running, held) = line.shares();
            self.by_running.remove(&(running, serial));
            self.by_held.remove(&(held, serial));
        }
        if weight > 0 {
            line.weight = weight;
        }
        change(line);
        if !line.waiting.is_empty() {
            let (running, held) = line.shares();
            self.by_running.insert((running, serial));
            self.by_held.insert((held, serial));
        } else if line.running == 0 {
            self.lines.remove(&serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wait(queue: &mut Queue<&'static str>, serial: u64, who: &'static str) -> Decision<&'static str> {
        queue.ask(serial, 1, 100, || who)
    }

    #[test]
    fn the_tenant_that_runs_least_is_next() {
        let mut queue = Queue::new(2, 10);
        assert_eq!(wait(&mut queue, 1, ""), Decision::Run);
        assert_eq!(wait(&mut queue, 1, ""), Decision::Run);
        for who in ["a1", "a2"] {
            assert!(matches!(wait(&mut queue, 1, who), Decision::Wait { evicted: None, .. }));
        }
        assert!(matches!(wait(&mut queue, 2, "b1"), Decision::Wait { .. }));
        assert_eq!(queue.release(1), Some((2, "b1")), "it has none running, and came last");
        assert_eq!(queue.release(2), Some((1, "a1")));
        assert_eq!(queue.release(1), Some((1, "a2")));
        assert_eq!((queue.release(1), queue.release(1)), (None, None));
        assert!(queue.lines.is_empty() && queue.waiting() == 0);
        assert_eq!((queue.take_waiting_peak(), queue.take_waiting_peak()), (3, 0));
    }

    #[test]
    fn a_full_queue_sheds_from_the_tenant_that_holds_most() {
        let mut queue = Queue::new(1, 2);
        assert_eq!(wait(&mut queue, 1, ""), Decision::Run);
        wait(&mut queue, 1, "a1");
        wait(&mut queue, 1, "a2");
        assert!(
            matches!(wait(&mut queue, 2, "b1"), Decision::Wait { evicted: Some("a2"), .. }),
            "the newest of the greedy"
        );
        assert_eq!(wait(&mut queue, 1, "a3"), Decision::Full);
        assert_eq!(wait(&mut queue, 2, "b2"), Decision::Full, "it would hold as many then");
        assert_eq!(queue.ask(3, 1, 0, || "c"), Decision::FullOfOwn);
    }

    #[test]
    fn a_weight_is_a_share() {
        let mut queue = Queue::new(4, 10);
        for serial in [1, 2, 2, 2] {
            assert_eq!(queue.ask(serial, if serial == 2 { 4 } else { 1 }, 10, || ""), Decision::Run);
        }
        queue.ask(1, 1, 10, || "light");
        queue.ask(2, 4, 10, || "heavy");
        assert_eq!(queue.release(1).unwrap().1, "light", "none running now, against three quarters");
        assert_eq!(queue.release(2).unwrap().1, "heavy");
    }

    proptest! {
        /// For any sequence of arrivals, releases and cancellations: the limits on instances and places hold, and none is
        /// lost.
        #[test]
        fn no_place_is_lost_and_none_is_invented(
            instances in 1u32..5,
            places in 0u32..6,
            steps in proptest::collection::vec((0u8..3, 1u64..5, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut queue = Queue::new(instances, places);
            let (mut running, mut waiting): (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
            for (step, serial, pick) in steps {
                match step {
                    0 => {
                        let mut mine = 0;
                        match queue.ask(serial, serial, 3, || serial) {
                            Decision::Run => running.push(serial),
                            Decision::Wait { ticket, evicted } => {
                                if let Some(other) = evicted {
                                    let newest = waiting.iter().rposition(|(owner, _)| *owner == other).unwrap();
                                    waiting.remove(newest);
                                }
                                waiting.push((serial, ticket));
                                mine = waiting.iter().filter(|(owner, _)| *owner == serial).count();
                            }
                            Decision::Full => prop_assert_eq!(waiting.len(), places as usize),
                            Decision::FullOfOwn => {}
                        }
                        prop_assert!(mine <= 3);
                    }
                    1 if !running.is_empty() => {
                        let owner = running.swap_remove(pick.index(running.len()));
                        if let Some((next, _)) = queue.release(owner) {
                            let oldest = waiting.iter().position(|(other, _)| *other == next).unwrap();
                            waiting.remove(oldest);
                            running.push(next);
                        }
                    }
                    2 if !waiting.is_empty() => {
                        let (owner, ticket) = waiting.remove(pick.index(waiting.len()));
                        queue.leave(owner, ticket);
                    }
                    _ => {}
                }
                prop_assert!(running.len() <= instances as usize && waiting.len() <= places as usize);
                prop_assert_eq!(queue.waiting(), waiting.len());
                prop_assert!(waiting.is_empty() || running.len() == instances as usize, "nobody waits while one is free");
            }
            for owner in running.drain(..) {
                queue.release(owner);
            }
        }
    }
}
