//! What a client sends beside its requests: its control stream, and QPACK's two instruction streams (RFC 9114 §6.2, §7.2,
//! RFC 9204 §4).
//!
//! h3 reads the control stream, and skips what it does not know there. It does not read the other two.

use h3::error::Code;

use super::frames::{Broken, CANCEL_PUSH, GOAWAY, Header, Headers, MAX_PUSH_ID, RESERVED, SETTINGS, Varint};
use super::frames::{DATA, HEADERS, PUSH_PROMISE};
use crate::http::blocks::{DecoderStream, EncoderStream};

/// The most bytes on such a stream in the life of its connection: settings, and priorities of requests.
const BYTES_MAX: u64 = 256 << 10;
/// HTTP/2 settings that HTTP/3 does not have (§7.2.4.1), and settings that are on or off (RFC 9220 §3, RFC 9297 §2.1.1).
const RESERVED_SETTINGS: [u64; 5] = [0x0, 0x2, 0x3, 0x4, 0x5];
const SWITCHES: [u64; 2] = [0x8, 0x33];

/// The bytes that such a stream may still carry.
#[derive(Debug)]
pub(super) struct Bound(u64);

impl Default for Bound {
    fn default() -> Self {
        Self(BYTES_MAX)
    }
}

impl Bound {
    fn pass(&mut self, bytes: usize) -> Result<(), Broken> {
        let left = self.0.checked_sub(bytes as u64);
        self.0 = left.ok_or(Broken(Code::H3_EXCESSIVE_LOAD, "too many bytes on a stream that is for control"))?;
        Ok(())
    }
}

/// The control stream, after its type.
#[derive(Debug, Default)]
pub(super) struct Control {
    bound: Bound,
    headers: Headers,
    within: Option<Header>,
    /// The payload of a frame that is inspected.
    payload: Vec<u8>,
    has_settings: bool,
    /// The greatest push id that was sent; it must not decrease (§7.2.7).
    push_max: Option<u64>,
}

impl Control {
    /// # Errors
    /// The stream violates one of the rules of §7.2.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Broken> {
        self.bound.pass(bytes.len())?;
        loop {
            if let Some(within) = &mut self.within {
                let here = bytes.len().min(usize::try_from(within.length).unwrap_or(usize::MAX));
                let (payload, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
                within.length -= here as u64;
                if matches!(within.kind, SETTINGS | GOAWAY | MAX_PUSH_ID) {
                    self.payload.extend_from_slice(payload);
                }
                bytes = rest;
                if within.length > 0 {
                    return Ok(());
                }
                let kind = within.kind;
                self.within = None;
                self.whole(kind)?;
                self.payload.clear();
            }
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if let Some(header) = self.headers.push(*first) {
                self.begin(header)?;
                self.within = Some(header);
            }
        }
    }

    fn begin(&mut self, header: Header) -> Result<(), Broken> {
        if !self.has_settings && header.kind != SETTINGS {
            return Err(Broken(Code::H3_MISSING_SETTINGS, "a connection does not begin with SETTINGS"));
        }
        let unexpected = |why| Err(Broken(Code::H3_FRAME_UNEXPECTED, why));
        match header.kind {
            SETTINGS if std::mem::replace(&mut self.has_settings, true) => unexpected("SETTINGS come twice"),
            DATA | HEADERS | PUSH_PROMISE => unexpected("a frame of requests on the stream of control"),
            kind if RESERVED.contains(&kind) => unexpected("a frame of HTTP/2"),
            // The gateway never promises a push, so there is none to cancel (§7.2.3).
            CANCEL_PUSH => Err(Broken(Code::H3_ID_ERROR, "what was not promised is cancelled")),
            _ => Ok(()),
        }
    }

    fn whole(&mut self, kind: u64) -> Result<(), Broken> {
        const CUT: Broken = Broken(Code::H3_FRAME_ERROR, "a frame's payload is longer or shorter than what it says");
        if !matches!(kind, SETTINGS | GOAWAY | MAX_PUSH_ID) {
            return Ok(());
        }
        let numbers = Varint::all(&self.payload).ok_or(CUT)?;
        match (kind, numbers.as_slice()) {
            (SETTINGS, pairs) if pairs.len().is_multiple_of(2) => settings(pairs),
            (GOAWAY, [_id]) => Ok(()),
            (MAX_PUSH_ID, [id]) => {
                if self.push_max.replace(*id).is_some_and(|before| *id < before) {
                    return Err(Broken(Code::H3_ID_ERROR, "MAX_PUSH_ID becomes less"));
                }
                Ok(())
            }
            _ => Err(CUT),
        }
    }
}

/// Identifiers and values alternate.
fn settings(pairs: &[u64]) -> Result<(), Broken> {
    let bad = |why| Err(Broken(Code::H3_SETTINGS_ERROR, why));
    let mut seen = std::collections::HashSet::new();
    for pair in pairs.chunks_exact(2) {
        let [name, value] = pair else { continue };
        if !seen.insert(*name) {
            return bad("a setting comes twice");
        }
        if RESERVED_SETTINGS.contains(name) {
            return bad("a setting of HTTP/2");
        }
        if SWITCHES.contains(name) && *value > 1 {
            return bad("a setting is neither on nor off");
        }
    }
    Ok(())
}

/// One of QPACK's streams, after its type.
#[derive(Debug)]
pub(super) enum Instructions {
    Encoder(Bound),
    Decoder(Bound, DecoderStream),
}

impl Instructions {
    /// # Errors
    /// The stream violates one of the rules of RFC 9204 §4.3 and §4.4.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match self {
            Self::Encoder(bound) => {
                bound.pass(bytes.len())?;
                let broken =
                    Broken(Code::QPACK_ENCODER_STREAM_ERROR, "our table has no room for what the client inserts");
                EncoderStream::pass(bytes).map_err(|_bad| broken)
            }
            Self::Decoder(bound, stream) => {
                bound.pass(bytes.len())?;
                let broken = Broken(Code::QPACK_DECODER_STREAM_ERROR, "the client acknowledges what was not sent");
                stream.pass(bytes).map_err(|_bad| broken)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8]) -> Option<Code> {
        let whole = Control::default().pass(bytes).err();
        let mut single = Control::default();
        let slowly = bytes.chunks(1).find_map(|byte| single.pass(byte).err());
        assert_eq!(whole, slowly);
        whole.map(|broken| broken.0)
    }

    #[test]
    fn control_begins_with_settings_and_contains_only_allowed_frames() {
        // Settings, an unknown setting, an unknown frame, GOAWAY, MAX_PUSH_ID twice, PRIORITY_UPDATE.
        let good = [
            &[4, 5, 6, 0x40, 0x64, 0x21, 0][..],
            &[0x21, 2, 9, 9],
            &[7, 1, 4],
            &[0xd, 1, 3, 0xd, 1, 3],
            &[0x80, 0x0f, 0x07, 0x00, 2, 0, 0x75],
        ];
        assert_eq!(code(&good.concat()), None);
        for (bytes, expected) in [
            (&[0x21, 0][..], Code::H3_MISSING_SETTINGS),
            (&[7, 1, 0], Code::H3_MISSING_SETTINGS),
            (&[0, 0], Code::H3_MISSING_SETTINGS),
            (&[4, 0, 4, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 0, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 1, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 5, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 2, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 6, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 8, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 9, 0], Code::H3_FRAME_UNEXPECTED),
            (&[4, 0, 3, 1, 0], Code::H3_ID_ERROR),
            (&[4, 0, 0xd, 1, 3, 0xd, 1, 2], Code::H3_ID_ERROR),
            (&[4, 0, 0xd, 2, 3, 3], Code::H3_FRAME_ERROR),
            (&[4, 0, 0xd, 0], Code::H3_FRAME_ERROR),
            (&[4, 0, 7, 1, 0x40], Code::H3_FRAME_ERROR),
            (&[4, 1, 6], Code::H3_FRAME_ERROR),
            (&[4, 2, 6, 0x40], Code::H3_FRAME_ERROR),
            (&[4, 4, 6, 1, 6, 1], Code::H3_SETTINGS_ERROR),
            (&[4, 2, 2, 1], Code::H3_SETTINGS_ERROR),
            (&[4, 2, 5, 1], Code::H3_SETTINGS_ERROR),
            (&[4, 2, 8, 2], Code::H3_SETTINGS_ERROR),
        ] {
            assert_eq!(code(bytes), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn control_is_bounded() {
        let mut control = Control::default();
        control.pass(&[4, 0]).unwrap();
        let more = [0x21, 0x43, 0xe8].into_iter().chain([0; 1000]).collect::<Vec<u8>>();
        let passed = (0..300).find_map(|_| control.pass(&more).err());
        assert_eq!(passed.map(|broken| broken.0), Some(Code::H3_EXCESSIVE_LOAD));
    }

    #[test]
    fn instructions_need_no_dynamic_table() {
        let mut encoder = Instructions::Encoder(Bound::default());
        assert_eq!(encoder.pass(&[0x20]), Ok(()));
        assert_eq!(encoder.pass(&[0x3f]).unwrap_err().0, Code::QPACK_ENCODER_STREAM_ERROR);
        let mut decoder = Instructions::Decoder(Bound::default(), DecoderStream::default());
        assert_eq!(decoder.pass(&[0x44]), Ok(()));
        assert_eq!(decoder.pass(&[0x80]).unwrap_err().0, Code::QPACK_DECODER_STREAM_ERROR);
    }
}
