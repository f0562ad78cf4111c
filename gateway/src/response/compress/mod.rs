//! Compresses responses (RFC 9110 §8.4) of tenants that ask for it, if the client accepts it and the body becomes smaller.
//!
//! Limit: an encoder's memory counts as the tenant's; if there is no room, the body is sent as it is. Computation is
//! charged in fuel, by the byte. A poll encodes [`PIECE_BYTES`] and then yields.

mod coder;
mod codings;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use crate::fault::Fault;
use crate::http::{BodyAborted, ResponseBody};
use crate::telemetry::Record;
use crate::tenant::{Coding, Ledger, cost};
use coder::{CODER_BYTES, Coder};
pub(crate) use codings::choose;

/// A body whose declared length is shorter gains nothing.
const BYTES_MIN: u64 = 512;
/// How much is encoded at once.
const PIECE_BYTES: usize = 32 << 10;
/// Digests of the content (RFC 9530, RFC 3230, RFC 1864), which encoding would make wrong.
const OF_CONTENT: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// How a response may be encoded, and who pays.
pub(crate) struct Compression {
    /// The coding that the client accepts, if any.
    pub(crate) coding: Option<Coding>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) record: Arc<Record>,
}

/// Encodes the body if that is worthwhile. In any case adds that the response depends on what a client accepts.
pub(super) fn compress(
    mut response: Response<ResponseBody>,
    how: Compression,
    is_head: bool,
) -> Response<ResponseBody> {
    let is_known = response.status() == StatusCode::NOT_MODIFIED;
    if !is_known && !gains(response.status(), response.headers()) {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from(ACCEPT_ENCODING));
    let Some(coding) = how.coding else { return response };
    if is_known {
        // As the ETag of its 200 was (RFC 9110 §15.4.5).
        weaken(headers);
        return response;
    }
    let memory = if is_head { None } else { Held::take(&how.ledger) };
    let coder = memory.and_then(|memory| Some((Coder::new(coding)?, memory)));
    if coder.is_none() && !is_head {
        return response;
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
    let Some((coder, memory)) = coder else { return response };
    response.map(|body| Coded::new(body, coder, memory, how).boxed_unsync())
}

/// Makes the ETag weak: the meaning is the same, the bytes are not (RFC 9110 §8.8.3).
fn weaken(headers: &mut HeaderMap) {
    let weak = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    if let Some(Ok(weak)) = weak.map(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())) {
        headers.insert(ETAG, weak);
    }
}

/// Whether it has a complete body, of a type that compresses well, not yet encoded and without `no-transform`.
fn gains(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_whole = status.is_success() && !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT);
    let is_fixed = [CONTENT_ENCODING, CONTENT_RANGE].iter().chain(&OF_CONTENT).any(|name| headers.contains_key(name));
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let may_not = headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let words = value.to_str().unwrap_or_default().split(',');
        words.map(str::trim).any(|word| word.eq_ignore_ascii_case("no-transform"))
    });
    let is_short = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).is_some_and(|n| n < BYTES_MIN);
    is_whole && !is_fixed && !may_not && !is_short && text(CONTENT_TYPE).is_some_and(is_text)
}

/// Types of text. Compressed and unknown types are not among them.
fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((top, sub)) = kind.split_once('/') else { return false };
    let known = [
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-ndjson",
        "application/xml",
        "font/otf",
        "font/ttf",
        "image/bmp",
    ];
    top == "text" || sub.ends_with("+json") || sub.ends_with("+xml") || known.contains(&kind.as_str())
}

/// An encoder's memory, which counts as the tenant's.
struct Held(Arc<Ledger>);

impl Held {
    fn take(ledger: &Arc<Ledger>) -> Option<Self> {
        ledger.grow(CODER_BYTES, 0).then(|| Self(Arc::clone(ledger)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.shrink(CODER_BYTES);
    }
}

/// A body that is encoded as it arrives.
struct Coded {
    body: ResponseBody,
    coder: Coder,
    _memory: Held,
    how: Compression,
    /// The part of the last frame that is not encoded yet.
    left: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the encoder holds bytes back.
    holds: bool,
    at_end: bool,
    bytes_coded: u64,
}

impl Coded {
    fn new(body: ResponseBody, coder: Coder, memory: Held, how: Compression) -> Self {
        Self {
            body,
            coder,
            _memory: memory,
            how,
            left: Bytes::new(),
            trailers: None,
            holds: false,
            at_end: false,
            bytes_coded: 0,
        }
    }

    /// The encoder's output, if any. If the encoder fails, the body breaks off.
    fn given(&mut self, coded: &std::io::Result<()>) -> Option<Result<Frame<Bytes>, BodyAborted>> {
        if coded.is_err() {
            self.at_end = true;
            return Some(Err(BodyAborted(Fault::Internal)));
        }
        let bytes = self.coder.take();
        (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
    }
}

impl Body for Coded {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let this = &mut *self;
        let mut coded = 0;
        loop {
            if !this.left.is_empty() {
                if coded >= PIECE_BYTES {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let piece = this.left.split_to(this.left.len().min(PIECE_BYTES));
                coded += piece.len();
                this.bytes_coded += piece.len() as u64;
                this.holds = true;
                let wrote = this.coder.write(&piece);
                if let Some(frame) = this.given(&wrote) {
                    return Poll::Ready(Some(frame));
                }
                continue;
            }
            if this.at_end {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.left = data,
                    Err(frame) => this.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(torn))) => return Poll::Ready(Some(Err(torn))),
                Poll::Ready(None) => {
                    this.at_end = true;
                    let finished = this.coder.finish();
                    if let Some(frame) = this.given(&finished) {
                        return Poll::Ready(Some(frame));
                    }
                }
                // While the guest pauses, the client should have everything so far.
                Poll::Pending if this.holds => {
                    this.holds = false;
                    let flushed = this.coder.flush();
                    return this.given(&flushed).map_or(Poll::Pending, |frame| Poll::Ready(Some(frame)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Coded {
    fn drop(&mut self) {
        let fuel = self.bytes_coded * cost::CODED_BYTE;
        if fuel > 0 {
            self.how.record.burned_for_body(fuel);
            self.how.ledger.burn(fuel);
        }
    }
}

#[cfg(test)]
mod tests;
