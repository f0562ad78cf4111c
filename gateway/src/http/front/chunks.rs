//! Finds the end of a chunked body (RFC 9112 §7.1), byte by byte.

use super::head::Refusal;
use crate::http::grammar::is_value;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// The first digit of a chunk's size.
    #[default]
    Start,
    /// Further digits; with the size so far.
    Size(u64),
    /// After the size, up to the end of the line.
    Extension(u64),
    SizeLf(u64),
    /// Chunk data; with the number of bytes that remain.
    Data(u64),
    DataCr,
    DataLf,
    /// After the last chunk, at the start of a line.
    Trailer,
    /// Inside a trailer line.
    TrailerLine,
    TrailerLf,
    /// In the empty line that ends the body.
    EndLf,
    End,
}

const DIGITS: Refusal = "a chunk's size is not a hexadecimal number";
const LINE: Refusal = "a line of a chunked body does not end in CR LF";

impl Chunks {
    /// Reads `bytes` to the end of the body, or to their own end. Returns how many of them belong to the body.
    ///
    /// # Errors
    /// The bytes are malformed.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            *self = match (*self, byte) {
                (Self::End, _) => return Ok(at),
                (Self::Data(left), _) => {
                    // Skip all available data at once.
                    let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(left);
                    at += usize::try_from(here).unwrap_or(usize::MAX);
                    *self = if here == left { Self::DataCr } else { Self::Data(left - here) };
                    continue;
                }
                (Self::Start, _) => Self::Size(digit(byte).ok_or(DIGITS)?),
                (Self::Size(size), b';' | b' ' | b'\t') => Self::Extension(size),
                (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeLf(size),
                (Self::Size(size), _) => {
                    let digit = digit(byte).ok_or(DIGITS)?;
                    Self::Size(size.checked_mul(16).ok_or(DIGITS)? | digit)
                }
                (Self::Extension(_) | Self::TrailerLine, _) if is_value(byte) => *self,
                (Self::SizeLf(0), b'\n') | (Self::TrailerLf, b'\n') => Self::Trailer,
                (Self::SizeLf(size), b'\n') => Self::Data(size),
                (Self::DataCr, b'\r') => Self::DataLf,
                (Self::DataLf, b'\n') => Self::Start,
                (Self::Trailer, b'\r') => Self::EndLf,
                // A trailer line must not begin with white space: that would be obsolete line folding.
                (Self::Trailer, _) if byte.is_ascii_graphic() => Self::TrailerLine,
                (Self::TrailerLine, b'\r') => Self::TrailerLf,
                (Self::EndLf, b'\n') => Self::End,
                (
                    Self::Extension(_)
                    | Self::SizeLf(_)
                    | Self::DataCr
                    | Self::DataLf
                    | Self::Trailer
                    | Self::TrailerLine
                    | Self::TrailerLf
                    | Self::EndLf,
                    _,
                ) => return Err(LINE),
            };
            at += 1;
        }
        Ok(at)
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(text: &str) -> Result<(usize, Chunks), Refusal> {
        let mut whole = Chunks::default();
        let passed = whole.pass(text.as_bytes());
        // The same input, one byte at a time.
        let mut single = Chunks::default();
        let mut count = 0;
        let mut failed = None;
        for byte in text.as_bytes() {
            match single.pass(std::slice::from_ref(byte)) {
                Ok(taken) => count += taken,
                Err(refusal) => {
                    failed = Some(refusal);
                    break;
                }
            }
        }
        assert_eq!(passed.err(), failed, "{text:?}");
        passed.map(|passed| {
            assert_eq!((passed, whole), (count, single), "{text:?}");
            (passed, whole)
        })
    }

    #[test]
    fn a_body_ends_after_its_last_chunk() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET"),
            ("3\r\nabc\r\n0\r\n\r\n", "rest"),
            ("A;x=\"y\"\r\n0123456789\r\n00\r\na: b\r\nc: d\r\n\r\n", "0\r\n"),
        ] {
            assert_eq!(pass(&format!("{body}{rest}")), Ok((body.len(), Chunks::End)));
            assert_ne!(pass(&body[..body.len() - 1]).unwrap().1, Chunks::End);
        }
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1\na",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\n\n",
            "0\r\nx\n",
            "1;a\nb",
            "0\r\n x: y\r\n",
            "10000000000000000\r\n",
            "1;\0\r\n",
            "0\r\na: b\r\r\n",
        ] {
            assert!(pass(bad).is_err(), "{bad:?}");
        }
    }
}
