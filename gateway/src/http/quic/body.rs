//! A request's body as it comes over HTTP/3.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};

use super::bounded::Stream;

/// Invariant: it has the bytes that `Content-Length` says, or it breaks off (RFC 9114 §4.1.2).
pub(crate) struct QuicBody {
    stream: RequestStream<Stream<h3_quinn::RecvStream>, Bytes>,
    /// Bytes that are still to come, where they are known.
    left: Option<u64>,
    at: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Data,
    Trailers,
    End,
}

/// It broke off, or was not as long as it said.
#[derive(Debug)]
pub(crate) struct Broken;

impl QuicBody {
    pub(super) fn new(stream: RequestStream<Stream<h3_quinn::RecvStream>, Bytes>, length: Option<u64>) -> Self {
        Self { stream, left: length, at: Part::Data }
    }
}

impl Body for QuicBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if this.at == Part::Data {
            match ready!(this.stream.poll_recv_data(cx))
                .map(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
            {
                Ok(Some(bytes)) => {
                    if let Some(left) = &mut this.left {
                        let Some(less) = left.checked_sub(bytes.len() as u64) else {
                            this.at = Part::End;
                            return Poll::Ready(Some(Err(Broken)));
                        };
                        *left = less;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Ok(None) if this.left.is_none_or(|left| left == 0) => this.at = Part::Trailers,
                Ok(None) | Err(_) => {
                    this.at = Part::End;
                    return Poll::Ready(Some(Err(Broken)));
                }
            }
        }
        if this.at == Part::Trailers {
            let trailers = ready!(this.stream.poll_recv_trailers(cx));
            this.at = Part::End;
            return match trailers {
                Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(None) => Poll::Ready(None),
                Err(_broken) => Poll::Ready(Some(Err(Broken))),
            };
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.at == Part::End
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
