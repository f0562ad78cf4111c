//! What h2 receives of a connection, however its bytes arrive.

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::http::blocks::message::NOTE;

/// Reads that return these pieces, and then an end of stream.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.0.pop_front() else { return Poll::Ready(Ok(())) };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What h2 receives of these bytes in pieces of this size.
fn told(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let pieces = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    let mut heads = Heads::new(Pieces(pieces), 1000, Arc::new(Notes::new(10)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut out = Vec::new();
    runtime.block_on(heads.read_to_end(&mut out))?;
    Ok(out)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { length: payload.len(), kind, flags, stream }.write(&mut out);
    [out, payload.to_vec()].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| hpack_literal(&mut out, name.as_bytes(), value.as_bytes()));
    out
}

fn request(stream: u32, flags: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let all = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", path)];
    frame(HEADERS, flags | 4, stream, &block(&[&all, more].concat()))
}

fn start() -> Vec<u8> {
    [vec![b'P'; PREFACE_BYTES], frame(4, 0, 0, &[])].concat()
}

const ENDS: u8 = END_STREAM;

#[test]
fn a_valid_section_is_passed_on_unchanged() {
    let parts = [
        start(),
        request(1, ENDS, "/", &[("cookie", "a=1"), ("cookie", "b=2")]),
        request(3, 0, "/a?b", &[]),
        frame(DATA, 0, 3, &[7; 3000]),
        frame(HEADERS, ENDS | 4, 3, &block(&[("x", "y")])),
        // In three frames, with padding and priority.
        frame(
            HEADERS,
            ENDS | 0x28,
            5,
            &[&[2, 0, 0, 0, 0, 9][..], &block(&[(":method", "GET"), (":scheme", "https")]), &[0, 0]].concat(),
        ),
        frame(9, 0, 5, &block(&[(":authority", "a")])),
        frame(9, 4, 5, &block(&[(":path", "/")])),
        frame(6, 0, 0, &[0; 8]),
    ];
    let whole = parts.concat();
    for piece in [1, 7, 100, 4096, 100_000] {
        assert!(told(&whole, piece).unwrap() == whole, "{piece}");
    }
}

#[test]
fn an_invalid_section_is_replaced_and_all_after_it_are_rewritten() {
    let fields = |stream: u32, flags: u8, fields: &[(&str, &str)]| frame(HEADERS, flags | 4, stream, &block(fields));
    let post = [(":method", "POST"), (":scheme", "https"), (":authority", "a")];
    let note = |stream: &'static str| (NOTE, stream);
    let instead = [(":method", "-"), (":scheme", "https"), (":authority", "-"), (":path", "/")];
    for (sent, expected) in [
        (request(1, ENDS, "/\u{e9}", &[]), fields(1, ENDS, &[&post[..], &[(":path", "/%C3%A9")]].concat())),
        (
            request(1, 0, "/", &[("expect", "100-continue")]),
            fields(1, 0, &[&post[..], &[(":path", "/"), ("expect", "100-continue"), note("1")]].concat()),
        ),
        (request(1, ENDS, "/#a", &[]), fields(1, ENDS, &[&instead[..], &[note("1")]].concat())),
        (request(1, ENDS, "/", &[(NOTE, "7")]), fields(1, ENDS, &[&post[..], &[(":path", "/")]].concat())),
        (request(1, ENDS, "/", &[("connection", "close")]), fields(1, ENDS, &[])),
        (request(1, 0, "/", &[("x", &"y".repeat(1000))]), fields(1, 0, &[&instead[..], &[note("1")]].concat())),
    ] {
        // Then a section that adds to the table, and one that refers to that entry.
        let insert = [&block(&[&post[..], &[(":path", "/")]].concat())[..], &[0x40, 1, b'x', 1, b'y']].concat();
        let refer = [&block(&[&post[..], &[(":path", "/")]].concat())[..], &[0xbe]].concat();
        let behind = [frame(HEADERS, ENDS | 4, 3, &insert), frame(HEADERS, ENDS | 4, 5, &refer)].concat();
        let anew =
            [3, 5].map(|stream| fields(stream, ENDS, &[&post[..], &[(":path", "/"), ("x", "y")]].concat())).concat();
        let (whole, wanted) = ([start(), sent.clone(), behind].concat(), [start(), expected, anew].concat());
        for piece in [1, 11, 100_000] {
            assert!(told(&whole, piece).unwrap() == wanted, "{sent:?} by {piece}");
        }
    }
}

#[test]
fn invalid_trailers_are_a_stream_error() {
    let good = [start(), request(1, 0, "/", &[]), frame(DATA, 0, 1, b"body")].concat();
    let bad = frame(HEADERS, ENDS | 4, 1, &block(&[(":path", "/")]));
    assert_eq!(told(&[&good[..], &bad].concat(), 9).unwrap(), [&good[..], &frame(HEADERS, 4, 1, &[])].concat());
    // After the end of the stream it is another error, which h2 detects.
    let ended = [&good[..], &frame(DATA, ENDS, 1, b""), &bad].concat();
    assert_eq!(told(&ended, 9).unwrap(), ended);
}

#[test]
fn a_section_that_does_not_end_is_not_held() {
    let long = [start(), frame(HEADERS, 0, 1, &vec![0; 16_000]), frame(9, 0, 1, &vec![0; 16_000])].concat();
    assert!(told(&long, 1000).is_err());
    let many: Vec<u8> = (0..200).flat_map(|n| request(2 * n + 1, 0, "/", &[])).collect();
    assert!(told(&[start(), many].concat(), 1000).is_err(), "bodies without end");
}

proptest! {
    /// The bytes may arrive in any pieces and have any value.
    #[test]
    fn any_bytes_give_the_same_result_in_any_pieces(bytes: Vec<u8>, piece in 1_usize..40) {
        let whole = [start(), request(1, ENDS, "/\u{e9}", &[]), bytes].concat();
        prop_assert_eq!(told(&whole, piece).ok(), told(&whole, 1 << 20).ok());
    }

    #[test]
    fn any_frames_give_the_same_result_in_any_pieces(
        frames in prop::collection::vec((0_u8..10, 0_u8..64, 0_u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        piece in 1_usize..40,
    ) {
        let frames: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        let whole = [start(), frames].concat();
        prop_assert_eq!(told(&whole, piece).ok(), told(&whole, 1 << 20).ok());
    }
}
