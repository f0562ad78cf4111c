//! The Huffman code of field sections (RFC 7541 appendix B, also used by RFC 9204 §4.1.2).
//!
//! The code is canonical: codes of equal length are in the order of their symbols, so that the lengths define the whole
//! code.

use super::Invalid;

/// The code length of each byte in bits, and after them that of the end-of-string symbol.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
/// The length of the end-of-string symbol, which no string contains (§5.2).
const BITS_MAX: usize = 30;

/// The codes of one length: the first code, the index of its symbol in [`Code::symbols`], and their number.
#[derive(Clone, Copy)]
struct Row {
    first: u32,
    at: u16,
    count: u16,
}

struct Code {
    /// For each value of the first eight bits: the symbol and its code length. The length is zero if the code is longer
    /// than eight bits.
    short: [(u8, u8); 256],
    rows: [Row; BITS_MAX + 1],
    symbols: [u16; 257],
}

static CODE: Code = code();

#[expect(clippy::cast_possible_truncation, reason = "a symbol is below 257 and has 30 bits at the most")]
const fn code() -> Code {
    let rows = [Row { first: 0, at: 0, count: 0 }; BITS_MAX + 1];
    let mut code = Code { short: [(0, 0); 256], rows, symbols: [0; 257] };
    let (mut bits, mut at, mut next) = (1, 0, 0_u32);
    while bits <= BITS_MAX {
        next <<= 1;
        code.rows[bits] = Row { first: next, at, count: 0 };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                code.symbols[at as usize] = symbol as u16;
                if bits <= 8 {
                    let (mut ending, ends) = (0, 1 << (8 - bits));
                    while ending < ends {
                        code.short[(next << (8 - bits)) as usize + ending] = (symbol as u8, bits as u8);
                        ending += 1;
                    }
                }
                at += 1;
                next += 1;
                code.rows[bits].count += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    code
}

/// Decodes a string and appends it to `out`.
///
/// # Errors
/// The string contains the end-of-string symbol, or its padding is longer than seven bits or not all ones (RFC 7541 §5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let mut bytes = bytes.iter();
    // The next bits are the window's highest; the unused bits below are zero.
    let (mut window, mut have) = (0_u64, 0_u32);
    loop {
        while have <= 56
            && let Some(byte) = bytes.next()
        {
            window |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Ok(());
        }
        let first = usize::try_from(window >> 56).unwrap_or_default();
        let (symbol, bits) = match CODE.short.get(first) {
            Some((symbol, bits @ 1..)) => (usize::from(*symbol), u32::from(*bits)),
            _ => long(window).ok_or(Invalid)?,
        };
        if bits > have {
            let is_padding = have < 8 && window.leading_ones() == have;
            return if is_padding { Ok(()) } else { Err(Invalid) };
        }
        out.push(u8::try_from(symbol).map_err(|_end| Invalid)?);
        (window, have) = (window << bits, have - bits);
    }
}

/// Looks up a symbol whose code is longer than eight bits.
fn long(window: u64) -> Option<(usize, u32)> {
    (9..=30).find_map(|bits| {
        let row = CODE.rows.get(bits as usize)?;
        let word = u32::try_from(window >> (64 - bits)).ok()?;
        let place = word.checked_sub(row.first).filter(|place| *place < u32::from(row.count))?;
        let symbol = CODE.symbols.get(usize::from(row.at) + usize::try_from(place).ok()?)?;
        Some((usize::from(*symbol), bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(bytes, &mut out).ok().map(|()| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_rfcs_strings_are_decoded() {
        // RFC 7541 C.4.1, C.4.2, C.6.1.
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(told(&www).as_deref(), Some("www.example.com"));
        assert_eq!(told(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Some("no-cache"));
        assert_eq!(told(&[0xae, 0xc3, 0x77, 0x1a, 0x4b]).as_deref(), Some("private"));
        assert_eq!(told(&[]).as_deref(), Some(""));
    }

    #[test]
    fn padding_must_be_less_than_a_byte_of_ones() {
        assert_eq!(told(&[0b0001_1111]).as_deref(), Some("a"));
        assert_eq!(told(&[0b0001_1110]), None, "a zero");
        assert_eq!(told(&[0b0001_1111, 0xff]), None, "more than seven bits");
        assert_eq!(told(&[0xff, 0xff, 0xff, 0xff]), None, "the end of a string");
    }
}
