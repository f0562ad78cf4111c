//! The only place that spawns tasks. It counts them, tells them to drain, and waits for them.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Passed to code that starts work which outlives a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// Cancelled when load balancers are told to use another gateway.
    leave: CancellationToken,
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Tasks {
    /// Spawns a task. It ends by itself, or is aborted when a drain runs out of time.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let abort = self.abort.clone();
        // Boxed: a connection's future is large, and each layer around it would move it.
        let work = Box::pin(work);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                done = work => Some(done),
                () = abort.cancelled() => None,
            }
        })
    }

    /// Counts work that is driven outside of a task of its own.
    pub(crate) fn counted<F: Future>(&self, work: F) -> impl Future<Output = ()> + use<F> {
        let abort = self.abort.clone();
        self.tracker.track_future(async move {
            // The order matters: work that ends at once is never among the work that a drain waits for.
            tokio::select! {
                biased;
                _done = work => {}
                () = abort.cancelled() => {}
            }
        })
    }

    /// Tells load balancers to use another gateway, while requests are still served.
    pub(crate) fn leave(&self) {
        self.leave.cancel();
    }

    /// Whether a drain has begun, or will begin soon.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave.is_cancelled() || self.is_draining()
    }

    /// Resolves when the gateway begins to shut down.
    pub(crate) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Tells all tasks to finish, without waiting.
    pub(crate) fn begin_to_drain(&self) {
        self.drain.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Tells all tasks to finish, waits for at most `limit`, then aborts the rest. Returns the number of aborted tasks.
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
    async fn a_drain_waits_for_quick_tasks_and_aborts_slow_ones() {
        let tasks = Tasks::default();
        let quick = tasks.spawn(tokio::time::sleep(Duration::from_secs(1)));
        let slow = tasks.spawn(std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, 1);
        assert_eq!(quick.await.unwrap(), Some(()));
        assert_eq!(slow.await.unwrap(), None);
    }
}
