//! Outbound HTTP from guests: to granted origins, counted, within bounds of time, size and number.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use super::egress::{Asked, Egress, Target};
use super::guest::RESOURCES_MAX;
use super::notices::Notices;
use crate::http::CDN_LOOP;
use crate::telemetry::{OutboundSpan, Record};
use crate::tenant::{Component, Outbound, Tenant, cost};

/// What one write to a body may bring: a record of TLS.
const CHUNK_BYTES_MAX: usize = 16 << 10;
/// Two of these wait in each body, and a guest may have as many bodies as it may have resources, read by nobody: with 200
/// resources, 3 a body, that is about 2 MiB of the gateway's memory at most.
pub(crate) const UNREAD_BYTES_MAX: u64 = (RESOURCES_MAX / 3 * 2 * CHUNK_BYTES_MAX) as u64;
/// Of a response's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 100;

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Done)>;

/// One instance's way out.
pub(super) struct WayOut {
    pub(super) tenant: Arc<Tenant>,
    pub(super) component: Arc<Component>,
    pub(super) egress: Arc<Egress>,
    pub(super) record: Arc<Record>,
    pub(super) notices: Notices,
    /// Requests that one instance may send.
    pub(super) max: u64,
    /// Whom the request has been at, which all that leave carry on.
    pub(super) chain: HeaderValue,
    /// Fuel for requests that were sent, until it is charged.
    pub(super) owed: u64,
}

impl WasiHttpHooks for WayOut {
    /// The default's answer without the closure that the default makes for it each time.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Done,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        self.owed += cost::OUTBOUND;
        if self.record.went_out() >= self.max {
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        }
        let target = match Target::of(request.uri(), &self.component.egress) {
            Ok(target) => target,
            Err(error) => {
                if matches!(error, Error::HttpRequestDenied) {
                    self.record.outbound_denied();
                    self.notices.denied(&self.component, request.uri());
                }
                return Box::new(std::future::ready(Err(error)));
            }
        };
        let permit = match self.tenant.ledger.go_out() {
            Ok(permit) => permit,
            Err(quotum) => {
                self.record.quota_refused(quotum);
                return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
            }
        };
        request.headers_mut().insert(CDN_LOOP, self.chain.clone());
        let span = OutboundSpan::begin(&mut request);
        let (egress, tenant) = (Arc::clone(&self.egress), Arc::clone(&self.tenant));
        if let Some(whom) = target.own() {
            return Box::new(async move {
                let answered = egress.ask(Asked { tenant: tenant.id.clone(), whom, request }).await;
                told(span, answered.as_ref().ok().map(http::Response::status));
                let response = answered?;
                let done: Done = Box::new(std::future::ready(Ok(())));
                // It is outbound until its last byte.
                let held = move |frame| {
                    let _outbound = &permit;
                    frame
                };
                Ok((response.map(|body| body.map_frame(held).boxed_unsync()), done))
            });
        }
        let grants = Arc::clone(&self.component);
        Box::new(async move {
            let sent = async {
                let stream = egress.connect(&target, &grants.egress).await?;
                send(egress, tenant, (target, stream), request, options, permit).await
            };
            let sent = sent.await;
            told(span, sent.as_ref().ok().map(|(response, _done)| response.status()));
            sent
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

/// Ends a span, where there is one.
fn told(span: Option<OutboundSpan>, status: Option<http::StatusCode>) {
    if let Some(span) = span {
        span.end(status);
    }
}

/// Cancel safety: dropped with the instance, which closes the connection.
async fn send(
    egress: Arc<Egress>,
    tenant: Arc<Tenant>,
    (target, stream): (Target, TcpStream),
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
    permit: Outbound,
) -> Sent {
    if target.https {
        let stream = egress.tls(&target, stream).await?;
        exchange(stream, &egress, tenant, request, options, permit).await
    } else {
        exchange(stream, &egress, tenant, request, options, permit).await
    }
}

async fn exchange<IO>(
    stream: IO,
    egress: &Egress,
    tenant: Arc<Tenant>,
    mut request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
    permit: Outbound,
) -> Sent
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The target of a request to an origin has no authority (RFC 9112 §3.2.1); Host has it.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse();
    *request.uri_mut() = path.map_err(|_not_a_path| Error::HttpRequestUriInvalid)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let idle = egress.settings.idle;
    let shorter = |asked: Option<Duration>| asked.map_or(idle, |asked| asked.min(idle).max(Duration::from_millis(1)));
    let head_time = shorter(options.and_then(|options| options.first_byte_timeout));
    let idle = shorter(options.and_then(|options| options.between_bytes_timeout));
    let mut connection = Box::pin(connection);
    let mut ended = None;
    let answered = {
        let head = tokio::time::timeout(head_time, sender.send_request(request));
        let mut head = std::pin::pin!(head);
        std::future::poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(result) = connection.as_mut().poll(cx)
            {
                ended = Some(result);
            }
            // A connection that broke off may have brought a whole head before.
            if let Poll::Ready(answered) = head.as_mut().poll(cx) {
                return Poll::Ready(answered.map_err(|_elapsed| Error::HttpResponseTimeout)?.map_err(Error::from));
            }
            Poll::Pending
        })
        .await?
    };
    let left = egress.settings.response_bytes;
    let response =
        answered.map(|body| Arriving { body, left, idle, clock: None, tenant, _permit: permit }.boxed_unsync());
    let done = async move {
        match ended {
            Some(ended) => ended.map_err(Error::from),
            None => connection.await.map_err(Error::from),
        }
    };
    Ok((response, Box::new(done)))
}

/// A response's body on its way to the guest, under a limit of bytes and of silence.
struct Arriving {
    body: Incoming,
    left: u64,
    idle: Duration,
    clock: Option<Pin<Box<Sleep>>>,
    tenant: Arc<Tenant>,
    _permit: Outbound,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let until = Instant::now() + self.idle;
            let clock = self.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            std::task::ready!(clock.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        self.clock = None;
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.tenant.ledger.moved(bytes);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
