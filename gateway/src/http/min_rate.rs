//! Minimum transfer rate for clients: a grace period plus an average number of bytes per second.
//!
//! A token bucket of time. It starts full with [`MinRate::grace`]; waiting for the client drains it, and each byte that the
//! client transfers refills it. A client that keeps the minimum rate is never cut off. One that trickles is cut off after
//! the grace period.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The client was too slow.
#[derive(Debug)]
pub(super) struct TooSlow;

/// The pace of one direction of a connection, or of one body.
pub(super) struct MinRate {
    grace: Duration,
    bytes_per_second: u64,
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl MinRate {
    /// With `bytes_per_second` of 0 there is no rate: the client must only transfer something within `grace`.
    pub(super) fn new(grace: Duration, bytes_per_second: u64) -> Self {
        Self { grace, bytes_per_second, left: grace, waiting: None }
    }

    /// Polls the deadline while we wait for the client. Ready when the client has been too slow.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, clock) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
        clock.as_mut().poll(cx)
    }

    /// Runs `work`, which transfers `bytes`, and fails if the client is too slow.
    ///
    /// # Errors
    /// [`TooSlow`]; then `work` is dropped.
    pub(super) async fn within<F: Future>(&mut self, work: F, bytes: u64) -> Result<F::Output, TooSlow> {
        let mut work = pin!(work);
        let done = poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_too_slow(cx).map(|()| Err(TooSlow)),
        });
        let done = done.await?;
        self.transferred(bytes);
        Ok(done)
    }

    /// The client transferred this many bytes, and the wait is over.
    pub(super) fn transferred(&mut self, bytes: u64) {
        if let Some((since, _clock)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let earned = match self.bytes_per_second {
            0 => self.grace,
            rate => Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate),
        };
        self.left = self.left.saturating_add(earned).min(self.grace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many pieces of `bytes`, sent every `each` seconds, the client is cut off; at most 100.
    async fn pieces(bytes: u64, each: u64, rate: u64) -> usize {
        let mut min_rate = MinRate::new(Duration::from_secs(10), rate);
        for piece in 0..100 {
            let too_slow = poll_fn(|cx| min_rate.poll_too_slow(cx));
            if tokio::time::timeout(Duration::from_secs(each), too_slow).await.is_ok() {
                return piece;
            }
            min_rate.transferred(bytes);
        }
        100
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_cut_off_after_the_grace_period_and_the_minimum_rate_never() {
        assert_eq!(pieces(1, 1, 500).await, 10);
        assert_eq!(pieces(499, 1, 500).await, 100, "what is lost a second is 2 ms");
        assert_eq!(pieces(300, 1, 500).await, 23, "of what is lost a second, 400 ms, the grace has so many");
        assert_eq!(pieces(5000, 9, 500).await, 100, "bursts are as good");
        assert_eq!(pieces(1 << 30, 11, 500).await, 0, "nothing is saved up beyond the grace");
        assert_eq!(pieces(1, 9, 0).await, 100);
        assert_eq!(pieces(1, 11, 0).await, 0);
    }
}
