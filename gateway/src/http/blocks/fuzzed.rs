//! Properties that hold for any bytes that a client sends. `gateway/fuzz` looks for bytes that break them.

use super::message::{self, Bad};
use super::{Section, Table, decode_qpack, hpack_literal, qpack_literals};

/// Reads the bytes as blocks of one HTTP/2 connection, of at most 64 bytes each, and as one HTTP/3 section.
///
/// # Panics
/// The next reader reads an accepted section differently, or finds it invalid.
pub(crate) fn any_section(data: &[u8]) {
    let (mut table, mut section) = (Table::default(), Section::default());
    for block in data.chunks(64) {
        section.begin(1000);
        if table.decode(block, &mut section).is_err() {
            break;
        }
        any_fields(&section);
    }
    section.begin(1000);
    if decode_qpack(data, &mut section).is_ok() {
        any_fields(&section);
    }
}

fn any_fields(section: &Section) {
    let head = match message::request(section) {
        Ok(head) => head,
        Err(Bad::Malformed(_) | Bad::Refused(_)) => return,
    };
    let fields: Vec<_> = head.fields(section).collect();
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| hpack_literal(&mut block, name, value));
    let mut again = Section::default();
    again.begin(1 << 20);
    assert_eq!(Table::default().decode(&block, &mut again), Ok(()));
    assert!(again.fields().eq(fields.iter().copied()), "HTTP/2");
    assert!(message::request(&again).is_ok_and(|head| head.is_in_order()), "in order");
    again.begin(1 << 20);
    assert_eq!(decode_qpack(&qpack_literals(fields.iter().copied()), &mut again), Ok(()));
    assert!(again.fields().eq(fields.iter().copied()), "HTTP/3");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_handled() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/sections");
        let all: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(all.len() >= 4, "{}", all.len());
        all.into_iter().for_each(|entry| any_section(&std::fs::read(entry.unwrap().path()).unwrap()));
    }

    /// Field lines that requests consist of, so that some sections are complete.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        const FIELDS: [(&str, &str); 14] = [
            (":method", "GET"),
            (":method", "OPTIONS"),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":authority", "A.example:443"),
            (":path", "/"),
            (":path", "/\u{e9}?\"<#>"),
            (":path", "/\u{e9}?\"<>"),
            (":path", "*"),
            ("host", "a.example"),
            ("cookie", "a=1"),
            ("expect", "100-continue"),
            (message::NOTE, "1"),
            ("x", "y"),
        ];
        prop::collection::vec(prop::sample::select(&FIELDS[..]), 0..8).prop_map(|fields| {
            let begin = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example")];
            let all = begin.iter().take(3 * usize::from(fields.len() % 2 == 0)).chain(&fields);
            let mut block = Vec::new();
            all.for_each(|(name, value)| hpack_literal(&mut block, name.as_bytes(), value.as_bytes()));
            block
        })
    }

    proptest! {
        #[test]
        fn the_properties_hold_for_any_section(data: Vec<u8>) {
            any_section(&data);
        }

        #[test]
        fn the_properties_hold_for_any_fields(block in fields()) {
            let mut section = Section::default();
            section.begin(1 << 16);
            Table::default().decode(&block, &mut section).unwrap();
            any_fields(&section);
        }
    }
}
