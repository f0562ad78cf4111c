//! One grammar for HTTP/1.1, 2 and 3: each row of one table is sent over all three, byte for byte
//! (`tests/clients/versions.py`), with the same result. If versions may differ, the row says how and why.

use serde_json::{Value, json};
use tests::{Gateway, Site, Tenant, python};

const VERSIONS: [&str; 3] = ["h1", "h2", "h3"];

/// The result of a request.
#[derive(Clone, Debug)]
enum Wanted {
    /// A guest gets it and sees each of these lines. It does not see lines with a `!`.
    Sees(Vec<&'static str>),
    /// A guest gets this body.
    Has(&'static str),
    /// The gateway answers with this status and kind of problem, and writes a record.
    Refused(u16, &'static str),
    /// It is malformed: a stream error with this code, whatever else is sent.
    Malformed(u64),
}

use Wanted::{Has, Malformed, Refused, Sees};

struct Row {
    what: &'static str,
    ask: Value,
    wanted: [Wanted; 3],
    /// Why versions differ.
    why: Option<&'static str>,
}

/// GET `/head` of the echo guest, which prints what it sees.
fn row(what: &'static str) -> Row {
    let ask = json!({ "name": "echo.localhost", "method": "GET", "path": "/head", "authority": "echo.localhost" });
    let wanted = [const { Refused(0, "nothing is wanted yet") }; 3];
    Row { what, ask, wanted, why: None }
}

impl Row {
    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.ask[key] = value.into();
        self
    }

    fn path(self, path: &str) -> Self {
        self.set("path", path)
    }

    fn method(self, method: &str) -> Self {
        self.set("method", method)
    }

    /// As HTTP/1.1's `Host`, and as `:authority`.
    fn authority(self, authority: &str) -> Self {
        self.set("authority", authority)
    }

    /// In addition to an authority in the target.
    fn host(self, host: &str) -> Self {
        self.set("host", host)
    }

    fn fields(self, fields: &[(&str, &str)]) -> Self {
        self.set("fields", json!(fields))
    }

    /// The same result for all versions.
    fn is(mut self, wanted: Wanted) -> Self {
        self.wanted = [wanted.clone(), wanted.clone(), wanted];
        self
    }

    fn sees(self, lines: &[&'static str]) -> Self {
        self.is(Sees(lines.to_vec()))
    }

    /// For HTTP/1.1, 2 and 3.
    fn differs(mut self, wanted: [Wanted; 3], why: &'static str) -> Self {
        (self.wanted, self.why) = (wanted, Some(why));
        self
    }
}

const PROTOCOL_ERROR: u64 = 1;
const H3_MESSAGE_ERROR: u64 = 0x10e;
const OWN_STREAMS: &str = "HTTP/2 and 3 reset the stream of a malformed request (RFC 9113 §8.1.1, RFC 9114 §4.1.2)";

/// Malformed in all versions, each of which reports it in its own way.
fn malformed() -> [Wanted; 3] {
    [Refused(400, "framing"), Malformed(PROTOCOL_ERROR), Malformed(H3_MESSAGE_ERROR)]
}

fn cookies() -> Vec<Row> {
    let many: Vec<(String, String)> = (0..95).map(|n| ("cookie".to_owned(), format!("c{n}=1"))).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    many.extend(["a", "b", "d", "e", "f", "g", "i"].map(|name| (name, "1")));
    let fields: Vec<(String, String)> = (0..101).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    vec![
        row("cookies in several fields are one")
            .fields(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")])
            .sees(&["cookie: a=1; b=2; c=3; d=4", "x: y"]),
        row("one cookie is as it is").fields(&[("cookie", "a=1;b")]).sees(&["cookie: a=1;b"]),
        row("many cookies count as one field").fields(&many).differs(
            [Refused(431, "head-too-large"), Sees(vec!["i: 1"]), Sees(vec!["i: 1"])],
            "a client of HTTP/1.1 sends one Cookie (RFC 6265 §5.4), so each line counts",
        ),
        row("fields over their bound").fields(&fields).is(Refused(431, "head-too-large")),
    ]
}

fn upgrades() -> Vec<Row> {
    let of_connections = "HTTP/2 and 3 have no fields of a connection (RFC 9113 §8.2.2, RFC 9114 §4.2)";
    let [_, h2, h3] = malformed();
    let offer = |what, connection: &str, upgrade: &str, wanted: Wanted| {
        row(what)
            .fields(&[("connection", connection), ("upgrade", upgrade), ("http2-settings", "AAMAAABk")])
            .differs([wanted, h2.clone(), h3.clone()], of_connections)
    };
    let ignored = || Sees(vec!["GET https://echo.localhost/head", "!upgrade:", "!http2-settings:", "!connection:"]);
    vec![
        offer("an upgrade to h2c is an offer", "Upgrade, HTTP2-Settings, close", "h2c", ignored()),
        offer("an upgrade to TLS is an offer", "upgrade, http2-settings, close", "TLS/1.2", ignored()),
        offer("a WebSocket is asked for", "close, upgrade", "websocket", Refused(501, "not-supported")),
        row("an upgrade that no Connection names")
            .fields(&[("upgrade", "websocket")])
            .differs([Sees(vec!["!upgrade:"]), h2.clone(), h3.clone()], of_connections),
        row("a tunnel").method("CONNECT").is(Refused(501, "not-supported")),
    ]
}

fn expectations() -> Vec<Row> {
    let post = |what| row(what).method("POST").path("/sized").set("body", "here it is");
    vec![
        post("a body that waits for 100")
            .fields(&[("expect", "100-continue")])
            .set("holds", true)
            .set("interim", json!([100]))
            .is(Has("here it is")),
        post("a body that is there already").set("interim", json!([])).is(Has("here it is")),
        post("an expectation that the guest has no use for")
            .path("/head")
            .fields(&[("expect", "100-continue")])
            .set("holds", true)
            .set("interim", json!([]))
            .sees(&["POST https://echo.localhost/head"]),
    ]
}

fn authorities() -> Vec<Row> {
    let seen = &["GET https://echo.localhost/head"];
    let bad = || Refused(400, "bad-request");
    vec![
        row("an empty port").authority("echo.localhost:").sees(seen),
        row("the scheme's own port").authority("Echo.LOCALHOST.:443").sees(seen),
        row("another port").authority("echo.localhost:8443").sees(&["GET https://echo.localhost:8443/head"]),
        row("a port that is no number").authority("echo.localhost:+443").is(bad()),
        row("a port of letters").authority("echo.localhost:https").is(bad()),
        row("equal authorities in other words").authority("echo.localhost:443").host("ECHO.localhost").sees(seen),
        row("equal authorities, one with an empty port").authority("echo.localhost").host("echo.localhost:").sees(seen),
        row("authorities that differ").authority("echo.localhost").host("other.localhost").is(bad()),
        row("authorities whose ports differ").authority("echo.localhost:80").host("echo.localhost").is(bad()),
        row("a name and a password").authority("me:secret@echo.localhost").is(bad()),
        row("an underscore below a wildcard")
            .set("name", "ab.wild.localhost")
            .authority("A_b.wild.localhost")
            .sees(&["GET https://a_b.wild.localhost/head"]),
    ]
}

fn fields() -> Vec<Row> {
    let trailing = |what| row(what).method("POST").path("/").set("body", "body");
    vec![
        row("a name with an underscore goes, and nothing else")
            .fields(&[("x_real_ip", "6.6.6.6"), ("a_b", "c"), ("a-b", "d")])
            .sees(&["a-b: d", "!a_b", "!x_real_ip", "!6.6.6.6"]),
        row("what strangers may not say of themselves")
            .fields(&[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-prefix", "/6.6.6.6"),
                ("x-forwarded-ssl", "6.6.6.6"),
                ("x-original-url", "/6.6.6.6"),
                ("x-rewrite-url", "/6.6.6.6"),
                ("x-client-ip", "6.6.6.6"),
                ("true-client-ip", "6.6.6.6"),
                ("cf-connecting-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("proxy", "6.6.6.6"),
                ("x-mine", "7"),
            ])
            .sees(&["!6.6.6.6", "x-mine: 7", "x-forwarded-for: 127.0.0.1"]),
        trailing("trailers").set("trailers", json!([["x-forwarded-for", "6.6.6.6"], ["x", "y"]])).is(Has("body")),
        row("two lengths")
            .method("POST")
            .path("/")
            .fields(&[("content-length", "1"), ("content-length", "2")])
            .differs(malformed(), OWN_STREAMS),
        row("a control byte in a value").fields(&[("x", "a\u{1}b")]).differs(malformed(), OWN_STREAMS),
        row("a space in a name").fields(&[("x y", "z")]).differs(malformed(), OWN_STREAMS),
    ]
}

fn targets() -> Vec<Row> {
    let framing = || Refused(400, "framing");
    vec![
        row("quotes and angle brackets in a query")
            .path("/head?q=\"<a>\"&b={}|")
            .sees(&["GET https://echo.localhost/head?q=%22%3Ca%3E%22&b={}|"]),
        row("angle brackets in a path").path("/head/<a>").sees(&["GET https://echo.localhost/head/%3Ca%3E"]),
        row("what is no part of a path")
            .path("/head/{|}^\"`")
            .sees(&["GET https://echo.localhost/head/%7B%7C%7D%5E%22%60"]),
        row("raw bytes in a path")
            .path("/h\u{e9}ad/../head/\u{c3}\u{a9}")
            .sees(&["GET https://echo.localhost/head/%C3%A9"]),
        row("raw bytes in a query")
            .path("/head?\u{c3}\u{a9}=\u{ff}")
            .sees(&["GET https://echo.localhost/head?%C3%A9=%FF"]),
        row("escapes have one spelling")
            .path("/%68ead/%c3%a9?%7e")
            .sees(&["GET https://echo.localhost/head/%C3%A9?%7e"]),
        row("a fragment").path("/head#x").is(framing()),
        row("a fragment behind a query").path("/head?a#x").is(framing()),
        row("a control byte").path("/head\u{7f}").is(framing()),
        row("a target that is no path").path("head").is(framing()),
        row("another URL").path("ftp://echo.localhost/head").is(framing()),
        row("the server as a whole, by GET").path("*").is(framing()),
        row("a path that climbs").path("/../head").is(framing()),
        row("an escape that is none").path("/head/%zz").is(framing()),
        row("a backslash").path("/head\\x").is(framing()),
    ]
}

/// Sends all rows, and reports those with another result.
async fn held(rows: Vec<Row>) {
    let echo = Tenant::new("echo.localhost", "echo");
    let site = Site::new().tenant("echo", &echo).tenant("wild", &Tenant::new("*.wild.localhost", "echo"));
    let site = site.tenant("other", &Tenant::new("other.localhost", "echo")).listen("quic = true");
    let gateway = Gateway::start(&site);
    let asked = rows.iter().flat_map(|row| {
        VERSIONS.map(|version| {
            let mut ask = row.ask.clone();
            ask["version"] = version.into();
            ask
        })
    });
    let order = json!({
        "port": gateway.https.port(),
        "ca": site.path("state/tls/ca.pem"),
        "rows": asked.collect::<Vec<_>>(),
    });
    let out = python("versions.py", order).await;
    let mut wrong = Vec::new();
    for (row, got) in rows.iter().zip(out["rows"].as_array().unwrap().chunks(3)) {
        let differs = row.wanted.iter().any(|wanted| format!("{wanted:?}") != format!("{:?}", row.wanted[0]));
        assert_eq!(differs, row.why.is_some(), "{}: whoever differs says why", row.what);
        for ((version, wanted), got) in VERSIONS.iter().zip(&row.wanted).zip(got) {
            let interim = row.ask.get("interim").is_none_or(|interim| *interim == got["interim"]);
            if !interim || !is(&gateway, wanted, got).await {
                wrong.push(format!("{} over {version}: {wanted:?}, got {got}", row.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn is(gateway: &Gateway, wanted: &Wanted, got: &Value) -> bool {
    let body = got["body"].as_str().unwrap_or_default();
    match wanted {
        Sees(lines) => {
            let sees = |line: &&str| match line.strip_prefix('!') {
                Some(absent) => !body.contains(absent),
                None => body.lines().any(|there| there == *line),
            };
            got["status"] == 200 && lines.iter().all(sees)
        }
        Has(wanted) => got["status"] == 200 && body == *wanted,
        Refused(status, kind) => {
            let id = field(got, "x-request-id");
            got["status"] == *status
                && body.contains(&format!("urn:tollgate:problem:{kind}"))
                && gateway.record_of(&id).await["fault"] == *kind
        }
        Malformed(code) => got["reset"] == *code,
    }
}

fn field(got: &Value, name: &str) -> String {
    let fields = got["fields"].as_array().unwrap();
    let value = fields.iter().find(|field| field[0] == name).map(|field| field[1].as_str().unwrap());
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn cookies_become_one_field_before_fields_are_counted() {
    held(cookies()).await;
}

#[tokio::test]
async fn only_an_upgrade_that_a_request_depends_on_is_refused() {
    held(upgrades()).await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_when_the_guest_reads() {
    held(expectations()).await;
}

#[tokio::test]
async fn an_authority_has_one_spelling() {
    held(authorities()).await;
}

#[tokio::test]
async fn forbidden_fields_are_removed() {
    held(fields()).await;
}

#[tokio::test]
async fn a_target_is_normalised_or_refused_with_a_record() {
    held(targets()).await;
}

#[tokio::test]
async fn the_operator_sets_the_maximum_of_fields() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let site = site.gateway("[http]\nfields = 12").listen("quic = true");
    let gateway = Gateway::start(&site);
    let ask = |version: &str, count: usize| {
        let fields: Vec<_> = (0..count).map(|n| (format!("x-{n}"), "1")).collect();
        json!({
            "version": version, "name": "echo.localhost", "method": "GET", "path": "/head", "authority": "echo.localhost",
            "fields": fields,
        })
    };
    // HTTP/1.1 has Host and Connection in addition.
    let rows: Vec<_> = [("h1", 10), ("h1", 11), ("h2", 12), ("h2", 13), ("h3", 12), ("h3", 13)]
        .map(|(version, count)| ask(version, count))
        .to_vec();
    let order = json!({ "port": gateway.https.port(), "ca": site.path("state/tls/ca.pem"), "rows": rows });
    let out = python("versions.py", order).await;
    let statuses: Vec<_> = out["rows"].as_array().unwrap().iter().map(|got| got["status"].clone()).collect();
    assert_eq!(statuses, [200, 431, 200, 431, 200, 431].map(Value::from), "{out}");
}

#[tokio::test]
async fn dropped_fields_are_counted() {
    let site = Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo"));
    let gateway = Gateway::start(&site);
    let request = tests::request("GET", "echo.localhost", "/head").header("a_b", "1").header("c_d", "2");
    let answer =
        gateway.client(tests::Protocol::H2).send("echo.localhost", request.body(tests::empty()).unwrap()).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!((gateway.metric("tollgate_request_fields_dropped_total").await - 2.0).abs() < f64::EPSILON);
}
