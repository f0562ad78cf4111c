//! A response on its way to a client, of which a copy is kept once it is whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::policy::{Freshness, Selected};
use super::{Cache, Kept};
use crate::http::{ResponseBody, Torn};

/// What is known before the body, and what came of it.
#[derive(Debug)]
pub(crate) struct Keeping {
    cache: Arc<Cache>,
    target: Arc<str>,
    head: (StatusCode, HeaderMap),
    selected: Selected,
    fresh: Freshness,
    at: Instant,
    bytes_max: u64,
    body: BytesMut,
}

impl Keeping {
    pub(super) fn new(
        cache: Arc<Cache>,
        target: Arc<str>,
        head: (StatusCode, HeaderMap),
        selected: Selected,
        fresh: Freshness,
        bytes_max: u64,
    ) -> Self {
        Self { cache, target, head, selected, fresh, at: Instant::now(), bytes_max, body: BytesMut::new() }
    }

    /// The body that is sent on; it is kept when it has come to its end.
    pub(crate) fn copy(self, body: ResponseBody) -> ResponseBody {
        let mut copied = Copied { body, keeping: Some(self) };
        if copied.body.is_end_stream() {
            copied.keep();
            return copied.body;
        }
        copied.boxed_unsync()
    }
}

struct Copied {
    body: ResponseBody,
    /// Nothing once it is too large, torn, or kept.
    keeping: Option<Keeping>,
}

impl Copied {
    fn keep(&mut self) {
        let Some(keeping) = self.keeping.take() else { return };
        let (status, headers) = keeping.head;
        let new = Kept {
            status,
            headers,
            body: keeping.body.freeze(),
            selected: keeping.selected,
            fresh: keeping.fresh,
            at: keeping.at,
            is_fetched: std::sync::atomic::AtomicBool::new(false),
        };
        if new.bytes() <= keeping.bytes_max {
            keeping.cache.put(keeping.target, new);
        }
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = Torn;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Torn>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            None => self.keep(),
            Some(Ok(frame)) => {
                let data = frame.data_ref();
                let room = self.keeping.as_ref().map_or(0, |keeping| keeping.bytes_max - keeping.body.len() as u64);
                match (&mut self.keeping, data) {
                    (Some(keeping), Some(data)) if data.len() as u64 <= room => keeping.body.extend_from_slice(data),
                    // Trailers are not kept, so what has some is not.
                    _ => self.keeping = None,
                }
                // With the last byte of a length that was said nobody asks again.
                if self.body.is_end_stream() {
                    self.keep();
                }
            }
            Some(Err(_torn)) => self.keeping = None,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
