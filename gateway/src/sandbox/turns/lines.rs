//! Who stands where, and who is next: the order behind the turns. No clock and no thread in here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Job;
use super::lanes::Runner;
use crate::sandbox::engine::FUEL_SLICE;
use crate::tenant::Ledger;

/// Who stands where.
#[derive(Default)]
pub(super) struct Lines {
    /// By the ledger's serial; only tenants of which a job is ready.
    lines: HashMap<u64, Line>,
    /// (virtual time, serial) of the same tenants.
    pub(super) order: BTreeSet<(u64, u64)>,
    /// The virtual time of whoever was taken last.
    floor: Arc<AtomicU64>,
    /// The floor of the lane that most are in: whoever comes to the other one stands behind those that came from there.
    beside: Option<Arc<AtomicU64>>,
    /// Runners that wait for a job.
    pub(super) sleeping: usize,
    /// The runners are to end.
    pub(super) is_closed: bool,
}

struct Line {
    jobs: VecDeque<Arc<Job>>,
    ledger: Arc<Ledger>,
    /// Under which it stands in the order.
    virtual_time: u64,
}

impl Lines {
    /// Of a lane beside the one whose floor this is.
    pub(super) fn beside(floor: &Arc<AtomicU64>) -> Self {
        Self { beside: Some(Arc::clone(floor)), ..Self::default() }
    }

    pub(super) const fn floor(&self) -> &Arc<AtomicU64> {
        &self.floor
    }

    /// Where whoever comes stands at the least.
    fn least(&self) -> u64 {
        let beside = self.beside.as_ref().map_or(0, |floor| floor.load(Ordering::Relaxed));
        self.floor.load(Ordering::Relaxed).max(beside)
    }

    pub(super) fn add(&mut self, job: Arc<Job>) {
        let serial = job.ledger.serial;
        if let Some(line) = self.lines.get_mut(&serial) {
            line.jobs.push_back(job);
            return;
        }
        let ledger = Arc::clone(&job.ledger);
        // What is known to take long stands behind whoever wants less.
        let ahead = job.ahead() / ledger.weight();
        let virtual_time = ledger.virtual_time.load(Ordering::Relaxed).max(self.least()).saturating_add(ahead);
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

    /// Whether nobody else runs or waits; then a slice is charged to this tenant as if its job had been taken.
    pub(super) fn take_at_once(&mut self, ledger: &Ledger, runners: &[Runner]) -> bool {
        let is_own = |serial: u64| serial == ledger.serial;
        let runs_own = |runner: &Runner| {
            runner.since.load(Ordering::Relaxed) == 0 || is_own(runner.serial.load(Ordering::Relaxed))
        };
        let is_alone = self.order.iter().all(|(_, serial)| is_own(*serial)) && runners.iter().all(runs_own);
        if is_alone {
            let virtual_time = ledger.virtual_time.load(Ordering::Relaxed).max(self.least());
            // Who had turns while nobody else wanted any owes those that come now nothing for it.
            self.floor.store(virtual_time, Ordering::Relaxed);
            ledger.virtual_time.store(virtual_time + FUEL_SLICE / ledger.weight(), Ordering::Relaxed);
        }
        is_alone
    }

    /// The next tenant of which no runner runs a job now. There are few runners, so few are looked at.
    pub(super) fn other_than(&self, runners: &[Runner]) -> Option<(u64, u64)> {
        let runs = |serial: u64| runners.iter().any(|runner| runner.serial.load(Ordering::Relaxed) == serial);
        self.order.iter().find(|(_, serial)| !runs(*serial)).copied()
    }

    /// Takes a job of this tenant. A slice is charged ahead, so that a tenant whose job is running is not next with another
    /// one as if it were not.
    pub(super) fn take(&mut self, (virtual_time, serial): (u64, u64)) -> Option<Arc<Job>> {
        self.order.remove(&(virtual_time, serial));
        let line = self.lines.get_mut(&serial)?;
        let job = line.jobs.pop_front()?;
        // More than it stood in line with, where the other lane had turns of this tenant meanwhile.
        let ahead = line.ledger.virtual_time.load(Ordering::Relaxed) + FUEL_SLICE / line.ledger.weight();
        line.ledger.virtual_time.store(ahead, Ordering::Relaxed);
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
