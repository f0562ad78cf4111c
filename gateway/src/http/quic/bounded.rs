//! A QUIC connection whose incoming streams are read under a bound; all else is h3-quinn's.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{
    BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream, StreamErrorIncoming,
    StreamId, WriteBuf,
};

use super::frames::{Bound, Frames};

/// Bytes that a stream of control may have in the life of its connection: of settings, and of priorities of requests.
const CONTROL_BYTES_MAX: u64 = 256 << 10;

pub(super) struct Bounded {
    inner: h3_quinn::Connection,
    frame_max: u64,
}

/// One of its streams.
pub(super) struct Stream<T> {
    inner: T,
    bound: Bound,
}

impl Bounded {
    /// No frame that is kept is longer than `frame_max` bytes.
    pub(super) fn new(connection: quinn::Connection, frame_max: u64) -> Self {
        Self { inner: h3_quinn::Connection::new(connection), frame_max }
    }

    fn request<T>(&self, inner: T) -> Stream<T> {
        Stream { inner, bound: Bound::Request(Frames::new(self.frame_max)) }
    }
}

impl<B: Buf> Connection<B> for Bounded {
    type RecvStream = Stream<h3_quinn::RecvStream>;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let inner = ready!(Connection::<B>::poll_accept_recv(&mut self.inner, cx))?;
        Poll::Ready(Ok(Stream { inner, bound: Bound::Control(CONTROL_BYTES_MAX) }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let inner = ready!(self.inner.poll_accept_bidi(cx))?;
        Poll::Ready(Ok(self.request(inner)))
    }

    fn opener(&self) -> Self::OpenStreams {
        Opener { inner: Connection::<B>::opener(&self.inner), frame_max: self.frame_max }
    }
}

impl<B: Buf> OpenStreams<B> for Bounded {
    type BidiStream = Stream<h3_quinn::BidiStream<B>>;
    type SendStream = h3_quinn::SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let inner = ready!(self.inner.poll_open_bidi(cx))?;
        Poll::Ready(Ok(self.request(inner)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<B>::close(&mut self.inner, code, reason);
    }
}

/// Opens streams of ours; a server opens no bidirectional one (RFC 9114 §6.1), but h3's trait wants it.
pub(super) struct Opener {
    inner: h3_quinn::OpenStreams,
    frame_max: u64,
}

impl<B: Buf> OpenStreams<B> for Opener {
    type BidiStream = Stream<h3_quinn::BidiStream<B>>;
    type SendStream = h3_quinn::SendStream<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let inner = ready!(self.inner.poll_open_bidi(cx))?;
        Poll::Ready(Ok(Stream { inner, bound: Bound::Request(Frames::new(self.frame_max)) }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<B>::close(&mut self.inner, code, reason);
    }
}

impl<T: RecvStream<Buf = Bytes>> RecvStream for Stream<T> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let read = ready!(self.inner.poll_data(cx))?;
        let passed = read.as_ref().map_or(Ok(()), |bytes| self.bound.pass(bytes));
        Poll::Ready(passed.map(|()| read).map_err(|excess| {
            // Of the connection: nothing of such a client is worth having.
            let connection_error = ConnectionErrorIncoming::InternalError(excess.to_string());
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
        }))
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.inner.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.inner.recv_id()
    }
}

impl<B: Buf, T: SendStream<B>> SendStream<B> for Stream<T> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.inner.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.inner.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.inner.send_id()
    }
}

impl<B: Buf> BidiStream<B> for Stream<h3_quinn::BidiStream<B>> {
    type SendStream = h3_quinn::SendStream<B>;
    type RecvStream = Stream<h3_quinn::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let (send, inner) = self.inner.split();
        (send, Stream { inner, bound: self.bound })
    }
}
