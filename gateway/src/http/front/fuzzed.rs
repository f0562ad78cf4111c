//! What must hold whatever a client sends: `gateway/fuzz` looks for bytes for which it does not, and the tests here go through
//! those that were worth keeping (`gateway/fuzz/corpus/front`).

use super::chunks::Chunks;
use super::head::{Framing, Reader};
use crate::http::grammar::percent_encoded;

const FIELDS_MAX: usize = 100;

/// The first bytes as a head, and what is behind it as its body where that is chunked.
///
/// # Panics
/// A head is read in another way as it comes in pieces; or the parser behind this one, httparse, sees another end or another
/// framing than this one let through.
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

/// A head as it is let through: a target that is raw has escapes.
fn as_passed(head: &[u8], is_raw: bool) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = head.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    if let Some(target) = words.get_mut(1).filter(|_| is_raw) {
        *target = percent_encoded(target);
    }
    words.join(&b' ')
}

/// A chunked body at once and a byte at a time.
///
/// # Panics
/// It ends elsewhere.
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
    fn the_corpus_holds() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/front");
        let mut checked = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            any_message(&std::fs::read(entry.unwrap().path()).unwrap());
            checked += 1;
        }
        assert!(checked >= 20, "{checked}");
    }

    /// Bytes that heads and chunked bodies are made of, so that some of them are whole.
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
        fn any_bytes_hold_too(data: Vec<u8>) {
            any_message(&data);
        }

        #[test]
        fn any_pieces_hold_too(data in pieces()) {
            any_message(&data);
        }
    }
}
