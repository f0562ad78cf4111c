//! Load balancers in front of the gateway: who may report the client's address, and how many connections one client may
//! have.

use serde_json::json;
use tests::{Client, Gateway, Protocol, Site, Tenant, python};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn echo(listen: &str, http: &str) -> Gateway {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    Gateway::start(&site.gateway(&format!("[http]\n{http}")).listen(listen))
}

/// Sends `first` before the handshake, and then a request. Returns what the guest saw of it.
async fn seen(gateway: &Gateway, first: &[u8]) -> Result<String, String> {
    let mut tcp = TcpStream::connect(gateway.https).await.unwrap();
    tcp.write_all(first).await.unwrap();
    let mut tls = gateway.client(Protocol::H1).shake("echo.localhost", tcp).await.map_err(|error| error.to_string())?;
    let request = "GET /head HTTP/1.1\r\nhost: echo.localhost\r\nconnection: close\r\n\r\n";
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    Ok(answer)
}

#[tokio::test]
async fn the_proxy_protocol_is_accepted_only_from_configured_addresses() {
    let gateway = echo("proxy_protocol_from = [\"127.0.0.0/8\"]", "");
    let answer = seen(&gateway, b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n").await.unwrap();
    assert!(answer.contains("x-forwarded-for: 192.0.2.7\n"), "{answer}");
    assert!(answer.contains("forwarded: for=192.0.2.7;proto=https\n"), "{answer}");
    let two = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34\x01\xbb";
    let answer = seen(&gateway, two).await.unwrap();
    assert!(answer.contains("forwarded: for=\"[2001:db8::7]\";proto=https\n"), "{answer}");
    // With a checksum (type 3): the correct one and a wrong one.
    let four = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1e\xc0\0\x02\x07\xc0\0\x02\x01\xdc\x04\x01\xbb\x02\0\x05a.lan\x03\0\x04\xc6\x3d\x18\xaf\x04\0\0";
    assert!(seen(&gateway, four).await.unwrap().contains("x-forwarded-for: 192.0.2.7\n"));
    let mut forged = *four;
    forged[19] = 8;
    assert!(seen(&gateway, &forged).await.is_err(), "an address that the checksum was not made for");
    // A configured proxy that sends no header is refused, and plain HTTP does not bypass that.
    assert!(seen(&gateway, b"").await.is_err());
    let mut plain = TcpStream::connect(gateway.http).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: echo.localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An end or a reset.
    let _ended = plain.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert!(gateway.metric("tollgate_connections_refused_total").await >= 2.0);
    // From other addresses a header is not a valid handshake.
    let other = echo("", "");
    assert!(seen(&other, b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n").await.is_err());
    assert!(seen(&other, b"").await.unwrap().contains("x-forwarded-for: 127.0.0.1\n"));
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let gateway = echo("", "trusted_proxies = [\"127.0.0.1\"]");
    let get = async |list: &str| {
        let request = tests::request("GET", "echo.localhost", "/head")
            .header("x-forwarded-for", list)
            .header("x-forwarded-proto", "http")
            .header("forwarded", "for=6.6.6.6")
            .header("x-forwarded-prefix", "/app")
            .body(tests::empty())
            .unwrap();
        gateway.client(Protocol::H2).send("echo.localhost", request).await.text()
    };
    let text = get("6.6.6.6, 192.0.2.7").await;
    assert!(text.contains("x-forwarded-for: 192.0.2.7\n") && text.contains("x-forwarded-proto: http\n"), "{text}");
    assert!(text.contains("forwarded: for=192.0.2.7;proto=http\n") && !text.contains("6.6.6.6"), "{text}");
    assert!(text.contains("x-forwarded-prefix: /app\n"), "what only a proxy knows: {text}");
}

#[tokio::test]
async fn an_addresss_connections_are_limited() {
    let gateway = echo("connections_per_address = 3", "");
    let client = gateway.client(Protocol::H1);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(client.tls("echo.localhost").await);
    }
    let more = TcpStream::connect(gateway.https).await.unwrap();
    assert!(client.shake("echo.localhost", more).await.is_err(), "the fourth");
    // The operators' listener has its own limit.
    assert_eq!(Client::plain(gateway.admin).get("localhost", "/readyz").await.status.as_u16(), 200);
    held.pop();
    tests::until("a place", async || {
        let again = TcpStream::connect(gateway.https).await.unwrap();
        client.shake("echo.localhost", again).await.ok().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn an_addresss_requests_are_limited_for_a_tenant_and_for_the_gateway() {
    let quota = "[quota]\nrequests_per_address = { rate = 1, per = \"1h\", burst = 3 }";
    let site = Site::new()
        .tenant("few", &Tenant::new("few.localhost", "echo").with(quota))
        .tenant("many", &Tenant::new("many.localhost", "echo"));
    let http =
        "[http]\ntrusted_proxies = [\"127.0.0.1\"]\nrequests_per_address = { rate = 1, per = \"1h\", burst = 6 }";
    let gateway = Gateway::start(&site.gateway(http));
    let client = gateway.client(Protocol::H2);
    let ask = async |host: &str, address: &str| {
        let request = tests::request("GET", host, "/head").header("x-forwarded-for", address).body(tests::empty());
        client.send(host, request.unwrap()).await
    };
    let status = async |host: &str, address: &str| ask(host, address).await.status.as_u16();
    for _ in 0..3 {
        assert_eq!(status("few.localhost", "192.0.2.1").await, 200);
    }
    let refused = ask("few.localhost", "192.0.2.1").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "quota-requests-per-address"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 600, "{:?}", refused.headers);
    assert!(refused.header("ratelimit-policy").contains("requests-per-address"), "{:?}", refused.headers);
    assert_eq!(status("few.localhost", "192.0.2.2").await, 200, "another address");
    assert_eq!(status("few.localhost", "2001:db8::1").await, 200);
    // The gateway's own limit applies to all tenants together: two of six are left.
    assert_eq!(status("many.localhost", "192.0.2.1").await, 200);
    assert_eq!(status("many.localhost", "192.0.2.1").await, 200);
    assert_eq!(status("many.localhost", "192.0.2.1").await, 429);
    assert_eq!(status("many.localhost", "192.0.2.2").await, 200);
    // An IPv6 network is one client: five of six are left.
    for number in 0..5 {
        assert_eq!(status("many.localhost", &format!("2001:db8::{number:x}")).await, 200, "{number}");
    }
    assert_eq!(status("many.localhost", "2001:db8::ffff").await, 429);
}

#[tokio::test]
async fn a_client_that_migrates_keeps_the_address_of_its_handshake() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let site = site.gateway("[http]\ntrusted_proxies = [\"127.0.0.2\"]").listen("quic = true");
    let gateway = Gateway::start(&site);
    // To a proxy's address, which nobody has validated: anyone can write it in a packet.
    let order = json!({
        "port": gateway.https.port(), "ca": site.path("state/tls/ca.pem"), "name": "echo.localhost", "from": "127.0.0.2",
        "fields": [["x-forwarded-for", "6.6.6.6"], ["x-forwarded-prefix", "/6.6.6.6"]],
    });
    let out = python("migrates.py", order).await;
    let body = out["body"].as_str().unwrap();
    assert!(body.contains("x-forwarded-for: 127.0.0.1\n") && !body.contains("6.6.6.6"), "{out}");
}
