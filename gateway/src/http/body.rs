//! Bodies in both directions: a request's body under its limits, and the kinds of response bodies.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::Settings;
use super::exchange::Exchange;
use super::heads::Expecting;
use super::hygiene::clean_trailers;
use super::min_rate::MinRate;
use super::quic::QuicBody;
use crate::fault::Fault;
use crate::telemetry::{Record, Tasks};

/// A response's body. An error ends the stream so that no client takes the body for complete: HTTP/1.1 omits the last
/// chunk, HTTP/2 sends RST_STREAM.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BodyAborted>;

/// The rest of the body will not arrive.
#[derive(Debug, thiserror::Error)]
#[error("the response ends here: {0}")]
pub(crate) struct BodyAborted(pub(crate) Fault);

pub(crate) fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The size of the pieces in which a complete response is passed on. With small pieces, progress of a slow client is
/// visible.
const PIECE_BYTES: usize = 8 << 10;

/// A complete body that is sent in pieces, each when the client has room for it.
pub(crate) fn whole(bytes: Bytes) -> ResponseBody {
    if bytes.len() <= PIECE_BYTES { full(bytes) } else { Whole(bytes).boxed_unsync() }
}

struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let bytes = self.0.len().min(PIECE_BYTES);
        let piece = (bytes > 0).then(|| self.0.split_to(bytes));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Resolves to the fault that ended a request's body. Never resolves if the body was complete: then nothing is woken.
#[derive(Debug)]
pub(crate) struct BodyOutcome(Arc<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    fault: OnceLock<Fault>,
    is_known: Notify,
}

impl BodyOutcome {
    pub(crate) async fn broken(&mut self) -> Fault {
        loop {
            if let Some(fault) = self.0.fault.get() {
                return *fault;
            }
            self.0.is_known.notified().await;
        }
    }
}

/// A request's body on its way to the guest, with a limit on its size and on the time between its pieces.
///
/// Invariant: the guest never sees a byte of the frame that goes over the limit.
pub(crate) struct RequestBody {
    body: Arrival,
    left: u64,
    min_rate: MinRate,
    outcome: Arc<Outcome>,
    record: Arc<Record>,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    /// # Errors
    /// [`Fault::BodyTooLarge`] if the declared length already exceeds the limit.
    pub(crate) fn new(
        body: impl Into<Source>,
        bytes_max: u64,
        settings: &Settings,
        (record, exchange): (Arc<Record>, Arc<Exchange>),
        tasks: &Tasks,
    ) -> Result<(Self, BodyOutcome), Fault> {
        let body = Arrival { body: Some(body.into()), tasks: tasks.clone() };
        if body.size_hint().lower() > bytes_max {
            return Err(Fault::BodyTooLarge);
        }
        let outcome = Arc::<Outcome>::default();
        let verdict = BodyOutcome(Arc::clone(&outcome));
        let min_rate = MinRate::new(settings.body_idle, settings.rate_min);
        Ok((Self { body, left: bytes_max, min_rate, outcome, record, exchange }, verdict))
    }

    /// The exchange to which the body belongs.
    pub(crate) const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    fn fail(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        // The first fault is the cause. Once the response has started, nobody waits for it, but the guest still gets the
        // error.
        let _first = self.outcome.fault.set(fault);
        self.outcome.is_known.notify_one();
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Poll::Ready(frame) = self.body.poll_frame(cx) else {
            self.exchange.start_waiting();
            return match self.min_rate.poll_too_slow(cx) {
                Poll::Ready(()) => self.fail(Fault::BodyTimeout),
                Poll::Pending => Poll::Pending,
            };
        };
        self.exchange.stop_waiting();
        match frame {
            None => Poll::Ready(None),
            Some(Err(_torn)) => {
                // The guest is not to blame for what follows.
                self.exchange.note_client_left();
                self.fail(Fault::ClientGone)
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.min_rate.transferred(bytes);
                self.record.received(bytes);
                match self.left.checked_sub(bytes) {
                    Some(left) => self.left = left,
                    None => return self.fail(Fault::BodyTooLarge),
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.exchange.stop_waiting();
    }
}

/// For how long, and for how many bytes, an unwanted body is still read.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: u64 = 16 << 20;

/// A body that is arriving. If it is dropped before its end, the rest is read and discarded for a while. Otherwise a client
/// that is still sending would get a connection reset and never read the answer (RFC 9112 §9.6, lingering close).
struct Arrival {
    body: Option<Source>,
    tasks: Tasks,
}

/// Where the body comes from: a client's connection, or a guest.
pub(crate) enum Source {
    Client(Incoming, Option<Expecting>),
    Quic(Box<QuicBody>),
    Guest(UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>),
}

impl Source {
    /// The body of a request without a body.
    pub(crate) fn nothing() -> Self {
        Self::Guest(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// Whether the body is known to be empty.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Client(body, _) => body.is_end_stream(),
            Self::Quic(body) => body.is_end_stream(),
            Self::Guest(body) => body.is_end_stream(),
        }
    }
}

impl From<QuicBody> for Source {
    fn from(body: QuicBody) -> Self {
        Self::Quic(Box::new(body))
    }
}

impl From<UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>> for Source {
    fn from(body: UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>) -> Self {
        Self::Guest(body)
    }
}

/// The body broke off.
struct Gone;

impl Arrival {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        match &mut self.body {
            Some(Source::Client(body, expecting)) => {
                let polled = Pin::new(body).poll_frame(cx).map_err(|_error| Gone);
                if let Some(expecting) = expecting.take().filter(|_| polled.is_pending()) {
                    expecting.wanted();
                }
                polled
            }
            Some(Source::Quic(body)) => Pin::new(body).poll_frame(cx).map_err(|_error| Gone),
            Some(Source::Guest(body)) => Pin::new(body).poll_frame(cx).map_err(|_error| Gone),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(Source::Client(body, _)) => body.size_hint(),
            Some(Source::Quic(body)) => body.size_hint(),
            Some(Source::Guest(body)) => body.size_hint(),
            None => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Source::is_empty)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // A guest's body has no connection to reset, and QUIC can end a stream without its connection.
        if self.is_end_stream() {
            return;
        }
        // A client that waits for `100 Continue` sends nothing yet, and reading from it would ask it to.
        let Some(Source::Client(mut body, None)) = self.body.take() else { return };
        self.tasks.spawn(tokio::time::timeout(LINGER, async move {
            let mut left = LINGER_BYTES_MAX;
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(less) = left.checked_sub(bytes) else { return };
                left = less;
            }
        }));
    }
}
