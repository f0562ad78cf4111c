//! Fair turns: guests run a slice at a time, and the tenant that has had least for its weight is next.
//!
//! A guest is a job. When it can go on, it stands in its tenant's line; a runner (a thread a processor) takes the first job
//! of the tenant with the least virtual time (fuel burned ÷ weight), polls it once, which is one slice of fuel at most,
//! and charges what it burned. So a tenant with a thousand busy requests gets the share of a tenant with one.
//!
//! Where guests of several tenants come, they run on these threads and nowhere else: sockets and timers wait for no guest,
//! whatever it does. The runners are as nice as the runtime's threads: nicer ones, by 5, left a neighbour's p99 a third
//! worse while sockets were busy. One instruction of a guest may be long all the same (`memory.fill` over all it has): when
//! every runner is in a long turn and somebody else waits, a spare runner takes that tenant's turn beside them, and the
//! kernel divides the processor. Clearing a large memory away is the reaper's.
//!
//! Invariant: a tenant that comes back after it was idle starts at the others' virtual time: it is next, and has saved
//! nothing up. What it owes it still owes.
//! Limit: as many jobs as there are permits for instances, and a load of a component for each.

mod lines;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::engine::FUEL_SLICE;
use super::reaper::Reaper;
use crate::deadline::Moment;
use crate::telemetry::{Record, Tasks};
use crate::tenant::Ledger;

use lines::Lines;

/// What a turn costs at least in virtual time: being polled is work as well.
const TURN_FUEL_MIN: u64 = 2_000;
/// A turn that takes longer than this, by calls of the host that burn little, costs its time: a unit a nanosecond. It is
/// also when the spare runner is looked for.
const TURN_LONG: Duration = Duration::from_micros(500);

/// For so long after guests of two tenants came, each goes by a runner. Where one tenant is alone, its guests take their
/// turns in tasks, the first one in the connection's own, which saves two threads' hops a turn.
const CONTENDED: Duration = Duration::from_millis(200);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where all jobs stand in line. Dropping it ends the runners.
pub(super) struct Turns {
    shared: Arc<Shared>,
    reaper: Reaper,
}

struct Shared {
    lines: Mutex<Lines>,
    ready: Condvar,
    /// The spare runner sleeps here.
    needed: Condvar,
    /// What each runner is busy with.
    runners: Vec<Runner>,
    is_over: AtomicBool,
    /// For turns that are taken in a task, where one tenant is alone.
    runtime: Option<tokio::runtime::Handle>,
    /// Whose guest came last, and when last one came that was another's.
    last_serial: AtomicU64,
    contended_at: AtomicU64,
}

/// A runner's turn: since when, and whose; zero where there is none.
#[derive(Default)]
struct Runner {
    since: AtomicU64,
    serial: AtomicU64,
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        let _lines = self.shared.lines();
        self.shared.ready.notify_all();
        self.shared.needed.notify_all();
    }
}

impl Turns {
    /// Starts the runners, and a spare one.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(runners: usize) -> std::io::Result<Self> {
        let busy = (0..runners).map(|_| Runner::default()).collect();
        let runtime = tokio::runtime::Handle::current();
        let shared = Shared { runners: busy, runtime: Some(runtime.clone()), ..Shared::new() };
        let turns = Self { shared: Arc::new(shared), reaper: Reaper::start()? };
        for runner in 0..runners {
            let (shared, runtime) = (Arc::clone(&turns.shared), runtime.clone());
            std::thread::Builder::new().name(format!("guests-{runner}")).spawn(move || {
                // What guests wait for is the runtime's.
                let _runtime = runtime.enter();
                shared.take_turns(runner);
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

    /// Calls for the spare runner where it is needed; to be called every millisecond or so.
    pub(super) fn look(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let Some(shared) = shared.upgrade() else { return };
            if shared.all_are_long() && shared.lines().other_than(&shared.runners).is_some() {
                shared.needed.notify_one();
            }
        }
    }

    /// Runs a guest to its end, in turns. `record` is where its fuel is counted while it runs.
    pub(super) fn spawn(
        &self,
        ledger: Arc<Ledger>,
        record: Arc<Record>,
        tasks: &Tasks,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let serial = ledger.serial;
        let job = self.job(ledger, record, TURN_FUEL_MIN, Box::pin(tasks.counted(work)));
        self.shared.arrives(serial);
        if self.shared.may_run_here(&job.ledger) {
            job.state.store(IN_LINE, Ordering::Release);
            job.run();
        } else {
            job.wake();
        }
    }

    /// Does in the tenant's turn what holds a processor for a while and is no guest, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        ledger: Arc<Ledger>,
        record: Arc<Record>,
        fuel: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = async move {
            // Whoever wanted it may have left.
            let _gone = done.send(work());
        };
        self.job(ledger, record, fuel, Box::pin(work)).wake();
        result.await.ok()
    }

    fn job(&self, ledger: Arc<Ledger>, record: Arc<Record>, fuel_min: u64, work: Work) -> Arc<Job> {
        let work = Mutex::new(Some(work));
        let charged = Mutex::new(Charged::default());
        let shared = Arc::clone(&self.shared);
        Arc::new(Job { shared, ledger, record, fuel_min, state: AtomicU8::new(IDLE), work, charged })
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            lines: Mutex::default(),
            ready: Condvar::new(),
            needed: Condvar::new(),
            runners: Vec::new(),
            is_over: AtomicBool::new(false),
            runtime: None,
            last_serial: AtomicU64::new(0),
            contended_at: AtomicU64::new(0),
        }
    }

    /// A guest of this tenant comes.
    fn arrives(&self, serial: u64) {
        if self.last_serial.swap(serial, Ordering::Relaxed) != serial {
            self.contended_at.store(Moment::now().0, Ordering::Relaxed);
        }
    }

    /// Whether guests of this tenant only came within a while, and none of another's runs or waits.
    fn may_run_here(&self, ledger: &Ledger) -> bool {
        let since = Moment::now().0.saturating_sub(self.contended_at.load(Ordering::Relaxed));
        Duration::from_nanos(since) >= CONTENDED && self.lines().take_at_once(ledger, &self.runners)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_turns(&self, runner: usize) {
        loop {
            let job = {
                let mut lines = self.lines();
                loop {
                    if self.is_over.load(Ordering::Acquire) {
                        return;
                    }
                    match lines.next() {
                        Some(job) => break job,
                        None => {
                            lines.sleeping += 1;
                            lines = self.ready.wait(lines).unwrap_or_else(PoisonError::into_inner);
                            lines.sleeping -= 1;
                        }
                    }
                }
            };
            let Some(busy) = self.runners.get(runner) else { return };
            busy.serial.store(job.ledger.serial, Ordering::Relaxed);
            busy.since.store(Moment::now().0.max(1), Ordering::Relaxed);
            job.run();
            busy.since.store(0, Ordering::Relaxed);
            // To the kernel this thread computes without end, and it would let it go on for a millisecond or more while a
            // socket's thread has just been woken.
            std::thread::yield_now();
        }
    }

    fn take_spare_turns(&self) {
        let mut lines = self.lines();
        while !self.is_over.load(Ordering::Acquire) {
            let other = if self.all_are_long() { lines.other_than(&self.runners) } else { None };
            let next = other.and_then(|other| lines.take(other));
            match next {
                Some(job) => {
                    drop(lines);
                    job.run();
                    lines = self.lines();
                }
                None => lines = self.needed.wait(lines).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Whether every runner is in a turn that does not end.
    fn all_are_long(&self) -> bool {
        let now = Moment::now().0;
        let long = |runner: &Runner| {
            let since = runner.since.load(Ordering::Relaxed);
            since > 0 && Duration::from_nanos(now.saturating_sub(since)) > TURN_LONG
        };
        self.runners.iter().all(long)
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
    /// What each of its turns costs at least.
    fuel_min: u64,
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
        if let Some(runtime) = &shared.runtime
            && shared.may_run_here(&self.ledger)
        {
            runtime.spawn(async move { self.run() });
            return;
        }
        let mut lines = shared.lines();
        lines.add(self);
        let sleeping = lines.sleeping;
        drop(lines);
        if sleeping > 0 {
            shared.ready.notify_one();
        } else if shared.all_are_long() {
            shared.needed.notify_one();
        }
    }

    /// One turn.
    fn run(self: Arc<Self>) {
        self.state.store(RUNNING, Ordering::Release);
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
        // Others' time on the processor is not charged, so the other clock, which is dearer to read, decides.
        let is_long = started.elapsed() > TURN_LONG;
        let time = if is_long { processor_time().saturating_sub(processor) } else { Duration::ZERO };
        self.charge(goes_on, time);
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
        let over = u64::try_from(time.saturating_sub(TURN_LONG).as_nanos()).unwrap_or(u64::MAX);
        self.shared.lines().settle(&self.ledger, turn.max(self.fuel_min).max(over));
    }
}

/// What this thread has had of its processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests;
