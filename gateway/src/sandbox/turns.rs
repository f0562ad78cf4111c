//! Fair turns: guests run a slice at a time, and the tenant that has had least for its weight is next.
//!
//! A guest is a job. When it can go on, it stands in its tenant's line; a runner (one a processor) takes the first job of
//! the tenant with the least virtual time (fuel burned ÷ weight), polls it once, which is one slice of fuel at most,
//! and charges what it burned. So a tenant with a thousand busy requests gets the share of a tenant with one.
//!
//! Runners are tasks among the others of the runtime and let those go first after every turn, so sockets are looked at
//! between two slices. Handing a job over costs a lock and a wake-up, and no thread's hop where nothing else is going on.
//!
//! Invariant: a tenant that comes back after it was idle starts at the others' virtual time: it is next, and has saved
//! nothing up. What it owes it still owes.
//! Limit: as many jobs as there are permits for instances.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::engine::FUEL_SLICE;
use crate::telemetry::{Record, Tasks};
use crate::tenant::Ledger;

/// What a turn costs at least in virtual time: being polled is work as well.
const TURN_FUEL_MIN: u64 = 2_000;
/// A turn that takes longer than this, by calls of the host that burn little, costs its time: a unit a nanosecond.
const TURN_TIME_FREE: Duration = Duration::from_millis(1);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where all jobs stand in line. Clones are the same one.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    ready: Notify,
}

impl Turns {
    /// Starts the runners, which end when the gateway does.
    pub(super) fn start(runners: usize) -> Self {
        let turns = Self(Arc::new(Shared { lines: Mutex::default(), ready: Notify::new() }));
        for _ in 0..runners {
            // Not one of the tasks that a drain waits for: it serves those.
            tokio::spawn(turns.clone().take_turns());
        }
        turns
    }

    /// Runs a guest to its end, in turns. `record` is where its fuel is counted while it runs.
    pub(super) fn spawn(
        &self,
        ledger: Arc<Ledger>,
        record: Arc<Record>,
        tasks: &Tasks,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let work: Work = Box::pin(tasks.counted(work));
        let work = Mutex::new(Some(work));
        let charged = Mutex::new(Charged::default());
        let job = Job { shared: Arc::clone(&self.0), ledger, record, state: AtomicU8::new(IDLE), work, charged };
        Arc::new(job).wake();
    }

    async fn take_turns(self) {
        loop {
            let next = self.0.lines().next();
            match next {
                Some(job) => {
                    job.run();
                    // Everything else that is ready goes first, sockets and timers included.
                    tokio::task::yield_now().await;
                }
                None => self.0.ready.notified().await,
            }
        }
    }
}

impl Shared {
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was charged for a job so far.
#[derive(Debug, Default)]
struct Charged {
    /// In virtual time, where slices are guessed until the exact figure is known.
    guessed: u64,
    /// To the ledger, which takes exact figures only.
    exact: u64,
}

struct Job {
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    record: Arc<Record>,
    state: AtomicU8,
    work: Mutex<Option<Work>>,
    charged: Mutex<Charged>,
}

/// Waits for something outside.
const IDLE: u8 = 0;
const IN_LINE: u8 = 1;
const RUNNING: u8 = 2;
/// It was woken while it ran: a guest that gives way wakes itself.
const RUN_AGAIN: u8 = 3;

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(IN_LINE),
            RUNNING => Some(RUN_AGAIN),
            _ => None,
        };
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(IDLE) {
            self.stand_in_line();
        }
    }
}

impl Job {
    fn stand_in_line(self: Arc<Self>) {
        let shared = Arc::clone(&self.shared);
        shared.lines().add(self);
        shared.ready.notify_one();
    }

    /// One turn.
    fn run(self: Arc<Self>) {
        self.state.store(RUNNING, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self));
        let started = Instant::now();
        let is_over = {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let polled = work.as_mut().map(|work| {
                let poll = || work.as_mut().poll(&mut Context::from_waker(&waker));
                std::panic::catch_unwind(AssertUnwindSafe(poll))
            });
            let is_over = !matches!(polled, Some(Ok(Poll::Pending)));
            if let Some(Err(_panic)) = polled {
                tracing::error!(target: "sandbox", "a guest made the gateway panic: this is a bug of Tollgate");
            }
            if is_over {
                // Also after a panic: dropping the instance notes what became of the request.
                *work = None;
            }
            is_over
        };
        let goes_on = !is_over
            && self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire) == Err(RUN_AGAIN);
        self.charge(goes_on, started.elapsed());
        if goes_on {
            self.state.store(IN_LINE, Ordering::Release);
            self.stand_in_line();
        }
    }

    /// Charges the turn. `gave_way`: it could have gone on, so it burned a slice, if nothing more exact is known yet.
    fn charge(&self, gave_way: bool, time: Duration) {
        let burned = self.record.fuel_of_guest();
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = burned > charged.exact;
        let guess = if gave_way && !is_news { charged.guessed + FUEL_SLICE } else { charged.guessed.max(burned) };
        // What was guessed too high is made good while the exact figure catches up with it.
        let turn = guess - charged.guessed;
        charged.guessed = guess;
        let exact = burned.saturating_sub(charged.exact);
        charged.exact = charged.exact.max(burned);
        drop(charged);
        if exact > 0 {
            self.ledger.burn(exact);
        }
        let over = u64::try_from(time.saturating_sub(TURN_TIME_FREE).as_nanos()).unwrap_or(u64::MAX);
        self.shared.lines().settle(&self.ledger, turn.max(TURN_FUEL_MIN).max(over));
    }
}

/// Who stands where.
#[derive(Default)]
struct Lines {
    /// By the ledger's serial; only tenants of which a job is ready.
    lines: HashMap<u64, Line>,
    /// (virtual time, serial) of the same tenants.
    order: BTreeSet<(u64, u64)>,
    /// The virtual time of whoever was taken last.
    floor: u64,
}

struct Line {
    jobs: VecDeque<Arc<Job>>,
    ledger: Arc<Ledger>,
    /// Under which it stands in the order.
    virtual_time: u64,
}

impl Lines {
    fn add(&mut self, job: Arc<Job>) {
        let serial = job.ledger.serial;
        if let Some(line) = self.lines.get_mut(&serial) {
            line.jobs.push_back(job);
            return;
        }
        let ledger = Arc::clone(&job.ledger);
        let virtual_time = ledger.virtual_time.load(Ordering::Relaxed).max(self.floor);
        ledger.virtual_time.store(virtual_time, Ordering::Relaxed);
        self.order.insert((virtual_time, serial));
        self.lines.insert(serial, Line { jobs: VecDeque::from([job]), ledger, virtual_time });
    }

    /// Takes the next job. A slice is charged ahead, so that a tenant whose job is running is not next with another one as
    /// if it were not.
    fn next(&mut self) -> Option<Arc<Job>> {
        let (virtual_time, serial) = self.order.pop_first()?;
        self.floor = self.floor.max(virtual_time);
        let line = self.lines.get_mut(&serial)?;
        let job = line.jobs.pop_front()?;
        let ahead = virtual_time + FUEL_SLICE / line.ledger.weight();
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
    fn settle(&mut self, ledger: &Ledger, burned: u64) {
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

#[cfg(test)]
mod tests;
