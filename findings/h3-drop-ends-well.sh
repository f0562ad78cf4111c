#!/usr/bin/env bash
# A response of h3 whose stream is dropped half way looks whole to the client.
#
# Version:   h3 0.0.8, h3-quinn 0.0.10, quinn 0.11.9 (Cargo's registry), checked with Rust 1.95.0.
# Source:    h3-quinn hands quinn's `SendStream` on, whose documentation says that dropping it finishes it. RFC 9114 section 4.1:
#            a server that cannot send a whole response resets the stream; a FIN says that the message is complete.
# Behaviour: a handler sends a head and half of a body, and its `RequestStream` is dropped without `finish`, as when its task is
#            cancelled. The client receives the half and then a clean end.
# Expected:  the stream is reset, as hyper resets an HTTP/2 stream and closes an HTTP/1.1 connection when a body is dropped
#            before its end, so that a client can tell a half from a whole.
# Seen:      2026-12-01: status 200; data the first half; a whole response.
#
# Exits with 0 while this holds, and with 1 when it does not any more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
bytes = "1"
h3 = "=0.0.8"
h3-quinn = "=0.0.10"
http = "1"
quinn = { version = "=0.11.9", default-features = false, features = ["runtime-tokio", "rustls-ring"] }
rcgen = "=0.14.5"
rustls = { version = "0.23", default-features = false, features = ["ring", "std"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
TOML
cat >src/main.rs <<'RUST'
use std::sync::Arc;

use bytes::{Buf, Bytes};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};

#[tokio::main]
async fn main() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let server = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let mut connection: h3::server::Connection<_, Bytes> =
            h3::server::Connection::new(h3_quinn::Connection::new(connection)).await.unwrap();
        while let Ok(Some(resolver)) = connection.accept().await {
            let (_request, mut stream) = resolver.resolve_request().await.unwrap();
            stream.send_response(http::Response::new(())).await.unwrap();
            stream.send_data(Bytes::from_static(b"the first half")).await.unwrap();
            // The handler ends here, as one does that is cancelled: it never calls `finish`.
            drop(stream);
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    client.set_default_client_config(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    let connection = client.connect(address, "localhost").unwrap().await.unwrap();
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let mut stream = requests.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    println!("status {}", stream.recv_response().await.unwrap().status().as_u16());
    loop {
        match stream.recv_data().await {
            Ok(Some(data)) => println!("data {}", String::from_utf8_lossy(data.chunk())),
            Ok(None) => return println!("a whole response"),
            Err(error) => return println!("broken off: {error}"),
        }
    }
}
RUST
export CARGO_TARGET_DIR="$work/target" RUSTUP_AUTO_INSTALL=0
said=$(timeout 600 cargo run -q)
echo "$said"
[ "$said" = $'status 200\ndata the first half\na whole response' ] || { echo "this is not what was seen" >&2; exit 1; }
