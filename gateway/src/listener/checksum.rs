//! The optional checksum in a header of the PROXY protocol's version 2 (§2.2.3): CRC32C (RFC 3309 §2) over the whole
//! header, with zeros in place of the checksum.

/// The type of the field that holds the checksum, and its length.
const KIND: u8 = 0x03;
const LENGTH: usize = 4;
/// Castagnoli's polynomial, with its bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Checks the header's checksum, if the fields after the addresses contain one.
///
/// # Errors
/// The checksum is wrong, there are two, or a field is truncated.
pub(super) fn check(header: &[u8], fields: &[u8]) -> Result<(), &'static str> {
    let Some((at, sent)) = find(fields)? else { return Ok(()) };
    let start = header.len() - fields.len() + at;
    let mut cleared = header.to_vec();
    cleared.iter_mut().skip(start).take(LENGTH).for_each(|byte| *byte = 0);
    if crc32c(&cleared) == sent { Ok(()) } else { Err("its checksum does not match the header") }
}

/// The position of the checksum, and its value.
fn find(fields: &[u8]) -> Result<Option<(usize, u32)>, &'static str> {
    const CUT: &str = "a field after its addresses is truncated";
    let (mut rest, mut found) = (fields, None);
    while !rest.is_empty() {
        let ([kind, high, low], behind) = rest.split_first_chunk().ok_or(CUT)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = behind.split_at_checked(length).ok_or(CUT)?;
        if *kind == KIND {
            let sent = <[u8; LENGTH]>::try_from(value).map_err(|_length| "its checksum does not have four bytes")?;
            let at = fields.len() - behind.len() - LENGTH;
            if found.replace((at, u32::from_be_bytes(sent))).is_some() {
                return Err("it has two checksums");
            }
        }
        rest = behind;
    }
    Ok(found)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _bit| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720 §B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
