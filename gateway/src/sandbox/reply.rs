//! A guest's answer: a head, and a body that the guest may still be producing.
//!
//! It holds no permits: these are released with the guest, or the client's exchange keeps them if the rest is large
//! (`release_permits`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::WasiBody;

use crate::fault::Fault;
use crate::host::BodyBuffer;
use crate::http::BodyAborted;
use crate::telemetry::Record;
use crate::tenant::{Budget, Ledger, cost};

/// A guest's response in progress.
pub(crate) type Reply = http::Response<GuestBody>;

/// Cancels the guest when dropped, unless the response is finished.
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

/// What a guest's driver passes on. A queue that closes before `End` means that the body broke off.
enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// The sender of what a driver takes out of the instance, as far as there is room.
pub(super) struct Pieces {
    queue: mpsc::UnboundedSender<Piece>,
    room: Arc<BodyBuffer>,
}

/// The receiver.
pub(super) struct Driven {
    queue: mpsc::UnboundedReceiver<Piece>,
    room: Arc<BodyBuffer>,
}

/// Where a body comes from.
pub(super) enum Source {
    /// wasi:http 0.2: its channel closes when the instance is dropped. By then a fault has been noted.
    Channel(WasiBody),
    /// wasi:http 0.3: frames that the driver takes out of the instance.
    Driven(Driven),
    /// The complete body, which the guest has already handed over.
    Whole(Bytes, Arc<BodyBuffer>),
}

impl Source {
    pub(super) fn driven(room: Arc<BodyBuffer>) -> (Pieces, Self) {
        // Limit: `room` holds as many bytes as may wait. An empty frame takes some of them too.
        let (sender, queue) = mpsc::unbounded_channel();
        (Pieces { queue: sender, room: Arc::clone(&room) }, Self::Driven(Driven { queue, room }))
    }
}

/// Nobody wants the rest.
pub(super) struct Unwanted;

impl Pieces {
    pub(super) async fn send(&self, frame: Frame<Bytes>) -> Result<(), Unwanted> {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.room.take(bytes).await.ok_or(Unwanted)?;
        self.queue.send(Piece::Frame(frame)).map_err(|_gone| Unwanted)
    }

    /// Marks the body as complete.
    pub(super) fn end(self) {
        let _gone = self.queue.send(Piece::End);
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// The size of pieces in which a complete body is passed on.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A body of a declared length up to this many bytes is awaited for this long before its head is sent, so that an error in
/// a small body is found while the client can still be told.
const LOOK_BYTES_MAX: u64 = 16 << 10;
const LOOK_TIME: Duration = Duration::from_millis(20);

/// The body of a [`Reply`].
///
/// Invariant: it ends well only if the guest finished it. If the guest trapped or reached a limit before, the last frame is
/// an error, so that the client sees a broken stream instead of a complete one.
pub(crate) struct GuestBody {
    source: Source,
    record: Arc<Record>,
    finished: bool,
    cancel: CancelOnDrop,
    /// Resolves when the instance has ended and its fault, if any, is noted.
    ended: oneshot::Receiver<()>,
    /// Whether it waits for that.
    is_closing: bool,
    /// Bytes that are still to come, if the guest declared the length: a client with all of them asks for no more.
    left: Option<u64>,
    /// Bytes so far, and the declared length.
    came: u64,
    declared: Option<u64>,
    /// What arrived before the head was sent.
    early: VecDeque<Frame<Bytes>>,
    /// Whether that is the whole body.
    is_all_early: bool,
    ledger: Arc<Ledger>,
    head_bytes_max: u64,
    /// The budget that pays for the response, if a component of the same tenant asked for it, and how much it has paid.
    inner: Option<Budget>,
    drawn: u64,
}

impl GuestBody {
    pub(super) fn new(
        source: Source,
        headers: &HeaderMap,
        record: Arc<Record>,
        (cancel, ended): (CancelOnDrop, oneshot::Receiver<()>),
        (ledger, head_bytes_max): (Arc<Ledger>, u64),
        inner: Option<Budget>,
    ) -> Self {
        let left = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let (early, is_all_early) = Default::default();
        let (finished, is_closing, came, drawn) = (false, false, 0, 0);
        Self {
            source,
            record,
            finished,
            cancel,
            ended,
            is_closing,
            left,
            came,
            declared: left,
            early,
            is_all_early,
            ledger,
            head_bytes_max,
            inner,
            drawn,
        }
    }

    /// The most bytes of the header section.
    pub(crate) const fn head_bytes_max(&self) -> u64 {
        self.head_bytes_max
    }

    /// Refuses the response before any of it is sent, for this reason.
    pub(crate) fn refuse(self, fault: Fault) -> Fault {
        self.record.fault(fault);
        fault
    }

    /// Marks that the body is never sent (for HEAD, and for 204, 205 and 304). The declared length then belongs to another
    /// response.
    pub(super) const fn is_never_sent(&mut self) {
        self.left = None;
    }

    /// Waits a moment for a body with a declared length, or for one whose guest has ended. Call it before the head is sent.
    ///
    /// # Errors
    /// The body broke off, or its length differs.
    pub(super) async fn look_ahead(&mut self) -> Result<(), Fault> {
        let declared = self.left.filter(|left| *left > 0);
        let wanted = match declared {
            // The whole body is here.
            _ if self.record.has_left_body_open() => u64::MAX,
            Some(declared) => declared.min(LOOK_BYTES_MAX),
            None => return Ok(()),
        };
        let mut came = 0;
        let looking = poll_fn(|cx| {
            while came < wanted {
                match std::task::ready!(self.pull(cx)) {
                    Some(Ok(frame)) => {
                        came += frame.data_ref().map_or(0, |data| data.len() as u64);
                        self.early.push_back(frame);
                    }
                    Some(Err(fault)) => return Poll::Ready(Err(fault)),
                    None => {
                        self.is_all_early = true;
                        let is_short = declared.is_some_and(|declared| came < declared);
                        return Poll::Ready(if is_short { Err(Fault::BadResponse) } else { Ok(()) });
                    }
                }
            }
            let is_long = declared.is_some_and(|declared| came > declared);
            Poll::Ready(if is_long { Err(Fault::BadResponse) } else { Ok(()) })
        });
        // A slow body is sent as it arrives.
        tokio::time::timeout(LOOK_TIME, looking).await.unwrap_or(Ok(()))
    }

    /// The next frame from the guest, or the end of a finished body.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_closing {
            // The queue closes a moment before the fault is noted.
            let _over = std::task::ready!(Pin::new(&mut self.ended).poll(cx));
            return Poll::Ready(Some(Err(self.record.first_fault().unwrap_or(Fault::BadResponse))));
        }
        match &mut self.source {
            Source::Channel(body) => match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.came += frame.data_ref().map_or(0, |data| data.len() as u64);
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Err(_reason)) => Poll::Ready(Some(Err(self.record.first_fault().unwrap_or(Fault::BadResponse)))),
                // The channel also ends like this if the instance was dropped in the middle of the body.
                None => match self.record.first_fault().filter(|_| !self.record.is_finished()) {
                    Some(fault) => Poll::Ready(Some(Err(fault))),
                    // A body that was never begun is empty: some engines open one for a response without a body. A body of
                    // the declared length is complete.
                    None if self.came > 0 && self.declared != Some(self.came) && self.record.has_left_body_open() => {
                        Poll::Ready(Some(Err(Fault::BadResponse)))
                    }
                    None => Poll::Ready(None),
                },
            },
            Source::Whole(left, room) => {
                let piece = left.split_to(left.len().min(PIECE_BYTES_MAX));
                room.gives_back(piece.len() as u64);
                Poll::Ready(if piece.is_empty() { None } else { Some(Ok(Frame::data(piece))) })
            }
            Source::Driven(driven) => match std::task::ready!(driven.queue.poll_recv(cx)) {
                Some(Piece::Frame(frame)) => {
                    driven.room.taken(frame.data_ref().map_or(0, Bytes::len));
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Piece::End) => Poll::Ready(None),
                None => {
                    self.is_closing = true;
                    self.pull(cx)
                }
            },
        }
    }

    /// Charges the caller's budget for what arrived so far. Returns whether it was enough.
    fn pay(&mut self) -> bool {
        let Some(budget) = &self.inner else { return true };
        let owed = self.record.bytes_sent() / cost::BODY_BYTES_A_UNIT - self.drawn;
        let drawn = budget.draw(owed);
        self.drawn += drawn;
        drawn == owed
    }

    fn tear(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        self.record.fault(fault);
        self.finished = true;
        Poll::Ready(Some(Err(BodyAborted(fault))))
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let next = match self.early.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None if self.is_all_early => None,
            None => std::task::ready!(self.pull(cx)),
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            Some(Err(fault)) => return self.tear(fault),
            // The client waits for the rest.
            None if self.left.is_some_and(|left| left > 0) => return self.tear(Fault::BadResponse),
            None => {
                self.finished = true;
                self.cancel.disarm();
                return Poll::Ready(None);
            }
        };
        match frame.data_ref() {
            Some(data) => {
                let bytes = data.len() as u64;
                if self.left.is_some_and(|left| bytes > left) {
                    // The excess would be read as the start of another response.
                    return self.tear(Fault::BadResponse);
                }
                self.record.sent(bytes);
                self.ledger.charge_body_bytes(bytes);
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                if !self.pay() {
                    return self.tear(Fault::Fuel);
                }
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
            Source::Whole(left, _) => left.is_empty(),
        };
        let is_fine = self.record.first_fault().is_none() || self.record.is_finished();
        is_whole && self.early.is_empty() && is_fine
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Channel(body) if self.early.is_empty() => body.size_hint(),
            Source::Channel(_) | Source::Driven(_) | Source::Whole(..) => SizeHint::default(),
        }
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            // A response without a body is complete without being polled.
            self.finished = true;
            self.cancel.disarm();
        }
        if !self.finished {
            self.record.fault(Fault::ClientGone);
        }
        let of_bytes = self.record.bytes_sent() / cost::BODY_BYTES_A_UNIT;
        let fuel = if self.inner.is_some() { self.drawn } else { of_bytes };
        if fuel > 0 {
            self.record.burned_for_body(fuel);
            self.ledger.burn(fuel);
        }
    }
}
