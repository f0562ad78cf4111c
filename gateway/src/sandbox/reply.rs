//! What a guest answered: a head, and a body that is still being made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::WasiBody;

use crate::admission::Admitted;
use crate::fault::Fault;
use crate::http::Torn;
use crate::telemetry::Record;
use crate::tenant::cost;

/// A guest's response, as it is being made.
pub(crate) type Reply = http::Response<GuestBody>;

/// Ends the guest when dropped, unless the response was finished.
pub(super) struct CancelOnDrop(Option<CancellationToken>);

impl CancelOnDrop {
    pub(super) const fn new(token: CancellationToken) -> Self {
        Self(Some(token))
    }

    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(token) = self.0.take() {
            token.cancel();
        }
    }
}

/// What a wasi:http 0.3 guest's driver hands over; a queue that closes before `End` was torn.
pub(super) enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// Where a body comes from.
pub(super) enum Source {
    /// wasi:http 0.2: its channel closes when the instance is dropped, by which time a fault has been noted.
    Channel(WasiBody),
    /// wasi:http 0.3: frames that the driver takes out of the instance.
    Driven(mpsc::Receiver<Piece>),
}

/// The body of a [`Reply`].
///
/// Invariant: it ends well only if the guest finished it: where the guest trapped or ran out of something, the last
/// frame is an error, and the client sees a torn stream instead of a whole one.
pub(crate) struct GuestBody {
    source: Source,
    record: Arc<Record>,
    finished: bool,
    cancel: CancelOnDrop,
    /// Resolves when the instance has ended and its fault, if any, is noted.
    ended: oneshot::Receiver<()>,
    /// Bytes still to come, where the guest declared how many: a client with all of them asks for no more.
    left: Option<u64>,
    admitted: Arc<Admitted>,
}

impl GuestBody {
    pub(super) fn new(
        source: Source,
        headers: &HeaderMap,
        record: Arc<Record>,
        cancel: CancelOnDrop,
        ended: oneshot::Receiver<()>,
        admitted: Arc<Admitted>,
    ) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { source, record, finished: false, cancel, ended, left: length, admitted }
    }

    /// Bytes that the header section may have.
    pub(crate) fn head_bytes_max(&self) -> u64 {
        self.admitted.routed.limits().response_head
    }

    /// Gives the response up before any of it was sent, for this reason.
    pub(crate) fn refuse(self, fault: Fault) -> Fault {
        self.record.fault(fault);
        fault
    }

    fn tear(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let fault = self.record.first_fault().unwrap_or(fault);
        self.record.fault(fault);
        self.finished = true;
        Poll::Ready(Some(Err(Torn(fault))))
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        match self.record.first_fault() {
            Some(fault) => self.tear(fault),
            None => {
                self.finished = true;
                self.cancel.disarm();
                Poll::Ready(None)
            }
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let next = match &mut self.source {
            Source::Channel(body) => match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(_reason)) => return self.tear(Fault::BadResponse),
                None => None,
            },
            Source::Driven(queue) => match std::task::ready!(queue.poll_recv(cx)) {
                Some(Piece::Frame(frame)) => Some(frame),
                Some(Piece::End) => None,
                None => {
                    // The queue goes a moment before the fault is noted.
                    let _over = std::task::ready!(Pin::new(&mut self.ended).poll(cx));
                    return self.tear(Fault::BadResponse);
                }
            },
        };
        let Some(frame) = next else { return self.end() };
        match frame.data_ref() {
            Some(data) => {
                let bytes = data.len() as u64;
                if self.left.is_some_and(|left| bytes > left) {
                    // The excess would be the beginning of another response to whoever is on the other side.
                    return self.tear(Fault::BadResponse);
                }
                self.record.sent(bytes);
                self.admitted.routed.tenant().ledger.moved(bytes);
                self.left = self.left.map(|left| left.saturating_sub(bytes));
            }
            // Trailers are the last frame; nobody asks for another.
            None => {
                self.finished = true;
                self.cancel.disarm();
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let is_whole = match &self.source {
            Source::Channel(body) => body.is_end_stream() || self.left == Some(0),
            Source::Driven(_) => self.left == Some(0),
        };
        is_whole && self.record.first_fault().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Channel(body) => body.size_hint(),
            Source::Driven(_) => SizeHint::default(),
        }
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            // A response without a body is whole without being polled.
            self.finished = true;
            self.cancel.disarm();
        }
        if !self.finished {
            self.record.fault(Fault::ClientGone);
        }
        let fuel = self.record.bytes_sent() / cost::BODY_BYTES_A_UNIT;
        if fuel > 0 {
            self.record.burned_for_body(fuel);
            self.admitted.routed.tenant().ledger.burn(fuel);
        }
    }
}
