//! Encodes fields so that the reader needs no table: each as a literal, without Huffman coding.

/// Appends one field for HTTP/2 (RFC 7541 §6.2.2).
pub(in crate::http) fn hpack(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    number(out, 0, 7, name.len());
    out.extend_from_slice(name);
    number(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// Encodes a whole section for HTTP/3 (RFC 9204 §4.5.1, §4.5.6).
pub(in crate::http) fn qpack<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        number(&mut out, 0x20, 3, name.len());
        out.extend_from_slice(name);
        number(&mut out, 0, 7, value.len());
        out.extend_from_slice(value);
    }
    out
}

/// Appends a number after the bits that `first` uses (RFC 7541 §5.1).
fn number(out: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    let low = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    if number < most {
        out.push(first | low(number));
        return;
    }
    out.push(first | low(most));
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    out.push(low(rest));
}

#[cfg(test)]
mod tests {
    use super::super::{Section, Table, decode_qpack};
    use super::*;

    #[test]
    fn an_encoded_field_decodes_to_itself() {
        let long = [b'x'; 5000];
        let fields = [(&b":path"[..], &b"/"[..]), (b"x", &long), (&long[..200], b""), (b"cookie", b"a=\xff")];
        let mut block = Vec::new();
        fields.iter().for_each(|(name, value)| hpack(&mut block, name, value));
        let mut section = Section::default();
        section.begin(1 << 16);
        Table::default().decode(&block, &mut section).unwrap();
        assert!(section.fields().eq(fields));
        section.begin(1 << 16);
        decode_qpack(&qpack(fields.into_iter()), &mut section).unwrap();
        assert!(section.fields().eq(fields));
    }
}
