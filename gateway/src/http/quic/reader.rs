//! Reads a request's stream before h3 does: the ends and the order of its frames, and whether its fields form a request
//! (RFC 9114 §4.1 to §4.4, §7.2).
//!
//! h3 checks little of this. It receives only valid HEADERS and DATA: frames without a meaning are removed here, and a
//! refused head is replaced by one of our own, which its note field identifies. Limit: a frame that is held is at most as
//! long as a head may be, and a stream has few frames that carry nothing.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use h3::error::Code;
use tokio::sync::Notify;

use super::frames::{Broken, DATA, HEADERS, Header, Headers, RESERVED, varint};
use super::frames::{CANCEL_PUSH, GOAWAY, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS};
use crate::fault::Fault;
use crate::http::blocks::message::{self, Bad};
use crate::http::blocks::{Section, decode_qpack, qpack_literals};

/// The most frames on one stream that are not DATA, and the most empty DATA frames.
const FRAMES_MAX: u32 = 64;

/// What the service needs to know about a request's stream.
#[derive(Debug, Default)]
pub(super) struct Notes {
    refused: OnceLock<Fault>,
    is_malformed: AtomicBool,
    /// Whether the client waits for 100, and whether it is to be sent now.
    pub(super) expects: AtomicBool,
    pub(super) wanted: Notify,
}

impl Notes {
    /// Why the request was refused before it reached the service.
    pub(super) fn refused(&self) -> Option<Fault> {
        self.refused.get().copied()
    }

    /// The stream ends with an error (§4.1.2), whatever is answered.
    pub(super) fn malform(&self) {
        self.is_malformed.store(true, Ordering::Release);
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.load(Ordering::Acquire)
    }
}

/// What h3 receives of the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Bytes(Bytes),
    /// The last bytes: the rest of the stream is not read, and the client is told to stop with this code. To h3 the stream
    /// ends here, or breaks off (`Torn`).
    Last(Bytes, Code),
    Torn(Bytes, Code),
}

/// The position in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Body,
    /// After the trailers nothing may follow.
    End,
}

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Reader {
    notes: Arc<Notes>,
    /// The most bytes of a section as encoded, and as counted.
    frame_max: u64,
    section_max: usize,
    part: Part,
    headers: Headers,
    /// The current frame, with the bytes that remain of it.
    within: Option<Header>,
    /// A section until it is complete.
    held: BytesMut,
    count: u32,
}

impl Reader {
    pub(super) fn new(frame_max: u64, section_max: u64, notes: Arc<Notes>) -> Self {
        let section_max = usize::try_from(section_max).unwrap_or(usize::MAX);
        let (headers, held) = Default::default();
        Self { notes, frame_max, section_max, part: Part::Head, headers, within: None, held, count: 0 }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// A connection error.
    pub(super) fn pass(&mut self, mut read: BytesMut) -> Result<Passed, Broken> {
        // The common case of a body.
        if let Some(Header { kind: DATA, length }) = &mut self.within
            && read.len() as u64 <= *length
        {
            *length -= read.len() as u64;
            self.close_if_empty();
            return Ok(Passed::Bytes(read.freeze()));
        }
        let mut out = BytesMut::new();
        while !read.is_empty() {
            let Some(within) = &mut self.within else {
                let Some(header) = self.headers.push(read.get_u8()) else { continue };
                self.begin(header)?;
                if header.kind == DATA {
                    let mut written = Vec::with_capacity(9);
                    varint(&mut written, DATA);
                    varint(&mut written, header.length);
                    out.extend_from_slice(&written);
                }
                self.within = Some(header);
                if header.length == 0
                    && let Some(last) = self.end_of_frame(&mut out)?
                {
                    return Ok(last);
                }
                continue;
            };
            let here = read.len().min(usize::try_from(within.length).unwrap_or(usize::MAX));
            within.length -= here as u64;
            let bytes = read.split_to(here);
            match within.kind {
                DATA => out.unsplit(bytes),
                HEADERS => self.held.unsplit(bytes),
                _ => {}
            }
            if let Some(last) = self.end_of_frame(&mut out)? {
                return Ok(last);
            }
        }
        Ok(Passed::Bytes(out.freeze()))
    }

    /// The client sends no more.
    ///
    /// # Errors
    /// The last frame is truncated (§7.1).
    pub(super) fn end(&self) -> Result<(), Broken> {
        let is_whole = self.within.is_none() && self.headers.is_between();
        if is_whole { Ok(()) } else { Err(Broken(Code::H3_FRAME_ERROR, "a stream ends within a frame")) }
    }

    fn close_if_empty(&mut self) {
        if self.within.is_some_and(|within| within.length == 0) {
            self.within = None;
        }
    }

    /// Checks whether a frame may begin here.
    fn begin(&mut self, header: Header) -> Result<(), Broken> {
        let unexpected = |why| Err(Broken(Code::H3_FRAME_UNEXPECTED, why));
        match (header.kind, self.part) {
            (DATA, Part::Head) => return unexpected("DATA before HEADERS"),
            (DATA | HEADERS, Part::End) => return unexpected("a frame of the message behind its trailers"),
            (CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID, _) => return unexpected("a frame of control on a request"),
            (PUSH_PROMISE, _) => return unexpected("a client promises nothing"),
            (kind, _) if RESERVED.contains(&kind) => return unexpected("a frame of HTTP/2"),
            _ => {}
        }
        if header.kind == DATA && header.length > 0 {
            return Ok(());
        }
        self.count += 1;
        if self.count > FRAMES_MAX {
            return Err(Broken(Code::H3_EXCESSIVE_LOAD, "too many frames that carry nothing"));
        }
        if header.length > self.frame_max {
            return Err(Broken(Code::H3_EXCESSIVE_LOAD, "a frame is longer than any head may be"));
        }
        Ok(())
    }

    /// Writes the result of a frame once it is complete.
    fn end_of_frame(&mut self, out: &mut BytesMut) -> Result<Option<Passed>, Broken> {
        let Some(kind) = self.within.filter(|within| within.length == 0).map(|within| within.kind) else {
            return Ok(None);
        };
        self.within = None;
        if kind != HEADERS {
            return Ok(None);
        }
        let block = self.held.split().freeze();
        let mut section = Section::default();
        section.begin(self.section_max);
        decode_qpack(&block, &mut section)
            .map_err(|_bad| Broken(Code::QPACK_DECOMPRESSION_FAILED, "a section cannot be decoded"))?;
        if self.part == Part::Body {
            self.part = Part::End;
            if message::trailers(&section).is_err() || section.is_too_large() {
                self.notes.malform();
                return Ok(Some(Passed::Torn(out.split().freeze(), Code::H3_MESSAGE_ERROR)));
            }
            put(out, &block);
            return Ok(None);
        }
        self.part = Part::Body;
        let fault = match message::request(&section) {
            Ok(head) => {
                self.notes.expects.store(head.expects, Ordering::Release);
                if head.is_in_order() {
                    put(out, &block);
                } else {
                    put(out, &qpack_literals(head.fields(&section)));
                }
                return Ok(None);
            }
            Err(Bad::Malformed(why)) => {
                self.notes.malform();
                Fault::Framing(why)
            }
            Err(Bad::Refused(fault)) => fault,
        };
        let _first = self.notes.refused.set(fault);
        put(out, &qpack_literals(message::instead(&section).into_iter()));
        let code = if self.notes.is_malformed() { Code::H3_MESSAGE_ERROR } else { Code::H3_NO_ERROR };
        Ok(Some(Passed::Last(out.split().freeze(), code)))
    }
}

/// Writes a section for h3.
fn put(out: &mut BytesMut, block: &[u8]) {
    let mut header = Vec::with_capacity(9);
    varint(&mut header, HEADERS);
    varint(&mut header, block.len() as u64);
    out.extend_from_slice(&header);
    out.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, kind);
        varint(&mut out, payload.len() as u64);
        [out, payload.to_vec()].concat()
    }

    fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
        frame(HEADERS, &qpack_literals(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))))
    }

    /// What h3 receives of the bytes at once, which must equal a byte at a time.
    fn pass(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let all = |pieces: Vec<&[u8]>| {
            let notes = Arc::new(Notes::default());
            let mut reader = Reader::new(1000, 1000, Arc::clone(&notes));
            let mut out = Vec::new();
            for piece in pieces {
                match reader.pass(BytesMut::from(piece))? {
                    Passed::Bytes(bytes) => out.extend_from_slice(&bytes),
                    Passed::Last(bytes, _) => {
                        out.extend_from_slice(&bytes);
                        return Ok(out);
                    }
                    Passed::Torn(bytes, code) => {
                        out.extend_from_slice(&bytes);
                        assert!(notes.is_malformed() && out == headers(&GET));
                        return Err(Broken(code, "torn"));
                    }
                }
            }
            reader.end()?;
            Ok(out)
        };
        let (whole, single) = (all(vec![bytes]), all(bytes.chunks(1).collect()));
        assert_eq!(whole, single);
        whole
    }

    #[test]
    fn messages_are_passed_on_without_unknown_frames() {
        let (head, body, tail) = (headers(&GET), frame(DATA, b"body"), headers(&[("x", "y")]));
        let whole = [&head[..], &body, &body, &tail].concat();
        assert_eq!(pass(&whole), Ok(whole.clone()));
        let grease = frame(0x21, b"nothing");
        // h3 takes 0x41 for the beginning of a WebTransport stream.
        let between = [&grease[..], &head, &frame(0x41, b""), &body, &grease, &body, &tail, &grease].concat();
        assert_eq!(pass(&between), Ok(whole));
    }

    #[test]
    fn frames_must_be_in_order() {
        let (head, body) = (headers(&GET), frame(DATA, b"body"));
        let code = |bytes: &[u8]| pass(bytes).unwrap_err().0;
        assert_eq!(code(&body), Code::H3_FRAME_UNEXPECTED);
        let twice = [&head[..], &headers(&[]), &body].concat();
        assert_eq!(code(&twice), Code::H3_FRAME_UNEXPECTED);
        let thrice = [&head[..], &headers(&[]), &headers(&[])].concat();
        assert_eq!(code(&thrice), Code::H3_FRAME_UNEXPECTED);
        for kind in [2, 3, 4, 5, 6, 7, 8, 9, 0xd] {
            assert_eq!(code(&frame(kind, b"\0")), Code::H3_FRAME_UNEXPECTED, "{kind} first");
            assert_eq!(code(&[&head[..], &frame(kind, b"\0")].concat()), Code::H3_FRAME_UNEXPECTED, "{kind} behind");
        }
        for cut in [&head[..head.len() - 1], &[&head[..], &body[..3]].concat(), &head[..1], &[0x40]] {
            assert_eq!(code(cut), Code::H3_FRAME_ERROR, "{cut:?}");
        }
        assert_eq!(code(&frame(HEADERS, b"\x02\0")), Code::QPACK_DECOMPRESSION_FAILED);
        assert_eq!(code(&[&head[..], &headers(&[(":path", "/")])].concat()), Code::H3_MESSAGE_ERROR);
    }

    #[test]
    fn held_bytes_are_bounded() {
        let code = |bytes: &[u8]| pass(bytes).err().map(|broken| broken.0);
        assert_eq!(code(&[&headers(&GET)[..], &[0, 0].repeat(63)].concat()), None);
        assert_eq!(code(&[&headers(&GET)[..], &[0, 0].repeat(64)].concat()), Some(Code::H3_EXCESSIVE_LOAD));
        assert_eq!(code(&[0x21, 1, 7].repeat(65)), Some(Code::H3_EXCESSIVE_LOAD));
        assert_eq!(code(&[&headers(&GET)[..], &[0, 1, 7].repeat(6500)].concat()), None);
        for long in
            [&[1, 0x43, 0xe9][..], &[0x40, 0x21, 0x43, 0xe9], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(code(long), Some(Code::H3_EXCESSIVE_LOAD), "{long:?}");
        }
    }

    #[test]
    fn a_refused_head_is_replaced_and_ends_the_stream() {
        let refused = |fields: &[(&str, &str)]| {
            let notes = Arc::new(Notes::default());
            let mut reader = Reader::new(1000, 300, Arc::clone(&notes));
            let passed = reader.pass(BytesMut::from(&headers(fields)[..])).unwrap();
            let Passed::Last(_, code) = passed else { return (None, notes.is_malformed()) };
            assert_eq!(code == Code::H3_MESSAGE_ERROR, notes.is_malformed());
            (notes.refused().map(Fault::kind), notes.is_malformed())
        };
        assert_eq!(refused(&GET), (None, false));
        assert_eq!(refused(&GET[1..]), (Some("framing"), true));
        let fragment = [GET[0], GET[1], GET[2], (":path", "/#a")];
        assert_eq!(refused(&fragment), (Some("framing"), false));
        let large = "x".repeat(200);
        assert_eq!(refused(&[&GET[..], &[("x", &large)]].concat()), (Some("head-too-large"), false));
    }
}
