//! Reads what begins a request of HTTP/2 before h2 does, as [`super::front`] does with HTTP/1.1.
//!
//! A section of fields that is in order goes on as it came, within the buffer that it came in. One that is not goes on as
//! another one ([`super::blocks`]): with its target in its one spelling, or as a head of our own that stands for one that is
//! refused, so that the answer and its record are like any other. From the first of those on, each section of the connection is
//! written anew, since h2's table misses what was in it.
//!
//! h2 sends no interim responses by hyper, so 100 goes out from here, between two of its frames.
//! Limit: a section is held until it is whole, up to [`HELD_HEADS`] times what a head may have; notes are as many as streams.

mod frames;
mod notes;
mod outgoing;

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::blocks::message::{self, Bad};
use super::blocks::{Section, Table, hpack_literal};
use super::held::poll_hold;

use frames::{DATA, END_STREAM, Frame, Gathered, HEADER_BYTES, HEADERS, RST_STREAM, gather, put};
pub(super) use notes::{Expecting, Notes};
use outgoing::Outgoing;

/// What begins a connection, before the first frame.
const PREFACE_BYTES: usize = 24;
const HELD_HEADS: usize = 4;

/// Wraps a connection of HTTP/2.
pub(super) struct Heads<IO> {
    io: IO,
    /// Bytes until the next frame begins.
    skip: usize,
    /// Read, and not looked at: it begins with a frame.
    held: BytesMut,
    /// Looked at, and not let through yet.
    out: BytesMut,
    table: Table,
    section: Section,
    head_max: usize,
    /// The latest that a client opened.
    last_stream: u32,
    /// Whose bodies are under way.
    bodies: HashSet<u32>,
    /// Whether h2's table is another one than ours.
    is_apart: bool,
    /// Whether what came is an error of the connection, which h2 is to see.
    is_lost: bool,
    notes: Arc<Notes>,
    outgoing: Outgoing,
}

/// How far some bytes were gone over: so many go on as they are, and so many are done with.
struct Walked {
    passed: usize,
    done: usize,
}

impl<IO> Heads<IO> {
    /// `notes` are for whoever answers its requests.
    pub(super) fn new(io: IO, head_bytes: u64, notes: Arc<Notes>) -> Self {
        Self {
            io,
            skip: PREFACE_BYTES,
            held: BytesMut::new(),
            out: BytesMut::new(),
            table: Table::default(),
            section: Section::default(),
            head_max: usize::try_from(head_bytes).unwrap_or(usize::MAX),
            last_stream: 0,
            bodies: HashSet::new(),
            is_apart: false,
            is_lost: false,
            notes,
            outgoing: Outgoing::default(),
        }
    }

    /// Goes over bytes as far as they may go on. What goes on in the place of some is put into `out`.
    fn walk(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<Walked> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            (self.skip, at) = (self.skip - skipped, at + skipped);
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(frame) = Frame::read(rest) else { return Ok(Walked { passed: at, done: at }) };
            self.skip = HEADER_BYTES + frame.length;
            if frame.kind != HEADERS || self.is_lost {
                self.end_body(frame);
                continue;
            }
            match gather(rest, frame) {
                Gathered::Broken => self.is_lost = true,
                Gathered::NotYet if rest.len() > self.head_max.saturating_mul(HELD_HEADS) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a head that does not end"));
                }
                Gathered::NotYet => {
                    self.skip = 0;
                    return Ok(Walked { passed: at, done: at });
                }
                Gathered::Whole(block, end) => {
                    self.skip = end;
                    if self.look(frame, &block, out)? {
                        self.skip = 0;
                        return Ok(Walked { passed: at, done: at + end });
                    }
                }
            }
        }
    }

    /// Behind this head comes a body, and perhaps trailers.
    fn begin_body(&mut self, stream: u32) -> io::Result<()> {
        if self.bodies.len() >= self.notes.most() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many requests whose bodies do not end"));
        }
        self.bodies.insert(stream);
        Ok(())
    }

    fn end_body(&mut self, frame: Frame) {
        let ends = frame.kind == RST_STREAM || frame.kind == DATA && frame.flags & END_STREAM != 0;
        if ends && !self.bodies.is_empty() {
            self.bodies.remove(&frame.stream);
        }
        if frame.kind == RST_STREAM && self.notes.is_used() {
            self.notes.forget(frame.stream);
        }
    }

    /// Looks at a section; whether another one goes on in its place.
    fn look(&mut self, frame: Frame, block: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        self.section.begin(self.head_max);
        if self.table.decode(block, &mut self.section).is_err() {
            self.is_lost = true;
            // An index of nothing (RFC 7541 §6.1): h2 ends the connection, with whichever table.
            put(out, frame, &[0x80]);
            return Ok(true);
        }
        let mut written = Vec::new();
        let mut write = |name: &[u8], value: &[u8]| hpack_literal(&mut written, name, value);
        if frame.stream <= self.last_stream {
            // Where no body is under way, this is h2's to refuse.
            let is_good = !self.bodies.remove(&frame.stream)
                || message::trailers(&self.section).is_ok() && !self.section.is_too_large();
            if is_good && !self.is_apart {
                return Ok(false);
            }
            if is_good {
                self.section.fields().for_each(|(name, value)| write(name, value));
            }
            // Without its end, a section behind a body is an error of the stream (RFC 9113 §8.1).
            let flags = if is_good { frame.flags } else { 0 };
            self.is_apart = true;
            put(out, Frame { flags, ..frame }, &written);
            return Ok(true);
        }
        self.last_stream = frame.stream;
        if frame.flags & END_STREAM == 0 {
            self.begin_body(frame.stream)?;
        }
        match message::request(&self.section) {
            Ok(head) if head.is_in_order() && !head.expects && !self.is_apart => return Ok(false),
            Ok(head) => {
                head.fields(&self.section).for_each(|(name, value)| write(name, value));
                if head.expects {
                    self.notes.expect(frame.stream)?;
                    write(message::NOTE.as_bytes(), frame.stream.to_string().as_bytes());
                }
            }
            Err(Bad::Refused(fault)) => {
                self.notes.refuse(frame.stream, fault)?;
                message::instead(&self.section).iter().for_each(|(name, value)| write(name, value));
                write(message::NOTE.as_bytes(), frame.stream.to_string().as_bytes());
            }
            // Without fields it is malformed for h2 as well, which resets the stream.
            Err(Bad::Malformed(why)) => tracing::debug!(target: "http", why, "a malformed request"),
        }
        self.is_apart = true;
        put(out, frame, &written);
        Ok(true)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Heads<IO> {
    /// Sends the interim responses that are wanted, where no frame of h2's is under way.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.notes.is_used() {
            return Poll::Ready(Ok(()));
        }
        while let Some(bytes) = self.outgoing.interim(&self.notes) {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
            self.outgoing.interim_written(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Heads<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.notes.is_used() {
            this.notes.wake_with(cx.waker());
            // What cannot be written now is written before h2's next frame.
            if let Poll::Ready(Ok(())) = this.poll_interim(cx) {
                let _later = Pin::new(&mut this.io).poll_flush(cx)?;
            }
        }
        let mut written = Vec::new();
        loop {
            if this.out.has_remaining() {
                let count = this.out.len().min(buf.remaining());
                buf.put_slice(this.out.get(..count).unwrap_or_default());
                this.out.advance(count);
                if this.out.is_empty() {
                    // An idle connection keeps no buffer.
                    this.out = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                let read = buf.filled().get(before..).unwrap_or_default();
                if read.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let walked = this.walk(read, &mut written)?;
                this.held.extend_from_slice(read.get(walked.done..).unwrap_or_default());
                buf.set_filled(before + walked.passed);
                this.out.extend_from_slice(&written);
                if walked.passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let held = std::mem::take(&mut this.held);
                let walked = this.walk(&held, &mut written)?;
                this.out.extend_from_slice(held.get(..walked.passed).unwrap_or_default());
                this.out.extend_from_slice(&written);
                if walked.done < held.len() {
                    this.held = held;
                    this.held.advance(walked.done);
                }
                if this.out.is_empty() && !this.held.is_empty() && !ready!(poll_hold(&mut this.io, &mut this.held, cx))?
                {
                    // The client is gone; h2 says what that means for what came of a head.
                    this.out = std::mem::take(&mut this.held);
                }
            }
            written.clear();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        this.outgoing.pass(bytes.get(..written).unwrap_or_default(), &this.notes, &mut this.bodies);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let here = left.min(slice.len());
            this.outgoing.pass(slice.get(..here).unwrap_or_default(), &this.notes, &mut this.bodies);
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
