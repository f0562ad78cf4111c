//! Counts HTTP/3 requests that the client cancelled or never completed: they cost the gateway more than the client.
//!
//! Limit: as many cancelled requests per second as on HTTP/2 (`frames`), and [`HEADLESS_MAX`] requests without a head in a
//! connection's life.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::frames::{RESETS_MAX, WINDOW};

/// Requests of one connection whose head never arrived. h3 keeps some memory for each.
const HEADLESS_MAX: u32 = 100;

/// What a client cost without a result.
pub(super) struct Wasted {
    headless: AtomicU32,
    /// The start of the current second, and how many requests were cancelled since then.
    cancelled: Mutex<(Instant, u32)>,
}

impl Default for Wasted {
    fn default() -> Self {
        Self { headless: AtomicU32::new(0), cancelled: Mutex::new((Instant::now(), 0)) }
    }
}

impl Wasted {
    pub(super) fn headless(&self) {
        self.headless.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_headless_too_often(&self) -> bool {
        self.headless.load(Ordering::Relaxed) > HEADLESS_MAX
    }

    fn within_window(&self) -> MutexGuard<'_, (Instant, u32)> {
        let mut cancelled = self.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        if cancelled.0.elapsed() > WINDOW {
            *cancelled = (Instant::now(), 0);
        }
        cancelled
    }

    pub(super) fn cancelled(&self) {
        self.within_window().1 += 1;
    }

    pub(super) fn has_cancelled_too_many(&self) -> bool {
        self.within_window().1 > RESETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_http3_client_may_cancel_as_many_requests_per_second_as_an_http2_client() {
        let wasted = Wasted::default();
        for _ in 0..RESETS_MAX {
            wasted.cancelled();
        }
        assert!(!wasted.has_cancelled_too_many(), "somebody turns pages");
        tokio::time::advance(Duration::from_millis(1500)).await;
        for _ in 0..RESETS_MAX {
            wasted.cancelled();
        }
        assert!(!wasted.has_cancelled_too_many(), "a second later");
        wasted.cancelled();
        assert!(wasted.has_cancelled_too_many());
    }
}
