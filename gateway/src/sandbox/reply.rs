//! What a guest answered: a head, and a body that is still being made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::WasiBody;

use crate::admission::Admitted;
use crate::fault::Fault;
use crate::http::Torn;
use crate::telemetry::Record;

/// A guest's response, as it is being made.
pub(crate) type Reply = http::Response<GuestBody>;

/// Ends the guest when dropped, unless the response was finished.
pub(super) struct CancelOnDrop(Option<CancellationToken>);

impl CancelOnDrop {
    pub(super) const fn new(token: CancellationToken) -> Self {
        Self(Some(token))
    }

    fn disarm(&mut self) {
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
    _admitted: Arc<Admitted>,
}

impl GuestBody {
    pub(super) const fn new(
        source: Source,
        record: Arc<Record>,
        cancel: CancelOnDrop,
        admitted: Arc<Admitted>,
    ) -> Self {
        Self { source, record, finished: false, cancel, _admitted: admitted }
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
                None => return self.tear(Fault::BadResponse),
            },
        };
        match next {
            None => self.end(),
            Some(frame) => {
                self.record.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Channel(body) => body.is_end_stream() && self.record.first_fault().is_none(),
            Source::Driven(_) => false,
        }
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
    }
}
