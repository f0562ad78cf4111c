//! Points in time: a deadline for every await on the outside world, and the current moment.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;

/// The deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline was reached")]
pub(crate) struct Elapsed;

/// A deadline on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Runs `work` until it is done or the deadline passes. Cancel safety: at the deadline, `work` is dropped.
    pub(crate) async fn run<F: Future>(self, work: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(self.0, work).await.map_err(|_elapsed| Elapsed)
    }
}

/// The current time in nanoseconds since this process first asked for it. Rate limits count in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) fn now() -> Self {
        static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
        Self(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_never_answers_ends_at_the_deadline() {
        let start = Instant::now();
        let never = Deadline::after(Duration::from_secs(5)).run(std::future::pending::<()>()).await;
        assert_eq!(never, Err(Elapsed));
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
