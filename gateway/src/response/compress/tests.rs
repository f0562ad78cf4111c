//! An encoded body decodes to the original, and nothing else is encoded.

use std::io::Read as _;

use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::*;
use crate::ids::TenantId;
use crate::telemetry::Metrics;
use crate::tenant::{Quota, Registry};

fn how(coding: Coding, memory: u64) -> Compression {
    let quota = Quota { memory, ..Quota::unbounded() };
    let ledger = Registry::default().ledger(&TenantId::parse("acme").unwrap(), &quota, true);
    let record = Record::of_message(&Arc::new(Metrics::default()), 1);
    Compression { coding: Some(coding), ledger, record }
}

fn response(fields: &[(&str, &str)], body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    for (name, value) in fields {
        response.headers_mut().append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    response
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).map(|_bytes| ()),
        Coding::Zstd => zstd::stream::copy_decode(bytes, &mut out),
        Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).map(|_bytes| ()),
    }
    .unwrap();
    out
}

#[tokio::test]
async fn an_encoded_body_decodes_to_the_original_and_is_smaller() {
    let text: String = (0..60_000).map(|n| format!("line {} of a text\n", n % 1000)).collect();
    for coding in Coding::ALL {
        let how = how(coding, u64::MAX);
        let (ledger, record) = (Arc::clone(&how.ledger), Arc::clone(&how.record));
        let plain = crate::http::full(text.clone());
        let fields = [("content-type", "text/html; charset=utf-8"), ("etag", "\"a\""), ("accept-ranges", "bytes")];
        let coded = compress(response(&fields, plain), how, false);
        assert_eq!(coded.headers()[CONTENT_ENCODING], coding.name());
        assert_eq!(coded.headers()[VARY], "accept-encoding");
        assert_eq!(coded.headers()[ETAG], "W/\"a\"");
        assert!(!coded.headers().contains_key(ACCEPT_RANGES));
        assert_eq!(ledger.memory_now(), CODER_BYTES);
        let bytes = coded.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < text.len() / 20, "{coding:?}: {} of {}", bytes.len(), text.len());
        assert_eq!(decoded(coding, &bytes), text.as_bytes());
        assert_eq!(ledger.memory_now(), 0);
        assert_eq!(record.fuel(), text.len() as u64 * cost::CODED_BYTE);
    }
}

#[tokio::test]
async fn a_guests_output_is_flushed_when_it_pauses_and_trailers_come_last() {
    for coding in Coding::ALL {
        let (pieces, mut queue) = mpsc::channel(1);
        let stream = futures_util::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let body = StreamBody::new(stream).boxed_unsync();
        let mut coded =
            compress(response(&[("content-type", "text/event-stream")], body), how(coding, u64::MAX), false);
        let mut got = Vec::new();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            pieces.send(Ok(Frame::data(Bytes::from(event)))).await.unwrap();
            let frame = coded.frame().await.unwrap().unwrap();
            got.extend(frame.into_data().unwrap());
        }
        let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"x\""))]);
        pieces.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
        drop(pieces);
        let rest = coded.into_body().collect().await.unwrap();
        assert_eq!(rest.trailers(), Some(&trailers));
        got.extend(rest.to_bytes());
        assert_eq!(decoded(coding, &got), b"data: 1\n\ndata: 2\n\n");
    }
}

#[tokio::test]
async fn a_broken_body_stays_broken() {
    let stream = futures_util::stream::iter([Ok(Frame::data(Bytes::from("begun"))), Err(BodyAborted(Fault::Trap))]);
    let body = StreamBody::new(stream).boxed_unsync();
    let coded = compress(response(&[("content-type", "text/plain")], body), how(Coding::Gzip, u64::MAX), false);
    assert!(coded.into_body().collect().await.is_err());
}

#[test]
fn only_bodies_that_become_smaller_are_encoded() {
    let text = ("content-type", "text/plain");
    let encoding = |fields: &[(&str, &str)], status: u16, memory: u64| {
        let mut plain = response(fields, crate::http::full("x"));
        *plain.status_mut() = StatusCode::from_u16(status).unwrap();
        let coded = compress(plain, how(Coding::Gzip, memory), false);
        let is_coded = coded.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        assert!(!is_coded || coded.headers().contains_key(VARY));
        is_coded
    };
    assert!(encoding(&[text], 200, u64::MAX));
    assert!(encoding(&[("content-type", "application/vnd.api+json")], 200, u64::MAX));
    assert!(encoding(&[text, ("content-length", "512")], 200, u64::MAX));
    for fields in [
        &[("content-type", "image/png")][..],
        &[],
        &[text, ("content-length", "511")],
        &[text, ("content-encoding", "br")],
        &[text, ("content-range", "bytes 0-1/3")],
        &[text, ("cache-control", "public, No-Transform")],
        &[text, ("content-digest", "sha-256=:x:")],
    ] {
        assert!(!encoding(fields, 200, u64::MAX), "{fields:?}");
    }
    for status in [204, 206, 304, 404] {
        assert!(!encoding(&[text], status, u64::MAX), "{status}");
    }
    assert!(!encoding(&[text], 200, CODER_BYTES - 1), "there is no memory for it");
    // The answer to a HEAD has the same fields as the answer to a GET.
    let head = compress(response(&[text], crate::http::empty()), how(Coding::Gzip, 0), true);
    assert_eq!(head.headers()[CONTENT_ENCODING], "gzip");
}
