//! A request's body over HTTP/3.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use h3::error::Code;
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};

use super::reader::Notes;
use super::receiving::Receiving;

/// Invariant: it has as many bytes as `Content-Length` says, or it breaks off (RFC 9114 §4.1.2).
pub(crate) struct QuicBody {
    stream: RequestStream<Receiving, Bytes>,
    notes: Arc<Notes>,
    /// Bytes that are still to come, if the length is known.
    left: Option<u64>,
    /// What arrived together with the head: a frame, or the end.
    first: Option<Option<Result<Frame<Bytes>, Broken>>>,
    at: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Data,
    Trailers,
    End,
}

/// The body broke off, or its length differs from `Content-Length`.
#[derive(Debug)]
pub(crate) struct Broken;

impl QuicBody {
    /// Polls once for a first frame, because most requests end with their head.
    pub(super) fn new(stream: RequestStream<Receiving, Bytes>, length: Option<u64>, notes: Arc<Notes>) -> Self {
        let mut body = Self { stream, notes, left: length, first: None, at: Part::Data };
        body.first = body.next().now_or_never();
        if matches!(body.first, Some(None)) {
            body.at = Part::End;
        }
        body
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.at == Part::Data {
            let data = ready!(self.stream.poll_recv_data(cx));
            match data.map(|data| data.map(|mut data| data.copy_to_bytes(data.remaining()))) {
                Ok(Some(bytes)) => {
                    if let Some(left) = &mut self.left {
                        let Some(less) = left.checked_sub(bytes.len() as u64) else {
                            return Poll::Ready(Some(Err(self.is_malformed())));
                        };
                        *left = less;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Ok(None) if self.left.is_none_or(|left| left == 0) => self.at = Part::Trailers,
                Ok(None) => return Poll::Ready(Some(Err(self.is_malformed()))),
                Err(_) => {
                    self.at = Part::End;
                    return Poll::Ready(Some(Err(Broken)));
                }
            }
        }
        if self.at == Part::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(cx));
            self.at = Part::End;
            return match trailers {
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => Poll::Ready(None),
                Err(_broken) => Poll::Ready(Some(Err(Broken))),
            };
        }
        Poll::Ready(None)
    }

    /// The length differs from `Content-Length`.
    fn is_malformed(&mut self) -> Broken {
        self.at = Part::End;
        self.notes.malform();
        self.stream.stop_sending(Code::H3_MESSAGE_ERROR);
        Broken
    }
}

impl Body for QuicBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let polled = self.poll_next(cx);
        if polled.is_pending() && self.notes.expects.swap(false, Ordering::AcqRel) {
            // The guest reads, and the client waits for that.
            self.notes.wanted.notify_one();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.at == Part::End && matches!(self.first, None | Some(None))
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Some(Ok(frame))) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + first))
    }
}
