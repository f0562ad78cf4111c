//! Connections of tenants share the runtime's threads out: where those of several tenants want to go on, few of each tenant's do at
//! once, and the others of it wait for these, first come, first served.
//!
//! The runtime's queue knows no tenants. Without this, who has a hundred connections that are busy has a hundred places in it, and
//! another tenant's request waits for all of them, twice: when it comes, and when its answer is there. So a connection that has
//! gone on keeps its tenant's place until the runtime's queue has come to it once more, and those that come to their turn meanwhile
//! stand aside.
//!
//! Where one tenant alone wants something nobody waits. Before a handshake has named its tenant, a connection is nobody's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::deadline::Moment;
use crate::telemetry::Tasks;

/// For so long after connections of two tenants went on, those of each wait for one another.
const CONTENDED: Duration = Duration::from_millis(200);

/// Whose connections went on. There is one for the gateway.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    /// The tenant's serial, of the one that went on last.
    last: AtomicU64,
    /// When last it was another one, as a [`Moment`].
    contended: AtomicU64,
}

/// A tenant's part of them.
#[derive(Clone, Debug)]
pub(crate) struct OfTenant {
    polls: Arc<Polls>,
    serial: u64,
    places: Arc<Semaphore>,
}

impl Polls {
    /// `places` are the tenant's: one for each that may go on at once.
    pub(crate) fn of(self: &Arc<Self>, serial: u64, places: &Arc<Semaphore>) -> OfTenant {
        OfTenant { polls: Arc::clone(self), serial, places: Arc::clone(places) }
    }

    /// Notes that a connection of this tenant wants to go on; whether another tenant's wanted that of late.
    fn is_contended(&self, serial: u64) -> bool {
        let now = Moment::now().0;
        if self.last.load(Ordering::Relaxed) != serial {
            let before = self.last.swap(serial, Ordering::Relaxed);
            if before > 0 {
                self.contended.store(now.max(1), Ordering::Relaxed);
            }
        }
        let contended = self.contended.load(Ordering::Relaxed);
        contended > 0 && Duration::from_nanos(now.saturating_sub(contended)) < CONTENDED
    }
}

impl OfTenant {
    /// Has this go on in its tenant's turn.
    pub(crate) fn share<F: Future>(&self, work: F) -> Shared<F> {
        let turn = PollSemaphore::new(Arc::clone(&self.places));
        let woken = Arc::new(Woken { is: AtomicBool::new(true), task: AtomicWaker::new() });
        Shared { of: self.clone(), turn, waits: false, place: None, woken, work }
    }
}

pin_project! {
    /// See [`OfTenant::share`].
    pub(crate) struct Shared<F> {
        of: OfTenant,
        turn: PollSemaphore,
        // Whether it stands in line.
        waits: bool,
        // What it has of its tenant until the runtime comes to it again.
        place: Option<OwnedSemaphorePermit>,
        woken: Arc<Woken>,
        #[pin]
        work: F,
    }
}

/// Whether the work itself was woken, and not its task for a place alone.
#[derive(Debug)]
struct Woken {
    is: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Future for Shared<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // It goes to whoever is next in line.
        *this.place = None;
        this.woken.task.register(cx.waker());
        if !this.woken.is.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Whoever stands in line takes what it is given, or nobody behind it would have it.
        if this.of.polls.is_contended(this.of.serial) || *this.waits {
            *this.waits = true;
            *this.place = ready!(this.turn.poll_acquire(cx));
            *this.waits = false;
        }
        this.woken.is.store(false, Ordering::Release);
        let polled = this.work.poll(&mut Context::from_waker(&Waker::from(Arc::clone(this.woken))));
        if polled.is_pending() && this.place.is_some() {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

/// Spawns what a connection has beside itself, as its streams.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    pub(super) tasks: Tasks,
    of: Option<OfTenant>,
}

impl Streams {
    pub(crate) fn new(tasks: &Tasks, of: Option<OfTenant>) -> Self {
        Self { tasks: tasks.clone(), of }
    }

    pub(super) fn spawn<F>(&self, work: F)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        match &self.of {
            Some(of) => _ = self.tasks.spawn(of.share(work)),
            None => _ = self.tasks.spawn(work),
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        self.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A connection that goes on so often, and says each time whose it is.
    async fn busy(who: &'static str, times: usize, told: Arc<Mutex<Vec<&'static str>>>) {
        for _ in 0..times {
            told.lock().unwrap().push(who);
            let mut has_waited = false;
            // As a socket does it that is ready again; tokio's own would wait for sockets to be looked at.
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn whoever_has_many_connections_goes_on_as_often_as_whoever_has_one() {
        let polls = Arc::<Polls>::default();
        let tenant = |serial| polls.of(serial, &Arc::new(Semaphore::new(1)));
        let (greedy, other) = (tenant(1), tenant(2));
        let told = Arc::<Mutex<Vec<_>>>::default();
        let mut all = tokio::task::JoinSet::new();
        // Somebody else's was there of late.
        other.share(async {}).await;
        for _ in 0..50 {
            all.spawn(greedy.share(busy("greedy", 20, Arc::clone(&told))));
        }
        all.spawn(other.share(busy("other", 20, Arc::clone(&told))));
        all.join_all().await;
        let told = told.lock().unwrap();
        let last = told.iter().rposition(|who| *who == "other").unwrap();
        assert!(last < 100, "it is through after {last} turns, of which 20 are its own, beside 50 connections");
        assert_eq!(told.len(), 51 * 20);
    }

    #[tokio::test]
    async fn who_is_alone_waits_for_nobody_and_who_leaves_the_line_holds_nobody_up() {
        let polls = Arc::<Polls>::default();
        let places = Arc::new(Semaphore::new(1));
        let own = polls.of(1, &places);
        let held = Arc::clone(&places).try_acquire_owned().unwrap();
        own.share(async {}).await;
        polls.of(2, &Arc::new(Semaphore::new(1))).share(async {}).await;
        let (mut first, mut second) = (Box::pin(own.share(async {})), Box::pin(own.share(async {})));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        drop(held);
        drop(first);
        second.await;
        assert_eq!(places.available_permits(), 1);
    }
}
