//! Adapts quinn to h3, with more than h3-quinn does: it reads what arrives before h3 does ([`super::reader`],
//! [`super::control`]); it resets a response that was not finished, so that it never looks complete; and it reports when
//! the client has all of a response, or wants no more.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{
    BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream, StreamErrorIncoming,
    StreamId, WriteBuf,
};
use quinn::{ConnectionError, StoppedError, VarInt, WriteError};

use super::control::Control;
use super::frames::Broken;
use super::reader::{Notes, Reader};
use super::receiving::{Reads, Receiving};
use super::unidirectional::Unidirectional;

type Waiting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>;
/// Resolves when the client has all of a finished response (nothing), or wants no more of it (a code).
pub(super) type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

/// For each accepted request, in order: what h3 does not report about it.
#[derive(Clone, Default)]
pub(super) struct Accepted(Arc<Mutex<VecDeque<Waits>>>);

/// The id of a stream, and what h3 does not report about it.
type Waits = (u64, Stopped, Arc<Notes>);

impl Accepted {
    fn put(&self, id: u64, stopped: Stopped, notes: Arc<Notes>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((id, stopped, notes));
    }

    /// Takes the entry of this stream. Streams before it were rejected by h3.
    pub(super) fn take(&self, id: StreamId) -> Option<(Stopped, Arc<Notes>)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((first, stopped, notes)) = all.pop_front() {
            if first == id.into_inner() {
                return Some((stopped, notes));
            }
        }
        None
    }
}

/// A connection.
pub(super) struct Bounded {
    connection: quinn::Connection,
    head_max: u64,
    accepted: Accepted,
    accept_request: Option<Waiting<(quinn::SendStream, quinn::RecvStream)>>,
    accept_control: Option<Waiting<quinn::RecvStream>>,
    unidirectional: Unidirectional,
    opener: Opener,
}

impl Bounded {
    /// A head has at most `head_max` bytes, and a frame that is held twice as many.
    pub(super) fn new(connection: quinn::Connection, head_max: u64) -> (Self, Accepted) {
        let (accepted, unidirectional) = (Accepted::default(), Unidirectional::default());
        let opener = Opener { connection: connection.clone(), opening: None };
        let (accept_request, accept_control) = (None, None);
        let kept = accepted.clone();
        (Self { connection, head_max, accepted, accept_request, accept_control, unidirectional, opener }, kept)
    }
}

/// Closes the connection with the correct code. h3 would close it later and with its own code.
pub(super) fn close(connection: &quinn::Connection, broken: Broken) -> ConnectionErrorIncoming {
    let Broken(code, why) = broken;
    connection.close(VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX), why.as_bytes());
    ConnectionErrorIncoming::InternalError(why.to_owned())
}

/// Polls the pending future; creates it if there is none.
fn poll<T>(
    waiting: &mut Option<Waiting<T>>,
    cx: &mut Context<'_>,
    begin: impl FnOnce() -> Waiting<T>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let came = ready!(waiting.get_or_insert_with(begin).as_mut().poll(cx));
    *waiting = None;
    Poll::Ready(came.map_err(of_connection))
}

impl<B: Buf> Connection<B> for Bounded {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let begin = || -> Waiting<_> {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        };
        while let Poll::Ready(stream) = poll(&mut self.accept_control, cx, begin) {
            self.unidirectional.begin(stream?);
        }
        let control = ready!(self.unidirectional.poll(cx)).map_err(|broken| close(&self.connection, broken))?;
        let (stream, first) = control;
        let (connection, reads) = (self.connection.clone(), Reads::Control(Control::default()));
        Poll::Ready(Ok(Receiving::new(stream, connection, reads, Some(first))))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let begin = || -> Waiting<_> {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        };
        let (send, stream) = ready!(poll(&mut self.accept_request, cx, begin))?;
        let notes = Arc::<Notes>::default();
        let reader = Reader::new(self.head_max.saturating_mul(2), self.head_max, Arc::clone(&notes));
        self.accepted.put(VarInt::from(send.id()).into_inner(), Box::pin(send.stopped()), Arc::clone(&notes));
        let (connection, reads) = (self.connection.clone(), Reads::Request(reader));
        let receive = Receiving::new(stream, connection, reads, None);
        Poll::Ready(Ok(Both { send: Sending::new(send, Some(notes)), receive }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.connection.clone(), opening: None }
    }
}

impl<B: Buf> OpenStreams<B> for Bounded {
    type BidiStream = Both<B>;
    type SendStream = Sending<B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending<B>, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

/// Opens our own streams.
pub(super) struct Opener {
    connection: quinn::Connection,
    opening: Option<Waiting<quinn::SendStream>>,
}

impl<B: Buf> OpenStreams<B> for Opener {
    type BidiStream = Both<B>;
    type SendStream = Sending<B>;

    /// A server opens no bidirectional streams (RFC 9114 §6.1).
    fn poll_open_bidi(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        Poll::Ready(Err(internal("a server opens no stream of requests".to_owned())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending<B>, StreamErrorIncoming>> {
        let connection = &self.connection;
        let begin = || -> Waiting<_> {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        };
        let opened = ready!(poll(&mut self.opening, cx, begin));
        let failed = |connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error };
        Poll::Ready(opened.map(|stream| Sending::new(stream, None)).map_err(failed))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX), reason);
    }
}

/// A request's stream.
pub(super) struct Both<B: Buf> {
    send: Sending<B>,
    receive: Receiving,
}

/// The sending half of a stream.
pub(super) struct Sending<B: Buf> {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<B>>,
    is_finished: bool,
    /// Set for a request's stream.
    notes: Option<Arc<Notes>>,
}

impl<B: Buf> Sending<B> {
    const fn new(stream: quinn::SendStream, notes: Option<Arc<Notes>>) -> Self {
        Self { stream, writing: None, is_finished: false, notes }
    }
}

impl<B: Buf> Drop for Sending<B> {
    fn drop(&mut self) {
        // Otherwise quinn would finish the stream, and the client would take the response for complete.
        if !self.is_finished {
            let is_malformed = self.notes.as_ref().is_some_and(|notes| notes.is_malformed());
            let code = if is_malformed { Code::H3_MESSAGE_ERROR } else { Code::H3_INTERNAL_ERROR };
            self.reset(code.value());
        }
    }
}

impl<B: Buf> SendStream<B> for Sending<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(of_writing)?;
            data.advance(written);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(internal("h3 sends before it was ready to".to_owned()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.is_finished = true;
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, reset_code: u64) {
        self.is_finished = true;
        // The stream may have ended.
        let _ended = self.stream.reset(VarInt::from_u64(reset_code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl<B: Buf> RecvStream for Both<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receive.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl<B: Buf> SendStream<B> for Both<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl<B: Buf> BidiStream<B> for Both<B> {
    type SendStream = Sending<B>;
    type RecvStream = Receiving;

    fn split(self) -> (Sending<B>, Receiving) {
        (self.send, self.receive)
    }
}

#[expect(clippy::expect_used, reason = "both kinds of id are what is below 2^62, and there is no other maker")]
pub(super) fn stream_id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(VarInt::from(id).into_inner()).expect("an id of a stream is one")
}

fn internal(why: String) -> StreamErrorIncoming {
    let connection_error = ConnectionErrorIncoming::InternalError(why);
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

pub(super) fn of_connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other @ (ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted) => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn of_writing(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: of_connection(error) }
        }
        other @ (WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
            StreamErrorIncoming::Unknown(Box::new(other))
        }
    }
}
