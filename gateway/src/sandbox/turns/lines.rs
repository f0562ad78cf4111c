//! The order behind the turns: who is in which line, and who is next. It uses no clock and no thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Job;
use super::lanes::Runner;
use crate::sandbox::engine::FUEL_SLICE;
use crate::tenant::Ledger;

/// All lines of a lane.
#[derive(Default)]
pub(super) struct Lines {
    /// By the ledger's serial; only tenants with a ready job.
    lines: HashMap<u64, Line>,
    /// (virtual time, serial) of the same tenants.
    pub(super) order: BTreeSet<(u64, u64)>,
    /// The virtual time of the tenant that was taken last.
    floor: Arc<AtomicU64>,
    /// The floor of the usual lane: a tenant that enters the other lane is placed behind those that came from there.
    beside: Option<Arc<AtomicU64>>,
    /// The tenant that last wanted a turn, whichever thread ran it, and the virtual time of the other tenant that wanted
    /// one before.
    last: Wanted,
    other: u64,
    /// Runners that wait for a job.
    pub(super) sleeping: usize,
    /// Whether the runners have to end.
    pub(super) is_closed: bool,
}

#[derive(Clone, Copy, Default)]
struct Wanted {
    serial: u64,
    virtual_time: u64,
}

struct Line {
    jobs: VecDeque<Arc<Job>>,
    ledger: Arc<Ledger>,
    /// The value under which it is in `order`.
    virtual_time: u64,
}

impl Lines {
    /// For a lane beside the one that has this floor.
    pub(super) fn beside(floor: &Arc<AtomicU64>) -> Self {
        Self { beside: Some(Arc::clone(floor)), ..Self::default() }
    }

    pub(super) const fn floor(&self) -> &Arc<AtomicU64> {
        &self.floor
    }

    /// The least virtual time for a tenant that joins.
    fn least(&self) -> u64 {
        let beside = self.beside.as_ref().map_or(0, |floor| floor.load(Ordering::Relaxed));
        self.floor.load(Ordering::Relaxed).max(beside)
    }

    /// The virtual time with which this tenant would join now. A tenant that was idle starts where the others are.
    fn joins_at(&self, ledger: &Ledger) -> u64 {
        ledger.virtual_time.load(Ordering::Relaxed).max(self.least())
    }

    pub(super) fn add(&mut self, job: Arc<Job>) {
        let serial = job.ledger.serial;
        if let Some(line) = self.lines.get_mut(&serial) {
            line.jobs.push_back(job);
            return;
        }
        let ledger = Arc::clone(&job.ledger);
        // A job that is known to be long is placed behind jobs that need less.
        let ahead = job.ahead() / ledger.weight();
        let virtual_time = self.joins_at(&ledger).saturating_add(ahead);
        ledger.virtual_time.store(virtual_time, Ordering::Relaxed);
        self.order.insert((virtual_time, serial));
        self.lines.insert(serial, Line { jobs: VecDeque::from([job]), ledger, virtual_time });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Takes the next job.
    pub(super) fn next(&mut self) -> Option<Arc<Job>> {
        let first = *self.order.first()?;
        self.floor.fetch_max(first.0, Ordering::Relaxed);
        self.take(first)
    }

    /// Whether no other tenant runs or waits. If so, a slice is charged to this tenant as if its job had been taken.
    pub(super) fn take_at_once(&mut self, ledger: &Ledger, runners: &[Runner]) -> bool {
        let is_own = |serial: u64| serial == ledger.serial;
        let runs_own = |runner: &Runner| {
            runner.since.load(Ordering::Relaxed) == 0 || is_own(runner.serial.load(Ordering::Relaxed))
        };
        let is_alone = self.order.iter().all(|(_, serial)| is_own(*serial)) && runners.iter().all(runs_own);
        if is_alone {
            let virtual_time = self.joins_at(ledger);
            // Turns while nobody else wanted any do not count against tenants that arrive now.
            self.floor.store(virtual_time, Ordering::Relaxed);
            let _ahead = charge_slice(ledger, virtual_time);
        }
        is_alone
    }

    /// Notes that this tenant wants a turn. Returns whether it has had no more than the other tenant that last wanted one.
    pub(super) fn wants(&mut self, ledger: &Ledger) -> bool {
        if self.last.serial != ledger.serial {
            self.other = self.last.virtual_time;
        }
        self.last = Wanted { serial: ledger.serial, virtual_time: self.joins_at(ledger) };
        ledger.virtual_time.load(Ordering::Relaxed) <= self.other
    }

    /// Charges a slice to this tenant as if its job had been taken, if none of its jobs waits and no tenant that waits has had less.
    pub(super) fn take_as_next(&mut self, ledger: &Ledger) -> bool {
        let virtual_time = self.joins_at(ledger);
        let is_next = !self.lines.contains_key(&ledger.serial)
            && self.order.first().is_none_or(|(first, _)| virtual_time <= *first);
        if is_next {
            self.floor.fetch_max(virtual_time, Ordering::Relaxed);
            let _ahead = charge_slice(ledger, virtual_time);
        }
        is_next
    }

    /// The next tenant without a running job. There are few runners, so that few tenants are skipped.
    pub(super) fn other_than(&self, runners: &[Runner]) -> Option<(u64, u64)> {
        let runs = |serial: u64| runners.iter().any(|runner| runner.serial.load(Ordering::Relaxed) == serial);
        self.order.iter().find(|(_, serial)| !runs(*serial)).copied()
    }

    /// Takes a job of this tenant. A slice is charged ahead, so that a tenant with a running job is not next with another
    /// one for free.
    pub(super) fn take(&mut self, (virtual_time, serial): (u64, u64)) -> Option<Arc<Job>> {
        self.order.remove(&(virtual_time, serial));
        let line = self.lines.get_mut(&serial)?;
        let job = line.jobs.pop_front()?;
        // This may be more than the value in the order, if the tenant had turns in the other lane meanwhile.
        let ahead = charge_slice(&line.ledger, line.ledger.virtual_time.load(Ordering::Relaxed));
        if line.jobs.is_empty() {
            self.lines.remove(&serial);
        } else {
            line.virtual_time = ahead;
            self.order.insert((ahead, serial));
        }
        Some(job)
    }

    /// Replaces the slice that was charged ahead by what the turn burned.
    pub(super) fn settle(&mut self, ledger: &Ledger, burned: u64) {
        let weight = ledger.weight();
        let was = ledger.virtual_time.load(Ordering::Relaxed);
        let now = (was + burned / weight).saturating_sub(FUEL_SLICE / weight);
        ledger.virtual_time.store(now, Ordering::Relaxed);
        if let Some(line) = self.lines.get_mut(&ledger.serial) {
            self.order.remove(&(line.virtual_time, ledger.serial));
            line.virtual_time = now;
            self.order.insert((now, ledger.serial));
        }
    }
}

/// Charges a slice ahead to a tenant whose turn begins at this virtual time. Returns its new virtual time.
fn charge_slice(ledger: &Ledger, virtual_time: u64) -> u64 {
    let ahead = virtual_time + FUEL_SLICE / ledger.weight();
    ledger.virtual_time.store(ahead, Ordering::Relaxed);
    ahead
}
