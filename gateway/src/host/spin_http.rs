//! fermyon:spin/http: an outbound request of a Spin 1 guest, with complete bodies in both directions.
//!
//! It takes the same path as a wasi:http request, so that grants, limits, quotas and prices are the same. Limit: the bytes
//! of both messages count as the instance's memory while the host holds them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, WasiBody, WasiHttpView as _};

use super::guest::Guest;
use super::meter::Held;
use super::priced::Weight as _;
use super::priced::names::PATH_BYTES_MAX;
use super::sizes::NAME_BYTES_MAX;
use super::spin::one::fermyon::spin::http::{self as wit, HttpError, Request, Response};
use super::spin::one::fermyon::spin::http_types::{self as types, Method};
use super::weight::FIELD_BYTES;
use crate::tenant::cost;

/// The size of pieces in which a request's body is passed to its connection.
const PIECE_BYTES_MAX: usize = 16 << 10;

impl types::Host for Guest {}

impl wit::Host for Guest {
    async fn send_request(&mut self, mut request: Request) -> wasmtime::Result<Result<Response, HttpError>> {
        let bytes = request.body.as_ref().map_or(0, Vec::len) as u64;
        let texts = request.uri.len() as u64 + texts_weigh(&request.headers);
        let Some(mut held) = self.meter.hold(bytes + texts) else { return Ok(Err(HttpError::RuntimeError)) };
        self.charge(bytes / cost::BODY_BYTES_A_UNIT);
        self.charge(cost::REQUEST_LOOKED_AT + request.uri.weight() + request.headers.weight());
        let body = Pieces::of(request.body.take().unwrap_or_default());
        let answer = match outgoing(request, body.clone()) {
            Ok(request) => self.exchange(request, &mut held).await,
            Err(error) => Err(error),
        };
        // A task that is still sending holds at most one piece.
        body.clear();
        Ok(answer)
    }
}

impl Guest {
    /// Sends a request and collects its response. `held` grows by the bytes that are kept.
    async fn exchange(&mut self, request: http::Request<WasiBody>, held: &mut Held) -> Result<Response, HttpError> {
        let never = Box::new(std::future::ready(Ok(())));
        let sent = self.http().hooks.send_request(request, None, never);
        let (response, connection) = Box::into_pin(sent).await.map_err(|error| told(&error))?;
        let (parts, mut body) = response.into_parts();
        let mut connection = Box::into_pin(connection);
        let (mut bytes, mut is_open) = (Vec::new(), true);
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                _over = &mut connection, if is_open => {
                    is_open = false;
                    continue;
                }
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| told(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            if !held.grow(data.len() as u64) {
                return Err(HttpError::RuntimeError);
            }
            bytes.extend_from_slice(data);
        }
        self.charge(bytes.len() as u64 / cost::BODY_BYTES_A_UNIT);
        Ok(Response { status: parts.status.as_u16(), headers: Some(texts(&parts.headers)), body: Some(bytes) })
    }
}

/// Converts headers to pairs of texts. A value that is not a text is dropped, because the interface cannot express it.
pub(crate) fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

/// The memory of pairs of texts, and of the fields that are made from them.
pub(crate) fn texts_weigh(texts: &[(String, String)]) -> u64 {
    let bytes: usize = texts.iter().map(|(name, value)| name.len() + value.len()).sum();
    bytes as u64 + texts.len() as u64 * (size_of::<(String, String)>() as u64 + FIELD_BYTES)
}

/// Converts pairs of texts to headers, without hop-by-hop ones.
///
/// Returns nothing if one of them is not a valid header.
pub(crate) fn headers(texts: Vec<(String, String)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(texts.len().min(100));
    for (name, value) in texts {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let name = HeaderName::try_from(name).ok()?;
        if DEFAULT_FORBIDDEN_HEADERS.contains(&name) || name == CONTENT_LENGTH {
            // The body is complete here, so its real length is known.
            continue;
        }
        headers.try_append(name, HeaderValue::try_from(value).ok()?).ok()?;
    }
    Some(headers)
}

/// A request's body in pieces. The rest can be taken away, because a connection may continue for a while after the call.
#[derive(Clone)]
struct Pieces(Arc<Mutex<Option<Bytes>>>);

impl Pieces {
    fn of(body: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Some(body.into()))))
    }

    fn rest(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        let mut rest = self.rest();
        // A body that was sent completely stays complete.
        if rest.as_ref().is_some_and(|rest| !rest.is_empty()) {
            *rest = None;
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut rest = self.rest();
        let Some(rest) = rest.as_mut() else { return Poll::Ready(Some(Err(Error::ConnectionTerminated))) };
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let end = rest.len().min(PIECE_BYTES_MAX);
        // A copy, so that the whole body is freed with the rest.
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&rest.split_to(end))))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest().as_ref().is_some_and(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest().as_ref().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest.len() as u64))
    }
}

fn outgoing(request: Request, body: Pieces) -> Result<http::Request<WasiBody>, HttpError> {
    if request.uri.len() > PATH_BYTES_MAX {
        return Err(HttpError::InvalidUrl);
    }
    let uri: http::Uri = request.uri.parse().map_err(|_no_uri| HttpError::InvalidUrl)?;
    let mut headers = headers(request.headers).ok_or(HttpError::RuntimeError)?;
    if let Some(authority) = uri.authority() {
        headers.insert(HOST, HeaderValue::try_from(authority.as_str()).map_err(|_no_text| HttpError::InvalidUrl)?);
    }
    let mut outgoing = http::Request::new(body.boxed_unsync());
    *outgoing.method_mut() = method(request.method);
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

const fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
        Method::Patch => http::Method::PATCH,
        Method::Head => http::Method::HEAD,
        Method::Options => http::Method::OPTIONS,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the interface has words for three of forty")]
const fn told(error: &Error) -> HttpError {
    match error {
        Error::HttpRequestDenied | Error::DestinationIpProhibited => HttpError::DestinationNotAllowed,
        Error::HttpRequestUriInvalid => HttpError::InvalidUrl,
        Error::ConnectionLimitReached => HttpError::TooManyRequests,
        _ => HttpError::RequestError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_sent_in_pieces_and_its_rest_can_be_taken_away() {
        let body = Pieces::of(vec![7; PIECE_BYTES_MAX + 1]);
        let mut sent = body.clone();
        assert_eq!(sent.size_hint().exact(), Some(PIECE_BYTES_MAX as u64 + 1));
        let piece = sent.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece.len(), PIECE_BYTES_MAX);
        body.clear();
        assert!(sent.frame().await.unwrap().is_err(), "it never looks whole");

        let whole = Pieces::of(vec![7; 3]);
        let mut sent = whole.clone();
        assert_eq!(sent.frame().await.unwrap().unwrap().into_data().unwrap().len(), 3);
        whole.clear();
        assert!(sent.is_end_stream() && sent.frame().await.is_none(), "what was sent whole stays so");
    }
}
