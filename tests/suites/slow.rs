//! Clients that make the gateway wait: they may lose what they hold, and take no place from others.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tests::{Body, Gateway, Protocol, Site, Tenant, empty, python, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Sender = hyper::client::conn::http2::SendRequest<Body>;
type Response = http::Response<hyper::body::Incoming>;

const PLACES: usize = 8;

fn site() -> Site {
    let few = format!("[quota]\nin_flight = {PLACES}");
    let echo = Tenant::new("echo.localhost", "echo").with(&few);
    let three = Tenant::new("three.localhost", "answers").component("handler = \"0.3\"").with(&few);
    let other = Tenant::new("other.localhost", "echo");
    let site = Site::new().tenant("echo", &echo).tenant("three", &three).tenant("other", &other);
    // No client is cut off for stalling during a test: what that releases would look as if it had never been held.
    let gateway = format!("[sandbox]\ninstances = {}\n[http]\nwrite_stall = \"10m\"\nidle = \"10m\"", PLACES + 4);
    site.gateway(&gateway).listen("quic = true")
}

/// An HTTP/2 client that gives each stream this window and never enlarges it by itself.
async fn connect(gateway: &Gateway, host: &str, window: u32) -> Sender {
    let stream = TokioIo::new(gateway.client(Protocol::H2).tls(host).await);
    let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(stream);
    let (sender, connection) = client.await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn stall(sender: &mut Sender, host: &str, path: &str, bytes: usize) -> Response {
    let request = request("GET", host, path).header("say-bytes", bytes.to_string()).body(empty()).unwrap();
    sender.send_request(request).await.unwrap()
}

async fn served(gateway: &Gateway, host: &str, path: &str) {
    for _ in 0..3 * PLACES {
        let answer = gateway.client(Protocol::H2).get(host, path).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (200, ""), "{host}");
    }
}

async fn in_flight(gateway: &Gateway, tenant: &str) -> u64 {
    gateway.tenant(tenant).await["usage"]["in_flight"]["now"].as_u64().unwrap()
}

#[tokio::test]
async fn a_stalled_client_keeps_no_place_after_its_guest_has_ended() {
    let gateway = Gateway::start(&site());
    let mut held = Vec::new();
    for (tenant, path) in [("echo", "/head"), ("three", "/which")] {
        let host = format!("{tenant}.localhost");
        let mut client = connect(&gateway, &host, 0).await;
        for _ in 0..PLACES {
            held.push(stall(&mut client, &host, path, 0).await);
        }
        tests::until("the places", async || (in_flight(&gateway, tenant).await == 0).then_some(())).await;
        served(&gateway, &host, path).await;
    }
    tests::until("no instance", async || (gateway.metric("tollgate_instances").await == 0.0).then_some(())).await;
    served(&gateway, "other.localhost", "/head").await;
    // The rest of its response is delivered once the client wants it.
    let mut late = connect(&gateway, "echo.localhost", 0).await;
    let response = stall(&mut late, "echo.localhost", "/head", 0).await;
    drop(held);
    drop(response);
}

#[tokio::test]
async fn over_http3_a_stalled_client_keeps_no_place_either() {
    let site = site();
    let gateway = Gateway::start(&site);
    let fields =
        json!([[":method", "GET"], [":scheme", "https"], [":authority", "echo.localhost"], [":path", "/head"]]);
    let streams: Vec<_> = (0..PLACES).map(|_| json!({ "fields": fields })).collect();
    let order = json!({ "port": gateway.https.port(), "ca": site.path("state/tls/ca.pem"), "name": "echo.localhost",
                        "seconds": 5, "stream_data": 0, "streams": streams });
    let stalled = tokio::spawn(python("http3.py", order));
    let asked = async || (gateway.metric("tollgate_requests_in_flight").await >= PLACES as f64).then_some(());
    tests::until("the requests", asked).await;
    tests::until("the places", async || (in_flight(&gateway, "echo").await == 0).then_some(())).await;
    served(&gateway, "echo.localhost", "/head").await;
    let out = stalled.await.unwrap();
    assert!(out["streams"].as_array().unwrap().iter().all(|stream| stream["ended"] == false), "{out}");
}

#[tokio::test]
async fn others_get_places_while_large_answers_wait_for_a_client() {
    let gateway = Gateway::start(&site());
    let mut client = connect(&gateway, "echo.localhost", 0).await;
    let mut held = Vec::new();
    for _ in 0..PLACES {
        held.push(stall(&mut client, "echo.localhost", "/say", 1_500_000).await);
    }
    assert_eq!(in_flight(&gateway, "echo").await, PLACES as u64, "their guests wait for room");
    // A request that comes before anything may be cut waits until then.
    served(&gateway, "echo.localhost", "/head").await;
    let slow = || gateway.log("access").iter().filter(|line| line["fault"] == "client-slow").count();
    assert!((1..=PLACES / 2).contains(&slow()), "{} of {PLACES} were cut, and half may be held", slow());
    assert!(in_flight(&gateway, "echo").await >= PLACES as u64 / 2, "nobody loses what nobody needs");
}

#[tokio::test]
async fn leftovers_of_ended_guests_are_bounded_and_keep_their_place_beyond_that() {
    let gateway = Gateway::start(&site());
    let mut client = connect(&gateway, "echo.localhost", 0).await;
    let mut held = Vec::new();
    for _ in 0..PLACES - 1 {
        held.push(stall(&mut client, "echo.localhost", "/say", 300 << 10).await);
    }
    tests::until("the guests", async || (gateway.metric("tollgate_instances").await == 0.0).then_some(())).await;
    // Three of 300 KiB are less than a MiB.
    assert_eq!(in_flight(&gateway, "echo").await, PLACES as u64 - 4, "the others keep theirs, without an instance");
    drop((client, held));
    tests::until("the places", async || (in_flight(&gateway, "echo").await == 0).then_some(())).await;
}

#[tokio::test]
async fn slow_uploads_keep_no_more_than_a_part_of_the_places() {
    let gateway = Gateway::start(&site());
    let mut uploads = Vec::new();
    for _ in 0..PLACES {
        let mut stream = gateway.client(Protocol::H1).tls("echo.localhost").await;
        stream
            .write_all(b"POST /sized HTTP/1.1\r\nhost: echo.localhost\r\ncontent-length: 9\r\n\r\nhalf")
            .await
            .unwrap();
        uploads.push(stream);
    }
    let full = async || (in_flight(&gateway, "echo").await == PLACES as u64).then_some(());
    tests::until("the uploads", full).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    served(&gateway, "echo.localhost", "/head").await;
    let (mut cut, mut kept) = (0, 0);
    for mut stream in uploads {
        stream.write_all(b" more").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        match &answer {
            b"HTTP/1.1 408" => cut += 1,
            b"HTTP/1.1 200" => kept += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert!(cut >= 1 && kept >= PLACES / 2, "{cut} were cut, {kept} kept");
}

/// A large instance is dropped on a thread of its own, and so is the rest of a body that it did not read.
#[tokio::test]
async fn a_large_guest_that_leaves_a_body_unread_delays_nobody() {
    let site = Site::new()
        .tenant("greedy", &Tenant::new("greedy.localhost", "hostile"))
        .tenant("honest", &Tenant::new("honest.localhost", "hostile"))
        .gateway("[sandbox]\ninstances = 3");
    let gateway = Gateway::start(&site);
    let mut stream = gateway.client(Protocol::H1).tls("greedy.localhost").await;
    let head = b"POST /grow HTTP/1.1\r\nhost: greedy.localhost\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    for _ in 0..10 {
        let honest = gateway.get("honest.localhost", "/hold/20000000/0").await;
        assert_eq!((honest.status.as_u16(), honest.problem().as_str()), (200, ""));
    }
    tests::until("the instances", async || (gateway.metric("tollgate_instances").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_cancelled_request_is_blamed_on_its_client() {
    let echo = Tenant::new("echo.localhost", "echo");
    let gateway = Gateway::start(&Site::new().tenant("echo", &echo));
    for n in 0..60 {
        let mut client = connect(&gateway, "echo.localhost", 1 << 16).await;
        // A half-sent body that the guest reads, or an answer that it is writing.
        let request = if n % 2 == 0 {
            let (more, half) = tokio::sync::mpsc::channel(1);
            let _sent = more.try_send(Ok(http_body::Frame::data(bytes::Bytes::from_static(b"half"))));
            let body = Half(half, more).boxed();
            request("POST", "echo.localhost", "/sized").header("content-length", "9").body(body).unwrap()
        } else {
            request("GET", "echo.localhost", "/say").header("say-bytes", "9000000").body(empty()).unwrap()
        };
        let asked = client.send_request(request);
        // At any moment of the request.
        let cancelled = tokio::time::timeout(Duration::from_micros(500 * n), asked).await;
        drop(cancelled);
    }
    let all = async || {
        let records: Vec<_> = gateway.log("access").into_iter().filter(|line| line["tenant"] == "echo").collect();
        (gateway.metric("tollgate_requests_in_flight").await == 0.0 && records.len() > 20).then_some(records)
    };
    let records = tests::until("the records", all).await;
    let faults: Vec<_> = records.iter().map(|line| line["fault"].as_str().unwrap()).collect();
    assert!(faults.iter().all(|fault| *fault == "client-gone"), "{faults:?}");
}

struct Half(
    tokio::sync::mpsc::Receiver<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>,
    tokio::sync::mpsc::Sender<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>,
);

impl http_body::Body for Half {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        let _stays_open = &self.1;
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn a_cancelled_http3_request_is_blamed_on_its_client() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let site = site.gateway("").listen("quic = true");
    let gateway = Gateway::start(&site);
    let fields =
        json!([[":method", "POST"], [":scheme", "https"], [":authority", "echo.localhost"], [":path", "/sized"]]);
    let streams: Vec<_> = (0..40).map(|_| json!({ "fields": fields, "end": false })).collect();
    let order = json!({ "port": gateway.https.port(), "ca": site.path("state/tls/ca.pem"), "name": "echo.localhost",
                        "seconds": 10, "cancelled_together": 20, "streams": streams });
    let out = python("http3.py", order).await;
    assert_eq!(out["closed"], json!(null), "somebody turns pages");
    let over = async || (gateway.metric("tollgate_requests_in_flight").await == 0.0).then_some(());
    tests::until("the end of all", over).await;
    let records: Vec<_> = gateway.log("access").into_iter().filter(|line| line["tenant"] == "echo").collect();
    let faults: Vec<_> = records.iter().map(|line| line["fault"].as_str().unwrap()).collect();
    assert!(!faults.is_empty() && faults.iter().all(|fault| *fault == "client-gone"), "{faults:?}");
    let answer = gateway.client(Protocol::H2).call("POST", "echo.localhost", "/sized", "on").await;
    assert_eq!(answer.text(), "on");
}

#[tokio::test]
async fn a_kept_response_is_sent_as_slowly_as_its_client_reads() {
    let cached = Tenant::new("kept.localhost", "echo").with("[quota]\ncache = \"64MiB\"\n[limits]\ntime = \"1s\"");
    let gateway = Gateway::start(&Site::new().tenant("kept", &cached).gateway("[http]\nidle = \"1s\""));
    let ask = |bytes: usize| {
        let request = request("GET", "kept.localhost", "/say").header("say-cache-control", "max-age=600");
        request.header("say-bytes", bytes.to_string()).body(empty()).unwrap()
    };
    let bytes = 1_900_000;
    let first = gateway.client(Protocol::H2).send("kept.localhost", ask(bytes)).await;
    assert_eq!((first.body.len(), first.torn), (bytes, None));
    let mut client = connect(&gateway, "kept.localhost", 40_000).await;
    let kept = client.send_request(ask(bytes)).await.unwrap();
    assert!(kept.headers()["cache-status"].to_str().unwrap().contains("hit"), "{:?}", kept.headers());
    let mut body = kept.into_body();
    let (mut taken, began) = (0, std::time::Instant::now());
    while let Some(frame) = body.frame().await {
        taken += frame.expect("it is not cut").data_ref().map_or(0, bytes::Bytes::len);
        // For longer than the idle timeout, and longer than its guest could have run.
        let due = Duration::from_secs(5).mul_f64(taken as f64 / bytes as f64);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
    }
    assert_eq!(taken, bytes);
}
