//! Reads HTTP/3 frames (RFC 9114 §7.1) byte by byte, and defines what it means to break off.

use h3::error::Code;

pub(super) const DATA: u64 = 0x0;
pub(super) const HEADERS: u64 = 0x1;
pub(super) const CANCEL_PUSH: u64 = 0x3;
pub(super) const SETTINGS: u64 = 0x4;
pub(super) const PUSH_PROMISE: u64 = 0x5;
pub(super) const GOAWAY: u64 = 0x7;
pub(super) const MAX_PUSH_ID: u64 = 0xd;
/// HTTP/2 frames that HTTP/3 reserves, so that nobody may use them (§7.2.8).
pub(super) const RESERVED: [u64; 4] = [0x2, 0x6, 0x8, 0x9];

/// Why a stream or its connection is not read further: a code of §8.1 or of RFC 9204 §6, and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) Code, pub(super) &'static str);

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u64,
    pub(super) length: u64,
}

/// Reads frame headers.
#[derive(Debug, Default)]
pub(super) struct Headers {
    number: Varint,
    kind: Option<u64>,
}

impl Headers {
    pub(super) fn push(&mut self, byte: u8) -> Option<Header> {
        let number = self.number.push(byte)?;
        match self.kind.take() {
            Some(kind) => Some(Header { kind, length: number }),
            None => {
                self.kind = Some(number);
                None
            }
        }
    }

    /// Whether the last header is complete and the next has not begun.
    pub(super) const fn is_between(&self) -> bool {
        self.kind.is_none() && self.number.left == 0
    }
}

/// A variable-length integer (RFC 9000 §16), read byte by byte.
#[derive(Debug, Default)]
pub(super) struct Varint {
    value: u64,
    left: u32,
}

impl Varint {
    pub(super) fn push(&mut self, byte: u8) -> Option<u64> {
        if self.left == 0 {
            (self.value, self.left) = (u64::from(byte & 0x3f), 1 << (byte >> 6));
        } else {
            self.value = self.value << 8 | u64::from(byte);
        }
        self.left -= 1;
        (self.left == 0).then_some(self.value)
    }

    /// All numbers of a payload. Nothing if the last one is truncated.
    pub(super) fn all(bytes: &[u8]) -> Option<Vec<u64>> {
        let mut number = Self::default();
        let numbers = bytes.iter().filter_map(|byte| number.push(*byte)).collect();
        (number.left == 0).then_some(numbers)
    }
}

/// Appends an encoded number.
pub(super) fn varint(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let (mark, from) = match number {
        0..=0x3f => (0, 7),
        0x40..=0x3fff => (0x40, 6),
        0x4000..=0x3fff_ffff => (0x80, 4),
        _ => (0xc0, 0),
    };
    let begin = out.len();
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    if let Some(first) = out.get_mut(begin) {
        *first |= mark;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_headers_are_read_as_they_are_written() {
        for number in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(Varint::all(&out), Some(vec![number]));
            assert_eq!(Varint::all(&out[..out.len() - 1]).unwrap_or_default(), [0; 0], "{number}");
        }
        let mut headers = Headers::default();
        let read: Vec<_> =
            [0x01, 0x43, 0xe8, 0x40, 0x21, 0x00].map(|byte| headers.push(byte)).into_iter().flatten().collect();
        assert_eq!(read, [Header { kind: 1, length: 1000 }, Header { kind: 0x21, length: 0 }]);
        assert!(headers.is_between());
        headers.push(0x40);
        assert!(!headers.is_between());
    }
}
