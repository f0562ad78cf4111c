//! Decodes the field sections of HTTP/2 and HTTP/3 (RFC 7541, RFC 9204) for inspection.
//!
//! h2 and h3 also decode them and build a request. That loses the order of fields and repeated pseudo-fields, and a request
//! that they refuse reaches neither the client's answer nor the log. So the gateway first inspects each section here
//! ([`message`]). A valid section is passed on unchanged; another one is passed on as fields that both sides read in one
//! way ([`literals`]).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod hpack;
mod huffman;
mod literals;
pub(super) mod message;
mod qpack;
mod tables;

pub(super) use hpack::Table;
pub(super) use literals::{hpack as hpack_literal, qpack as qpack_literals};
pub(super) use qpack::{DecoderStream, EncoderStream, decode as decode_qpack};

/// The block violates its RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The longest name or value that is decoded, and the greatest number: far above the size of any head.
const NUMBER_MAX: usize = 1 << 24;
/// What a field counts beside its bytes (RFC 9113 §6.5.2, RFC 9114 §4.2.2).
const FIELD_BYTES: usize = 32;

/// The memory that an idle connection keeps for the next section: enough for those of browsers.
const KEPT_BYTES_MAX: usize = 4096;

/// The fields of a section, in order. The value is reused so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Section {
    text: Vec<u8>,
    /// The end of each name, and of its value.
    ends: Vec<(usize, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Section {
    /// Empties the section; it then stores at most `bytes_max`.
    pub(super) fn begin(&mut self, bytes_max: usize) {
        if self.text.capacity() > KEPT_BYTES_MAX {
            self.text = Vec::new();
        }
        self.text.clear();
        self.ends.clear();
        (self.bytes, self.bytes_max) = (0, bytes_max);
    }

    /// Whether the section is larger than allowed. The rest was not stored.
    pub(super) const fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut from = 0;
        self.ends.iter().map(move |(name, value)| {
            let field = (self.text.get(from..*name), self.text.get(*name..*value));
            from = *value;
            (field.0.unwrap_or_default(), field.1.unwrap_or_default())
        })
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len() + FIELD_BYTES;
        if self.is_too_large() {
            return;
        }
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.ends.push((middle, self.text.len()));
    }
}

/// The rest of a block.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Reads a number that begins in the last `bits` of `first` (RFC 7541 §5.1).
    fn number(&mut self, first: u8, bits: u32) -> Result<usize, Invalid> {
        let most = (1 << bits) - 1;
        let mut number = usize::from(first) & most;
        if number < most {
            return Ok(number);
        }
        let mut shift = 0;
        loop {
            let byte = self.byte().ok_or(Invalid)?;
            number += usize::from(byte & 0x7f) << shift;
            if number > NUMBER_MAX {
                return Err(Invalid);
            }
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
            if shift > 21 {
                return Err(Invalid);
            }
        }
    }

    /// Reads a string and appends it to `out`. Its length begins in the last `bits` of `first`; the bit above says whether
    /// it is Huffman-coded (§5.2).
    fn string(&mut self, first: u8, bits: u32, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let length = self.number(first, bits)?;
        let (string, rest): (&'b [u8], &'b [u8]) = self.0.split_at_checked(length).ok_or(Invalid)?;
        self.0 = rest;
        if first >> bits & 1 == 1 {
            return huffman::decode(string, out);
        }
        out.extend_from_slice(string);
        Ok(())
    }

    /// Reads a string that begins with the next byte.
    fn value(&mut self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let first = self.byte().ok_or(Invalid)?;
        self.string(first, 7, out)
    }
}
