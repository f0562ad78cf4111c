//! HPACK (RFC 7541): decodes the field sections of one HTTP/2 connection. Each section may change the connection's table.

use std::collections::VecDeque;

use super::{FIELD_BYTES, Input, Invalid, Section, tables};

/// The table size that a client may use: h2's default, which its SETTINGS leave unchanged.
const TABLE_BYTES_MAX: usize = 4096;

/// The dynamic table, which the client fills (§2.3.2).
#[derive(Debug)]
pub(in crate::http) struct Table {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Buffers for the field that is being decoded.
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name_bytes: usize,
}

impl Default for Table {
    fn default() -> Self {
        let (entries, name, value) = Default::default();
        Self { entries, bytes: 0, bytes_max: TABLE_BYTES_MAX, name, value }
    }
}

impl Table {
    /// Decodes a whole block.
    ///
    /// # Errors
    /// The block is malformed, which ends the connection (§2.2).
    pub(in crate::http) fn decode(&mut self, block: &[u8], section: &mut Section) -> Result<(), Invalid> {
        let mut input = Input(block);
        let mut is_first = true;
        while let Some(first) = input.byte() {
            if first & 0xe0 == 0x20 {
                // §4.2: a size update must precede all fields.
                let bytes_max = input.number(first, 5)?;
                if !is_first || bytes_max > TABLE_BYTES_MAX {
                    return Err(Invalid);
                }
                self.bytes_max = bytes_max;
                self.shrink(0);
                continue;
            }
            is_first = false;
            if first & 0x80 != 0 {
                let index = input.number(first, 7)?;
                let (name, value) = self.entry(index)?;
                section.push(name, value);
                continue;
            }
            let (is_kept, bits) = if first & 0x40 == 0 { (false, 4) } else { (true, 6) };
            let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
            name.clear();
            value.clear();
            match input.number(first, bits)? {
                0 => input.value(&mut name)?,
                index => name.extend_from_slice(self.entry(index)?.0),
            }
            input.value(&mut value)?;
            section.push(&name, &value);
            if is_kept {
                self.keep(&name, &value);
            }
            (self.name, self.value) = (name, value);
        }
        Ok(())
    }

    /// The entry with this index (§2.3.3).
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Invalid> {
        let index = index.checked_sub(1).ok_or(Invalid)?;
        if let Some((name, value)) = tables::HPACK.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - tables::HPACK.len()).ok_or(Invalid)?;
        Ok(entry.text.split_at(entry.name_bytes))
    }

    /// Adds an entry. §4.4: the oldest entries are evicted until it fits; an entry larger than the table empties it.
    fn keep(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + FIELD_BYTES;
        self.shrink(bytes);
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(Entry { text: [name, value].concat().into(), name_bytes: name.len() });
        }
    }

    /// Evicts entries until this many more bytes fit.
    fn shrink(&mut self, more: usize) {
        while self.bytes + more > self.bytes_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.text.len() + FIELD_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn told(table: &mut Table, block: &[u8]) -> Result<Vec<String>, Invalid> {
        let mut section = Section::default();
        section.begin(1 << 16);
        table.decode(block, &mut section)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(section.fields().map(|(name, value)| format!("{}={}", text(name), text(value))).collect())
    }

    #[test]
    fn the_rfcs_requests_are_decoded() {
        // RFC 7541 C.4: three requests on one connection, with Huffman coding.
        let mut table = Table::default();
        let mut of = |hex: &str| told(&mut table, &bytes(hex)).unwrap().join(" ");
        let first = ":method=GET :scheme=http :path=/ :authority=www.example.com";
        assert_eq!(of("828684418cf1e3c2e5f23a6ba0ab90f4ff"), first);
        assert_eq!(of("828684be5886a8eb10649cbf"), format!("{first} cache-control=no-cache"));
        let third = ":method=GET :scheme=https :path=/index.html :authority=www.example.com custom-key=custom-value";
        assert_eq!(of("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"), third);
        assert_eq!(table.bytes, 164);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Table::default();
        // A name of one letter and a value of 2000 bytes, which are added to the table.
        let keep = |table: &mut Table, letter: u8| {
            let head = [0x40, 1, letter, 0x7f, 0xd1, 0x0e];
            told(table, &[&head[..], &[b'v'; 2000]].concat()).unwrap();
        };
        keep(&mut table, b'a');
        keep(&mut table, b'b');
        assert_eq!(table.entries.len(), 2);
        keep(&mut table, b'c');
        assert_eq!(table.entries.len(), 2, "the oldest went");
        assert!(told(&mut table, &[0xbf]).unwrap()[0].starts_with("b=v"));
        assert_eq!(told(&mut table, &[0x20]), Ok(vec![]), "it may have nothing");
        assert!(table.entries.is_empty() && told(&mut table, &[0xbe]).is_err());
        keep(&mut table, b'a');
        assert!(table.entries.is_empty(), "what is larger than the table is not kept");
        assert_eq!(told(&mut table, &[0x3f, 0xe1, 0x1f]), Ok(vec![]), "4096 again");
        keep(&mut table, b'a');
        assert_eq!(table.entries.len(), 1);
    }

    #[test]
    fn a_malformed_block_is_refused() {
        for bad in
            ["80", "be", "ff", "3fe21f", "8220", "40", "4001", "400161", "4001610261", "7fffffffff7f", "0181ff00"]
        {
            assert_eq!(told(&mut Table::default(), &bytes(bad)), Err(Invalid), "{bad}");
        }
    }

    #[test]
    fn a_section_that_is_too_large_is_dropped_but_still_changes_the_table() {
        let mut table = Table::default();
        let mut section = Section::default();
        section.begin(100);
        table.decode(&bytes("82 40 01 61 01 62 40 01 63 01 64 be be be"), &mut section).unwrap();
        assert!(section.is_too_large() && section.fields().count() <= 2);
        assert_eq!(told(&mut table, &[0xbe, 0xbf]).unwrap(), ["c=d", "a=b"]);
    }
}
