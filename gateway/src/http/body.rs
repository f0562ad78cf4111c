//! Bodies, both ways: a request's under its limits, and what a response may be made of.

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
use super::pace::Pace;
use super::quic::QuicBody;
use crate::fault::Fault;
use crate::telemetry::{Record, Tasks};

/// A response's body. An error in it ends the stream so that no client takes it for whole: HTTP/1.1 gets no last chunk,
/// HTTP/2 gets RST_STREAM.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, Torn>;

/// The rest of the body will not come.
#[derive(Debug, thiserror::Error)]
#[error("the response ends here: {0}")]
pub(crate) struct Torn(pub(crate) Fault);

pub(crate) fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Of a response that is there whole, as it is handed on: so that a slow client is seen to move.
const PIECE_BYTES: usize = 8 << 10;

/// A body that is there whole and goes out in pieces, each when the client has room for it.
pub(crate) fn whole(bytes: Bytes) -> ResponseBody {
    if bytes.len() <= PIECE_BYTES { full(bytes) } else { Whole(bytes).boxed_unsync() }
}

struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
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

/// Resolves to the fault that a request's body ended with; never, where it was well. A body that was well wakes nobody.
#[derive(Debug)]
pub(crate) struct Verdict(Arc<Outcome>);

#[derive(Debug, Default)]
struct Outcome {
    fault: OnceLock<Fault>,
    is_known: Notify,
}

impl Verdict {
    pub(crate) async fn broken(&mut self) -> Fault {
        loop {
            if let Some(fault) = self.0.fault.get() {
                return *fault;
            }
            self.0.is_known.notified().await;
        }
    }
}

/// A request's body on its way to the guest, under a limit of bytes and of silence.
///
/// Invariant: the guest never sees a byte of the frame that goes over the limit.
pub(crate) struct RequestBody {
    body: Arrival,
    left: u64,
    pace: Pace,
    outcome: Arc<Outcome>,
    record: Arc<Record>,
    exchange: Arc<Exchange>,
}

impl RequestBody {
    /// # Errors
    /// [`Fault::BodyTooLarge`] where the declared length is over the limit already.
    pub(crate) fn new(
        body: impl Into<Source>,
        bytes_max: u64,
        settings: &Settings,
        (record, exchange): (Arc<Record>, Arc<Exchange>),
        tasks: &Tasks,
    ) -> Result<(Self, Verdict), Fault> {
        let body = Arrival { body: Some(body.into()), tasks: tasks.clone() };
        if body.size_hint().lower() > bytes_max {
            return Err(Fault::BodyTooLarge);
        }
        let outcome = Arc::<Outcome>::default();
        let verdict = Verdict(Arc::clone(&outcome));
        let pace = Pace::new(settings.body_idle, settings.rate_min);
        Ok((Self { body, left: bytes_max, pace, outcome, record, exchange }, verdict))
    }

    /// The exchange that it is of.
    pub(crate) const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    fn fail(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        // Nobody listens once the response is under way; the guest still gets the error. The first one is the cause.
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
            self.exchange.begins_to_wait();
            return match self.pace.poll_too_slow(cx) {
                Poll::Ready(()) => self.fail(Fault::BodyTimeout),
                Poll::Pending => Poll::Pending,
            };
        };
        self.exchange.waits_no_more();
        match frame {
            None => Poll::Ready(None),
            Some(Err(_torn)) => {
                // What the guest makes of it is not its own failing.
                self.exchange.has_left();
                self.fail(Fault::ClientGone)
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.pace.moved(bytes);
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
        self.exchange.waits_no_more();
    }
}

/// How long, and for how many bytes, a body that nobody wants is still taken.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: u64 = 16 << 20;

/// A body as it arrives. One that is dropped before its end is taken and thrown away for a while: a client that is still
/// sending it would otherwise see its connection reset, and never read the answer (RFC 9112 §9.6, lingering close).
struct Arrival {
    body: Option<Source>,
    tasks: Tasks,
}

/// Who sends it: a client over its connection, or a guest.
pub(crate) enum Source {
    Client(Incoming, Option<Expecting>),
    Quic(Box<QuicBody>),
    Guest(UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>),
}

impl Source {
    /// That of a request which has none.
    pub(crate) fn nothing() -> Self {
        Self::Guest(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// Whether it is known to be empty.
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

/// It broke off.
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
        // A guest's has no connection to be reset, and QUIC tells a stream apart from its connection.
        if self.is_end_stream() {
            return;
        }
        // Nor does a client send what it was not asked for, and to take it would be to ask.
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
