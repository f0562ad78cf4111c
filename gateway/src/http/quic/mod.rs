//! HTTP/3 (RFC 9114) by h3 over quinn, with the same bounds as the older versions.
//!
//! Limit: as in [`super`]. Here a stream is its own task and writes to its client itself. [`transport`] bounds what QUIC
//! buffers for one connection in both directions.

mod body;
mod bounded;
mod control;
mod frames;
mod reader;
mod receiving;
mod wasted;
mod unidirectional;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use quinn::{IdleTimeout, TransportConfig, VarInt};

use super::body::ResponseBody;
use super::exchange::{Connection, Exchange, Unanswered};
use super::front::Malformed;
use super::idle::{self, Activity, Busy};
use super::min_rate::MinRate;
use super::{Settings, panicked};
use crate::deadline::Deadline;
use crate::telemetry::Tasks;

pub(crate) use body::QuicBody;
use bounded::{Bounded, Sending, Stopped};
use reader::Notes;
use receiving::Receiving;
use wasted::Wasted;

type Sender = RequestStream<Sending<Bytes>, Bytes>;

/// The control stream, QPACK's two, and a few of unknown types.
const UNIDIRECTIONAL_MAX: u32 = 8;
/// Bytes that a client may send on one stream, and on one connection, before they are read.
const STREAM_WINDOW: u32 = 256 << 10;
const RECEIVE_WINDOW: u32 = 1 << 20;
/// Bytes that are kept for a client until it acknowledges them.
const SEND_WINDOW: u64 = 1 << 20;
/// Bytes of a response that are passed on together. With small pieces, progress of a slow client is visible.
const PIECE_BYTES: usize = 16 << 10;
/// Keeps the connection alive while a guest works.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What QUIC may accept and buffer for one client.
pub(crate) fn transport(settings: &Settings) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNIDIRECTIONAL_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(settings.idle).ok())
        .keep_alive_interval(Some(KEEP_ALIVE.min(settings.idle / 3)))
        .datagram_receive_buffer_size(None);
    transport
}

/// Serves one connection to its end: until the client leaves, the idle timeout passes, or the gateway drains.
pub(crate) async fn serve_quic<S, F>(
    connection: quinn::Connection,
    client: Arc<Connection>,
    settings: &Settings,
    tasks: &Tasks,
    service: S,
) where
    S: Fn(Request<QuicBody>, Arc<Exchange>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let activity = Activity::new(None);
    let mut builder = h3::server::builder();
    builder.max_field_section_size(settings.head_bytes).send_grease(false);
    let (bounded, accepted) = Bounded::new(connection.clone(), settings.head_bytes);
    let built = builder.build(bounded);
    let Ok(Ok(mut requests)) = Deadline::after(settings.handshake_time).run(built).await else { return };
    let settings = Arc::new(settings.clone());
    let wasted = Arc::<Wasted>::default();
    let mut ends = false;
    loop {
        let next = tokio::select! {
            next = requests.accept() => next,
            () = tasks.draining(), if !ends => Ok(None),
            () = activity.idle_for(settings.idle), if !ends => Ok(None),
            // The connection was told to end, and its requests are finished.
            () = activity.idle_for(idle::GRACE), if ends => return,
        };
        match next {
            Ok(Some(_)) if wasted.is_headless_too_often() => return,
            Ok(Some(_)) if wasted.has_cancelled_too_many() => {
                tracing::debug!(target: "http", "a client cancels too many requests");
                connection.close(code(Code::H3_EXCESSIVE_LOAD), b"too many cancelled requests");
                return;
            }
            Ok(Some(resolver)) => {
                let Some((stopped, notes)) = accepted.take(resolver.frame_stream.id()) else { return };
                let (busy, exchange) = (activity.enter(), Exchange::new(Some(Arc::clone(&client))));
                let (settings, service, wasted) = (Arc::clone(&settings), service.clone(), Arc::clone(&wasted));
                tasks.spawn(async move {
                    one(resolver, (stopped, notes), &settings, service, (&wasted, busy, exchange)).await;
                });
            }
            Ok(None) if ends => return,
            Ok(None) => {
                ends = true;
                // Requests that are already on their way are answered: at most the number of concurrent streams.
                let told = requests.shutdown(settings.streams as usize);
                if !matches!(Deadline::after(idle::GRACE).run(told).await, Ok(Ok(()))) {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(target: "http", %error, "a connection ended early");
                return;
            }
        }
    }
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// Serves one request, until the client has the last byte of its response, or wants no more of it.
async fn one<S, F>(
    resolver: RequestResolver<Bounded, Bytes>,
    (mut stopped, notes): (Stopped, Arc<Notes>),
    settings: &Settings,
    service: S,
    (wasted, busy, exchange): (&Wasted, Busy, Arc<Exchange>),
) where
    S: Fn(Request<QuicBody>, Arc<Exchange>) -> F,
    F: Future<Output = Response<ResponseBody>>,
{
    let Ok(Ok((request, stream))) = Deadline::after(settings.head_time).run(resolver.resolve_request()).await else {
        wasted.headless();
        return;
    };
    let (mut sender, receiver) = stream.split();
    let request = request.map(|()| receiver);
    let answered = {
        let answering = answer(request, &notes, &mut sender, settings, service, (busy, Arc::clone(&exchange)));
        let mut answering = pin!(AssertUnwindSafe(answering).catch_unwind());
        let unanswered = Unanswered::new(&exchange);
        let answered = tokio::select! {
            answered = &mut answering => answered,
            // The client has left.
            _why = &mut stopped => {
                wasted.cancelled();
                return;
            }
        };
        unanswered.answered();
        answered
    };
    match answered {
        // Closing the connection would lose data that is still on its way.
        Ok(Ok(())) => {
            let _had = Deadline::after(settings.write_stall).run(stopped).await;
        }
        // The request was malformed (RFC 9114 §4.1.2), or the client has left or was too slow.
        Ok(Err(Cut)) if notes.is_malformed() => sender.stop_stream(Code::H3_MESSAGE_ERROR),
        Ok(Err(Cut)) => sender.stop_stream(Code::H3_INTERNAL_ERROR),
        // The stream is reset. The response's head may already be sent, so that only the log can report the error.
        Err(panic) => drop(panicked(panic)),
    }
}

async fn answer<S, F>(
    request: Request<RequestStream<Receiving, Bytes>>,
    notes: &Arc<Notes>,
    sender: &mut Sender,
    settings: &Settings,
    service: S,
    (busy, exchange): (Busy, Arc<Exchange>),
) -> Result<(), Cut>
where
    S: Fn(Request<QuicBody>, Arc<Exchange>) -> F,
    F: Future<Output = Response<ResponseBody>>,
{
    let (mut head, receiver) = request.into_parts();
    if let Some(fault) = notes.refused() {
        head.extensions.insert(Malformed(fault));
    }
    // The value is one number, or there is none (`reader` checks that).
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = QuicBody::new(receiver, length, Arc::clone(notes));
    let mut answered = pin!(service(Request::from_parts(head, body), Arc::clone(&exchange)));
    let response = tokio::select! {
        response = &mut answered => response,
        () = notes.wanted.notified() => {
            // If the client has left, that is noticed when it is answered.
            let _sent = sender.send_response(continued()).await;
            answered.await
        }
    };
    // A malformed request was answered only for the record.
    if notes.is_malformed() {
        return Err(Cut);
    }
    let response = response.map(|body| busy.until_end_of(body, exchange));
    send(sender, response, settings, notes).await
}

/// The interim response for a client that waits to send its body until the guest reads it (RFC 9110 §10.1.1).
fn continued() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// Nothing more can be sent, and the response is incomplete.
struct Cut;

async fn send(
    sender: &mut Sender,
    response: Response<ResponseBody>,
    settings: &Settings,
    notes: &Notes,
) -> Result<(), Cut> {
    let (mut head, mut body) = response.into_parts();
    if !head.headers.contains_key(DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        head.headers.insert(DATE, now);
    }
    let mut min_rate = MinRate::new(settings.write_stall, settings.rate_min);
    taken(&mut min_rate, 0, sender.send_response(Response::from_parts(head, ()))).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_torn| Cut)?;
        match frame.into_data() {
            Ok(mut data) => {
                while !data.is_empty() {
                    let piece = data.split_to(data.len().min(PIECE_BYTES));
                    taken(&mut min_rate, piece.len(), sender.send_data(piece)).await?;
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    taken(&mut min_rate, 0, sender.send_trailers(trailers)).await?;
                }
            }
        }
    }
    if notes.is_malformed() {
        return Err(Cut);
    }
    taken(&mut min_rate, 0, sender.finish()).await
}

/// Waits until the client's window has room for what is sent.
async fn taken<E>(min_rate: &mut MinRate, bytes: usize, sent: impl Future<Output = Result<(), E>>) -> Result<(), Cut> {
    match min_rate.within(sent, bytes as u64).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Cut),
    }
}
