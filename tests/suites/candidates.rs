//! The release candidates of WASI 0.2: October 2023, on which Spin's SDK 2 is based, and November. Everything that applies
//! to 0.2 applies to both: grants, limits, quotas, and the isolation of storage.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use tests::{Answer, Gateway, Protocol, Site, Storage, Tenant, checked, full, guest, hex, request};

/// A tenant for each guest.
const EACH: [(&str, &str); 2] = [("october", "spin-sdk-2"), ("november", "wasi-2023")];

/// A server outside, and everything that it was asked.
struct Outside {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut text = String::new();
                while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).unwrap_or(0) > 0 {}
                let has_body = text.contains("transfer-encoding: chunked");
                while has_body && !text.ends_with("0\r\n\r\n") && reader.read_line(&mut text).unwrap_or(0) > 0 {}
                kept.lock().unwrap().push(text);
                let _gone = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\noutside");
            }
        });
        Self { port, asked }
    }
}

/// Each guest as a Spin application of its own tenant.
fn site(tenants: &[(&str, &str)], origin: &str) -> Site {
    let manifest = format!(
        "spin_manifest_version = 2\n[application]\nname = \"old\"\n[variables]\ngreeting = {{ default = \"hello\" }}\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"old\"\n[component.old]\nsource = \"old.wasm\"\n\
         key_value_stores = [\"default\"]\nallowed_outbound_hosts = [\"redis://granted:6379\", \"{origin}\"]\n\
         files = [\"granted.txt\"]\nenvironment = {{ NAME = \"value\" }}\n\
         [component.old.variables]\ngreeting = \"{{{{ greeting }}}}, SDK 2\"\n"
    );
    tenants.iter().fold(Site::new(), |site, (id, name)| {
        let limits = "[limits]\noutbound = 5\nrequest_body = \"1MiB\"\n";
        let file = format!("schema = 1\nhosts = [\"{id}.localhost\"]\napp = \"app/spin.toml\"\n{limits}");
        site.file(&format!("tenants/{id}/tenant.toml"), file)
            .file(&format!("tenants/{id}/app/spin.toml"), &manifest)
            .file(&format!("tenants/{id}/app/granted.txt"), "what was granted")
            .file(&format!("tenants/{id}/app/old.wasm"), std::fs::read(guest(name)).unwrap())
    })
}

fn start() -> Gateway {
    Gateway::start(&site(&EACH, "http://127.0.0.1:1"))
}

#[tokio::test]
async fn requests_and_responses_are_complete() {
    let gateway = start();
    for (id, _) in EACH {
        let host = format!("{id}.localhost");
        for protocol in [Protocol::H1, Protocol::H2] {
            let client = gateway.client(protocol);
            let body = vec![b'e'; 300_000];
            let sent = request("POST", &host, "/echo/201").header("x-of-client", "one");
            let answer = client.send(&host, sent.body(full(body)).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.len(), &answer.torn), (201, 300_000, &None), "{id}");
            let headers = ["x-method", "x-uri", "x-of-client"].map(|name| answer.header(name));
            assert_eq!(headers, ["POST", &format!("https://{host}/echo/201"), "one"], "{id}");
            let pieces: String = (0..50).map(|piece| format!("piece {piece}\n")).collect();
            assert_eq!(client.get(&host, "/stream/50").await.text(), pieces, "{id}");
            let excess = client.call("POST", &host, "/echo/200", vec![b'x'; (1 << 20) + 1]).await;
            assert_eq!((excess.status.as_u16(), excess.problem().as_str()), (413, "body-too-large"), "{id}");
        }
    }
    gateway.quiet().await;
}

#[tokio::test]
async fn bodies_of_candidates_stream_both_ways_at_once() {
    let gateway = start();
    for (id, _) in EACH {
        let host = format!("{id}.localhost");
        let (pieces, body) = super::edge::streamed();
        let sent = request("POST", &host, "/echo/200").body(body).unwrap();
        let client = gateway.client(Protocol::H2);
        let send = pieces.clone();
        let first = async move { send.send("first".into()).await.unwrap() };
        let (response, ()) = tokio::join!(client.start(&host, sent), first);
        let mut body = response.unwrap().into_body();
        // The first piece comes back while the request is still open.
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first", "{id}");
        pieces.send("second".into()).await.unwrap();
        drop(pieces);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "second", "{id}");
    }
}

#[tokio::test]
async fn candidates_reach_only_granted_origins_within_their_limits() {
    let (granted, other) = (Outside::start(), Outside::start());
    let origin = format!("http://127.0.0.1:{}", granted.port);
    let gateway = Gateway::start(&site(&EACH, &origin));
    for (id, _) in EACH {
        let host = format!("{id}.localhost");
        let client = gateway.client(Protocol::H2);
        let fetch = async |port: u16, body: &'static str| {
            let answer = client.call("POST", &host, &format!("/fetch/http/127.0.0.1:{port}/some/path"), body).await;
            answer.text()
        };
        assert_eq!(fetch(granted.port, "").await, "200 outside", "{id}");
        assert_eq!(fetch(granted.port, "a body").await, "200 outside", "{id}");
        assert_eq!(fetch(other.port, "").await, "ErrorCode::HttpRequestDenied", "{id}");
        assert_eq!(fetch(gateway.admin.port(), "").await, "ErrorCode::HttpRequestDenied", "{id}");
        let asked = std::mem::take(&mut *granted.asked.lock().unwrap());
        let [plain, with_body] = asked.as_slice() else { panic!("{id}: {asked:?}") };
        assert!(
            plain.starts_with("GET /some/path HTTP/1.1\r\n") && plain.contains("cdn-loop: tollgate; t="),
            "{plain}"
        );
        assert!(with_body.starts_with("POST /some/path ") && with_body.contains("\r\na body\r\n"), "{with_body}");

        let many = client.get(&host, &format!("/fetch-many/http/127.0.0.1:{}", granted.port)).await;
        assert_eq!(many.text(), "{\"200\": 5, \"ErrorCode::ConnectionLimitReached\": 35}", "{id}");
        assert_eq!(std::mem::take(&mut *granted.asked.lock().unwrap()).len(), 5, "{id}");
        let record = gateway.record(&many).await;
        let (fuel, outbound) = (record["fuel"].as_u64().unwrap(), record["outbound"].as_u64().unwrap());
        assert!(outbound == 40 && fuel > 40 * 200_000, "{id}: what was refused is counted, and paid for: {record}");
    }
    assert_eq!(other.asked.lock().unwrap().len(), 0);
    gateway.quiet().await;
}

#[tokio::test]
async fn storage_of_sdk_2_is_the_tenants_own() {
    for storage in Storage::each() {
        let site = site(&[("a", "spin-sdk-2"), ("b", "spin-sdk-2")], "http://127.0.0.1:1");
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let call = async |tenant: &str, path: &str, arguments: &[&[u8]]| -> String {
            let client = gateway.client(Protocol::H2);
            let answer: Answer =
                client.call("POST", &format!("{tenant}.localhost"), path, tests::spin_words(arguments)).await;
            answer.text()
        };
        assert_eq!(call("a", "/variable/greeting", &[]).await, "hello, SDK 2");
        assert_eq!(call("a", "/kv2/set/default", &[b"k", b"\0\xff"]).await, "set");
        assert_eq!(call("a", "/kv2/get/default", &[b"k"]).await, "00ff");
        assert_eq!(call("a", "/kv2/exists/default", &[b"k"]).await, "true");
        assert_eq!(call("a", "/kv2/get-keys/default", &[]).await, "k");
        assert_eq!(call("a", "/redis2/set/granted", &[b"r", b"v"]).await, "set");
        assert_eq!(call("a", "/redis2/get/granted", &[b"r"]).await, hex(b"v"));
        assert_eq!(call("a", "/redis2/incr/granted", &[b"n"]).await, "1");
        assert_eq!(call("a", "/redis2/sadd/granted", &[b"s", b"x", b"y"]).await, "2");
        assert_eq!(call("a", "/redis2/publish/granted", &[b"channel", b"hello"]).await, "published");
        assert_eq!(call("a", "/redis2/execute/granted", &[b"MGET", b"r", b"none"]).await, "bytes 76\nnil");
        assert_eq!(call("a", "/redis2/get/elsewhere", &[b"r"]).await, "Error::InvalidAddress");
        // Another tenant's component with the same bytes and the same grants.
        assert_eq!(call("b", "/kv2/get-keys/default", &[]).await, "");
        assert_eq!(call("b", "/kv2/get/default", &[b"k"]).await, "(none)");
        assert_eq!(call("b", "/redis2/get/granted", &[b"r"]).await, "(none)");
        assert_eq!(call("b", "/redis2/incr/granted", &[b"n"]).await, "1");
        assert_eq!(call("a", "/kv2/delete/default", &[b"k"]).await, "deleted");
    }
}

#[tokio::test]
async fn candidates_can_read_granted_files_and_have_no_sockets() {
    let gateway = Gateway::start(&site(&[("rest", "wasi-2023")], "http://127.0.0.1:1"));
    for (month, read) in [
        ("november", "Ok(\"what was granted\")"),
        // A function without a counterpart in 0.2 is refused, and the component continues.
        ("october", "Ok((\"what was granted\", Err(ErrorCode { code: 27, name: \"unsupported\", message: \"\" })))"),
    ] {
        let text = gateway.get("rest.localhost", &format!("/rest-of/{month}/granted.txt")).await.text();
        let lines: Vec<&str> = text.lines().collect();
        let [environment, file, made, time, sockets] = lines.as_slice() else { panic!("{month}: {text}") };
        assert!(environment.contains("(\"NAME\", \"value\")"), "{month}: {environment}");
        assert_eq!(*file, read, "{month}");
        assert!(made.starts_with("Err("), "{month}: nothing is written: {made}");
        assert_eq!(*time, "[1] true 5", "{month}: the second of two is ready, clocks go on, bytes are random");
        let denied = "Err(ErrorCode { code: 1, name: \"access-denied\", message: \"\" })";
        assert_eq!(*sockets, format!("false {denied} {denied} {denied}"), "{month}");
        // It is beside the granted file, and not granted.
        let text = gateway.get("rest.localhost", &format!("/rest-of/{month}/spin.toml")).await.text();
        assert!(text.lines().nth(1).unwrap().contains("no-entry"), "{month}: {text}");
    }
}

/// October has no answer for it, so the component ends, as in Spin; November has one.
#[tokio::test]
async fn a_forbidden_header_is_refused() {
    let site = site(&EACH, "http://127.0.0.1:1");
    let gateway = Gateway::start(&site);
    let answer = gateway.get("october.localhost", "/refused-header").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "trap"));
    let told = async || {
        let log = std::fs::read_to_string(site.path("state/logs/october.log")).unwrap_or_default();
        log.contains("HeaderError::Forbidden").then_some(())
    };
    tests::until("the reason, in the tenant's log", told).await;
    let answer = gateway.get("november.localhost", "/refused-header").await;
    assert_eq!(answer.text(), "Some(HeaderError::Forbidden)");
}

#[test]
fn an_instance_of_a_candidate_answers_once_like_one_of_0_2() {
    for (_, name) in EACH {
        let site = |reuse| {
            let tenant = Tenant::new("old.localhost", name).component(&format!("reuse = {reuse}"));
            Site::new().tenant("old", &tenant.stores(&["default"]).redis(&["redis://granted:6379"]))
        };
        let (is_good, said) = checked(&site(1), &[]);
        assert!(is_good, "{name}: {said}");
        let (is_good, said) = checked(&site(2), &[]);
        assert!(!is_good && said.contains("a handler of wasi:http 0.2"), "{name}: {said}");
    }
}
