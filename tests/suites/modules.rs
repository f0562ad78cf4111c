//! Core modules, which become components when they are loaded: those of Spin 0.5 and 1.x, whose bindings are older than
//! components; those that today's SDKs build for `wasm32-wasip1`; and those that the gateway cannot start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use tests::{Gateway, Protocol, Redis, Site, Storage, Tenant, checked, guest, request, until};

const LIMITS: &str = "[limits]\nstorage_ops = 500\nmemory = \"16MiB\"\nrequest_body = \"64MiB\"\n";

/// A module of Spin 0.5 that answers HTTP.
fn spin_0(host: &str, more: &str) -> Tenant {
    Tenant::new(host, "spin-0-http-module").stores(&["default"]).redis(&["redis://granted"]).with(LIMITS).with(more)
}

/// A server outside that reports what it got, in its answer's headers and body.
fn outside() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut head, mut body) = (String::new(), [0; 4]);
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            if head.contains("content-length: 4") {
                let _broken = reader.read_exact(&mut body);
            }
            let word = head.lines().find_map(|line| line.strip_prefix("x-word: ")).unwrap_or_default().to_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            let text = format!("{line}|{}", String::from_utf8_lossy(&body));
            let _gone = write!(
                reader.get_mut(),
                "HTTP/1.1 203 Fine\r\nx-seen: {word}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
        }
    });
    address
}

#[tokio::test]
async fn a_module_of_spin_0_answers_requests_with_complete_bodies() {
    let site = Site::new().tenant("old", &spin_0("old.localhost", ""));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let request = request("PUT", "old.localhost", "/echo?a=%20b&a").header("x-word", "heard").body(tests::full("body"));
    let answer = client.send("old.localhost", request.unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "body"));
    let seen =
        ["x-method", "x-uri", "x-word", "content-length", "connection"].map(|name| answer.header(name).to_owned());
    assert_eq!(seen, ["2", "/echo?a=%20b&a", "heard", "4", ""]);
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);

    let call = async |method: &str, path: &str| client.call(method, "old.localhost", path, "").await;
    assert_eq!(call("PROPFIND", "/echo").await.status.as_u16(), 405, "the interface has seven methods");
    assert_eq!(call("GET", "/status/204").await.status.as_u16(), 204);
    for bad in ["/status/99", "/status/101", "/status/700"] {
        let answer = call("GET", bad).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (502, "bad-response".to_owned()), "{bad}");
    }
    let answer = call("GET", "/big/300000").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 300_000));
    let answer = call("HEAD", "/big/300").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
}

#[tokio::test]
async fn bodies_of_a_module_of_spin_0_count_as_its_memory() {
    let site = Site::new().tenant("old", &spin_0("old.localhost", ""));
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H1);
    let fine = client.call("POST", "old.localhost", "/echo", vec![b'x'; 2 << 20]).await;
    assert_eq!((fine.status.as_u16(), fine.body.len()), (200, 2 << 20));
    // The host holds the request's body, and the guest a copy of it.
    let large = client.call("POST", "old.localhost", "/echo", vec![b'x'; 20 << 20]).await;
    assert_eq!((large.status.as_u16(), large.problem()), (502, "memory-exhausted".to_owned()));
    let large = client.get("old.localhost", &format!("/big/{}", 12 << 20)).await;
    assert_eq!((large.status.as_u16(), large.problem()), (502, "memory-exhausted".to_owned()));
    let record = gateway.record(&large).await;
    assert!(record["memory_peak"].as_u64().unwrap() <= 16 << 20, "{record}");
    // All of it is released.
    gateway.quiet().await;
}

#[tokio::test]
async fn a_module_of_spin_0_reaches_storage_variables_and_granted_origins() {
    let outside = outside();
    let more = format!("[variables]\nword = \"known\"\n[egress]\nallow = [\"http://{outside}\"]\n");
    for storage in Storage::each() {
        let site =
            Site::new().tenant("old", &spin_0("old.localhost", &more)).tenant("other", &spin_0("other.localhost", ""));
        let gateway = Gateway::start_with(&site, &["--storage", &storage.url()]);
        gateway.storage().await;
        let client = gateway.client(Protocol::H1);
        let text = async |tenant: &str, path: &str, body: &str| {
            client.call("POST", &format!("{tenant}.localhost"), path, body.to_owned()).await.text()
        };
        let told = "2 [\"a\", \"b\"] [\"status OK\"] [\"bytes v\"]";
        assert_eq!(text("old", "/redis/granted", "").await, told);
        assert_eq!(text("old", "/redis/granted", "").await, told.replacen('2', "0", 1));
        assert_eq!(text("other", "/redis/granted", "").await, told, "another tenant has keys of its own");
        assert_eq!(text("old", "/redis/other", "").await, "error 1", "an address that was not granted");
        assert_eq!(text("old", "/store/default", "one").await, "Err(4) Ok(\"one\")");
        assert_eq!(text("old", "/store/default", "two").await, "Ok(\"one\") Ok(\"two\")");
        assert_eq!(text("old", "/config/word", "").await, "Ok(\"known\")");
        assert!(text("old", "/config/unknown", "").await.starts_with("Err((0, "), "provider");
        let answer = client.call("POST", "old.localhost", "/fetch", format!("http://{outside}/at?q=1")).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-seen")), (203, "from spin 0.5"));
        assert_eq!(answer.text(), "POST /at?q=1 HTTP/1.1|sent");
        assert_eq!(text("other", "/fetch", &format!("http://{outside}/")).await, "error 1", "not granted");
        assert_eq!(text("old", "/fetch", "no address at all").await, "error 2");
    }
}

#[tokio::test]
async fn a_message_starts_a_module_of_spin_0() {
    let redis = Redis::start();
    let manifest = "spin_manifest_version = \"1\"\nname = \"old\"\nversion = \"0.1.0\"\n\
                    trigger = { type = \"redis\", address = \"redis://localhost:6379\" }\n[variables]\n\
                    [[component]]\nid = \"echo\"\nsource = \"echo.wasm\"\n\
                    environment = { REDIS_ADDRESS = \"redis://127.0.0.1:6379\", REDIS_CHANNEL = \"channelOne\" }\n\
                    allowed_outbound_hosts = [\"redis://127.0.0.1:6379\"]\n[component.config]\ngreeting = \"Hi\"\n\
                    [component.trigger]\nchannel = \"channelOne\"\n";
    let site = Site::new()
        .file("tenants/old/tenant.toml", "schema = 1\nhosts = [\"old.localhost\"]\napp = \"spin.toml\"\n")
        .file("tenants/old/spin.toml", manifest)
        .file("tenants/old/echo.wasm", std::fs::read(guest("spin-0-redis-module")).unwrap());
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    gateway.storage().await;
    let publish = |text: &str| redis.cli(&["PUBLISH", "tg:{old}:ch:channelOne", text]);
    until("a subscriber", async || (publish("Hello") == "1").then_some(())).await;
    let get = |key: &str| redis.cli(&["GET", &format!("tg:{{old}}:r:{key}")]);
    let published = "published by a module of Spin 0.5";
    until("its key", async || (get("spin-example") == published).then_some(())).await;
    assert_eq!(get("spin-example-incr"), "2", "the second message is its own");
    assert_eq!(publish("fail"), "1");
    until("a refused message", async || {
        let text = gateway.admin("/metrics").await;
        text.lines()
            .any(|line| line.contains("messages") && line.contains("refused") && line.ends_with(" 1"))
            .then_some(())
    })
    .await;
}

/// What the templates of Spin 2 built: a module of a release candidate of wasi:http.
#[tokio::test]
async fn a_module_of_a_candidate_is_served() {
    let outside = outside();
    let site = Site::new().tenant(
        "two",
        &Tenant::new("two.localhost", "spin-sdk-2-module")
            .stores(&["default"])
            .redis(&["redis://granted:6379"])
            .with(&format!("[variables]\nword = \"known\"\n[egress]\nallow = [\"http://{outside}\"]")),
    );
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    let text = async |path: &str, words: &[&[u8]]| {
        client.call("POST", "two.localhost", path, tests::spin_words(words)).await.text()
    };
    assert_eq!(client.call("POST", "two.localhost", "/echo/203", "body").await.text(), "body");
    assert_eq!(text("/kv2/set/default", &[b"k", b"v"]).await, "set");
    assert_eq!(text("/kv2/get/default", &[b"k"]).await, tests::hex(b"v"));
    assert_eq!(text("/redis2/incr/granted", &[b"n"]).await, "1");
    assert_eq!(text("/variable/word", &[]).await, "known");
    let fetched = text(&format!("/fetch/http/{outside}/"), &[]).await;
    assert!(fetched.contains("GET / HTTP/1.1"), "{fetched}");
}

/// What the redis-rust template of Spin up to 3.6 builds.
#[tokio::test]
async fn a_message_starts_a_module_of_a_current_sdk() {
    let redis = Redis::start();
    let tenant = "schema = 1\nhosts = [\"new.localhost\"]\n[[component]]\nname = \"listener\"\nsource = \"listener.wasm\"\n\
                  stores = [\"default\"]\nredis = [\"redis://granted:6379\"]\n[[subscription]]\nchannel = \"orders\"\ncomponent = \"listener\"\n";
    let site = Site::new()
        .file("tenants/new/tenant.toml", tenant)
        .file("tenants/new/listener.wasm", std::fs::read(guest("messages-5-module")).unwrap());
    let gateway = Gateway::start_with(&site, &["--storage", &redis.url()]);
    gateway.storage().await;
    until("a subscriber", async || (redis.cli(&["PUBLISH", "tg:{new}:ch:orders", "count n"]) == "1").then_some(()))
        .await;
    until("its count", async || (redis.cli(&["GET", "tg:{new}:r:n"]) == "1").then_some(())).await;
}

/// The problems that `check` reports for a tenant with this component.
fn problems(wasm: &[u8]) -> String {
    let site = Site::new().file("tenants/acme/site.wasm", wasm);
    let site = site.file(
        "tenants/acme/tenant.toml",
        "schema = 1\nhosts = [\"acme.localhost\"]\n[[component]]\nname = \"site\"\nsource = \"site.wasm\"\n\
         [[route]]\npath = \"/...\"\ncomponent = \"site\"\n",
    );
    checked(&site, &[]).1
}

#[test]
fn a_module_that_cannot_be_started_is_refused_by_its_kind() {
    for (module, told) in [
        ("(module (func (export \"_start\")))", "a WASI command: it starts at `_start`"),
        ("(module (func (export \"add\")) (func (export \"sub\")))", "a core module that exports add, sub"),
        (
            "(module (import \"outbound-pg\" \"query\" (func)) (func (export \"handle-http-request\")))",
            "it imports outbound-pg, which is not served here",
        ),
        // A world with the old names, and a function of another type.
        ("(module (memory (export \"memory\") 1) (func (export \"handle-http-request\")))", "handle-request"),
        (
            "(module (import \"made-up\" \"call\" (func)) (memory (export \"memory\") 1)
               (func (export \"handle-redis-message\") (param i32 i32) (result i32) i32.const 0))",
            "made-up",
        ),
    ] {
        let text = problems(&wat::parse_str(module).unwrap());
        assert!(text.contains(told), "{module}: {text}");
    }
    let long = format!("(module (func (export \"{}\")))", "ä".repeat(10_000));
    let text = problems(&wat::parse_str(long).unwrap());
    assert!(text.contains("a core module that exports ää") && text.len() < 2_000, "{text}");
}

#[test]
fn all_imports_of_unsupported_versions_are_reported_at_once() {
    let wat = "(component
        (import \"wasi:http/types@0.3.0-rc-2025-09-16\" (instance (export \"f\" (func))))
        (import \"wasi:cli/environment@0.3.0-rc-2025-09-16\" (instance (export \"f\" (func))))
        (import \"acme:queue/send@1.0.0\" (instance (export \"f\" (func)))))";
    let text = problems(&wat::parse_str(wat).unwrap());
    assert!(text.contains("wasi:http/types@0.3.0-rc-2025-09-16, wasi:cli/environment@0.3.0-rc-2025-09-16"), "{text}");
    assert!(text.contains("= wanted: wasi:http/types 0.2.x, 0.3.x, 0.3.0-rc-2026-03-15"), "{text}");
    assert!(text.contains("; wasi:cli/environment 0.2.x, 0.3.x, "), "{text}");
    assert!(text.contains("acme:queue/send@1.0.0"), "{text}");
}
