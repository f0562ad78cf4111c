//! Field sections as HTTP/2 and HTTP/3 send them (RFC 7541, RFC 9204), decoded to be looked at.
//!
//! h2 and h3 decode them too, and make a request of them: in that, the order of fields is lost, as are fields that came twice,
//! and what they do not take they refuse without a word to the client or to the log. So each section is looked at here before
//! ([`message`]), and goes on as it came where it is in order, or else as fields that both read in one way ([`literals`]).

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

/// It is not what its RFC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The longest name or value that is decoded, and the greatest number: far above what any head may have.
const NUMBER_MAX: usize = 1 << 24;
/// What a field counts beside its bytes (RFC 9113 §6.5.2, RFC 9114 §4.2.2).
const FIELD_BYTES: usize = 32;

/// What a connection that is idle keeps for the next section: as much as those of browsers have.
const KEPT_BYTES_MAX: usize = 4096;

/// The fields of a section, in their order. It is used again, so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Section {
    text: Vec<u8>,
    /// Where the name of each ends, and its value.
    ends: Vec<(usize, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Section {
    /// An empty one that keeps no more than `bytes_max`.
    pub(super) fn begin(&mut self, bytes_max: usize) {
        if self.text.capacity() > KEPT_BYTES_MAX {
            self.text = Vec::new();
        }
        self.text.clear();
        self.ends.clear();
        (self.bytes, self.bytes_max) = (0, bytes_max);
    }

    /// Whether it has more than it may: the rest was not kept.
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

/// What is left of a block.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number that begins in the last `bits` of `first` (RFC 7541 §5.1).
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

    /// A string whose length begins in the last `bits` of `first`, and whose bit above those says whether it is coded (§5.2). It is
    /// put behind what `out` has.
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

    /// The same from a byte of its own.
    fn value(&mut self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let first = self.byte().ok_or(Invalid)?;
        self.string(first, 7, out)
    }
}
