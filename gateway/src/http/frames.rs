//! Counts the frames that a client sends on HTTP/2 and that cost the gateway more than the client (RFC 9113 §4.1, §10.5).
//!
//! Limit: a number of frames of each kind per second, far above any normal use; then the connection ends. h2 itself bounds
//! resets of streams that are not accepted yet, and the header blocks of one request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Cancelled requests per second, for HTTP/3 too: as many as a user causes who turns pages quickly.
pub(super) const RESETS_MAX: u32 = 500;
/// The connection preface, before the first frame.
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
const SETTINGS: u8 = 4;

/// A kind of frame that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    EmptyData,
    /// The first frame is not SETTINGS, with which a connection must begin (§3.4).
    NoSettings,
    Priority,
    Reset,
    Settings,
    Ping,
    EmptyWindow,
    Continuation,
    Unknown,
}

impl Kind {
    const COUNT: usize = 9;

    /// Returns nothing for frames that carry content.
    const fn of(header: [u8; HEADER_BYTES]) -> Option<Self> {
        let length = payload(header);
        let is_last = header[4] & 1 != 0;
        match header[3] {
            // An empty frame that ends a stream carries information.
            0 if length == 0 && !is_last => Some(Self::EmptyData),
            0 | 1 => None,
            // Includes PRIORITY_UPDATE (RFC 9218 §7.1).
            2 | 0x10 => Some(Self::Priority),
            3 => Some(Self::Reset),
            SETTINGS => Some(Self::Settings),
            6 => Some(Self::Ping),
            8 => Some(Self::EmptyWindow),
            9 => Some(Self::Continuation),
            _ => Some(Self::Unknown),
        }
    }

    /// The limit within [`WINDOW`].
    const fn max(self) -> u32 {
        match self {
            Self::NoSettings => 0,
            Self::Unknown => 50,
            Self::Settings | Self::EmptyData => 100,
            Self::Continuation => 200,
            // gRPC clients send one with each round trip while they measure bandwidth.
            Self::Ping => 10_000,
            Self::Reset => RESETS_MAX,
            Self::Priority => 2_000,
            // A download at 10 Gbit/s updates windows this often.
            Self::EmptyWindow => 100_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::EmptyData => "empty DATA",
            Self::NoSettings => "no SETTINGS",
            Self::Priority => "PRIORITY",
            Self::Reset => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::Ping => "PING",
            Self::EmptyWindow => "WINDOW_UPDATE",
            Self::Continuation => "CONTINUATION",
            Self::Unknown => "unknown",
        }
    }
}

const fn payload(header: [u8; HEADER_BYTES]) -> usize {
    (header[0] as usize) << 16 | (header[1] as usize) << 8 | header[2] as usize
}

/// The position in the stream of frames, and the counts so far.
#[derive(Debug)]
struct Count {
    /// Bytes to skip that belong to no header: the preface, and payloads.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    since: Instant,
    counts: [u32; Kind::COUNT],
    /// Whether the first frame has arrived.
    has_begun: bool,
}

impl Count {
    fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            have: 0,
            since: now,
            counts: [0; Kind::COUNT],
            has_begun: false,
        }
    }

    /// Counts the frames in the bytes that were read. The error is the kind that exceeds its limit.
    fn pass(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Kind> {
        if now.duration_since(self.since) > WINDOW {
            (self.since, self.counts) = (now, [0; Kind::COUNT]);
        }
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *first;
            }
            bytes = rest;
            self.have += 1;
            if self.have < HEADER_BYTES {
                continue;
            }
            (self.have, self.skip) = (0, payload(self.header));
            if !std::mem::replace(&mut self.has_begun, true) && (self.header[3] != SETTINGS || self.header[4] & 1 != 0)
            {
                return Err(Kind::NoSettings);
            }
            let Some(kind) = Kind::of(self.header) else { continue };
            let Some(count) = self.counts.get_mut(kind as usize) else { continue };
            *count += 1;
            if *count > kind.max() {
                return Err(kind);
            }
        }
    }
}

/// Wraps an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Frames<IO> {
    io: IO,
    count: Count,
}

impl<IO> Frames<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, count: Count::new(Instant::now()) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Frames<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        match this.count.pass(read, Instant::now()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(kind) => {
                tracing::debug!(target: "http", kind = kind.name(), "frames that must not be, or too many");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "frames that must not be")))
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Frames<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this kind with this many bytes of payload.
    fn frame(kind: u8, flags: u8, bytes: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, bytes, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + usize::from(bytes), 0xff);
        frame
    }

    /// The preface and the SETTINGS with which a connection begins. These SETTINGS count too.
    fn start() -> Vec<u8> {
        [vec![b'P'; PREFACE_BYTES], frame(SETTINGS, 0, 0)].concat()
    }

    #[test]
    fn a_connection_begins_with_settings() {
        let pass = |first: Vec<u8>| {
            let now = Instant::now();
            Count::new(now).pass(&[vec![b'P'; PREFACE_BYTES], first].concat(), now)
        };
        assert_eq!(pass(frame(SETTINGS, 0, 6)), Ok(()));
        assert_eq!(pass(frame(SETTINGS, 1, 0)), Err(Kind::NoSettings));
        assert_eq!(pass(frame(6, 0, 8)), Err(Kind::NoSettings));
    }

    #[test]
    fn floods_are_told_from_normal_use_however_the_bytes_arrive() {
        let now = Instant::now();
        for (kind, bytes, max) in
            [(0, 0, 100), (2, 5, 2_000), (3, 4, 500), (4, 0, 99), (6, 8, 10_000), (9, 1, 200), (99, 7, 50)]
        {
            let sent = |count: u32| {
                let frames = std::iter::repeat_n(frame(kind, 0, bytes), count as usize).flatten();
                start().into_iter().chain(frames).collect::<Vec<u8>>()
            };
            for piece in [1, 7, 100_000] {
                let pass = |bytes: &[u8]| {
                    let mut count = Count::new(now);
                    bytes.chunks(piece).try_for_each(|bytes| count.pass(bytes, now))
                };
                assert_eq!(pass(&sent(max)), Ok(()), "{kind} by {piece}");
                assert!(pass(&sent(max + 1)).is_err(), "{kind} by {piece}");
            }
            // The same number within two seconds is normal use.
            let mut count = Count::new(now);
            let (first, second) = (sent(max), frame(kind, 0, bytes).repeat(max as usize));
            count.pass(&first, now).unwrap();
            count.pass(&second, now + WINDOW * 2).unwrap();
        }
        // Other limits apply to bodies and requests.
        let mut count = Count::new(now);
        let body = [start(), frame(0, 0, 200).repeat(10_000), frame(0, 1, 0).repeat(1_000)].concat();
        count.pass(&body, now).unwrap();
    }
}
