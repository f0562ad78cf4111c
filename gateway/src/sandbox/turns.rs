//! Fair turns: guests run a slice at a time, and the tenant that has had least for its weight is next.
//!
//! A guest is a job. When it can go on, it stands in its tenant's line; a runner (a thread a processor) takes the first job
//! of the tenant with the least virtual time (fuel burned ÷ weight), polls it once, which is one slice of fuel at most,
//! and charges what it burned. So a tenant with a thousand busy requests gets the share of a tenant with one.
//!
//! Where guests of several tenants come, they run on these threads, but for a tenant's only request if nobody waits: sockets
//! and timers wait for no guest, whatever it does. The runners are as nice as the runtime's threads: nicer ones, by 5, left a
//! neighbour's p99 a third worse while sockets were busy.
//!
//! One instruction of a guest may be long all the same (`memory.fill` over all it has), and page faults burn no fuel. A
//! tenant of which turns take long stands in a lane of its kind, with runners that the kernel takes off the processor for
//! everybody else's; in there the same order holds. Until that is known of a tenant: when every runner is in a long turn and
//! somebody else waits, a spare runner takes that tenant's turn beside them. Loads of code, and the first turn of code that was just
//! loaded, are known to be long: they stand in that lane, behind whoever wants less. Clearing a large memory away is the reaper's.
//!
//! Invariant: a tenant that comes back after it was idle starts at the others' virtual time: it is next, and has saved
//! nothing up. What it owes it still owes.
//! Limit: as many jobs as there are permits for instances, and a load of a component for each.

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

/// What a turn costs at least in virtual time: being polled is work as well.
const TURN_FUEL_MIN: u64 = 2_000;
/// What loading code costs its tenant, and running it for the first time, in the virtual time of turns only: whether it is loaded
/// already is not its doing. Paid ahead: it stands behind whoever wants less.
const COLD_FUEL: u64 = 1_000_000;
/// A turn that takes longer than this, by calls of the host that burn little, costs its time: a unit a nanosecond.
const TURN_LONG: Duration = Duration::from_micros(500);

/// Short turns that make one long one good again. A tenant is slow from its second long turn within so many.
const LONG_TURN_WEIGHS: u32 = 16;
/// Where it stops to count: so long a tenant stays slow after its last long turn.
const LONG_TURNS_MAX: u32 = 4 * LONG_TURN_WEIGHS;
/// Of the runners of slow tenants.
const SLOW_NICENESS: i32 = 5;

/// For so long after guests of two tenants wanted a turn, each goes by a runner. Where one tenant is alone, its guests take
/// their turns in tasks, the first one in the connection's own, which saves two threads' hops a turn.
const CONTENDED: Duration = Duration::from_millis(200);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where all jobs stand in line. Dropping it ends the runners.
pub(super) struct Turns {
    shared: Arc<Shared>,
    reaper: Reaper,
}

struct Shared {
    usual: Lane,
    /// Of tenants whose turns take long.
    slow: Lane,
    /// The spare runner sleeps here, with the usual lane's lines.
    needed: Condvar,
    /// For turns that are taken in a task, where one tenant is alone.
    runtime: Option<tokio::runtime::Handle>,
    /// Whose guest wanted the last turn, and when last one did that was another's.
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
    /// Starts so many runners in each lane, and a spare one.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(runners: usize, reaper: Reaper) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let usual = Lane::of(runners);
        let slow = usual.beside();
        let shared = Shared { usual, slow, runtime: Some(runtime.clone()), ..Shared::new() };
        let turns = Self { shared: Arc::new(shared), reaper };
        for runner in 0..runners {
            let (shared, entered) = (Arc::clone(&turns.shared), runtime.clone());
            std::thread::Builder::new().name(format!("guests-{runner}")).spawn(move || {
                // What guests wait for is the runtime's.
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

    /// Calls for the spare runner where it is needed; to be called every millisecond or so.
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

    /// Runs a guest to its end, in turns. `record` is where its fuel is counted while it runs.
    pub(super) fn spawn(
        &self,
        ledger: Arc<Ledger>,
        record: Arc<Record>,
        tasks: &Tasks,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        // Its first turn faults its code in, page after page: neither sockets nor who has his code should wait for that.
        let ahead = if record.waited_for_code() { COLD_FUEL } else { 0 };
        let job = self.job(ledger, Some(record), ahead, Box::pin(tasks.counted(work)));
        if ahead == 0 && self.shared.may_run_here(&job.ledger, true) {
            job.state.store(IN_LINE, Ordering::Release);
            job.run(&self.shared.usual);
        } else {
            job.wake();
        }
    }

    /// Does in the tenant's turn, in the slow lane where others are about, what holds a processor for a while and is no guest, and
    /// waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        ledger: Arc<Ledger>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = async move {
            // Whoever wanted it may have left.
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

    /// A guest of this tenant wants a turn, its first or a later one: whether it may have it where it is. It may if the
    /// tenant's turns are short, none of another's in the usual lane runs or waits, and either guests of this tenant only
    /// wanted any for a while, or this is the first turn of its only request: such a tenant cannot fill a socket's thread
    /// with turns, and is spared the wait for a runner, which under a tenant in the slow lane is up to a slice of the kernel's.
    fn may_run_here(&self, ledger: &Ledger, is_first: bool) -> bool {
        let now = Moment::now().0;
        if self.last_serial.swap(ledger.serial, Ordering::Relaxed) != ledger.serial {
            self.contended_at.store(now, Ordering::Relaxed);
        }
        let since = now.saturating_sub(self.contended_at.load(Ordering::Relaxed));
        let is_alone = Duration::from_nanos(since) >= CONTENDED && self.slow.is_empty();
        (is_alone || is_first && ledger.has_one_request())
            && !is_slow(ledger)
            && self.usual.lines().take_at_once(ledger, &self.usual.runners)
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

/// Notes of which kind a turn was. Two at once may lose one of them, which is one turn.
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
    /// Where a guest's fuel is counted, until its job is over: who kept the job's waker may keep it for long. Other work has
    /// none: it ends while its request's guest may burn some already.
    record: Option<Arc<Record>>,
    /// In virtual time, where slices are guessed until the exact figure is known.
    guessed: u64,
    /// To the ledger, which takes exact figures only.
    exact: u64,
}

struct Job {
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    /// What its first turn costs ahead, where that is known to be a long one; nothing from then on.
    ahead: AtomicU64,
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
    fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    fn stand_in_line(self: Arc<Self>) {
        let shared = Arc::clone(&self.shared);
        if let Some(runtime) = &shared.runtime
            && shared.may_run_here(&self.ledger, false)
        {
            let job = Arc::clone(&self);
            runtime.spawn(async move { job.run(&self.shared.usual) });
            return;
        }
        let lane = if self.ahead() > 0 || is_slow(&self.ledger) { &shared.slow } else { &shared.usual };
        lane.add(self);
    }

    /// One turn.
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
        note_turn(&self.ledger, time > TURN_LONG);
        let done_with = self.charge(lane, (is_over, goes_on), time);
        drop(done_with);
        if goes_on {
            self.state.store(IN_LINE, Ordering::Release);
            self.stand_in_line();
        }
    }

    /// Charges the turn, and gives the record back after the last one. `gave_way`: it could have gone on, so it burned a slice,
    /// if nothing more exact is known yet.
    fn charge(&self, lane: &Lane, (is_over, gave_way): (bool, bool), time: Duration) -> Option<Arc<Record>> {
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        let burned = charged.record.as_ref().map_or(0, |record| record.fuel_of_guest());
        let is_news = burned > charged.exact;
        let guess = if gave_way && !is_news { charged.guessed + FUEL_SLICE } else { charged.guessed.max(burned) };
        // What was guessed too high is made good while the exact figure catches up with it.
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

/// What this thread has had of its processor.
fn processor_time() -> Duration {
    ThreadTime::now().as_duration()
}

#[cfg(test)]
mod tests;
