//! HTTP/2 frames that carry a field section (RFC 9113 §4, §6.2, §6.10).

use std::borrow::Cow;

pub(super) const HEADER_BYTES: usize = 9;
/// The largest frame (§4.2), because our SETTINGS do not allow larger ones.
const FRAME_BYTES_MAX: usize = 1 << 14;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        out.extend_from_slice(length.get(1..).unwrap_or_default());
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

/// A section that may be split over several frames.
pub(super) enum Gathered<'b> {
    NotYet,
    /// The section, and where it ends.
    Whole(Cow<'b, [u8]>, usize),
    /// The frames are invalid.
    Broken,
}

/// Writes a section as frames, with the end of stream that `like` has.
pub(super) fn put(out: &mut Vec<u8>, like: Frame, block: &[u8]) {
    let mut pieces = block.chunks(FRAME_BYTES_MAX).peekable();
    let first = pieces.next().unwrap_or_default();
    let (mut kind, mut flags, mut piece) = (HEADERS, like.flags & END_STREAM, first);
    loop {
        let is_last = pieces.peek().is_none();
        let flag = if is_last { END_HEADERS } else { 0 };
        Frame { length: piece.len(), kind, flags: flags | flag, stream: like.stream }.write(out);
        out.extend_from_slice(piece);
        let Some(next) = pieces.next() else { return };
        (kind, flags, piece) = (CONTINUATION, 0, next);
    }
}

/// Reads the section that begins with this frame.
pub(super) fn gather(bytes: &[u8], first: Frame) -> Gathered<'_> {
    let (mut frame, mut at, mut gathered) = (first, 0, Cow::Borrowed(&[][..]));
    match is_whole(bytes, first) {
        Ok(true) => {}
        Ok(false) => return Gathered::NotYet,
        Err(Broken) => return Gathered::Broken,
    }
    loop {
        let from = at + HEADER_BYTES;
        let payload = bytes.get(from..from + frame.length).unwrap_or_default();
        let Some(fragment) = fragment(payload, frame) else { return Gathered::Broken };
        at = from + frame.length;
        if gathered.is_empty() {
            gathered = Cow::Borrowed(fragment);
        } else {
            gathered.to_mut().extend_from_slice(fragment);
        }
        match Frame::read(bytes.get(at..).unwrap_or_default()) {
            Some(next) if frame.flags & END_HEADERS == 0 => frame = next,
            _ => return Gathered::Whole(gathered, at),
        }
    }
}

/// The frames are invalid. h2 reports the error.
struct Broken;

/// Whether all frames of the section are there. Copies nothing.
fn is_whole(bytes: &[u8], first: Frame) -> Result<bool, Broken> {
    let (mut frame, mut at) = (first, 0);
    loop {
        // h2 detects this error without the whole frame.
        if frame.length > FRAME_BYTES_MAX {
            return Err(Broken);
        }
        at += HEADER_BYTES + frame.length;
        if bytes.len() < at {
            return Ok(false);
        }
        if frame.flags & END_HEADERS != 0 {
            return Ok(true);
        }
        let Some(next) = Frame::read(bytes.get(at..).unwrap_or_default()) else { return Ok(false) };
        if next.kind != CONTINUATION || next.stream != first.stream {
            return Err(Broken);
        }
        frame = next;
    }
}

/// The fragment of a section in a frame's payload, without padding and priority (RFC 9113 §6.2).
fn fragment(payload: &[u8], frame: Frame) -> Option<&[u8]> {
    if frame.kind == CONTINUATION {
        return Some(payload);
    }
    let (padding, mut fragment) = match (frame.flags & PADDED, payload) {
        (0, payload) => (0, payload),
        (_, [padding, rest @ ..]) => (usize::from(*padding), rest),
        _ => return None,
    };
    if frame.flags & PRIORITY != 0 {
        fragment = fragment.get(5..)?;
    }
    fragment.get(..fragment.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Gathered<'_> {
        gather(bytes, Frame::read(bytes).unwrap())
    }

    fn like(flags: u8) -> Frame {
        Frame { length: 0, kind: HEADERS, flags, stream: 5 }
    }

    #[test]
    fn a_section_is_gathered_from_the_frames_that_it_was_split_into() {
        for bytes in [0, 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 3 * FRAME_BYTES_MAX] {
            let block: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut out = Vec::new();
            put(&mut out, like(END_STREAM), &block);
            let head = Frame::read(&out).unwrap();
            assert_eq!((head.flags & END_STREAM, head.stream), (END_STREAM, 5));
            match first(&[&out[..], b"next"].concat()) {
                Gathered::Whole(gathered, end) => assert!(*gathered == block[..] && end == out.len(), "{bytes}"),
                Gathered::NotYet | Gathered::Broken => unreachable!("{bytes}"),
            }
            assert!(matches!(first(&out[..out.len().max(10) - 1]), Gathered::NotYet) || bytes == 0, "{bytes}");
        }
    }

    #[test]
    fn padding_and_priority_are_not_part_of_a_section() {
        let frame = |flags: u8, payload: &[u8]| {
            let mut out = Vec::new();
            Frame { length: payload.len(), flags: flags | END_HEADERS, ..like(0) }.write(&mut out);
            [out, payload.to_vec()].concat()
        };
        let told = |bytes: &[u8]| match first(bytes) {
            Gathered::Whole(gathered, _) => Some(gathered.into_owned()),
            Gathered::NotYet | Gathered::Broken => None,
        };
        assert_eq!(told(&frame(PADDED, &[2, 7, 0, 0])), Some(vec![7]));
        assert_eq!(told(&frame(PRIORITY, &[0, 0, 0, 0, 1, 7])), Some(vec![7]));
        assert_eq!(told(&frame(PADDED | PRIORITY, &[1, 0, 0, 0, 0, 1, 7, 0])), Some(vec![7]));
        for (flags, payload) in
            [(PADDED, &[3, 7][..]), (PADDED, &[]), (PRIORITY, &[0, 0]), (PADDED | PRIORITY, &[2, 0, 0, 0, 0, 1, 7])]
        {
            assert_eq!(told(&frame(flags, payload)), None, "{payload:?}");
        }
        let mut other = frame(0, &[1]);
        other[4] = 0;
        other.extend_from_slice(&frame(0, &[1]));
        assert!(matches!(first(&other), Gathered::Broken), "HEADERS within a section");
    }
}
