//! Connections to origins: reuse of clean ones, never by another tenant; HTTP/2 with origins that support it; and places
//! for which requests wait.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tests::{Gateway, Origin, Protocol, Site, Tenant};

/// A tenant whose guest may call these origins.
fn tenant(name: &str, guest: &str, allow: &[String], more: &str) -> Tenant {
    Tenant::new(&format!("{name}.localhost"), guest).with(&format!("[egress]\nallow = {allow:?}\n{more}"))
}

/// A site with one tenant, `a`, which may call this origin.
fn site(origin: &Origin, egress: &str) -> Site {
    trusting(origin, egress).tenant("a", &tenant("a", "outbound", &[https(origin)], ""))
}

fn trusting(origin: &Origin, egress: &str) -> Site {
    Site::new().gateway(&format!("[egress]\nca = \"ca.pem\"\n{egress}")).file("config/ca.pem", &origin.ca_pem)
}

fn https(origin: &Origin) -> String {
    format!("https://{}", origin.address)
}

async fn ask(gateway: &Gateway, tenant: &str, way: &str, origin: &Origin, path: &str) -> String {
    let path = format!("/{way}/https/{}{path}", origin.address);
    gateway.get(&format!("{tenant}.localhost"), &path).await.text()
}

/// The connections on which the requests came.
fn on(origin: &Origin) -> Vec<usize> {
    origin.asked().iter().map(|asked| asked.connection).collect()
}

#[tokio::test]
async fn a_connection_to_an_origin_is_reused() {
    let origin = Origin::start(Protocol::H1).await;
    let gateway = Gateway::start(&site(&origin, ""));
    for (way, path, text) in [
        ("get", "/", "200 hello"),
        ("post", "/", "200 ping"),
        ("get", "/none", "204 "),
        ("get", "/empty", "200 "),
        ("get", "/?x=1", "200 hello"),
    ] {
        assert_eq!(ask(&gateway, "a", way, &origin, path).await, text, "{way} {path}");
    }
    assert_eq!(on(&origin), [0; 5]);
    for (metric, value) in
        [("connections_opened_total", 1.0), ("connections_reused_total", 4.0), ("connections_kept", 1.0)]
    {
        assert_eq!(gateway.metric(&format!("tollgate_outbound_{metric}")).await, value, "{metric}");
    }
    gateway.quiet().await;
}

#[tokio::test]
async fn two_tenants_with_the_same_grant_never_share_a_connection() {
    for protocol in [Protocol::H1, Protocol::H2] {
        let origin = Origin::start(protocol).await;
        let site = site(&origin, "").tenant("b", &tenant("b", "outbound", &[https(&origin)], ""));
        let gateway = Gateway::start(&site);
        for tenant in ["a", "b", "b", "a", "a", "b"] {
            assert_eq!(ask(&gateway, tenant, "get", &origin, &format!("/{tenant}")).await, "200 hello");
        }
        let asked: Vec<_> = origin.asked().into_iter().map(|asked| (asked.path, asked.connection)).collect();
        let wanted = ["/a", "/b", "/b", "/a", "/a", "/b"].map(|path| (path.to_owned(), usize::from(path == "/b")));
        assert_eq!(asked, wanted, "{protocol:?}");
    }
}

#[tokio::test]
async fn another_grant_of_the_same_tenant_has_its_own_connection() {
    let origin = Origin::start(Protocol::H1).await;
    let (port, any) = (origin.address.port(), "https://127.0.0.1".to_owned());
    let component = |name: &str, allow: &str| {
        format!(
            "[component.{name}]\nsource = \"outbound.wasm\"\nallowed_outbound_hosts = [\"{allow}\"]\n\
             [[trigger.http]]\nroute = \"/{name}/...\"\ncomponent = \"{name}\"\n"
        )
    };
    // The guest gets the whole path, which begins with the kind of call.
    let app = format!(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n{}{}",
        component("get", &https(&origin)),
        component("half", &format!("{any}:*"))
    );
    let site = trusting(&origin, "")
        .file("tenants/a/outbound.wasm", std::fs::read(tests::guest("outbound")).unwrap())
        .file("tenants/a/tenant.toml", "schema = 1\nhosts = [\"a.localhost\"]\napp = \"spin.toml\"\n")
        .file("tenants/a/spin.toml", app);
    let gateway = Gateway::start(&site);
    for (way, text) in [("get", "200 hello"), ("half", "200 1"), ("get", "200 hello")] {
        assert_eq!(ask(&gateway, "a", way, &origin, "/").await, text, "{port}");
    }
    assert_eq!(on(&origin), [0, 1, 0]);
}

#[tokio::test]
async fn a_connection_with_leftover_data_is_not_reused() {
    let origin = Origin::start(Protocol::H1).await;
    let gateway = Gateway::start(&site(&origin, ""));
    for (way, path, text) in [
        ("get", "/", "200 hello"),
        // A body that was not read to its end.
        ("half", "/large", "200 1"),
        ("get", "/close", "200 hello"),
        // An answer before the end of the guest's own body.
        ("late", "/early", "200 early"),
        ("get", "/", "200 hello"),
    ] {
        assert_eq!(ask(&gateway, "a", way, &origin, path).await, text, "{way} {path}");
    }
    assert_eq!(on(&origin), [0, 0, 1, 2, 3]);
    tests::until("the one that may serve again", async || (origin.open() == 1).then_some(())).await;
    gateway.quiet().await;
}

#[tokio::test]
async fn one_connection_of_http2_carries_many_requests_with_trailers() {
    let origin = Origin::start(Protocol::H2).await;
    let many =
        tenant("many", "hostile", &[https(&origin)], "[limits]\noutbound = 50\n[quota]\noutbound_in_flight = 16");
    let gateway = Gateway::start(&site(&origin, "").tenant("many", &many));
    assert_eq!(ask(&gateway, "a", "grpc", &origin, "/grpc").await, "200 \0\0\0\0\x04ping grpc-status=0");
    let asked = origin.asked().remove(0);
    assert!(asked.is_http2, "{asked:?}");
    let field =
        |headers: &http::HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(field(&asked.headers, "te").as_deref(), Some("trailers"), "{asked:?}");
    assert_eq!(field(&asked.headers, "host"), None, "`:authority` has it: {asked:?}");
    assert_eq!(field(&asked.trailers, "x-checksum").as_deref(), Some("42"), "{asked:?}");
    // An abandoned stream does not affect others.
    assert_eq!(ask(&gateway, "a", "half", &origin, "/large").await, "200 1");
    assert_eq!(ask(&gateway, "a", "post", &origin, "/").await, "200 ping");
    assert_eq!(on(&origin), [0, 0, 0]);

    let path = format!("/fetch/https/{}/", origin.address);
    assert_eq!(gateway.get("many.localhost", &path).await.text(), "200 hello");
    let path = format!("/fetch-many/https/{}", origin.address);
    assert_eq!(gateway.get("many.localhost", &path).await.text(), "{\"200\": 40}");
    assert_eq!(origin.connections(), 2, "one a tenant");
    gateway.quiet().await;
}

#[tokio::test]
async fn a_component_of_wasi_http_0_3_streams_to_an_origin_and_back() {
    for protocol in [Protocol::H1, Protocol::H2] {
        let origin = Origin::start(protocol).await;
        let site = trusting(&origin, "").tenant("a", &tenant("a", "outbound-3", &[https(&origin)], ""));
        let gateway = Gateway::start(&site);
        let client = gateway.client(Protocol::H2);
        let path = |path: &str| format!("/https/{}{path}", origin.address);
        let large = vec![b'x'; 200_000];
        for (method, to, body, text) in [
            ("GET", "/", &b""[..], &b"hello"[..]),
            ("POST", "/", b"ping", b"ping"),
            ("POST", "/grpc", &large, &large),
            ("GET", "/", b"", b"hello"),
        ] {
            let answer = client.call(method, "a.localhost", &path(to), body.to_vec()).await;
            assert!(answer.body == text && answer.torn.is_none(), "{method} {to}: {} {}", answer.status, answer.text());
        }
        assert_eq!(on(&origin), [0; 4], "{protocol:?}");
        gateway.quiet().await;
    }
}

/// A hand-written HTTP/1.1 server: `play` handles each connection, and every head is recorded with its connection.
struct ByHand {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<(usize, String)>>>,
}

impl ByHand {
    fn start(play: fn(usize, &mut dyn FnMut() -> bool, &mut TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let kept = Arc::clone(&heads);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut next = || {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                        let came = head.ends_with("\r\n\r\n");
                        if head.starts_with("POST") {
                            // `ping` as one chunk, and the last chunk.
                            let _torn = reader.read_exact(&mut [0; 14]);
                        }
                        if came {
                            kept.lock().unwrap().push((number, head));
                        }
                        came
                    };
                    let mut stream = stream;
                    play(number, &mut next, &mut stream);
                });
            }
        });
        Self { address, heads }
    }

    fn site(&self) -> Site {
        Site::new().tenant("a", &tenant("a", "outbound", &[format!("http://{}", self.address)], ""))
    }

    async fn ask(&self, gateway: &Gateway, way: &str) -> String {
        gateway.get("a.localhost", &format!("/{way}/http/{}/", self.address)).await.text()
    }

    /// The connections on which the requests came.
    fn on(&self) -> Vec<usize> {
        self.heads.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }
}

/// RFC 9110 §7.6.1: a guest does not see `Connection`, and could not know which other fields are hop-by-hop.
#[tokio::test]
async fn hop_by_hop_fields_end_at_the_gateway() {
    let origin = ByHand::start(|_, next, stream| {
        let answer = b"HTTP/1.1 200 OK\r\nconnection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: 5\r\nx-end: 2\r\ncontent-length: 0\r\n\r\n";
        if next() {
            stream.write_all(answer).unwrap();
        }
    });
    let gateway = Gateway::start(&origin.site());
    assert_eq!(origin.ask(&gateway, "fields").await, "x-end content-length");
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_safe_request_survives_a_kept_connection_that_the_origin_closes() {
    // One answer on each connection; the next request is read, and the connection is closed instead of an answer.
    let origin = ByHand::start(|_, next, stream| {
        if next() {
            stream.write_all(HELLO).unwrap();
            next();
        }
    });
    let gateway = Gateway::start(&origin.site());
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello");
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello", "sent once more");
    assert_eq!(origin.on(), [0, 0, 1]);
    // The origin may have acted on it.
    assert_eq!(origin.ask(&gateway, "post").await, "HttpProtocolError");
    assert_eq!(origin.on(), [0, 0, 1, 1]);
    assert_eq!(origin.ask(&gateway, "post").await, "200 hello", "on a new one");
    gateway.quiet().await;
}

#[tokio::test]
async fn an_origin_that_closes_idle_connections_gets_new_ones() {
    let origin = ByHand::start(|_, next, stream| {
        if next() {
            stream.write_all(HELLO).unwrap();
        }
    });
    let gateway = Gateway::start(&origin.site());
    for _ in 0..3 {
        for way in ["get", "post"] {
            assert_eq!(origin.ask(&gateway, way).await, "200 hello");
            let kept = async || (gateway.metric("tollgate_outbound_connections_kept").await == 0.0).then_some(());
            tests::until("the connection's end", kept).await;
        }
    }
    assert_eq!(origin.on(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_partial_answer_is_an_error_and_its_request_is_not_repeated() {
    let origin = ByHand::start(|number, next, stream| {
        while next() {
            match number {
                // A complete answer, then a head that breaks off.
                0 if stream.write_all(HELLO).is_ok() && next() => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap();
                    return;
                }
                // A body that breaks off.
                1 => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").unwrap(),
                // More than the announced length: the rest must not become another answer.
                2 => stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n")
                    .unwrap(),
                _ => stream.write_all(HELLO).unwrap(),
            }
        }
    });
    let gateway = Gateway::start(&origin.site());
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello");
    assert_eq!(origin.ask(&gateway, "get").await, "HttpProtocolError");
    assert_eq!(origin.on(), [0, 0], "an answer had begun");
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello", "as far as it came");
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello");
    assert_eq!(origin.ask(&gateway, "get").await, "200 hello");
    assert_eq!(origin.on()[..4], [0, 0, 1, 2]);
    assert_eq!(origin.on()[4], 3, "what came unasked ended the connection");
    gateway.quiet().await;
}

#[tokio::test]
async fn kept_connections_are_limited_in_number_and_time() {
    let origins =
        [Origin::start(Protocol::H1).await, Origin::start(Protocol::H1).await, Origin::start(Protocol::H2).await];
    let ca: String = origins.iter().map(|origin| origin.ca_pem.as_str()).collect();
    let allow: Vec<String> = origins.iter().map(https).collect();
    let start = |egress: &str| {
        let site = Site::new().gateway(&format!("[egress]\nca = \"ca.pem\"\n{egress}")).file("config/ca.pem", &ca);
        let tenants = ["a", "b"].map(|name| (name, tenant(name, "outbound", &allow, "")));
        Gateway::start(&tenants.iter().fold(site, |site, (name, tenant)| site.tenant(name, tenant)))
    };
    let open = || origins.iter().map(Origin::open).collect::<Vec<_>>();
    let becomes = async |wanted: [usize; 3]| {
        tests::until(&format!("{wanted:?}"), async || (open() == wanted).then_some(())).await;
    };
    // One for each tenant, and two in all.
    let gateway = start("kept = 2\nkept_per_tenant = 1");
    for (tenant, origin, wanted) in
        [("a", 0, [1, 0, 0]), ("a", 1, [0, 1, 0]), ("b", 0, [1, 1, 0]), ("b", 2, [0, 1, 1]), ("b", 1, [0, 2, 0])]
    {
        assert_eq!(ask(&gateway, tenant, "get", &origins[origin], "/").await, "200 hello");
        becomes(wanted).await;
    }
    drop(gateway);
    // The tenant has no connection of its own to close, so the oldest of the tenant with the most is closed.
    let gateway = start("kept = 2");
    for (tenant, origin, wanted) in [("a", 0, [1, 0, 0]), ("a", 1, [1, 1, 0]), ("b", 2, [0, 1, 1])] {
        assert_eq!(ask(&gateway, tenant, "get", &origins[origin], "/").await, "200 hello");
        becomes(wanted).await;
    }
    drop(gateway);
    for never in ["kept = 0", "kept_per_tenant = 0", "kept_idle = \"1ms\"", "kept_life = \"1ms\""] {
        let gateway = start(never);
        for origin in &origins {
            let before = origin.connections();
            for _ in 0..2 {
                assert_eq!(ask(&gateway, "a", "get", origin, "/").await, "200 hello", "{never}");
                becomes([0, 0, 0]).await;
            }
            assert_eq!(origin.connections(), before + 2, "{never}");
        }
    }
}

#[tokio::test]
async fn a_suspended_or_removed_tenant_has_no_connection_left() {
    let origins = [Origin::start(Protocol::H1).await, Origin::start(Protocol::H2).await];
    let ca: String = origins.iter().map(|origin| origin.ca_pem.as_str()).collect();
    let allow: Vec<String> = origins.iter().map(https).collect();
    let site = Site::new().gateway("[egress]\nca = \"ca.pem\"").file("config/ca.pem", ca);
    let site = ["a", "b", "c"].iter().fold(site, |site, name| site.tenant(name, &tenant(name, "outbound", &allow, "")));
    let gateway = Gateway::start(&site);
    for tenant in ["a", "b", "c"] {
        for origin in &origins {
            assert_eq!(ask(&gateway, tenant, "get", origin, "/").await, "200 hello");
        }
    }
    let open = async |wanted: usize| {
        let looked = async || origins.iter().all(|origin| origin.open() == wanted).then_some(());
        tests::until(&format!("{wanted} connections"), looked).await;
    };
    open(3).await;
    let (code, said) = gateway.tell(&site, &["tenant", "suspend", "a"]);
    assert_eq!(code, Some(0), "{said}");
    open(2).await;
    std::fs::remove_dir_all(site.path("tenants/b")).unwrap();
    open(1).await;
    for origin in &origins {
        assert_eq!(ask(&gateway, "c", "get", origin, "/").await, "200 hello");
        assert_eq!(origin.connections(), 3, "its own is still there");
    }
}

/// A listener that accepts nothing and whose queue is full: the kernel drops new connections (listen(2)).
async fn full()
-> (SocketAddr, Vec<tokio::task::JoinHandle<std::io::Result<tokio::net::TcpStream>>>, tokio::net::TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address))).collect::<Vec<_>>();
    tests::until("a full queue", async || waiting.iter().any(tokio::task::JoinHandle::is_finished).then_some(())).await;
    (address, waiting, listener)
}

#[tokio::test]
async fn a_guests_time_to_connect_is_honoured_up_to_the_operators() {
    let (address, _waiting, _listener) = full().await;
    let site = |connect: &str| {
        let allow = [format!("http://{address}")];
        Site::new()
            .gateway(&format!("[egress]\nconnect = \"{connect}\""))
            .tenant("a", &tenant("a", "outbound", &allow, "[limits]\ntime = \"50s\""))
    };
    // Without it, the request's own limit would end it.
    let gateway = Gateway::start(&site("600s"));
    let path = |way: &str| format!("/{way}/http/{address}/");
    assert_eq!(gateway.get("a.localhost", &path("get-soon")).await.text(), "ConnectionTimeout");
    let gateway = Gateway::start(&site("50ms"));
    for way in ["get", "get-soon"] {
        assert_eq!(gateway.get("a.localhost", &path(way)).await.text(), "ConnectionTimeout");
    }
    gateway.quiet().await;
}

#[tokio::test]
async fn a_request_waits_for_a_place_of_its_tenant() {
    let origin = ByHand::start(|_, next, stream| while next() && stream.write_all(HELLO).is_ok() {});
    let allow = [format!("http://{}", origin.address)];
    let limits = "[limits]\noutbound = 50\n[quota]\noutbound_in_flight = 2\n";
    let site = Site::new()
        .tenant("a", &tenant("a", "hostile", &allow, limits))
        .tenant("b", &tenant("b", "hostile", &allow, &format!("{limits}outbound_waiting = 5")));
    let gateway = Gateway::start(&site);
    let many = format!("/fetch-many/http/{}", origin.address);
    assert_eq!(gateway.get("a.localhost", &many).await.text(), "{\"200\": 40}");
    assert!(gateway.metric("tollgate_outbound_waits_total").await > 0.0);
    let text = gateway.get("b.localhost", &many).await.text();
    assert!(text.contains("ConnectionLimitReached"), "the queue has its bound: {text}");
    gateway.quiet().await;
}

/// All places are held by requests that wait for each other: the inner one is refused, and nothing stands still.
#[tokio::test]
async fn a_chain_of_neighbours_never_waits_for_its_own_places() {
    let origin = ByHand::start(|_, next, stream| while next() && stream.write_all(HELLO).is_ok() {});
    let app = format!(
        "spin_manifest_version = 2\n[application]\nname = \"a\"\n\
         [[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n[[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"b\"\n\
         [component.a]\nsource = \"hostile.wasm\"\nallowed_outbound_hosts = [\"http://b.spin.internal\"]\n\
         [component.b]\nsource = \"hostile.wasm\"\nallowed_outbound_hosts = [\"http://{}\"]\n",
        origin.address
    );
    let site = Site::new()
        .file("tenants/a/hostile.wasm", std::fs::read(tests::guest("hostile")).unwrap())
        .file(
            "tenants/a/tenant.toml",
            "schema = 1\nhosts = [\"a.localhost\"]\napp = \"spin.toml\"\n[quota]\noutbound_in_flight = 2\n",
        )
        .file("tenants/a/spin.toml", app);
    let gateway = Gateway::start(&site);
    let path = format!("/fetch/http/b.spin.internal/fetch/http/{}/", origin.address);
    assert_eq!(gateway.get("a.localhost", &path).await.text(), "200 200 hello", "one chain has its two places");
    let running: Vec<_> = (0..20)
        .map(|_| {
            let (client, path) = (gateway.client(Protocol::H2), path.clone());
            tokio::spawn(async move { client.get("a.localhost", &path).await.text() })
        })
        .collect();
    for task in running {
        let text = task.await.unwrap();
        assert!(["200 200 hello", "200 ConnectionLimitReached"].contains(&text.as_str()), "{text}");
    }
    gateway.quiet().await;
}
