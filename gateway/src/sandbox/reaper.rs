//! Drops large instances and unused components outside of tenants' turns.
//!
//! An instance that waits here has ended: its tenant's place and memory are already released, and only the permit stays
//! with the slot. So their number is bounded. What exceeds the limit is dropped where it ended, in its tenant's own turn.
//! Tenants share this thread by the bytes that were dropped for them, and pay for its time with later turns.
//!
//! Limit: [`OF_ONE`] for one tenant, and for all of them [`ALL_SHARE`] of the memory of all instances.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cpu_time::ThreadTime;

use crate::shares::{Bounds, Shares};
use crate::tenant::Ledger;

/// Drops large values on a thread with a low priority: returning the pages of 64 MiB takes milliseconds, which would
/// otherwise delay someone's turn.
#[derive(Clone)]
pub(super) struct Reaper(Arc<Door>);

struct Door(Arc<Waiting>);

struct Waiting {
    jobs: Shares<Job>,
    bytes: AtomicU64,
    bytes_max: u64,
}

/// What to drop, with its bytes and its tenant.
struct Job {
    what: Option<Box<dyn Send>>,
    bytes: u64,
    ledger: Option<Arc<Ledger>>,
    waiting: Arc<Waiting>,
}

const OF_ONE: Bounds = Bounds { threads: 1, at_once: 1, waiting: 32, bytes: 64 << 20 };
const ALL_SHARE: u64 = 8;
const REAPER_NICENESS: i32 = 10;

impl Job {
    /// Drops it. Returns the price of the time that took.
    fn done(mut self) -> u64 {
        let before = ThreadTime::now();
        let what = self.what.take();
        // Everybody's instances wait for this thread, so it survives a panic in one drop.
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(what))).is_err() {
            tracing::error!(target: "sandbox", "clearing an instance away made the gateway panic: this is a bug of Tollgate");
        }
        let took = u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ledger.iter().for_each(|ledger| ledger.owes_turns(took));
        self.bytes
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.jobs.close();
    }
}

impl Reaper {
    /// `memory` is the maximum for all instances, in bytes.
    pub(super) fn start(memory: u64) -> std::io::Result<Self> {
        let bytes_max = (memory / ALL_SHARE).max(OF_ONE.bytes as u64);
        let waiting = Arc::new(Waiting { jobs: Shares::new(OF_ONE), bytes: AtomicU64::new(0), bytes_max });
        let door = Door(Arc::clone(&waiting));
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::Builder::new().name("guests-reaper".to_owned()).spawn(move || {
            let _nicer = rustix::process::nice(REAPER_NICENESS);
            // Dropping an instance may need the runtime: a task drains the rest of a body that its guest did not read.
            let _runtime = runtime.as_ref().map(tokio::runtime::Handle::enter);
            while let Some((turn, job)) = waiting.jobs.next() {
                let price = job.done();
                waiting.jobs.done(turn, usize::try_from(price).unwrap_or(usize::MAX));
            }
        })?;
        Ok(Self(Arc::new(door)))
    }

    /// Drops an instance of this tenant, of this many bytes, or code that belongs to no tenant.
    pub(super) fn clear_away(&self, ledger: Option<Arc<Ledger>>, bytes: u64, what: Box<dyn Send>) {
        let waiting = &self.0.0;
        let before = waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let owner = ledger.as_ref().map_or(0, |ledger| ledger.serial).to_le_bytes();
        let job = Job { what: Some(what), bytes, ledger, waiting: Arc::clone(waiting) };
        if before + bytes <= waiting.bytes_max {
            // What does not fit is dropped here.
            let _here = waiting.jobs.put(&owner, usize::try_from(bytes).unwrap_or(usize::MAX), job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Slow(mpsc::Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _gone = self.0.recv();
        }
    }

    struct Told(mpsc::Sender<&'static str>, &'static str);

    impl Drop for Told {
        fn drop(&mut self) {
            let _gone = self.0.send(self.1);
        }
    }

    #[test]
    fn a_panic_while_dropping_an_instance_ends_nothing_else() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("as a test wants it");
            }
        }
        let reaper = Reaper::start(1 << 30).unwrap();
        let (told, heard) = mpsc::channel();
        reaper.clear_away(None, 1, Box::new(Panics));
        reaper.clear_away(None, 1, Box::new(Told(told, "the next")));
        assert_eq!(heard.recv(), Ok("the next"));
    }

    #[test]
    fn an_instance_above_the_limit_is_dropped_at_once_and_tenants_take_turns() {
        let reaper = Reaper::start(0).unwrap();
        let (goes_on, blocked) = mpsc::channel();
        let (told, order) = mpsc::channel();
        let ledger = |name| {
            let id = crate::ids::TenantId::parse(name).unwrap();
            crate::tenant::Registry::default().ledger(&id, &crate::tenant::Quota::unbounded(), true)
        };
        let greedy = ledger("greedy");
        reaper.clear_away(None, 0, Box::new(Slow(blocked)));
        let put = |owner: Option<&Arc<Ledger>>, name| {
            reaper.clear_away(owner.map(Arc::clone), 20 << 20, Box::new(Told(told.clone(), name)));
        };
        for name in ["one", "two", "three"] {
            put(Some(&greedy), name);
        }
        assert!(order.try_recv().is_err(), "they wait");
        put(Some(&greedy), "four");
        assert_eq!(order.try_recv(), Ok("four"), "it is here and now");
        put(None, "other");
        assert_eq!(order.try_recv(), Ok("other"), "and all together have a bound");
        goes_on.send(()).unwrap();
        assert_eq!([order.recv(), order.recv(), order.recv()], [Ok("one"), Ok("two"), Ok("three")]);
        assert!(greedy.virtual_time.load(Ordering::Relaxed) > 0, "it pays");
    }
}
