//! Fair turns: guests run a slice at a time, and the tenant that has used least for its weight is next.
//!
//! A guest is a job. When it can continue, it joins its tenant's line. A runner (one thread for each processor) takes the
//! first job of the tenant with the least virtual time (fuel burned ÷ weight), polls it once, which is at most one slice of
//! fuel, and charges what it burned. So a tenant with a thousand busy requests gets the same share as a tenant with one.
//!
//! If guests of several tenants want turns, they run on these threads, except for a tenant with few requests that is next in
//! the order anyway. The runners have the same nice value as the runtime's threads: with
//! a nice value higher by 5, a neighbour's p99 was a third worse while sockets were busy.
//!
//! A single instruction of a guest may still take long (`memory.fill` over all its memory), and page faults burn no fuel. A
//! tenant whose turns take long uses a lane for slow tenants, whose runners the kernel preempts in favour of all others;
//! within it the same order holds. Until a tenant is known to be slow: if every runner is in a long turn and another tenant
//! waits, a spare runner takes that tenant's turn. Loading code and the first turn of freshly loaded code are known to be
//! long: they use the slow lane, behind jobs that need less. The reaper drops large memories.
//!
//! Invariant: a tenant that was idle starts again at the others' virtual time: it is next, and has saved nothing up. Its
//! debts remain. Limit: as many jobs as there are permits for instances, and a load of a component for each.

mod lanes;
mod lines;
pub(super) mod outbox;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use tokio::sync::oneshot;

use super::engine::FUEL_SLICE;
use super::reaper::Reaper;
use crate::deadline::Moment;
use crate::telemetry::{Record, Tasks};
use crate::tenant::Ledger;

use lanes::Lane;

/// The least that a turn costs in virtual time: polling is work as well.
const TURN_FUEL_MIN: u64 = 2_000;
/// The price of loading code and running it for the first time, in virtual time alone, because a tenant cannot know whether
/// its code is loaded. It is charged ahead: the job is placed behind jobs that need less.
const COLD_FUEL: u64 = 1_000_000;
/// A turn that takes longer than this, by host calls that burn little, is charged for its time: a unit a nanosecond.
const TURN_LONG: Duration = Duration::from_micros(500);

/// How many short turns make up for one long one. A tenant is slow from its second long turn within that many.
const LONG_TURN_WEIGHS: u32 = 16;
/// Upper bound of the counter, and so how long a tenant stays in the slow lane after its last long turn.
const LONG_TURNS_MAX: u32 = 4 * LONG_TURN_WEIGHS;
/// The nice value of the runners in the slow lane, relative to the others.
const SLOW_NICENESS: i32 = 5;

/// For this long after guests of two tenants wanted a turn, every turn goes through a runner. If one tenant is alone, its
/// guests take their turns in tasks, the first turn in the connection's own task, which saves two thread switches for each
/// turn.
const CONTENDED: Duration = Duration::from_millis(200);

/// A tenant with at most this many requests in flight may take its turns on the runtime's threads while guests of other tenants want
/// turns too.
const FEW_REQUESTS: u64 = 4;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queue of all jobs. Dropping it ends the runners.
pub(super) struct Turns {
    shared: Arc<Shared>,
    reaper: Reaper,
}

struct Shared {
    usual: Lane,
    /// The lane of tenants whose turns take long.
    slow: Lane,
    /// The spare runner sleeps here, with the lock of the usual lane's lines.
    needed: Condvar,
    /// For turns that run in a task because one tenant is alone.
    runtime: Option<tokio::runtime::Handle>,
    /// Whose guest wanted the last turn, and when a guest of another tenant last wanted one.
    last_serial: AtomicU64,
    contended_at: AtomicU64,
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.shared.usual.close();
        self.shared.slow.close();
        self.shared.needed.notify_all();
    }
}

impl Turns {
    /// Starts this many runners in each lane, and a spare one.
    ///
    /// # Errors
    /// A thread cannot start.
    pub(super) fn start(runners: usize, reaper: Reaper) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let usual = Lane::of(runners);
        let slow = usual.beside();
        let shared = Shared { usual, slow, runtime: Some(runtime.clone()), ..Shared::new() };
        let turns = Self { shared: Arc::new(shared), reaper };
        for runner in 0..runners {
            let (shared, entered) = (Arc::clone(&turns.shared), runtime.clone());
            std::thread::Builder::new().name(format!("guests-{runner}")).spawn(move || {
                // Guests wait for the runtime's events.
                let _runtime = entered.enter();
                shared.usual.take_turns(runner);
            })?;
            let (shared, entered) = (Arc::clone(&turns.shared), runtime.clone());
            std::thread::Builder::new().name(format!("guests-slow-{runner}")).spawn(move || {
                let _nicer = rustix::process::nice(SLOW_NICENESS);
                let _runtime = entered.enter();
                shared.slow.take_turns(runner);
            })?;
        }
        let shared = Arc::clone(&turns.shared);
        std::thread::Builder::new().name("guests-spare".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            shared.take_spare_turns();
        })?;
        Ok(turns)
    }

    pub(super) fn reaper(&self) -> Reaper {
        self.reaper.clone()
    }

    /// Returns a function that wakes the spare runner if it is needed. Call it about every millisecond.
    pub(super) fn look(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let Some(shared) = shared.upgrade() else { return };
            let usual = &shared.usual;
            if usual.is_stuck() && usual.lines().other_than(&usual.runners).is_some() {
                shared.needed.notify_one();
            }
        }
    }

    /// Runs a guest to its end, in turns. `record` counts its fuel while it runs.
    pub(super) fn spawn(
        &self,
        ledger: Arc<Ledger>,
        record: Arc<Record>,
        tasks: &Tasks,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        // Its first turn faults its code in page by page. Neither sockets nor tenants whose code is loaded should wait for
        // that.
        let ahead = if record.is_cold_start() { COLD_FUEL } else { 0 };
        let job = self.job(ledger, Some(record), ahead, Box::pin(tasks.counted(work)));
        if self.shared.may_run_here(&job.ledger, ahead) {
            job.state.store(IN_LINE, Ordering::Release);
            job.run(&self.shared.usual);
        } else {
            job.wake();
        }
    }

    /// Runs other long work in the tenant's turn, in the slow lane if other tenants are active, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        ledger: Arc<Ledger>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = async move {
            // The caller may have left.
            let _gone = done.send(work());
        };
        self.job(ledger, None, COLD_FUEL, Box::pin(work)).wake();
        result.await.ok()
    }

    fn job(&self, ledger: Arc<Ledger>, record: Option<Arc<Record>>, ahead: u64, work: Work) -> Arc<Job> {
        let work = Mutex::new(Some(work));
        let charged = Mutex::new(Charged { record, ..Charged::default() });
        let shared = Arc::clone(&self.shared);
        let (ahead, state) = (AtomicU64::new(ahead), AtomicU8::new(IDLE));
        Arc::new(Job { shared, ledger, ahead, state, work, charged })
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            usual: Lane::default(),
            slow: Lane::default(),
            needed: Condvar::new(),
            runtime: None,
            last_serial: AtomicU64::new(0),
            contended_at: AtomicU64::new(0),
        }
    }

    /// Whether a guest of this tenant may take its turn, the first or a later one, on the current thread of the runtime. The tenant's
    /// turns have to be short, and the turn must not be a known long one (`ahead`). Then there are two cases:
    ///
    /// - Only guests of this tenant wanted turns for a while.
    /// - The tenant has few requests in flight and is next in the order: it has had less than those that wait, and than the
    ///   other tenant that wanted a turn last, whose requests may still be in sockets. A runner would take the turn at once
    ///   too, but the runner's thread may have to wait for the processor in each turn: on one processor, up to a tick of
    ///   the kernel (4 ms at 250 Hz) while the runtime's thread serves another tenant's connections. The turn is charged as
    ///   a runner's turn is.
    fn may_run_here(&self, ledger: &Ledger, ahead: u64) -> bool {
        let now = Moment::now().0;
        if self.last_serial.swap(ledger.serial, Ordering::Relaxed) != ledger.serial {
            self.contended_at.store(now, Ordering::Relaxed);
        }
        if ahead > 0 || is_slow(ledger) {
            return false;
        }
        let since = now.saturating_sub(self.contended_at.load(Ordering::Relaxed));
        let is_alone = Duration::from_nanos(since) >= CONTENDED && self.slow.is_empty();
        let mut lines = self.usual.lines();
        let is_light = lines.wants(ledger) && ledger.has_few_requests(FEW_REQUESTS);
        is_alone && lines.take_at_once(ledger, &self.usual.runners) || is_light && lines.take_as_next(ledger)
    }

    fn take_spare_turns(&self) {
        let lane = &self.usual;
        let mut lines = lane.lines();
        while !lines.is_closed {
            let other = if lane.is_stuck() { lines.other_than(&lane.runners) } else { None };
            let next = other.and_then(|other| lines.take(other));
            match next {
                Some(job) => {
                    drop(lines);
                    lane.run(job);
                    lines = lane.lines();
                }
                None => lines = self.needed.wait(lines).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn is_slow(ledger: &Ledger) -> bool {
    ledger.long_turns.load(Ordering::Relaxed) > LONG_TURN_WEIGHS
}

/// Notes whether a turn was long. If two threads note at once, one note may be lost.
fn note_turn(ledger: &Ledger, is_long: bool) {
    let was = ledger.long_turns.load(Ordering::Relaxed);
    let now = if is_long { (was + LONG_TURN_WEIGHS).min(LONG_TURNS_MAX) } else { was.saturating_sub(1) };
    if now != was {
        ledger.long_turns.store(now, Ordering::Relaxed);
    }
}

/// What was charged for a job so far.
#[derive(Debug, Default)]
struct Charged {
    /// The record that counts a guest's fuel, until its job has ended: somebody may keep the job's waker for long. Other
    /// work has none: it ends, while the guest of its request may already burn fuel.
    record: Option<Arc<Record>>,
    /// Charged in virtual time, with slices as an estimate until the exact figure is known.
    guessed: u64,
    /// Charged to the ledger, which takes exact figures only.
    exact: u64,
}

struct Job {
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    /// The extra price of a first turn that is known to be long. Zero afterwards.
    ahead: AtomicU64,
    state: AtomicU8,
    work: Mutex<Option<Work>>,
    charged: Mutex<Charged>,
}

/// Waits for something outside.
const IDLE: u8 = 0;
const IN_LINE: u8 = 1;
const RUNNING: u8 = 2;
/// It was woken while it ran: a guest that yields wakes itself.
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
    fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    fn stand_in_line(self: Arc<Self>) {
        let shared = Arc::clone(&self.shared);
        if let Some(runtime) = &shared.runtime
            && shared.may_run_here(&self.ledger, self.ahead())
        {
            let job = Arc::clone(&self);
            runtime.spawn(async move { job.run(&self.shared.usual) });
            return;
        }
        let lane = if self.ahead() > 0 || is_slow(&self.ledger) { &shared.slow } else { &shared.usual };
        lane.add(self);
    }

    /// Runs one turn.
    fn run(self: Arc<Self>, lane: &Lane) {
        self.state.store(RUNNING, Ordering::Release);
        self.ahead.store(0, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self));
        let (started, processor) = (Instant::now(), processor_time());
        let is_over = {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let polled = work.as_mut().map(|work| {
                let poll = || work.as_mut().poll(&mut Context::from_waker(&waker));
                std::panic::catch_unwind(AssertUnwindSafe(poll))
            });
            let is_over = !matches!(polled, Some(Ok(Poll::Pending)));
            if let Some(Err(_panic)) = polled {
                tracing::error!(target: "sandbox", "a component caused a panic of the gateway: this is a bug of Tollgate");
            }
            if is_over {
                // Also after a panic: dropping the instance notes the outcome of the request.
                *work = None;
            }
            is_over
        };
        let goes_on = !is_over
            && self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire) == Err(RUN_AGAIN);
        // Time of other threads on the processor does not count, so the thread's clock decides, which is more expensive to
        // read.
        let is_long = started.elapsed() > TURN_LONG;
        let time = if is_long { processor_time().saturating_sub(processor) } else { Duration::ZERO };
        note_turn(&self.ledger, time > TURN_LONG);
        let done_with = self.charge(lane, (is_over, goes_on), time);
        drop(done_with);
        if goes_on {
            self.state.store(IN_LINE, Ordering::Release);
            self.stand_in_line();
        }
    }

    /// Charges the turn, and returns the record after the last one. `gave_way` means that the job could have continued;
    /// then it burned a slice, unless the exact figure is known.
    fn charge(&self, lane: &Lane, (is_over, gave_way): (bool, bool), time: Duration) -> Option<Arc<Record>> {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let burned = charged.record.as_ref().map_or(0, |record| record.fuel_of_guest());
        let is_news = burned > charged.exact;
        let guess = if gave_way && !is_news { charged.guessed + FUEL_SLICE } else { charged.guessed.max(burned) };
        // A guess that was too high is compensated while the exact figure catches up.
        let turn = guess - charged.guessed;
        charged.guessed = guess;
        let exact = burned.saturating_sub(charged.exact);
        charged.exact = charged.exact.max(burned);
        let done_with = if is_over { charged.record.take() } else { None };
        drop(charged);
        if exact > 0 {
            self.ledger.burn(exact);
        }
        let over = u64::try_from(time.saturating_sub(TURN_LONG).as_nanos()).unwrap_or(u64::MAX);
        lane.lines().settle(&self.ledger, turn.max(TURN_FUEL_MIN).max(over));
        done_with
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    ThreadTime::now().as_duration()
}

#[cfg(test)]
mod tests;
