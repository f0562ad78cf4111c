//! HTTP/1.1 and HTTP/2 by hyper, HTTP/3 by h3, with a bound on everything that a client can make us wait for or hold.
//!
//! Limit: the head of a request in bytes, fields and time; the time between two pieces of a body (the tenant limits its
//! size); streams per connection; the idle time of a connection; the time in which a client reads nothing, on its socket or
//! on one stream; and the minimum average rate.

mod blocks;
mod body;
pub(crate) mod cdn_loop;
mod claims;
mod exchange;
mod frames;
mod front;
mod grammar;
mod heads;
mod held;
mod hygiene;
mod idle;
mod list;
mod loopback;
mod origin;
mod min_rate;
mod quic;
mod redirect;
mod slow;
pub(crate) mod spin;
mod stall;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::networks::Networks;
use crate::telemetry::Tasks;
use crate::tls::Protocol;

pub(crate) use body::{BodyAborted, BodyOutcome, RequestBody, ResponseBody, Source as BodySource, empty, full, whole};
pub(crate) use cdn_loop::CDN_LOOP;
pub(crate) use exchange::{Connection, Exchange, Permits};
pub(crate) use grammar::{HostPort, default_port, drop_underscores, normalise, one_spelling, spell, whom};
pub(crate) use hygiene::{X_FORWARDED_CLIENT_CERT, X_REQUEST_ID, clean_request, clean_response, has_no_content};
pub(crate) use list::list;
pub(crate) use loopback::name_loopback;
pub(crate) use origin::Origin;
pub(crate) use quic::{serve_quic, transport};
pub(crate) use redirect::to_https;
pub(crate) use slow::Slow;

use exchange::Unanswered;
use frames::Frames;
use front::{Front, Refusals};
use heads::{Expecting, Heads, Notes};
use idle::Activity;
use min_rate::MinRate;
use stall::Stalling;

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// From the first byte of a head to its end.
    pub(crate) head_time: Duration,
    pub(crate) handshake_time: Duration,
    /// Between two pieces of a request's body.
    pub(crate) body_idle: Duration,
    /// Idle timeout: time without any request.
    pub(crate) idle: Duration,
    /// How long a client may read nothing of what we have for it.
    pub(crate) write_stall: Duration,
    /// Average bytes per second that a client must read, or send, while the gateway waits for it.
    pub(crate) rate_min: u64,
    pub(crate) head_bytes: u64,
    /// Most fields in a head.
    pub(crate) fields: usize,
    pub(crate) streams: u32,
    /// Proxies whose headers about the client are trusted.
    pub(crate) trusted_proxies: Networks,
}

/// While the gateway drains, how long an idle HTTP/1 connection stays open for one more request.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// hyper requires a buffer of at least 8 KiB.
const BUFFER_BYTES_MIN: usize = 8192;

/// Serves one connection to its end: until the client leaves, the idle timeout passes, or the gateway drains.
pub(crate) async fn serve<IO, S, F>(
    (io, protocol): (IO, Protocol),
    client: Arc<Connection>,
    settings: &Settings,
    tasks: &Tasks,
    service: S,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<BodySource>, Arc<Exchange>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let activity = Activity::new((protocol == Protocol::Http2).then_some(settings.write_stall));
    let counted = activity.clone();
    let is_old = protocol == Protocol::Http1;
    let draining = tasks.clone();
    let (refusals, notes) = (Refusals::default(), Arc::new(Notes::new(settings.streams)));
    let (refused, noted) = (refusals.clone(), Arc::clone(&notes));
    let answer = tower::service_fn(move |mut request: Request<Incoming>| {
        if let Some(malformed) = refused.next() {
            request.extensions_mut().insert(malformed);
        }
        let expecting = if is_old { expects(&request) } else { noted.take(&mut request) };
        let request = request.map(|body| BodySource::Client(body, expecting));
        let busy = counted.enter();
        // Boxed: hyper and its wrappers move the future several times, and it is large.
        let exchange = Exchange::new(Some(Arc::clone(&client)));
        let mut answered = Box::pin(service(request, Arc::clone(&exchange)));
        let draining = draining.clone();
        async move {
            // It is dropped before the parts of the answer: by then it is known why they end.
            let unanswered = Unanswered::new(&exchange);
            let response = (&mut answered).await;
            unanswered.answered();
            let mut response = response.map(|body| busy.until_end_of(body, exchange));
            if is_old && draining.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // Outermost, so that a panic of our own costs one request and not the connection's other streams.
    let service =
        tower::ServiceBuilder::new().layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked)).service(answer);
    let service = hyper_util::service::TowerToHyperService::new(service);
    let io = Stalling::new(io, MinRate::new(settings.write_stall, settings.rate_min));
    let writing = io.writing();
    let head_bytes = usize::try_from(settings.head_bytes).unwrap_or(usize::MAX);
    match protocol {
        Protocol::Http1 => {
            let head_bytes = head_bytes.max(BUFFER_BYTES_MIN);
            let io = TokioIo::new(Front::new(io, head_bytes, settings, refusals));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                // The clock of `Front` starts with a head; this one would start with the end of the previous request.
                .header_read_timeout(None)
                .max_buf_size(head_bytes)
                .max_headers(settings.fields)
                .serve_connection(io, service);
            let mut connection = Box::pin(connection);
            drive!(connection, activity, writing, settings, hangs_up(tasks, is_old));
        }
        Protocol::Http2 => {
            let io = TokioIo::new(Heads::new(Frames::new(io), settings.head_bytes, notes));
            let connection = hyper::server::conn::http2::Builder::new(tasks.clone())
                .timer(TokioTimer::new())
                .max_concurrent_streams(settings.streams)
                .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
                .max_pending_accept_reset_streams(100)
                .max_local_error_reset_streams(100)
                .keep_alive_interval(settings.idle.min(Duration::from_secs(20)))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(io, service);
            let mut connection = Box::pin(connection);
            drive!(connection, activity, writing, settings, hangs_up(tasks, is_old));
        }
    }
}

/// Whether an HTTP/1.1 client waits to send its body until somebody reads it; then hyper sends 100.
fn expects<B>(request: &Request<B>) -> Option<Expecting> {
    let expectation = request.headers().get(EXPECT)?;
    let waits = expectation.as_bytes().eq_ignore_ascii_case(b"100-continue");
    waits.then(Expecting::by_hyper)
}

/// hyper's two kinds of connection share no trait, so a macro drives both.
macro_rules! drive {
    ($connection:ident, $activity:ident, $writing:ident, $settings:ident, $hangs_up:expr) => {{
        let ended = tokio::select! {
            ended = $connection.as_mut() => Some(ended),
            () = $hangs_up => None,
            () = $activity.idle_for($settings.idle) => None,
            never = $activity.clear_stalled() => match never {},
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                $connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = $connection.as_mut() => ended,
                    // A client that neither sends nor reads need not be waited for.
                    () = $writing.quiet_after(|| $activity.idle_for(idle::GRACE)) => return,
                    never = $activity.clear_stalled() => match never {},
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "http", %error, "a connection ended early");
        }
    }};
}
use drive;

/// Resolves when a connection has to end because the gateway drains. There is no way to tell an idle HTTP/1 client: a
/// request that is already on its way would find the connection closed. So for a while its next request is still answered,
/// with `Connection: close`.
async fn hangs_up(tasks: &Tasks, is_old: bool) {
    tasks.draining().await;
    if is_old {
        tokio::time::sleep(LAST_REQUEST).await;
    }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<ResponseBody> {
    tracing::error!(target: "http", "a request caused a panic of the gateway: this is a bug of Tollgate");
    let mut response = Response::new(empty());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        self.spawn(work);
    }
}
