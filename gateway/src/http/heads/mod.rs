//! Reads the field sections of HTTP/2 requests before h2 does, as [`super::front`] does for HTTP/1.1.
//!
//! A valid section is passed on unchanged, in the buffer in which it arrived. Another one is replaced ([`super::blocks`]):
//! by one with a normalised target, or by a head of our own for a refused request, so that the answer and its record are
//! like any other. From the first replacement on, every section of the connection is rewritten, because h2's table lacks
//! the entries of the replaced one.
//!
//! hyper cannot send h2's interim responses, so 100 is sent from here, between two of h2's frames. Limit: a section is held
//! until it is complete, up to [`HELD_HEADS`] times the size of a head. Of each kind, there are at most ten notes for each
//! stream that a client may have open.

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

/// The connection preface, before the first frame.
const PREFACE_BYTES: usize = 24;
const HELD_HEADS: usize = 4;

/// Wraps an HTTP/2 connection.
pub(super) struct Heads<IO> {
    io: IO,
    /// Bytes until the next frame begins.
    skip: usize,
    /// Bytes that were read and not inspected yet. They begin with a frame.
    held: BytesMut,
    /// Bytes that were inspected and not passed on yet.
    out: BytesMut,
    table: Table,
    section: Section,
    head_max: usize,
    /// The latest stream that the client opened.
    last_stream: u32,
    /// Streams with a request body in progress.
    bodies: HashSet<u32>,
    /// Whether h2's table differs from ours.
    is_apart: bool,
    /// Whether the input contains a connection error, which h2 has to report.
    is_lost: bool,
    notes: Arc<Notes>,
    outgoing: Outgoing,
}

/// How far the bytes were inspected: the number that is passed on unchanged, and the number that is finished.
struct Walked {
    passed: usize,
    done: usize,
}

impl<IO> Heads<IO> {
    /// `notes` are for the service that answers the requests.
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

    /// Inspects bytes as far as they can be passed on. Replacements are appended to `out`.
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

    /// Notes that a body follows this head, and perhaps trailers.
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

    /// Inspects a section. Returns whether a replacement was written.
    fn look(&mut self, frame: Frame, block: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        self.section.begin(self.head_max);
        if self.table.decode(block, &mut self.section).is_err() {
            self.is_lost = true;
            // Index zero is invalid (RFC 7541 §6.1): h2 ends the connection, whatever its table contains.
            put(out, frame, &[0x80]);
            return Ok(true);
        }
        let mut written = Vec::new();
        let mut write = |name: &[u8], value: &[u8]| hpack_literal(&mut written, name, value);
        if frame.stream <= self.last_stream {
            // If no body is in progress, h2 refuses the section itself.
            let is_good = !self.bodies.remove(&frame.stream)
                || message::trailers(&self.section).is_ok() && !self.section.is_too_large();
            if is_good && !self.is_apart {
                return Ok(false);
            }
            if is_good {
                self.section.fields().for_each(|(name, value)| write(name, value));
            }
            // Without END_STREAM, a section after a body is a stream error (RFC 9113 §8.1).
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
            // Without fields the section is malformed for h2 too, which resets the stream.
            Err(Bad::Malformed(why)) => tracing::debug!(target: "http", why, "a malformed request"),
        }
        self.is_apart = true;
        put(out, frame, &written);
        Ok(true)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Heads<IO> {
    /// Sends interim responses that are due, if h2 is not in the middle of a frame.
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
            // The rest is written before h2's next frame.
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
                    // The client has left. h2 decides what that means for an incomplete head.
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
