//! The bodies of an exchange with an origin: the guest's on its way out, and the response's on its way in.
//!
//! Invariant: a guest's unfinished body never looks finished. Wasmtime's bodies end like finished ones when their instance
//! is gone, so [`Sending`] checks.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime_wasi_http::{Error, WasiBody};

use super::Egress;
use super::pool::Lease;
use crate::tenant::{QuotaPermit, Tenant};

/// Something of the body was sent.
const TOUCHED: u8 = 1;
/// The body has ended.
const ENDED: u8 = 2;

/// A guest's body. It outlives a connection that closed before anything of the body was sent.
pub(super) struct Source {
    body: Mutex<WasiBody>,
    state: Arc<AtomicU8>,
    /// The guest's instance.
    alive: Weak<()>,
    /// Cancelled at the body's end, or when nobody sends it any more.
    over: CancellationToken,
    _over: DropGuard,
}

impl Source {
    pub(super) fn new(body: WasiBody, alive: Weak<()>) -> Arc<Self> {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        Arc::new(Self { body: Mutex::new(body), state: Arc::default(), alive, over, _over: guard })
    }

    fn body(&self) -> MutexGuard<'_, WasiBody> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) & state != 0
    }

    /// Whether it can be sent from its start.
    pub(super) fn is_whole(&self) -> bool {
        !self.is(TOUCHED)
    }

    /// Whether all of it was sent.
    pub(super) fn is_over(&self) -> bool {
        self.is(ENDED) || self.body().is_end_stream()
    }

    fn end(&self) {
        self.state.fetch_or(ENDED, Ordering::AcqRel);
        self.over.cancel();
    }

    /// Resolves when it was sent, or cannot be.
    pub(super) fn sent(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        if self.is_over() {
            self.end();
        }
        let (over, state) = (self.over.clone(), Arc::clone(&self.state));
        async move {
            over.cancelled().await;
            let is_whole = state.load(Ordering::Acquire) & ENDED != 0;
            if is_whole { Ok(()) } else { Err(Error::ConnectionTerminated) }
        }
    }
}

/// One attempt to send it to an origin.
pub(super) struct Sending(pub(super) Arc<Source>);

impl Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let source = &self.0;
        if source.is(ENDED) {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut *source.body()).poll_frame(cx));
        if frame.is_some() {
            source.state.fetch_or(TOUCHED, Ordering::AcqRel);
        } else if source.alive.strong_count() == 0 {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        } else {
            source.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_over() && (self.0.is(ENDED) || self.0.alive.strong_count() > 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body().size_hint()
    }
}

/// A response's body on its way to the guest, with limits on its size and on the time between its pieces.
pub(super) struct Arriving {
    pub(super) body: Incoming,
    pub(super) left: u64,
    pub(super) idle: Duration,
    pub(super) clock: Option<Pin<Box<Sleep>>>,
    pub(super) tenant: Arc<Tenant>,
    /// Held until the last byte.
    pub(super) held: Option<Held>,
}

/// What an exchange holds until the last byte of the response was read.
pub(super) struct Held {
    pub(super) egress: Arc<Egress>,
    pub(super) lease: Lease,
    pub(super) source: Arc<Source>,
    pub(super) _outbound: QuotaPermit,
    pub(super) _kept: crate::host::meter::Held,
}

impl Arriving {
    /// The response was read to its end. If the guest's body was sent completely, the connection waits for another request.
    /// If the origin answered early, it still gets the rest of the body, on a connection that is not reused.
    pub(super) fn end(&mut self) {
        let Some(held) = self.held.take() else { return };
        if held.source.is_over()
            && let lease @ Lease::Exclusive(_) = held.lease
        {
            held.egress.pool.keep(lease);
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let until = Instant::now() + self.idle;
            let clock = self.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            std::task::ready!(clock.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        self.clock = None;
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.tenant.ledger.charge_body_bytes(bytes);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(self.next(cx));
        match &frame {
            // The reader may not ask again after the last byte.
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            Some(Ok(_)) | None => self.end(),
            // Drops the connection and what it holds.
            Some(Err(_)) => self.held = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
