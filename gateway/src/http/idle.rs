//! Whether a connection is busy: requests on it, from head to last byte of the response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use super::body::{ResponseBody, Torn};

/// How long a connection that was told to end may stay silent.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Counts what is busy. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

/// One request being answered.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.send_modify(|busy| *busy -= 1);
    }
}

impl Activity {
    pub(super) fn enter(&self) -> Busy {
        self.0.send_modify(|busy| *busy += 1);
        Busy(self.clone())
    }

    /// Resolves when nothing was busy for so long.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            let idle = *changes.borrow_and_update() == 0;
            if idle {
                if tokio::time::timeout(time, changes.changed()).await.is_err() {
                    return;
                }
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Busy {
    pub(super) fn until_end_of(self, body: ResponseBody) -> ResponseBody {
        BusyBody { body, busy: self }.boxed_unsync()
    }
}

struct BusyBody {
    body: ResponseBody,
    #[expect(dead_code, reason = "held for its drop")]
    busy: Busy,
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_not_idle() {
        let activity = Activity::default();
        let start = tokio::time::Instant::now();
        let busy = activity.enter();
        let end = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            drop(busy);
        };
        tokio::join!(activity.idle_for(Duration::from_secs(5)), end);
        assert_eq!(start.elapsed().as_secs(), 15);
    }
}
