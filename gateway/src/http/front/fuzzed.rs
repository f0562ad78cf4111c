//! Properties that hold for any bytes that a client sends. `gateway/fuzz` looks for bytes that break them; the tests here
//! run those that were worth keeping (`gateway/fuzz/corpus/front`).

use super::chunks::Chunks;
use super::head::{Framing, Reader};
use crate::http::grammar::percent_encoded;

const FIELDS_MAX: usize = 100;

/// Reads the first bytes as a head, and the rest as its body if that is chunked.
///
/// # Panics
/// A head is read differently if it arrives in pieces; or httparse, which reads it after this reader, finds another end or
/// another framing.
pub(crate) fn any_message(data: &[u8]) {
    let whole = Reader::new(FIELDS_MAX).read(data);
    let mut slowly = Reader::new(FIELDS_MAX);
    let mut last = Ok(None);
    for end in 1..=data.len() {
        last = slowly.read(data.get(..end).unwrap_or_default());
        if last != Ok(None) {
            break;
        }
    }
    assert!(last == whole || whole == Ok(None), "{whole:?} at once, {last:?} in pieces");
    let Ok(Some(head)) = whole else { return };
    let body = data.get(head.bytes..).unwrap_or_default();
    let passed = as_passed(data.get(..head.bytes).unwrap_or_default(), head.is_raw);
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let read = request.parse(&passed);
    assert_eq!(read, Ok(httparse::Status::Complete(passed.len())), "the end of the head");
    assert!(http::Uri::try_from(request.path.unwrap_or_default()).is_ok(), "a target that nobody takes");
    let of = |name: &str| {
        let values = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        values.map(|field| field.value.trim_ascii()).collect::<Vec<_>>()
    };
    match (of("content-length").as_slice(), of("transfer-encoding").as_slice(), head.framing) {
        ([], [], Framing::Length(0)) => {}
        ([length], [], Framing::Length(bytes)) => assert_eq!(length.parse_ascii(), Some(bytes)),
        ([], [coding], Framing::Chunked) => assert!(coding.eq_ignore_ascii_case(b"chunked")),
        other => unreachable!("{other:?}"),
    }
    any_body(body);
}

/// The head as it is passed on: raw bytes in the target are escaped.
fn as_passed(head: &[u8], is_raw: bool) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = head.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    if let Some(target) = words.get_mut(1).filter(|_| is_raw) {
        *target = percent_encoded(target);
    }
    words.join(&b' ')
}

/// Reads a chunked body at once, and a byte at a time.
///
/// # Panics
/// Both end at different places.
fn any_body(data: &[u8]) {
    let (mut whole, mut single) = (Chunks::default(), Chunks::default());
    let at_once = whole.pass(data);
    let mut count = 0;
    let in_pieces = data.iter().try_for_each(|byte| {
        count += single.pass(std::slice::from_ref(byte))?;
        Ok(())
    });
    assert_eq!(at_once, in_pieces.map(|()| count));
    assert!(at_once.is_err() || whole == single);
}

trait ParseAscii {
    fn parse_ascii(&self) -> Option<u64>;
}

impl ParseAscii for &[u8] {
    fn parse_ascii(&self) -> Option<u64> {
        std::str::from_utf8(self).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_handled() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/front");
        let mut checked = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            any_message(&std::fs::read(entry.unwrap().path()).unwrap());
            checked += 1;
        }
        assert!(checked >= 20, "{checked}");
    }

    /// Pieces that heads and chunked bodies consist of, so that some inputs are complete.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&str; 18] = [
            "GET / HTTP/1.1\r\n",
            "POST /a HTTP/1.0\r\n",
            "host: x\r\n",
            "content-length: 3\r\n",
            "content-length:",
            "transfer-encoding: chunked\r\n",
            "transfer-encoding",
            ": ",
            "chunked",
            "\r\n",
            "\r",
            "\n",
            "3\r\nabc\r\n",
            "0\r\n\r\n",
            "a: b\r\n",
            ";x",
            "1",
            "\u{80}",
        ];
        prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn the_properties_hold_for_any_bytes(data: Vec<u8>) {
            any_message(&data);
        }

        #[test]
        fn the_properties_hold_for_any_pieces(data in pieces()) {
            any_message(&data);
        }
    }
}
