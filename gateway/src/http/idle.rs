//! What a connection is busy with: its requests, from the head to the last byte of the response; and clients that stop
//! reading.
//!
//! An HTTP/2 client can open a stream and read nothing of its response (RFC 9113 §5.2, a window of zero). Then nothing is
//! written, so that no write stalls, and hyper does not ask for more of the body: the request would hold its instance and
//! its permits for ever. So each response body is in its [`Exchange`], which [`Activity::clear_stalled`] can empty from
//! outside.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::body::{BodyAborted, ResponseBody};
use super::exchange::Exchange;
use crate::fault::Fault;

/// How long a connection that was told to end may stay silent.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Counts what a connection is busy with. Clones share the count.
#[derive(Clone)]
pub(super) struct Activity(Arc<Inner>);

struct Inner {
    busy: AtomicUsize,
    began: Instant,
    /// When the connection last became idle, in nanoseconds since it began.
    rested: AtomicU64,
    /// How long a client may read nothing of a stream. Nothing for HTTP/1.1, where writes to the socket stall.
    stall: Option<Duration>,
    /// Responses in progress, at most as many as the connection has streams.
    slots: Mutex<(u64, HashMap<u64, Arc<Exchange>>)>,
}

/// One request in progress.
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.rested.store(inner.age(), Ordering::Relaxed);
        inner.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Inner {
    /// Age of the connection, in nanoseconds.
    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Activity {
    pub(super) fn new(stall: Option<Duration>) -> Self {
        let (busy, rested) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { busy, began: Instant::now(), rested, stall, slots: Mutex::default() }))
    }

    pub(super) fn enter(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Resolves when the connection has been idle for this long. It wakes at the earliest possible time, not with each
    /// request.
    pub(super) async fn idle_for(&self, time: Duration) {
        let since = self.0.age();
        let mut left = time;
        loop {
            tokio::time::sleep(left).await;
            left = if self.0.busy.load(Ordering::Acquire) > 0 {
                time
            } else {
                let rested = since.max(self.0.rested.load(Ordering::Relaxed));
                time.saturating_sub(Duration::from_nanos(self.0.age().saturating_sub(rested)))
            };
            if left.is_zero() {
                return;
            }
        }
    }

    /// Repeatedly takes away every body of which the client has read nothing for too long.
    pub(super) async fn clear_stalled(&self) -> Infallible {
        let Some(limit) = self.0.stall else { return std::future::pending().await };
        loop {
            tokio::time::sleep(limit / 2).await;
            let slots: Vec<Arc<Exchange>> = {
                let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
                slots.1.values().cloned().collect()
            };
            // Outside of the lock: dropping a body ends its guest.
            slots.iter().for_each(|exchange| exchange.abort_if_stalled(limit));
        }
    }
}

impl Busy {
    pub(super) fn until_end_of(self, body: ResponseBody, exchange: Arc<Exchange>) -> ResponseBody {
        let activity = self.0.clone();
        exchange.holds(body, self);
        let id = activity.0.stall.map(|_limit| {
            let mut slots = activity.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.0 += 1;
            let id = slots.0;
            slots.1.insert(id, Arc::clone(&exchange));
            id
        });
        BusyBody { exchange, id, activity }.boxed_unsync()
    }
}

struct BusyBody {
    exchange: Arc<Exchange>,
    /// Its slot, if the connection tracks stalled streams.
    id: Option<u64>,
    activity: Activity,
}

impl Drop for BusyBody {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut slots = self.activity.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.1.remove(&id);
        }
        self.exchange.finish();
    }
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let mut held = self.exchange.held();
        let polled = match &mut held.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(Some(Err(BodyAborted(Fault::ClientGone)))),
        };
        held.handed = matches!(polled, Poll::Ready(Some(Ok(_)))).then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.held().body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.exchange.held().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::full;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_not_idle() {
        let activity = Activity::new(None);
        let start = Instant::now();
        let busy = activity.enter();
        let end = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            drop(busy);
        };
        tokio::join!(activity.idle_for(Duration::from_secs(5)), end);
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_taken_away_if_its_client_stalls_but_not_if_its_guest_does() {
        let activity = Activity::new(Some(Duration::from_secs(30)));
        // Two frames, of which the client reads one.
        let (pieces, queue) = tokio::sync::mpsc::channel(2);
        let mut taken = activity.enter().until_end_of(full("a response"), Exchange::new(None));
        let mut waiting = activity.enter().until_end_of(Waiting(queue).boxed_unsync(), Exchange::new(None));
        assert!(taken.frame().await.unwrap().is_ok());
        let nothing_yet = tokio::time::timeout(Duration::from_secs(1), waiting.frame()).await;
        assert!(nothing_yet.is_err(), "hyper has asked, and the guest has nothing to give");
        tokio::select! {
            never = activity.clear_stalled() => match never {},
            () = tokio::time::sleep(Duration::from_secs(300)) => {}
        }
        assert!(taken.frame().await.unwrap().is_err(), "it is torn, and its permits are back");
        pieces.send(Bytes::from_static(b"late")).await.unwrap();
        assert!(waiting.frame().await.unwrap().is_ok(), "a slow guest is its deadline's affair");
        drop(waiting);
        activity.idle_for(Duration::from_secs(1)).await;
    }

    struct Waiting(tokio::sync::mpsc::Receiver<Bytes>);

    impl Body for Waiting {
        type Data = Bytes;
        type Error = BodyAborted;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }
}
