//! The one place where tasks are spawned: they are counted, told to drain, and waited for.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to whoever starts something that outlives a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// Whether load balancers are told to go elsewhere.
    leave: CancellationToken,
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Tasks {
    /// Starts a task that ends by itself, or at the latest when a drain has run out of time.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let abort = self.abort.clone();
        // In a place of its own: what a connection needs is large, and is moved with each layer around it.
        let work = Box::pin(work);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                done = work => Some(done),
                () = abort.cancelled() => None,
            }
        })
    }

    /// The same for work that is driven elsewhere than in a task of its own.
    pub(crate) fn counted<F: Future>(&self, work: F) -> impl Future<Output = ()> + use<F> {
        let abort = self.abort.clone();
        self.tracker.track_future(async move {
            // In this order: work that ends at once never stands among those that wait for the end of all.
            tokio::select! {
                biased;
                _done = work => {}
                () = abort.cancelled() => {}
            }
        })
    }

    /// Has load balancers told to go elsewhere, while everybody is still served.
    pub(crate) fn leave(&self) {
        self.leave.cancel();
    }

    /// Whether a drain has begun, or will soon.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave.is_cancelled() || self.is_draining()
    }

    /// Resolves when the gateway begins to shut down.
    pub(crate) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Tells everybody to finish, and waits for nobody.
    pub(crate) fn begin_to_drain(&self) {
        self.drain.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Tells everybody to finish, waits for at most `limit`, then ends what is left; says how many those were.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        self.drain.cancel();
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.abort.cancel();
        // A task ends at its next await; a guest yields every few milliseconds.
        let _ended = tokio::time::timeout(Duration::from_secs(5), self.tracker.wait()).await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_quick_and_ends_the_slow() {
        let tasks = Tasks::default();
        let quick = tasks.spawn(tokio::time::sleep(Duration::from_secs(1)));
        let slow = tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, 1);
        assert_eq!(quick.await.unwrap(), Some(()));
        assert_eq!(slow.await.unwrap(), None);
    }
}
