//! Follows the frames that h2 writes, to find where an interim response may be inserted (RFC 9113 §4.3, §8.1).

use std::collections::HashSet;

use super::frames::{CONTINUATION, END_HEADERS, Frame, HEADER_BYTES, HEADERS, RST_STREAM};
use super::notes::Notes;

/// `:status: 100` as a literal (RFC 7541 §6.2.2): the name is an index in appendix A, and no table entry is added.
const CONTINUE: [u8; 5] = [0x08, 3, b'1', b'0', b'0'];

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Bytes that remain of the current payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Whether a section is incomplete.
    is_within: bool,
    /// The rest of an interim response that is being written.
    interim: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// Reads what was written. `bodies` are the request bodies in progress.
    pub(super) fn pass(&mut self, mut bytes: &[u8], notes: &Notes, bodies: &mut HashSet<u32>) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let here = (HEADER_BYTES - self.have).min(bytes.len());
            let (taken, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
            if let Some(place) = self.header.get_mut(self.have..self.have + here) {
                place.copy_from_slice(taken);
            }
            bytes = rest;
            self.have += here;
            if self.have < HEADER_BYTES {
                return;
            }
            self.have = 0;
            let Some(frame) = Frame::read(&self.header) else { return };
            self.skip = frame.length;
            if frame.kind == RST_STREAM {
                bodies.remove(&frame.stream);
            }
            match frame.kind {
                HEADERS if notes.is_used() => notes.answered(frame.stream),
                RST_STREAM if notes.is_used() => notes.forget(frame.stream),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                self.is_within = frame.flags & END_HEADERS == 0;
            }
        }
    }

    /// The interim response to write now, if any.
    pub(super) fn interim(&mut self, notes: &Notes) -> Option<&[u8]> {
        if self.written == self.interim.len() {
            if self.skip > 0 || self.have > 0 || self.is_within {
                return None;
            }
            let stream = notes.next_wanted()?;
            self.interim.clear();
            self.written = 0;
            Frame { length: CONTINUE.len(), kind: HEADERS, flags: END_HEADERS, stream }.write(&mut self.interim);
            self.interim.extend_from_slice(&CONTINUE);
        }
        self.interim.get(self.written..)
    }

    pub(super) fn interim_written(&mut self, bytes: usize) {
        self.written += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Frame { length: bytes, kind, flags, stream }.write(&mut out);
        out.resize(HEADER_BYTES + bytes, 0);
        out
    }

    fn expecting(notes: &Arc<Notes>, stream: u32) {
        notes.expect(stream).unwrap();
        let mut request = http::Request::builder().header("tollgate-note", stream).body(()).unwrap();
        notes.take(&mut request).unwrap().wanted();
    }

    #[test]
    fn an_interim_response_is_sent_between_frames_and_before_the_response() {
        let notes = Arc::new(Notes::new(100));
        let (mut outgoing, mut bodies) = (Outgoing::default(), HashSet::from([1, 3]));
        let whole =
            [frame(4, 0, 0, 6), frame(HEADERS, 0, 3, 20), frame(CONTINUATION, 4, 3, 7), frame(0, 1, 3, 5)].concat();
        let ends = [0, 15, 60, whole.len()];
        expecting(&notes, 1);
        for (at, byte) in whole.iter().enumerate() {
            let may = ends.contains(&at);
            assert_eq!(outgoing.interim(&notes).is_some(), may, "{at}");
            if may {
                let length = outgoing.interim(&notes).unwrap().len();
                assert_eq!(length, 14);
                outgoing.interim_written(length);
                expecting(&notes, 1);
            }
            outgoing.pass(&[*byte], &notes, &mut bodies);
        }
        outgoing.pass(&frame(HEADERS, 4, 1, 3), &notes, &mut bodies);
        assert_eq!(outgoing.interim(&notes), None, "the response has begun");
        expecting(&notes, 1);
        outgoing.pass(&frame(RST_STREAM, 0, 1, 4), &notes, &mut bodies);
        assert_eq!(outgoing.interim(&notes), None, "the stream was reset");
        assert_eq!(bodies, HashSet::from([3]));
    }
}
