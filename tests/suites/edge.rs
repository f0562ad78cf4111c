//! TLS and HTTP as clients see them: who gets what, over HTTP/1.1 and HTTP/2.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tests::{Body, Client, Gateway, Protocol, Site, Tenant, empty, read, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

const BOTH: [Protocol; 2] = [Protocol::H1, Protocol::H2];

fn echo() -> Site {
    let echo = Tenant::new("echo.localhost", "echo").with("[limits]\nrequest_body = \"1MiB\"");
    Site::new().tenant("echo", &echo).tenant("other", &Tenant::new("other.localhost", "echo"))
}

/// A body that the test sends piece by piece.
pub(super) fn streamed() -> (mpsc::Sender<Bytes>, Body) {
    let (pieces, queue) = mpsc::channel(1);
    (pieces, Streamed(queue).boxed())
}

struct Streamed(mpsc::Receiver<Bytes>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn a_component_answers_over_both_protocols() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let answer = gateway.client(protocol).call("POST", "echo.localhost", "/", "to and fro").await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "to and fro"), "{protocol:?}");
        let timing = answer.header("server-timing");
        for part in ["queue;dur=", "load;dur=", "instance;dur=", "guest;dur=", "fuel;desc="] {
            assert!(timing.contains(part), "{timing}");
        }
        let fuel = timing.split("fuel;desc=\"").nth(1).unwrap().trim_end_matches('"').parse::<u64>().unwrap();
        assert!(fuel > 1000, "the fuel burned until the head: {timing}");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let (pieces, body) = streamed();
        let request = request("POST", "echo.localhost", "/").body(body).unwrap();
        let client = gateway.client(protocol);
        let response = client.start("echo.localhost", request);
        let send = pieces.clone();
        let (response, ()) = tokio::join!(response, async move { send.send("first".into()).await.unwrap() });
        let mut body = response.unwrap().into_body();
        // The first piece comes back while the request is still open.
        let back = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(back, "first", "{protocol:?}");
        pieces.send("second".into()).await.unwrap();
        drop(pieces);
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "second", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_declared_body_over_its_limit_gets_413_and_one_at_its_limit_passes() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let client = gateway.client(protocol);
        let declared = client.call("POST", "echo.localhost", "/", vec![b'x'; (1 << 20) + 1]).await;
        assert_eq!((declared.status.as_u16(), declared.problem().as_str()), (413, "body-too-large"), "{protocol:?}");
        let exact = client.call("POST", "echo.localhost", "/", vec![b'x'; 1 << 20]).await;
        assert_eq!((exact.status.as_u16(), exact.body.len()), (200, 1 << 20), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_streamed_body_over_its_limit_gets_413_before_the_guest_sees_the_excess() {
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default"]).with("[limits]\nrequest_body = \"64KiB\"");
    let gateway = Gateway::start(&Site::new().tenant("kv", &kv));
    for protocol in BOTH {
        let (pieces, body) = streamed();
        let request = request("POST", "kv.localhost", "/-/set/key").body(body).unwrap();
        let client = gateway.client(protocol);
        let response = client.start("kv.localhost", request);
        let send = async move {
            for _ in 0..80 {
                // The gateway may have closed the connection by now, as it should.
                if pieces.send(vec![b'x'; 1024].into()).await.is_err() {
                    break;
                }
            }
        };
        let (response, ()) = tokio::join!(response, send);
        let answer = read(response.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body-too-large"), "{protocol:?}");
        let kept = gateway.get("kv.localhost", "/-/get/key").await;
        assert_eq!(kept.text(), "(none)", "the guest never had a whole body");
    }
}

#[tokio::test]
async fn an_unknown_host_gets_the_default_certificate_and_no_hint() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let client = gateway.client(protocol);
        // The default certificate is for `localhost`, which no tenant has.
        let nobody = client.get("localhost", "/").await;
        assert_eq!((nobody.status.as_u16(), nobody.problem().as_str()), (404, "no-route"), "{protocol:?}");
        assert!(!nobody.text().contains("echo"), "{}", nobody.text());
    }
}

#[tokio::test]
async fn an_unknown_name_gets_no_certificate() {
    let gateway = Gateway::start(&echo());
    let client = gateway.client(Protocol::H1);
    let attempt = tokio::spawn(async move { client.tls("nobody.localhost").await });
    let refused = attempt.await.unwrap_err();
    assert!(refused.is_panic(), "the client must not accept the default certificate for another name");
}

#[tokio::test]
async fn the_server_name_and_the_host_must_agree_on_the_tenant() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let elsewhere = request("GET", "other.localhost", "/").body(empty()).unwrap();
        let answer = gateway.client(protocol).send("echo.localhost", elsewhere).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (421, "misdirected"), "{protocol:?}");
    }
}

#[tokio::test]
async fn plain_http_only_redirects() {
    let gateway = Gateway::start(&echo());
    let answer = Client::plain(gateway.http).get("echo.localhost", "/a?b=c").await;
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.header("location"), format!("https://echo.localhost:{}/a?b=c", gateway.https.port()));
}

#[tokio::test]
async fn a_guest_sees_one_clean_head() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let request = request("GET", "ECHO.localhost.", "/head?q=1")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-request-id", "forged")
            .header("x-kept", "yes")
            .body(empty())
            .unwrap();
        let answer = gateway.client(protocol).send("echo.localhost", request).await;
        let id = answer.header("x-request-id").to_owned();
        let text = answer.text();
        assert!(text.starts_with("GET https://echo.localhost/head?q=1\n"), "{protocol:?}: {text}");
        assert!(text.contains("x-forwarded-for: 127.0.0.1\n") && text.contains("x-kept: yes\n"), "{text}");
        assert!(text.contains(&format!("x-request-id: {id}\n")), "{text}");
        assert!(!text.contains("6.6.6.6") && !text.contains("forged"), "{text}");
        assert_eq!(answer.header("x-from-guest"), "yes");
    }
}

#[tokio::test]
async fn a_head_request_has_the_head_and_no_body() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let request = request("HEAD", "echo.localhost", "/head").body(empty()).unwrap();
        let answer = gateway.client(protocol).send("echo.localhost", request).await;
        assert_eq!((answer.status.as_u16(), answer.body.len(), answer.header("x-from-guest")), (200, 0, "yes"));
        let record = gateway.record(&answer).await;
        assert_eq!(record["fault"], "", "the guest ran to its end: {record}");
    }
}

#[tokio::test]
async fn upgrades_are_refused_with_their_own_problem_type() {
    let gateway = Gateway::start(&echo());
    let request = request("GET", "echo.localhost", "/")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(empty())
        .unwrap();
    let answer = gateway.client(Protocol::H1).send("echo.localhost", request).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (501, "not-supported"));
}

#[tokio::test]
async fn an_offer_of_another_protocol_leaves_the_connection_as_it_is() {
    let gateway = Gateway::start(&echo());
    // As Java's client and curl offer it, repeatedly on one connection.
    let offer = "POST /sized HTTP/1.1\r\nHost: echo.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 4\r\n\r\nbody";
    let last = "GET /head HTTP/1.1\r\nHost: echo.localhost\r\nConnection: close\r\n\r\n";
    let back = raw(&gateway, [offer, offer, last].concat().as_bytes()).await;
    assert_eq!((back.matches("HTTP/1.1 200").count(), back.matches("body").count()), (3, 2), "{back}");
    assert!(!back.to_ascii_lowercase().contains("upgrade"), "{back}");
}

/// Sends raw bytes and returns everything until the gateway closes the connection, or nothing after ten seconds.
async fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = gateway.client(Protocol::H1).tls("echo.localhost").await;
    stream.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut back)).await;
    if let Ok(Err(error)) = read {
        assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    }
    String::from_utf8_lossy(&back).into_owned()
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused() {
    let gateway = Gateway::start(&echo());
    let end = "Connection: close\r\n\r\n";
    for (what, head) in [
        ("no host", "GET / HTTP/1.1\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: echo.localhost\r\nHost: echo.localhost\r\n"),
        ("a host that is none", "GET / HTTP/1.1\r\nHost: echo localhost\r\n"),
        ("another absolute target", "GET https://other.localhost/ HTTP/1.1\r\nHost: echo.localhost\r\n"),
        ("two lengths", "POST / HTTP/1.1\r\nHost: echo.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n"),
        ("a bare control byte", "GET / HTTP/1.1\r\nHost: echo.localhost\r\nX: a\0b\r\n"),
    ] {
        let back = raw(&gateway, format!("{head}{end}").as_bytes()).await;
        let status = back.split(' ').nth(1).unwrap_or_default().to_owned();
        assert_eq!(status, "400", "{what}: {back}");
        assert_eq!(back.matches("HTTP/1.1").count(), 1, "{what}: one answer: {back}");
    }
}

#[tokio::test]
async fn a_head_over_its_limit_gets_431() {
    let gateway = Gateway::start(&echo());
    let long = format!("GET / HTTP/1.1\r\nHost: echo.localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(raw(&gateway, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nHost: echo.localhost\r\n{}\r\n", "X: y\r\n".repeat(150));
    assert!(raw(&gateway, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_slow_handshake_or_head_is_cut_off() {
    let site = echo()
        .gateway("[http]\nhandshake_time = \"300ms\"\nhead_time = \"300ms\"\nbody_idle = \"300ms\"\nidle = \"300ms\"");
    let gateway = Gateway::start(&site);
    // Before TLS, inside TLS, and within a head: the gateway ends each one.
    let mut silent = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
    let mut back = Vec::new();
    tokio::time::timeout(tests::PATIENCE, silent.read_to_end(&mut back)).await.expect("an end").unwrap();
    for begun in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nHost: echo.local"] {
        ends(&gateway, Protocol::H1, begun).await;
    }
    // HTTP/2: the preface and then a header block that never ends.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    ends(&gateway, Protocol::H2, preface).await;
    let unfinished = [&preface[..], b"\0\0\x01\x01\0\0\0\0\x01\x82"].concat();
    ends(&gateway, Protocol::H2, &unfinished).await;
}

#[tokio::test]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let gateway = Gateway::start(&echo().gateway("[http]\nhead_time = \"300ms\"\nidle = \"20s\""));
    let mut stream = gateway.client(Protocol::H1).tls("echo.localhost").await;
    let (mut back, request) = ([0; 4096], b"HEAD /head HTTP/1.1\r\nhost: echo.localhost\r\n\r\n");
    // Before the first request, and between two.
    for _ in 0..2 {
        let silent = tokio::time::timeout(Duration::from_millis(900), stream.read(&mut back)).await;
        assert!(silent.is_err(), "it hung up: {silent:?}");
        stream.write_all(request).await.unwrap();
        let bytes = tokio::time::timeout(tests::PATIENCE, stream.read(&mut back)).await.unwrap().unwrap();
        assert!(back[..bytes].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&back[..bytes]));
    }
    // A head that has begun has a time limit, and gets an answer.
    stream.write_all(&request[..20]).await.unwrap();
    let mut text = String::new();
    let _reset = tokio::time::timeout(tests::PATIENCE, stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("problem:head-timeout"), "{text}");
}

/// Sends the bytes and nothing more, and waits for the gateway to close the connection.
async fn ends(gateway: &Gateway, protocol: Protocol, bytes: &[u8]) {
    let mut stream = gateway.client(protocol).tls("echo.localhost").await;
    stream.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    // A reset is an end as well.
    let _reset = tokio::time::timeout(tests::PATIENCE, stream.read_to_end(&mut back)).await.expect("an end");
}

#[tokio::test]
async fn a_body_that_stalls_gets_408() {
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default"]);
    let site = Site::new().tenant("kv", &kv).gateway("[http]\nbody_idle = \"300ms\"");
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let (pieces, body) = streamed();
    let request = request("POST", "kv.localhost", "/-/set/key").body(body).unwrap();
    let held = async {
        pieces.send("begun".into()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let (response, ()) = tokio::join!(client.start("kv.localhost", request), held);
    let answer = read(response.unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (408, "body-timeout"));
}

#[tokio::test]
async fn a_trickling_body_gets_408_and_one_at_the_minimum_rate_passes() {
    let kv = Tenant::new("kv.localhost", "kv").stores(&["default"]);
    let site = Site::new().tenant("kv", &kv).gateway("[http]\nbody_idle = \"1s\"\nrate_min = \"1KiB\"");
    let gateway = Gateway::start(&site);
    let post = async |piece: usize| {
        let (pieces, body) = streamed();
        let request = request("POST", "kv.localhost", "/-/set/key").body(body).unwrap();
        let drip = async {
            for _ in 0..30 {
                if pieces.send("x".repeat(piece).into()).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            drop(pieces);
        };
        let client = gateway.client(Protocol::H2);
        let (response, ()) = tokio::join!(client.start("kv.localhost", request), drip);
        read(response.unwrap()).await.status.as_u16()
    };
    assert_eq!(post(1).await, 408);
    assert_eq!(post(1000).await, 200);
}

#[tokio::test]
async fn a_path_is_normalised_for_routing_and_for_the_guest() {
    let echo = Tenant::new("echo.localhost", "echo");
    let gateway = Gateway::start(&Site::new().tenant("echo", &echo));
    for protocol in [Protocol::H1, Protocol::H2] {
        for (path, seen) in [
            ("/x/../head/a%2Fb?q=%7e/../", "/head/a%2Fb?q=%7e/../"),
            ("/%68ead/./%c3%a9", "/head/%C3%A9"),
            ("/head//x", "/head//x"),
        ] {
            let text = gateway.client(protocol).get("echo.localhost", path).await.text();
            assert!(text.starts_with(&format!("GET https://echo.localhost{seen}\n")), "{path}: {text}");
        }
        for path in ["/../head", "/head/%00", "/head/%zz", "/head/%2e%2e/%2e%2e/"] {
            let answer = gateway.client(protocol).get("echo.localhost", path).await;
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "framing"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_releases_its_permits() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let gateway = Gateway::start(&echo().gateway("[http]\nwrite_stall = \"500ms\"\nidle = \"1s\""));
    let stream = TokioIo::new(gateway.client(Protocol::H2).tls("echo.localhost").await);
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut held = Vec::new();
    for _ in 0..5 {
        let request = request("GET", "echo.localhost", "/head").body(empty()).unwrap();
        held.push(sender.send_request(request).await.unwrap());
    }
    assert!(gateway.metric("tollgate_requests_in_flight").await >= 5.0);
    tests::until("the permits", async || (gateway.metric("tollgate_requests_in_flight").await == 0.0).then_some(()))
        .await;
    let torn = held.pop().unwrap().into_body().collect().await;
    assert!(torn.is_err(), "it is not taken for a whole one");
    connection.abort();
}

#[tokio::test]
async fn a_guests_own_length_ends_a_response_without_a_fault() {
    let gateway = Gateway::start(&echo());
    for protocol in BOTH {
        let client = gateway.client(protocol);
        // The guest sends no content with this status, and the answer to a HEAD has no fault text.
        let missing = client.send("localhost", request("HEAD", "localhost", "/").body(empty()).unwrap()).await;
        assert_eq!((missing.status.as_u16(), missing.body.len(), missing.torn), (404, 0, None), "{protocol:?}");
        let sized = client.call("POST", "echo.localhost", "/sized", "exactly this").await;
        assert_eq!((sized.text().as_str(), sized.header("content-length")), ("exactly this", "12"), "{protocol:?}");
        assert_eq!(gateway.record(&sized).await["fault"], "", "{protocol:?}");
        let empty = client.get("echo.localhost", "/no-content").await;
        assert_eq!((empty.status.as_u16(), empty.body.len()), (204, 0), "{protocol:?}");
        assert_eq!(gateway.record(&empty).await["fault"], "", "{protocol:?}");
    }
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_hurts_nobody() {
    let gateway = Gateway::start(&echo());
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0; 100]] {
        let mut stream = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        // The connection must end, in whatever way.
        let _reset = tokio::time::timeout(tests::PATIENCE, stream.read_to_end(&mut back)).await.expect("an end");
    }
    assert_eq!(gateway.get("echo.localhost", "/head").await.status, StatusCode::OK);
}
