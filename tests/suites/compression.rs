//! Compression, for tenants that ask for it: over either HTTP version, charged, and only if a client accepts it.

use std::io::Read as _;

use tests::{Answer, Gateway, Protocol, Site, Tenant, request};

fn site(guest: &str) -> Site {
    let text = Tenant::new("text.localhost", guest).with("compress = [\"br\", \"gzip\"]");
    Site::new().tenant("text", &text).tenant("plain", &Tenant::new("plain.localhost", guest))
}

async fn get(gateway: &Gateway, protocol: Protocol, host: &str, path: &str, takes: &str) -> Answer {
    let request = request("GET", host, path)
        .header("accept-encoding", takes)
        .header("say-content-type", "text/plain")
        .header("say-etag", "\"one\"")
        .header("say-bytes", "200000");
    gateway.client(protocol).send(host, request.body(tests::empty()).unwrap()).await
}

#[tokio::test]
async fn compressed_text_is_smaller_and_decodes_to_the_original() {
    let gateway = Gateway::start(&site("echo"));
    for protocol in [Protocol::H1, Protocol::H2] {
        let plain = get(&gateway, protocol, "text.localhost", "/say", "none").await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
        assert_eq!(plain.body.len(), 200_000);
        let coded = get(&gateway, protocol, "text.localhost", "/say", "gzip").await;
        assert_eq!((coded.header("content-encoding"), coded.header("vary")), ("gzip", "accept-encoding"));
        assert_eq!(coded.header("etag"), "W/\"one\"");
        assert!(coded.body.len() < 20_000, "{}", coded.body.len());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&coded.body[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, plain.body);
        let best = get(&gateway, protocol, "text.localhost", "/say", "gzip, br").await;
        assert_eq!(best.header("content-encoding"), "br");
        // It costs fuel, by the byte.
        let fuel = async |answer: &Answer| gateway.record(answer).await["fuel"].as_u64().unwrap();
        let more = fuel(&coded).await - fuel(&plain).await;
        assert!((3_900_000..4_100_000).contains(&more), "200,000 bytes at 20: {more}");
    }
    let other = get(&gateway, Protocol::H2, "plain.localhost", "/say", "gzip, br").await;
    assert_eq!((other.header("content-encoding"), other.header("vary"), other.body.len()), ("", "", 200_000));
    gateway.quiet().await;
}

#[tokio::test]
async fn a_broken_response_stays_broken_when_it_is_compressed() {
    let gateway = Gateway::start(&site("hostile"));
    for protocol in [Protocol::H1, Protocol::H2] {
        let answer = get(&gateway, protocol, "text.localhost", "/trap-in-body", "gzip").await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        assert!(answer.torn.is_some(), "{answer:?}");
    }
}
