//! Stands between a connection and hyper's HTTP/1 parser. It passes on one message at a time, and only messages that can be
//! read in just one way.
//!
//! A head is held until it is complete, then read strictly ([`head`]). The body is counted while it passes. If a head is
//! refused, hyper gets a head of our own instead, which the service recognises by its number: the answer is then like any
//! other, and the connection ends. A body that is refused breaks off.

mod chunks;
#[cfg(any(test, fuzzing))]
mod fuzzed;
pub(crate) mod head;
mod refusals;
mod writing;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::Settings;
use super::grammar::percent_encoded;
use super::held::{READ_BYTES, poll_hold};
use crate::fault::Fault;
use chunks::Chunks;
use head::{Framing, Head, Reader, Refused};
pub(crate) use refusals::{Malformed, Refusals};

/// Replaces a head that was refused.
const INSTEAD: &[u8] = b"- / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";

/// Wraps an HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Front<IO> {
    io: IO,
    /// Bytes that were read and not passed on yet.
    held: BytesMut,
    state: State,
    refusals: Refusals,
    /// Number of heads that were passed on.
    heads: u64,
    head_max: usize,
    fields_max: usize,
    head_time: Duration,
    /// The time limit for the rest of a head that has begun.
    clock: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum State {
    /// Reading a head.
    Head(Reader),
    /// Passing on a complete head, which the held bytes begin with; its body follows.
    Pass(Head),
    Body(u64),
    Chunked(Chunks),
    /// Passing on our own head from this position; nothing follows.
    Instead(usize),
    /// Our answer is sent. Bytes from the client are discarded, up to this number and until the clock runs out.
    Linger(usize, Pin<Box<Sleep>>),
}

impl<IO> Front<IO> {
    /// `head_max` is the largest head that hyper accepts. `refusals` informs the service.
    pub(super) fn new(io: IO, head_max: usize, settings: &Settings, refusals: Refusals) -> Self {
        let (fields_max, head_time) = (settings.fields, settings.head_time);
        let state = State::Head(Reader::new(fields_max));
        Self { io, held: BytesMut::new(), state, refusals, heads: 0, head_max, fields_max, head_time, clock: None }
    }

    /// Looks for a complete head in the held bytes. Returns whether the next step is known.
    fn look(&mut self) -> bool {
        let State::Head(reader) = &mut self.state else { return true };
        // Empty lines before a request are the remainder of an old client's body (RFC 9112 §2.2).
        while self.heads > 0 && reader.is_at_start() && self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let fault = match reader.read(&self.held) {
            Ok(Some(head)) if head.bytes <= self.head_max => {
                self.state = State::Pass(if head.is_raw { self.encode(head) } else { head });
                self.clock = None;
                return true;
            }
            Ok(None) if self.held.len() <= self.head_max => return false,
            Ok(_) | Err(Refused::TooLarge) => Fault::HeadTooLarge,
            Err(Refused::Malformed(why)) => Fault::Framing(why),
        };
        self.refuse(fault);
        true
    }

    fn refuse(&mut self, fault: Fault) {
        self.refusals.refuse(self.heads, fault);
        (self.state, self.clock) = (State::Instead(0), None);
    }

    /// Escapes the raw bytes of the target, because hyper accepts none of them.
    fn encode(&mut self, head: Head) -> Head {
        let space = |held: &BytesMut| held.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let method = self.held.split_to(space(&self.held));
        let target = self.held.split_to(space(&self.held));
        let encoded = percent_encoded(&target);
        let bytes = head.bytes + encoded.len() - target.len();
        self.held = [&method[..], &encoded, &self.held].concat().as_slice().into();
        Head { bytes, ..head }
    }

    /// The state before the next head.
    fn next_head(&self) -> State {
        State::Head(Reader::new(self.fields_max))
    }

    /// Enters the state after a head.
    fn behind(&mut self, framing: Framing) {
        self.heads += 1;
        if self.held.is_empty() {
            // An idle connection keeps no buffer.
            self.held = BytesMut::new();
        }
        self.state = match framing {
            Framing::Length(0) => self.next_head(),
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Chunked(Chunks::default()),
        };
    }

    /// Passes on a head that arrived complete in one read, with the part of its body that came with it, in the same buffer.
    /// Holds everything else.
    fn let_through(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = buf.filled().get(before..).unwrap_or_default();
        let mut through = 0;
        if let Ok(Some(head)) = Reader::new(self.fields_max).read(read)
            && head.bytes <= self.head_max
            && !head.is_raw
        {
            self.behind(head.framing);
            through = head.bytes;
            if let State::Body(left) = &mut self.state {
                let here = (read.len() - through).min(usize::try_from(*left).unwrap_or(usize::MAX));
                through += here;
                *left -= here as u64;
                if *left == 0 {
                    self.state = self.next_head();
                }
            }
        }
        self.held.extend_from_slice(read.get(through..).unwrap_or_default());
        buf.set_filled(before + through);
    }
}

fn hand_out(held: &mut BytesMut, buf: &mut ReadBuf<'_>, max: usize) -> usize {
    let count = held.len().min(buf.remaining()).min(max);
    buf.put_slice(held.get(..count).unwrap_or_default());
    held.advance(count);
    count
}

impl<IO: AsyncRead + Unpin> Front<IO> {
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let State::Body(left) = &mut self.state else { return Poll::Ready(Ok(())) };
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let count = if self.held.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let count = (buf.filled().len() - before).min(most);
            // The bytes after the body are the next head.
            self.held.extend_from_slice(buf.filled().get(before + count..).unwrap_or_default());
            buf.set_filled(before + count);
            count
        } else {
            hand_out(&mut self.held, buf, most)
        };
        *left -= count as u64;
        if *left == 0 {
            self.state = self.next_head();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_chunks(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !ready!(poll_hold(&mut self.io, &mut self.held, cx))? {
            return Poll::Ready(Ok(()));
        }
        let State::Chunked(chunks) = &mut self.state else { return Poll::Ready(Ok(())) };
        let here = self.held.len().min(buf.remaining());
        let passed = chunks.pass(self.held.get(..here).unwrap_or_default());
        let count = passed.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
        let is_end = *chunks == Chunks::End;
        hand_out(&mut self.held, buf, count);
        if is_end {
            self.state = self.next_head();
        }
        Poll::Ready(Ok(()))
    }

    /// Discards what the client still sends, until it closes the connection or the time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.held.clear();
            let State::Linger(left, clock) = &mut self.state else { return Poll::Ready(()) };
            if *left == 0 || clock.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            *left = left.saturating_sub(READ_BYTES);
            // An error also means that the client has left.
            if !matches!(ready!(poll_hold(&mut self.io, &mut self.held, cx)), Ok(true)) {
                return Poll::Ready(());
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Front<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.state {
                State::Head(_) if this.held.is_empty() => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                    if buf.filled().len() == before {
                        return Poll::Ready(Ok(()));
                    }
                    this.let_through(buf, before);
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Head(_) => {
                    // An empty line leaves nothing to pass on.
                    if this.look() || this.held.is_empty() {
                        continue;
                    }
                    match poll_hold(&mut this.io, &mut this.held, cx)? {
                        Poll::Ready(true) => {}
                        Poll::Ready(false) => {
                            // The client has left. hyper decides what that means for an incomplete head.
                            hand_out(&mut this.held, buf, usize::MAX);
                            return Poll::Ready(Ok(()));
                        }
                        Poll::Pending => {
                            // The limit starts with the first bytes of a head: a connection may be idle for longer.
                            let time = this.head_time;
                            let clock = this.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                            ready!(clock.as_mut().poll(cx));
                            this.refuse(Fault::HeadTimeout);
                        }
                    }
                }
                State::Pass(head) => {
                    head.bytes -= hand_out(&mut this.held, buf, head.bytes);
                    if head.bytes == 0 {
                        let framing = head.framing;
                        this.behind(framing);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Body(_) => return this.poll_body(cx, buf),
                State::Chunked(_) => return this.poll_chunks(cx, buf),
                State::Instead(at) => {
                    let rest = INSTEAD.get(*at..).unwrap_or_default();
                    if rest.is_empty() {
                        // An end of the stream here would come before the answer. hyper closes after the answer.
                        return Poll::Pending;
                    }
                    let count = rest.len().min(buf.remaining());
                    buf.put_slice(rest.get(..count).unwrap_or_default());
                    *at += count;
                    return Poll::Ready(Ok(()));
                }
                State::Linger(..) => return Poll::Ready(Ok(())),
            }
        }
    }
}
