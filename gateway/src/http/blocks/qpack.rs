//! QPACK (RFC 9204) without a dynamic table: our SETTINGS give it zero bytes (§5), so that a section refers only to the
//! static table in appendix A.
//!
//! Checks what h3 does not check: the prefix of a section, and both of the client's instruction streams.

use super::{Input, Invalid, Section, tables};

/// Decodes a whole section.
///
/// # Errors
/// The section is malformed, or refers to the empty dynamic table (§2.2.1, §2.2.3, §4.5.1).
pub(in crate::http) fn decode(block: &[u8], section: &mut Section) -> Result<(), Invalid> {
    let mut input = Input(block);
    let first = input.byte().ok_or(Invalid)?;
    let inserts = input.number(first, 8)?;
    let sign = input.byte().ok_or(Invalid)?;
    input.number(sign, 7)?;
    // §4.5.1.2: with an insert count of zero, a base before it would be negative.
    if inserts > 0 || sign & 0x80 != 0 {
        return Err(Invalid);
    }
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = input.byte() {
        if first & 0xc0 == 0xc0 {
            let (name, value) = entry(input.number(first, 6)?)?;
            section.push(name.as_bytes(), value.as_bytes());
            continue;
        }
        name.clear();
        value.clear();
        if first & 0xd0 == 0x50 {
            name.extend_from_slice(entry(input.number(first, 4)?)?.0.as_bytes());
        } else if first & 0xe0 == 0x20 {
            input.string(first, 3, &mut name)?;
        } else {
            return Err(Invalid);
        }
        input.value(&mut value)?;
        section.push(&name, &value);
        if section.is_too_large() {
            // No dynamic table depends on the rest.
            return Ok(());
        }
    }
    Ok(())
}

fn entry(index: usize) -> Result<(&'static str, &'static str), Invalid> {
    tables::QPACK.get(index).copied().ok_or(Invalid)
}

/// The client's encoder stream (§4.3): it may insert nothing, and may only set the table's capacity to zero.
#[derive(Debug, Default)]
pub(in crate::http) struct EncoderStream;

impl EncoderStream {
    /// # Errors
    /// An instruction that changes the table (§3.2.3, §4.3.1).
    pub(in crate::http) fn pass(bytes: &[u8]) -> Result<(), Invalid> {
        // Set Dynamic Table Capacity with 0 is one byte.
        if bytes.iter().all(|byte| *byte == 0x20) { Ok(()) } else { Err(Invalid) }
    }
}

/// The client's decoder stream (§4.4). Our sections need no acknowledgement.
#[derive(Debug, Default)]
pub(in crate::http) struct DecoderStream {
    /// Whether the last byte was inside the number of a cancelled stream.
    is_within: bool,
}

impl DecoderStream {
    /// # Errors
    /// The client acknowledges a section or an insert that never existed (§4.4.1, §4.4.3).
    pub(in crate::http) fn pass(&mut self, bytes: &[u8]) -> Result<(), Invalid> {
        for byte in bytes {
            if self.is_within {
                self.is_within = byte & 0x80 != 0;
            } else if byte & 0xc0 == 0x40 {
                self.is_within = byte & 0x3f == 0x3f;
            } else {
                return Err(Invalid);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(block: &[u8]) -> Result<Vec<String>, Invalid> {
        let mut section = Section::default();
        section.begin(1 << 16);
        decode(block, &mut section)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(section.fields().map(|(name, value)| format!("{}={}", text(name), text(value))).collect())
    }

    #[test]
    fn a_section_without_a_table_is_decoded() {
        // RFC 9204 B.1.
        assert_eq!(told(b"\0\0\x51\x0b/index.html").unwrap(), [":path=/index.html"]);
        let three = told(b"\0\0\xd1\x23abc\x01d\xff\x23").unwrap();
        assert_eq!(three, [":method=GET", "abc=d", "x-frame-options=sameorigin"]);
        assert_eq!(told(b"\0\x07"), Ok(vec![]), "a base says nothing where there is no table");
    }

    #[test]
    fn a_section_that_needs_a_table_is_refused() {
        for bad in [
            &b""[..],
            b"\0",
            b"\x01\0\xd1",
            b"\0\x80\xd1",
            b"\0\0\x80",
            b"\0\0\x10",
            b"\0\0\x40\0",
            b"\0\0\0\0",
            b"\0\0\xff\x24",
            b"\0\0\x5f\x54\0",
            b"\0\0\x51",
            b"\0\0\x51\x02a",
            b"\0\0\x29\xff\0",
        ] {
            assert_eq!(told(bad), Err(Invalid), "{bad:?}");
        }
    }

    #[test]
    fn instructions_that_change_nothing_are_accepted() {
        assert_eq!(EncoderStream::pass(&[0x20, 0x20]), Ok(()));
        for bad in [0x21, 0x3f, 0x80, 0xc1, 0x41, 0x00] {
            assert_eq!(EncoderStream::pass(&[bad]), Err(Invalid), "{bad:#x}");
        }
        let mut decoder = DecoderStream::default();
        for good in [&[0x40, 0x7e][..], &[0x7f], &[0x81, 0x80, 0x01], &[0x44]] {
            assert_eq!(decoder.pass(good), Ok(()), "{good:?}");
        }
        for bad in [0x80, 0x84, 0x00, 0x01] {
            assert_eq!(DecoderStream::default().pass(&[bad]), Err(Invalid), "{bad:#x}");
        }
    }
}
