//! Unidirectional streams that a client opens (RFC 9114 §6.2): the control stream, QPACK's two (RFC 9204 §4.2), and unknown
//! ones.
//!
//! Limit: the transport allows only a few of them at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h3::error::Code;
use quinn::VarInt;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::control::{Bound, Instructions};
use super::frames::{Broken, Varint};
use crate::http::blocks::DecoderStream;

const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;
/// Bytes of instructions per read.
const READ_BYTES: usize = 256;

/// The unidirectional streams of one connection.
#[derive(Default)]
pub(super) struct Unidirectional {
    /// Streams whose type has not arrived yet.
    begun: Vec<Begun>,
    has_control: bool,
    encoder: Option<(quinn::RecvStream, Instructions)>,
    decoder: Option<(quinn::RecvStream, Instructions)>,
}

struct Begun {
    stream: quinn::RecvStream,
    number: Varint,
    read: Vec<u8>,
}

impl Unidirectional {
    pub(super) fn begin(&mut self, stream: quinn::RecvStream) {
        self.begun.push(Begun { stream, number: Varint::default(), read: Vec::new() });
    }

    /// Resolves to the control stream and the bytes of its type. All other streams are handled here.
    ///
    /// # Errors
    /// A connection error: a stream came twice, ended, or violates its rules.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(quinn::RecvStream, Bytes), Broken>> {
        let mut at = 0;
        while let Some(begun) = self.begun.get_mut(at) {
            match begun.poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(None) => drop(self.begun.swap_remove(at)),
                Poll::Ready(Some(kind)) => {
                    let begun = self.begun.swap_remove(at);
                    if let Some(control) = self.enter(kind, begun)? {
                        return Poll::Ready(Ok(control));
                    }
                }
            }
        }
        for (stream, instructions) in self.encoder.iter_mut().chain(&mut self.decoder) {
            follow(stream, instructions, cx)?;
        }
        Poll::Pending
    }

    fn enter(&mut self, kind: u64, begun: Begun) -> Result<Option<(quinn::RecvStream, Bytes)>, Broken> {
        const TWICE: Broken = Broken(Code::H3_STREAM_CREATION_ERROR, "a stream comes twice of which there is one");
        let Begun { mut stream, read, .. } = begun;
        match kind {
            CONTROL if std::mem::replace(&mut self.has_control, true) => return Err(TWICE),
            CONTROL => return Ok(Some((stream, read.into()))),
            PUSH => return Err(Broken(Code::H3_STREAM_CREATION_ERROR, "a client pushes nothing")),
            ENCODER if self.encoder.is_some() => return Err(TWICE),
            ENCODER => self.encoder = Some((stream, Instructions::Encoder(Bound::default()))),
            DECODER if self.decoder.is_some() => return Err(TWICE),
            DECODER => {
                let instructions = Instructions::Decoder(Bound::default(), DecoderStream::default());
                self.decoder = Some((stream, instructions));
            }
            // Unknown streams are not read (§6.2.3). The stream may have ended.
            _ => {
                let code = VarInt::from_u64(Code::H3_STREAM_CREATION_ERROR.value()).unwrap_or(VarInt::MAX);
                let _ended = stream.stop(code);
            }
        }
        Ok(None)
    }
}

impl Begun {
    /// The stream's type. Nothing if the stream ended before it, which is not an error (§6.2).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        loop {
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_reset)) => return Poll::Ready(None),
            }
            let Some(byte) = buf.filled().first().copied() else { return Poll::Ready(None) };
            self.read.push(byte);
            if let Some(kind) = self.number.push(byte) {
                return Poll::Ready(Some(kind));
            }
        }
    }
}

/// Reads what has arrived.
fn follow(stream: &mut quinn::RecvStream, instructions: &mut Instructions, cx: &mut Context<'_>) -> Result<(), Broken> {
    loop {
        let mut bytes = [0; READ_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => instructions.pass(buf.filled())?,
            // RFC 9204 §4.2. If the connection is gone, nobody receives the error.
            Poll::Ready(_) => return Err(Broken(Code::H3_CLOSED_CRITICAL_STREAM, "a stream of instructions ends")),
        }
    }
}
