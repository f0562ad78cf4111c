//! One request to an origin and its response, on a kept connection if there is a suitable one, otherwise on a new one.
//!
//! A request that fails on a kept connection is sent once more, on a new one, if that is safe (RFC 9110 §9.2.2, RFC 9112
//! §9.3.1): either the origin cannot have acted on it, or the origin closed the connection before the first byte of the
//! response, the method is idempotent, and nothing of the guest's body was sent. An expired time limit is never a reason.

use std::error::Error as _;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{Arriving, Held, Sending, Source};
use super::pool::{Destination, Lease};
use super::{Egress, Target};
use crate::deadline::Deadline;
use crate::host::meter::Held as Kept;
use crate::host::meter::NO_MEMORY;
use crate::host::weight::fields_weigh;
use crate::http::clean_response;
use crate::tenant::{Component, QuotaPermit, Tenant};

/// How long hyper needs to see that a connection is ready again after its response was read.
const SETTLE: Duration = Duration::from_millis(50);

/// The sender of a request.
pub(in crate::host) struct Sender {
    pub(in crate::host) tenant: Arc<Tenant>,
    pub(in crate::host) component: Arc<Component>,
    /// What the exchange counts as the instance's memory.
    pub(in crate::host) kept: Kept,
    /// Alive as long as the instance exists.
    pub(in crate::host) alive: std::sync::Weak<()>,
}

/// The result: the response, and a future that resolves when the guest's body was sent.
type Answered = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// Why an attempt failed.
struct Failed {
    error: Error,
    /// Whether it may be sent once more.
    again: bool,
}

impl Failed {
    const fn for_good(error: Error) -> Self {
        Self { error, again: false }
    }
}

impl Egress {
    /// Cancel safety: if it is dropped, it closes its connection or resets its stream.
    pub(in crate::host) async fn exchange(
        self: Arc<Self>,
        from: Sender,
        target: Target,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        outbound: QuotaPermit,
    ) -> Result<Answered, Error> {
        let Sender { tenant, component, mut kept, alive } = from;
        let idle = self.settings.idle;
        let shorter = |asked: Option<Duration>, bound: Duration| {
            asked.map_or(bound, |asked| asked.min(bound).max(Duration::from_millis(1)))
        };
        let connect = shorter(options.and_then(|options| options.connect_timeout), self.settings.connect);
        let head = shorter(options.and_then(|options| options.first_byte_timeout), idle);
        let idle = shorter(options.and_then(|options| options.between_bytes_timeout), idle);
        let limit = Deadline::after(connect);
        let grant = target.grant(&component.egress).ok_or(Error::HttpRequestDenied)?;
        let addresses = self.addresses(&tenant.id, &target, &component.egress, limit).await?;
        let way = Destination { grant, host: target.host(), addresses: &addresses };
        let (parts, body) = request.into_parts();
        let source = Source::new(body, alive);
        let mut done = None;
        if let Some(mut lease) = self.kept(&tenant, &way).await {
            match attempt(&mut lease, parts.clone(), &source, head).await {
                Ok(response) => done = Some((response, lease)),
                Err(failed) if failed.again => {}
                Err(failed) => return Err(failed.error),
            }
        }
        let (mut response, lease) = match done {
            Some(done) => done,
            None => {
                let mut lease = Box::pin(self.open(&tenant, &way, Deadline::after(connect))).await?;
                let response = attempt(&mut lease, parts, &source, head).await.map_err(|failed| failed.error)?;
                (response, lease)
            }
        };
        // Fields that `Connection` names also concern only this hop, and the guest cannot see that field.
        clean_response(response.headers_mut());
        if !kept.grow(fields_weigh(response.headers())) {
            return Err(Error::InternalError(Some(NO_MEMORY.to_owned())));
        }
        let sent = Box::new(source.sent());
        let left = self.settings.response_bytes;
        let response = response.map(|body| {
            let held = Some(Held { egress: self, lease, source, _outbound: outbound, _kept: kept });
            let mut arriving = Arriving { body, left, idle, clock: None, tenant, held };
            if http_body::Body::is_end_stream(&arriving) {
                arriving.end();
            }
            arriving.boxed_unsync()
        });
        Ok((response, sent))
    }

    /// A kept connection that is ready.
    async fn kept(&self, tenant: &Tenant, way: &Destination<'_>) -> Option<Lease> {
        while let Some(mut lease) = self.pool.take(tenant, way) {
            let is_ready = match &mut lease {
                Lease::Exclusive(alone) => {
                    Deadline::after(SETTLE).run(alone.sender.ready()).await.is_ok_and(|ok| ok.is_ok())
                }
                Lease::Shared(shared) => shared.sender.is_ready(),
            };
            if is_ready {
                self.metrics.outbound_reused.inc();
                return Some(lease);
            }
        }
        None
    }
}

/// Sends the request and waits for the response's head.
async fn attempt(
    lease: &mut Lease,
    parts: Parts,
    source: &Arc<Source>,
    time: Duration,
) -> Result<http::Response<Incoming>, Failed> {
    let is_idempotent = parts.method.is_idempotent();
    let request = http::Request::from_parts(parts, Sending(Arc::clone(source)));
    let limit = Deadline::after(time);
    let (answered, has_begun) = match lease {
        Lease::Exclusive(alone) => {
            let before = alone.received.load(Ordering::Relaxed);
            let request = for_http1(request).map_err(Failed::for_good)?;
            let answered = limit.run(alone.sender.try_send_request(request)).await;
            (answered, alone.received.load(Ordering::Relaxed) != before)
        }
        Lease::Shared(shared) => {
            let request = for_http2(request).map_err(Failed::for_good)?;
            let mut sender = shared.sender.clone();
            (limit.run(sender.try_send_request(request)).await, false)
        }
    };
    let answered = answered.map_err(|_elapsed| Failed::for_good(Error::HttpResponseTimeout))?;
    answered.map_err(|failed: TrySendError<_>| {
        let was_sent = failed.message().is_none();
        let error = failed.into_error();
        let is_safe = !was_sent || is_unseen(&error) || (is_idempotent && !has_begun && is_closed(&error));
        Failed { again: is_safe && source.is_whole(), error: Error::from(error) }
    })
}

/// A request to an origin has no authority in its target; Host contains it (RFC 9112 §3.2.1).
fn for_http1(mut request: http::Request<Sending>) -> Result<http::Request<Sending>, Error> {
    *request.uri_mut() = http::Uri::from(path_of(request.uri())?);
    Ok(request)
}

/// The authority is only in `:authority`: some servers refuse both (RFC 9113 §8.3.1).
fn for_http2(mut request: http::Request<Sending>) -> Result<http::Request<Sending>, Error> {
    request.headers_mut().remove(HOST);
    let mut uri = request.uri().clone().into_parts();
    uri.path_and_query = Some(path_of(request.uri())?);
    *request.uri_mut() = http::Uri::from_parts(uri).map_err(|_not_a_uri| Error::HttpRequestUriInvalid)?;
    Ok(request)
}

/// A query without a path follows the root (RFC 9112 §3.2.1).
fn path_of(uri: &http::Uri) -> Result<PathAndQuery, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with(['/', '*']) { path.to_owned() } else { format!("/{path}") };
    path.parse().map_err(|_not_a_path| Error::HttpRequestUriInvalid)
}

/// Whether the origin reports that it did not process the request (RFC 9113 §6.8, §8.7).
fn is_unseen(error: &hyper::Error) -> bool {
    let of_http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    of_http2.is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Whether the connection merely ended, without an error on it.
fn is_closed(error: &hyper::Error) -> bool {
    let of_the_system = || {
        let source = error.source()?;
        let of_http2 = source.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
        let kind = source.downcast_ref::<std::io::Error>().or(of_http2)?.kind();
        Some(matches!(
            kind,
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ))
    };
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || of_the_system().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_path_and_no_authority() {
        for (uri, path) in
            [("https://h.example", "/"), ("https://h.example?x=1", "/?x=1"), ("https://h.example/a/b?x=1", "/a/b?x=1")]
        {
            assert_eq!(path_of(&uri.parse().unwrap()).unwrap(), path, "{uri}");
        }
    }
}
