//! The receiving half of a client's stream, inspected before h3 gets it: a request's by [`Reader`], the control stream by
//! [`Control`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{RecvStream, StreamErrorIncoming, StreamId};
use quinn::{ReadError, VarInt};
use tokio_util::io::poll_read_buf;

use super::bounded::{close, of_connection, stream_id};
use super::control::Control;
use super::reader::{Passed, Reader};

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;

/// The receiving half of a stream.
pub(super) struct Receiving {
    stream: quinn::RecvStream,
    connection: quinn::Connection,
    reads: Reads,
    /// Bytes that were read to find out the stream's type.
    first: Option<Bytes>,
    /// Whether reading has ended, and with which error code, if any.
    is_over: bool,
    torn: Option<Code>,
}

/// Who inspects the stream before h3.
pub(super) enum Reads {
    Request(Reader),
    Control(Control),
}

impl Receiving {
    pub(super) const fn new(
        stream: quinn::RecvStream,
        connection: quinn::Connection,
        reads: Reads,
        first: Option<Bytes>,
    ) -> Self {
        Self { stream, connection, reads, first, is_over: false, torn: None }
    }

    /// What h3 receives of these bytes.
    fn pass(&mut self, read: BytesMut) -> Result<Bytes, StreamErrorIncoming> {
        let broken = match &mut self.reads {
            Reads::Control(control) => match control.pass(&read) {
                Ok(()) => return Ok(read.freeze()),
                Err(broken) => broken,
            },
            Reads::Request(reader) => match reader.pass(read) {
                Ok(Passed::Bytes(bytes)) => return Ok(bytes),
                Ok(Passed::Last(bytes, code)) => {
                    self.end(code);
                    return Ok(bytes);
                }
                Ok(Passed::Torn(bytes, code)) => {
                    self.end(code);
                    self.torn = Some(code);
                    return Ok(bytes);
                }
                Err(broken) => broken,
            },
        };
        Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: close(&self.connection, broken) })
    }

    /// Stops reading.
    fn end(&mut self, code: Code) {
        self.is_over = true;
        self.stop_sending(code.value());
    }
}

impl RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            if self.is_over {
                let torn = |code: Code| StreamErrorIncoming::StreamTerminated { error_code: code.value() };
                return Poll::Ready(self.torn.map_or(Ok(None), |code| Err(torn(code))));
            }
            let mut read = BytesMut::with_capacity(READ_BYTES);
            let bytes = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut read)).map_err(of_reading)?;
            if bytes == 0 {
                let ended = match &self.reads {
                    Reads::Request(reader) => reader.end(),
                    // h3 detects that the stream ended.
                    Reads::Control(_) => Ok(()),
                };
                let failed = |broken| StreamErrorIncoming::ConnectionErrorIncoming {
                    connection_error: close(&self.connection, broken),
                };
                return Poll::Ready(ended.map(|()| None).map_err(failed));
            }
            let passed = self.pass(read)?;
            if !passed.is_empty() {
                return Poll::Ready(Ok(Some(passed)));
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        // The stream may have ended.
        let _ended = self.stream.stop(VarInt::from_u64(error_code).unwrap_or(VarInt::MAX));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

fn of_reading(error: std::io::Error) -> StreamErrorIncoming {
    match error.downcast::<ReadError>() {
        Ok(ReadError::Reset(code)) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        Ok(ReadError::ConnectionLost(error)) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: of_connection(error) }
        }
        Ok(other) => StreamErrorIncoming::Unknown(Box::new(other)),
        Err(error) => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}
