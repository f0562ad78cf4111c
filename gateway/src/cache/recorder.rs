//! A response on its way to a client. A copy is stored once it is complete.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::policy::{Freshness, Selected};
use super::{Asked, Cache, StoredResponse};
use crate::http::{BodyAborted, ResponseBody};

/// What is known before the body arrives, and the body so far.
#[derive(Debug)]
pub(crate) struct Recorder {
    asked: Asked,
    head: (StatusCode, HeaderMap),
    selected: Selected,
    fresh: Freshness,
    at: Instant,
    bytes_max: u64,
    body: Buffer,
}

/// The bytes so far. They count among those of all responses on their way.
#[derive(Debug)]
struct Buffer {
    cache: Arc<Cache>,
    bytes: Vec<u8>,
}

impl Buffer {
    /// Adds bytes. Returns whether there was room.
    fn add(&mut self, data: &[u8]) -> bool {
        let more = data.len() as u64;
        let before = self.cache.filling.fetch_add(more, Ordering::Relaxed);
        if before + more > self.cache.bytes_max {
            self.cache.filling.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes.extend_from_slice(data);
        true
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cache.filling.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Recorder {
    pub(super) fn new(
        asked: Asked,
        head: (StatusCode, HeaderMap),
        selected: Selected,
        fresh: Freshness,
        bytes_max: u64,
    ) -> Self {
        let body = Buffer { cache: Arc::clone(&asked.cache), bytes: Vec::new() };
        Self { asked, head, selected, fresh, at: Instant::now(), bytes_max, body }
    }

    /// Returns the body to send on. It is stored when its end is reached.
    pub(crate) fn copy(self, body: ResponseBody) -> ResponseBody {
        let mut copied = RecordedBody { body, recorder: Some(self) };
        if copied.body.is_end_stream() {
            copied.keep();
            return copied.body;
        }
        copied.boxed_unsync()
    }
}

struct RecordedBody {
    body: ResponseBody,
    /// Nothing once the body is too large, broken or stored.
    recorder: Option<Recorder>,
}

impl RecordedBody {
    fn keep(&mut self) {
        let Some(recorder) = self.recorder.take() else { return };
        let (status, headers) = recorder.head;
        let new = StoredResponse {
            status,
            headers,
            // A copy of exactly the right size.
            body: Bytes::copy_from_slice(&recorder.body.bytes),
            selected: recorder.selected,
            fresh: recorder.fresh,
            at: recorder.at,
            revalidate_at: AtomicU64::new(0),
        };
        if new.bytes() <= recorder.bytes_max {
            recorder.asked.cache.put(&recorder.asked, new);
        }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &polled {
            None => self.keep(),
            Some(Ok(frame)) => {
                // Trailers are not stored, so a response with trailers is not stored either.
                let fits = match (&mut self.recorder, frame.data_ref()) {
                    (Some(recorder), Some(data)) => {
                        let bytes = (recorder.body.bytes.len() + data.len()) as u64;
                        bytes <= recorder.bytes_max && recorder.body.add(data)
                    }
                    _ => false,
                };
                if !fits {
                    self.recorder = None;
                }
                // After the last byte of a declared length, the client does not poll again.
                if self.body.is_end_stream() {
                    self.keep();
                }
            }
            Some(Err(_torn)) => self.recorder = None,
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
