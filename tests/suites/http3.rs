//! HTTP/3, with an independent client (aioquic): the same road, the same limits, and limits on what QUIC adds.

use serde_json::{Value, json};
use tests::{Gateway, Protocol, Site, Tenant, python};

fn site() -> Site {
    let echo = Tenant::new("echo.localhost", "echo").with("[limits]\nrequest_body = \"64KiB\"");
    let hello = Tenant::new("hostile.localhost", "hostile");
    Site::new().tenant("echo", &echo).tenant("hostile", &hello)
}

fn started(more: &str) -> (Site, Gateway) {
    let site = site().gateway(more).listen("quic = true");
    let gateway = Gateway::start(&site);
    (site, gateway)
}

fn order(site: &Site, gateway: &Gateway, name: &str, streams: &[Value]) -> Value {
    let ca = site.path("state/tls/ca.pem");
    json!({ "port": gateway.https.port(), "ca": ca, "name": name, "seconds": 20, "streams": streams })
}

/// One connection for `name`, with these streams.
async fn quic((site, gateway): &(Site, Gateway), name: &str, streams: Vec<Value>) -> Value {
    python("http3.py", order(site, gateway, name, &streams)).await
}

fn fields(method: &str, host: &str, path: &str, more: &[(&str, &str)]) -> Value {
    let mut fields = vec![(":method", method), (":scheme", "https"), (":authority", host), (":path", path)];
    fields.extend(more);
    json!(fields)
}

fn get(path: &str) -> Value {
    json!({ "fields": fields("GET", "echo.localhost", path, &[]) })
}

#[tokio::test]
async fn a_guest_answers_and_older_versions_advertise_http3() {
    let at = started("");
    let order = vec![
        get("/head?q=1"),
        json!({ "fields": fields("POST", "echo.localhost", "/", &[("content-length", "5")]), "body": "hello" }),
        json!({ "fields": fields("HEAD", "echo.localhost", "/head", &[]) }),
    ];
    let out = quic(&at, "echo.localhost", order).await;
    let body = out["streams"][0]["body"].as_str().unwrap();
    assert!(body.starts_with("GET https://echo.localhost/head?q=1\n"), "{out}");
    assert!(body.contains("x-forwarded-for: 127.0.0.1\n") && body.contains("x-forwarded-proto: https\n"), "{body}");
    assert_eq!(out["streams"][1]["body"], "hello", "{out}");
    assert_eq!((&out["streams"][2]["status"], &out["streams"][2]["body"]), (&json!(200), &json!("")));
    assert!(out["streams"].as_array().unwrap().iter().all(|stream| stream["ended"] == true), "{out}");
    let has = |name: &str| out["streams"][0]["fields"].as_array().unwrap().iter().any(|field| field[0] == name);
    assert!(has("date") && has("x-request-id"), "{out}");
    for protocol in [Protocol::H1, Protocol::H2] {
        let answer = at.1.client(protocol).get("echo.localhost", "/head").await;
        let expected = format!("h3=\":{}\"; ma=86400", at.1.https.port());
        assert_eq!(answer.header("alt-svc"), expected);
    }
    assert_eq!(at.1.client(Protocol::H2).get("echo.localhost", "/head").await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_road_refuses_what_it_refuses_elsewhere() {
    let at = started("");
    let with = |more: &[(&str, &str)]| json!({ "fields": fields("GET", "echo.localhost", "/head", more) });
    let many: Vec<(String, String)> = (0..120).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let long = "x".repeat(17_000);
    let order = vec![
        json!({ "fields": fields("GET", "hostile.localhost", "/", &[]) }),
        json!({ "fields": fields("GET", "nobody.localhost", "/", &[]) }),
        with(&[("x_y", "1")]),
        with(&many),
        with(&[("x", &long)]),
        json!({ "fields": fields("POST", "echo.localhost", "/sized", &[]), "body": "x".repeat(70_000) }),
        json!({ "fields": fields("POST", "echo.localhost", "/sized", &[("content-length", "70000")]), "end": false }),
        json!({ "fields": [(":method", "CONNECT"), (":authority", "echo.localhost:443")] }),
    ];
    let out = quic(&at, "echo.localhost", order).await;
    let statuses: Vec<_> = out["streams"].as_array().unwrap().iter().map(|stream| stream["status"].clone()).collect();
    let expected = [421, 421, 200, 431, 431, 413, 413, 501].map(Value::from);
    assert_eq!(statuses, expected, "{out}");
}

#[tokio::test]
async fn a_body_must_have_its_declared_length() {
    let at = started("[http]\nbody_idle = \"300ms\"");
    let post = |length: &str, body: &str, end: bool| {
        let fields = fields("POST", "echo.localhost", "/sized", &[("content-length", length)]);
        json!({ "fields": fields, "body": body, "end": end })
    };
    let order =
        vec![post("3", "hello", true), post("9", "hello", true), post("9", "hello", false), post("5", "hello", true)];
    let out = quic(&at, "echo.localhost", order).await;
    let streams = out["streams"].as_array().unwrap();
    let statuses: Vec<_> = streams.iter().map(|stream| stream["status"].clone()).collect();
    assert_eq!(statuses[2..], [408, 200].map(Value::from), "{out}");
    // H3_MESSAGE_ERROR.
    assert!(streams[..2].iter().all(|stream| stream["reset"] == 0x10e), "{out}");
}

#[tokio::test]
async fn memory_for_a_client_is_bounded() {
    let at = started("");
    // HEADERS of a gigabyte; an unknown frame of a gigabyte; 100 empty DATA frames after a head that never comes.
    let floods = [
        json!({ "raw": "01c000000040000000", "end": false }),
        json!({ "raw": "21c000000040000000", "end": false }),
        json!({ "raw": "2100".repeat(100), "end": false }),
        // Endless PRIORITY_UPDATE (RFC 9218 §7.2).
        json!({ "control": format!("800f070004{}", "00752c69").repeat(40_000) }),
    ];
    for flood in floods {
        let mut order = order(&at.0, &at.1, "echo.localhost", &[flood]);
        order["until_closed"] = true.into();
        let out = python("http3.py", order).await;
        assert!(out["closed"].is_u64(), "{out}");
    }
    let out = quic(&at, "echo.localhost", vec![get("/head")]).await;
    assert_eq!(out["streams"][0]["status"], 200, "{out}");
}

#[tokio::test]
async fn a_tenants_limits_on_connections_and_callers_apply() {
    let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
    let closed = Tenant::new("closed.localhost", "echo").with("[tls.clients]\nca = \"ca.pem\"");
    let full = Tenant::new("full.localhost", "echo").with("[quota]\nconnections = 1");
    let site = Site::new().tenant("closed", &closed).tenant("full", &full);
    let site = site.file("tenants/closed/ca.pem", ca.cert.pem()).listen("quic = true");
    let gateway = Gateway::start(&site);
    let held = gateway.client(Protocol::H2).tls("full.localhost").await;
    let at = (site, gateway);
    let of = |host: &str| vec![json!({ "fields": fields("GET", host, "/head", &[]) })];
    let out = quic(&at, "closed.localhost", of("closed.localhost")).await;
    assert_eq!(out["streams"][0]["status"], 421, "QUIC's handshake asks for no certificate: {out}");
    let out = quic(&at, "full.localhost", of("full.localhost")).await;
    assert!(out["closed"].is_u64() && out["streams"][0]["status"].is_null(), "{out}");
    drop(held);
    tests::until("the place", async || {
        let out = quic(&at, "full.localhost", of("full.localhost")).await;
        (out["streams"][0]["status"] == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_drain_ends_connections_but_finishes_requests() {
    let (site, gateway) = started("[http]\nbody_idle = \"2s\"");
    let slow = json!({ "fields": fields("POST", "echo.localhost", "/sized", &[]), "body": "half", "end": false });
    let asked = tokio::spawn(python("http3.py", order(&site, &gateway, "echo.localhost", &[slow])));
    tests::until("the request", async || (gateway.metric("tollgate_requests_in_flight").await > 0.0).then_some(()))
        .await;
    gateway.signal("TERM");
    // The body never ends: the request is still answered, with 408, before the connection is closed.
    let out = asked.await.unwrap();
    assert_eq!(out["streams"][0]["status"], 408, "{out}");
    assert_eq!(gateway.wait(), Some(0));
}

/// The MUSTs of RFC 9114 and RFC 9204 for a server, section by section: h3 implements a part, and our own reader the rest.
#[tokio::test]
async fn each_must_of_the_two_rfcs_holds() {
    let (site, gateway) = started("");
    let order = json!({ "port": gateway.https.port(), "ca": site.path("state/tls/ca.pem"), "name": "echo.localhost" });
    let out = python("http3_musts.py", order).await;
    let checks = out["checks"].as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).map(ToString::to_string).collect();
    println!("{} checks, {} failed", checks.len(), failed.len());
    assert!(checks.len() >= 150, "{}", checks.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    gateway.quiet().await;
}
