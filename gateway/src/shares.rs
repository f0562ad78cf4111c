//! Shares a few threads among the jobs of many owners. The next owner depends on what each has used, never on how many jobs
//! it has.
//!
//! Invariant: a free thread gets the first job of the owner that has used the least, by price. A new owner starts at the
//! price of the owner that was served last. An owner without a job keeps its price until the others have passed it, so that
//! neither waiting nor asking for one thing at a time gives an advantage. When no owner has a job, all prices are
//! forgotten.
//!
//! Limit: an owner has at most [`Bounds::at_once`] threads, and the last free thread is for an owner that has none. At most
//! [`Bounds::waiting`] jobs of an owner wait, with [`Bounds::bytes`] in all. Jobs above that are refused.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The owner of jobs, by a name of any kind.
type Owner = Arc<[u8]>;

/// How many owners without a job are remembered with the price of what they used.
const OWNERS_KEPT: usize = 4096;

/// The bounds, in all and for each owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Threads that take jobs.
    pub(crate) threads: usize,
    /// Threads that one owner may use at once.
    pub(crate) at_once: usize,
    /// Jobs of one owner that may wait.
    pub(crate) waiting: usize,
    /// Bytes that these jobs may carry. One job may wait whatever it carries.
    pub(crate) bytes: usize,
}

/// The owner already has as many waiting jobs as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// An owner's turn on a thread. It is given back with the price of the job.
#[derive(Debug)]
pub(crate) struct Turn(Owner);

#[derive(Debug)]
struct Own<J> {
    /// Virtual time: the total price of the owner's jobs.
    had: u64,
    running: usize,
    bytes: usize,
    waiting: VecDeque<(usize, J)>,
}

#[derive(Debug)]
struct State<J> {
    owners: HashMap<Owner, Own<J>>,
    /// Owners with a job that may start, ordered by what they have used.
    ready: BTreeSet<(u64, Owner)>,
    running: usize,
    /// What the owner that was served last had used.
    floor: u64,
    is_closed: bool,
}

/// See the top of this file.
#[derive(Debug)]
pub(crate) struct Shares<J> {
    bounds: Bounds,
    state: Mutex<State<J>>,
    changed: Condvar,
}

impl<J> Shares<J> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (owners, ready) = (HashMap::new(), BTreeSet::new());
        let state = State { owners, ready, running: 0, floor: 0, is_closed: false };
        Self { bounds, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job until its owner's next turn.
    ///
    /// # Errors
    /// The owner's queue is full.
    pub(crate) fn put(&self, owner: &[u8], bytes: usize, job: J) -> Result<(), Full> {
        let mut state = self.lock();
        if let Some(own) = state.owners.get(owner)
            && (own.waiting.len() >= self.bounds.waiting
                || (!own.waiting.is_empty() && own.bytes.saturating_add(bytes) > self.bounds.bytes))
        {
            return Err(Full);
        }
        self.add(&mut state, owner, |own| {
            own.bytes += bytes;
            own.waiting.push_back((bytes, job));
        });
        Ok(())
    }

    /// Puts a job first in its owner's queue; never refused. For a job on which the owner's other jobs depend.
    pub(crate) fn put_first(&self, owner: &[u8], job: J) {
        self.add(&mut self.lock(), owner, |own| own.waiting.push_front((0, job)));
    }

    fn add(&self, state: &mut State<J>, owner: &[u8], push: impl FnOnce(&mut Own<J>)) {
        let floor = state.floor;
        self.change(state, &Owner::from(owner), |own| {
            if own.waiting.is_empty() && own.running == 0 {
                own.had = own.had.max(floor);
            }
            push(own);
        });
        self.changed.notify_one();
    }

    /// Waits for a job. Returns nothing once the queue is closed and empty.
    pub(crate) fn next(&self) -> Option<(Turn, J)> {
        let mut state = self.lock();
        loop {
            if let Some(taken) = self.take(&mut state) {
                return Some(taken);
            }
            if state.is_closed && state.ready.is_empty() {
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns a job that may start now, if there is one.
    pub(crate) fn next_now(&self) -> Option<(Turn, J)> {
        self.take(&mut self.lock())
    }

    fn take(&self, state: &mut State<J>) -> Option<(Turn, J)> {
        let is_last = self.bounds.threads > 1 && state.running + 1 >= self.bounds.threads;
        let has_none = |owner: &Owner| state.owners.get(owner).is_some_and(|own| own.running == 0);
        let (had, owner) = state.ready.iter().find(|(_, owner)| !is_last || has_none(owner)).cloned()?;
        state.floor = state.floor.max(had);
        state.running += 1;
        let mut job = None;
        self.change(state, &owner, |own| {
            own.running += 1;
            if let Some((bytes, first)) = own.waiting.pop_front() {
                own.bytes -= bytes;
                job = Some(first);
            }
        });
        job.map(|job| (Turn(owner), job))
    }

    /// Ends a turn whose job is done or dropped.
    pub(crate) fn done(&self, turn: Turn, price: usize) {
        self.give_back(turn, price, None);
    }

    /// Ends a turn whose job gives way. The job continues at its owner's next turn, before the owner's other jobs.
    pub(crate) fn give_way(&self, turn: Turn, price: usize, job: J) {
        self.give_back(turn, price, Some(job));
    }

    fn give_back(&self, turn: Turn, price: usize, job: Option<J>) {
        let Turn(owner) = turn;
        let mut state = self.lock();
        state.running -= 1;
        self.change(&mut state, &owner, |own| {
            own.running -= 1;
            own.had = own.had.saturating_add(price as u64);
            if let Some(job) = job {
                own.waiting.push_front((0, job));
            }
        });
        if state.running == 0 && state.ready.is_empty() {
            state.owners.clear();
            state.floor = 0;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Changes an owner's state, and updates its place in the list of owners that may start.
    fn change(&self, state: &mut State<J>, owner: &Owner, change: impl FnOnce(&mut Own<J>)) {
        if state.owners.len() >= OWNERS_KEPT {
            state.owners.retain(|_, own| own.running > 0 || !own.waiting.is_empty());
        }
        let floor = state.floor;
        let new = || Own { had: floor, running: 0, bytes: 0, waiting: VecDeque::new() };
        let own = state.owners.entry(Arc::clone(owner)).or_insert_with(new);
        state.ready.remove(&(own.had, Arc::clone(owner)));
        change(own);
        if !own.waiting.is_empty() && own.running < self.bounds.at_once {
            state.ready.insert((own.had, Arc::clone(owner)));
        } else if own.waiting.is_empty() && own.running == 0 && own.had <= floor {
            state.owners.remove(owner);
        }
    }

    /// Whether no owner has a job.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().owners.values().all(|own| own.running == 0 && own.waiting.is_empty())
    }

    /// Whether an owner has a turn.
    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        self.lock().running > 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Closes the queue: the threads end when no job waits.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds { threads: 4, at_once: 2, waiting: 100, bytes: 1000 };

    fn shares(bounds: Bounds, jobs: &[(&str, u32)]) -> Shares<u32> {
        let shares = Shares::new(bounds);
        jobs.iter().for_each(|(owner, job)| shares.put(owner.as_bytes(), 1, *job).unwrap());
        shares
    }

    /// Runs all waiting jobs on one thread. The price of each is its number.
    fn order(shares: &Shares<u32>) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some((turn, job)) = shares.next_now() {
            order.push(job);
            shares.done(turn, job as usize);
        }
        order
    }

    #[test]
    fn owners_take_turns_by_what_they_used_and_not_by_how_many_jobs_they_have() {
        let one = Bounds { threads: 1, at_once: 1, ..WIDE };
        let many = shares(one, &[("a", 101), ("a", 102), ("a", 103), ("a", 104), ("b", 205), ("c", 306)]);
        assert_eq!(order(&many)[..3], [101, 205, 306]);
        let cheap = shares(one, &[("a", 100), ("a", 101), ("b", 10), ("b", 11), ("b", 12), ("b", 13), ("b", 14)]);
        assert_eq!(order(&cheap), [100, 10, 11, 12, 13, 14, 101], "five cheap ones cost less than one dear one");
    }

    #[test]
    fn a_job_that_gives_way_lets_other_owners_run_and_stays_first_in_its_own_queue() {
        let one = Bounds { threads: 1, at_once: 1, ..WIDE };
        let shares = shares(one, &[("a", 1), ("a", 2), ("b", 3)]);
        let (turn, job) = shares.next_now().unwrap();
        assert_eq!(job, 1);
        assert!(shares.next_now().is_some_and(|(_, job)| job == 3), "its owner's next does not overtake it");
        shares.give_way(turn, 10, job);
        assert_eq!(order(&shares), [1, 2]);
    }

    #[test]
    fn no_owner_gets_all_threads_and_the_last_is_for_an_owner_without_one() {
        let shares = shares(WIDE, &[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("b", 6)]);
        let taken: Vec<_> = std::iter::from_fn(|| shares.next_now()).collect();
        let jobs: Vec<u32> = taken.iter().map(|(_, job)| *job).collect();
        assert_eq!(jobs.len(), 3, "{jobs:?}: both have some, and one thread stays free");
        shares.put(b"c", 1, 7).unwrap();
        assert!(shares.next_now().is_some_and(|(_, job)| job == 7));
    }

    #[test]
    fn a_full_queue_refuses_its_owner_and_nobody_else() {
        let bounds = Bounds { waiting: 3, ..WIDE };
        let shares = shares(bounds, &[("a", 1), ("a", 2), ("a", 3)]);
        assert_eq!(shares.put(b"a", 1, 4), Err(Full));
        assert_eq!(shares.put(b"b", 5000, 4), Ok(()), "the first may be of any size");
        assert_eq!(shares.put(b"b", 1, 5), Err(Full), "its bytes are too many");
        assert_eq!(shares.put(b"c", 500, 6), Ok(()));
        assert_eq!(shares.put(b"c", 500, 7), Ok(()));
        shares.put_first(b"a", 8);
        assert!(shares.next_now().is_some_and(|(_, job)| job == 8), "before its owner's others");
    }

    #[test]
    fn an_owner_that_queues_one_job_at_a_time_keeps_its_price() {
        let one = Bounds { threads: 1, at_once: 1, ..WIDE };
        let shares = shares(one, &[("a", 1000), ("b", 10), ("b", 11), ("b", 12)]);
        let (turn, _) = shares.next_now().unwrap();
        shares.put(b"c", 1, 13).unwrap();
        let first = shares.next_now().unwrap();
        shares.done(turn, 1000);
        shares.put(b"a", 1, 1001).unwrap();
        shares.done(first.0, 10);
        assert_eq!(order(&shares).last(), Some(&1001));
    }

    #[test]
    fn a_closed_queue_finishes_its_waiting_jobs() {
        let shares = shares(WIDE, &[("a", 1)]);
        shares.close();
        let (turn, _) = shares.next().unwrap();
        shares.done(turn, 1);
        assert!(shares.next().is_none());
        assert!(shares.lock().owners.is_empty(), "nobody is kept");
    }
}
