//! Traces, metrics and logs sent to an independent collector, and the number of series.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::Value;
use tests::{Client, Gateway, Protocol, Site, Tenant, cache, request, top, until};

/// A collector that runs until it is asked what it received.
pub(crate) struct Collector {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    pub(crate) grpc: u16,
    http: u16,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::start_with(&serde_json::json!({ "seconds": 60 }))
    }

    /// The same with other settings.
    fn start_with(order: &Value) -> Self {
        let python = cache().join("clients/bin/python");
        let mut child = Command::new(python)
            .arg(top().join("tests/clients/collector.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ports: Value = serde_json::from_str(&line).unwrap();
        let port = |name: &str| u16::try_from(ports[name].as_u64().unwrap()).unwrap();
        Self { grpc: port("grpc"), http: port("http"), child, out }
    }

    pub(crate) fn got(mut self) -> Got {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        self.child.wait().unwrap();
        Got(serde_json::from_str(&line).unwrap())
    }
}

/// What it decoded.
pub(crate) struct Got(Value);

impl Got {
    fn all(&self, path: [&str; 4]) -> Vec<Value> {
        let [signal, resources, scopes, items] = path;
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let requests = list(&self.0, signal);
        let resources = requests.iter().flat_map(|request| list(request, resources));
        let scopes = resources.flat_map(|resource| list(&resource, scopes));
        scopes.flat_map(|scope| list(&scope, items)).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Value> {
        self.all(["traces", "resource_spans", "scope_spans", "spans"])
    }

    pub(crate) fn span(&self, name: &str) -> Value {
        let spans = self.spans();
        let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect();
        let found = spans.into_iter().find(|span| span["name"] == name);
        assert!(found.is_some(), "no {name} among {names:?}");
        found.unwrap()
    }

    fn metric(&self, name: &str) -> Value {
        let metrics = self.all(["metrics", "resource_metrics", "scope_metrics", "metrics"]);
        let found = metrics.into_iter().find(|metric| metric["name"] == name);
        assert!(found.is_some(), "no {name}");
        found.unwrap()
    }
}

pub(crate) fn attribute(of: &Value, key: &str) -> Value {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key);
    assert!(found.is_some(), "no {key} in {of}");
    found.unwrap()["value"].as_object().unwrap().values().next().unwrap().clone()
}

/// A server outside of the gateway, and the `traceparent` of each request that it received.
fn outside() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let parents = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&parents);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let parent =
                head.iter().find_map(|line| line.to_lowercase().strip_prefix("traceparent: ").map(str::to_owned));
            kept.lock().unwrap().push(parent.unwrap_or_default());
            let mut stream = stream;
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (port, parents)
}

/// One tenant whose first component calls its second, which has a store and outbound access.
fn site(otlp: &str, port: u16) -> Site {
    let component = |name: &str, guest: &str, more: &str| {
        format!("[[component]]\nname = \"{name}\"\nsource = {:?}\n{more}\n", tests::guest(guest).display())
    };
    let text = format!(
        "schema = 1\nhosts = [\"both.localhost\"]\n[egress]\nallow = [\"http://kv.spin.internal\", \"http://127.0.0.1:{port}\"]\n\
         {}{}[[route]]\npath = \"/...\"\ncomponent = \"site\"\n",
        component("site", "hostile", ""),
        component("kv", "kv", "stores = [\"default\"]"),
    );
    Site::new().file("tenants/both/tenant.toml", text).gateway(&format!("[telemetry.otlp]\n{otlp}"))
}

const CLIENT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(gateway: &Gateway, path: &str, parent: Option<&str>) -> tests::Answer {
    let mut asked = request("GET", "both.localhost", path);
    if let Some(parent) = parent {
        asked = asked.header("traceparent", parent);
    }
    gateway.client(Protocol::H2).send("both.localhost", asked.body(tests::empty()).unwrap()).await
}

#[tokio::test]
async fn a_trace_covers_the_handshake_a_storage_call_and_an_outbound_request() {
    let collector = Collector::start();
    let (port, parents) = outside();
    let otlp = format!(
        "endpoint = \"http://127.0.0.1:{}\"\ntraces = \"all\"\naccess_log = true\ninterval = \"200ms\"",
        collector.grpc
    );
    let failing = tests::Tenant::new("err.localhost", "answers");
    let gateway = Gateway::start(&site(&otlp, port).tenant("err", &failing));
    assert_eq!(gateway.get("err.localhost", "/nothing-error").await.problem(), "no-response");
    let parent = format!("00-{CLIENT}-00f067aa0ba902b7-01");
    let stored = ask(&gateway, "/fetch/http/kv.spin.internal/-/set/a", Some(&parent)).await;
    assert_eq!(stored.status.as_u16(), 200, "{}", stored.text());
    let record = gateway.record(&stored).await;
    assert_eq!(record["trace_id"], CLIENT, "the access log says where to look");
    assert_eq!(ask(&gateway, &format!("/fetch/http/127.0.0.1:{port}/out"), None).await.text(), "200 ok");
    let told = parents.lock().unwrap()[0].clone();
    until("an exemplar", async || {
        gateway.open_metrics().await.text().contains(&format!("trace_id=\"{CLIENT}\"")).then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0), "what waits is sent before the end");
    let got = collector.got();

    let spans: Vec<Value> = got.spans().into_iter().filter(|span| span["trace_id"] == hex_to_base64(CLIENT)).collect();
    let of = |name: &str| spans.iter().filter(|span| span["name"] == name).cloned().collect::<Vec<_>>();
    let servers = of("GET /...");
    let root = servers.iter().find(|span| span["parent_span_id"] == hex_to_base64("00f067aa0ba902b7")).unwrap();
    assert_eq!(attribute(root, "tollgate.tenant"), "both");
    assert_eq!(attribute(root, "http.response.status_code"), "200");
    for stage in ["tls.handshake", "admission", "component.load", "instantiate"] {
        assert!(of(stage).iter().any(|span| span["parent_span_id"] == root["span_id"]), "{stage}: {spans:#?}");
    }
    // root > guest > outbound > the other component > its guest > the store
    let below = |name: &str, parent: &Value| {
        let found = of(name).into_iter().find(|span| span["parent_span_id"] == parent["span_id"]);
        found.unwrap_or_else(|| panic!("no {name} below {}: {spans:#?}", parent["name"]))
    };
    let guest = below("guest", root);
    let outbound = below("GET", &guest);
    assert_eq!(
        (&outbound["kind"], attribute(&outbound, "server.address")),
        (&"SPAN_KIND_CLIENT".into(), "kv.spin.internal".into())
    );
    let inner = below("GET /...", &outbound);
    assert_eq!(attribute(&inner, "tollgate.component"), "kv");
    let call = below("set", &below("guest", &inner));
    assert_eq!(attribute(&call, "db.system.name"), "embedded");
    // And outside: the span in the header is the one that was exported.
    let parts: Vec<&str> = told.split('-').collect();
    let left = got.spans().into_iter().find(|span| span["span_id"] == hex_to_base64(parts[2])).unwrap();
    assert_eq!(left["trace_id"], hex_to_base64(parts[1]));
    assert_eq!((parts[3], attribute(&left, "server.port")), ("01", port.to_string().into()));

    let duration = got.metric("http.server.request.duration");
    let points = duration["histogram"]["data_points"].as_array().unwrap();
    let both = points.iter().find(|point| attribute(point, "tollgate.tenant") == "both").unwrap();
    assert!(both["count"].as_str().unwrap().parse::<u64>().unwrap() >= 2, "{both}");
    assert_eq!(duration["unit"], "s");
    assert_eq!(got.metric("tollgate.requests")["sum"]["is_monotonic"], true);
    let logs = got.all(["logs", "resource_logs", "scope_logs", "log_records"]);
    assert!(logs.iter().any(|line| line.to_string().contains("the configuration is in force")), "{logs:#?}");
    assert!(logs.iter().any(|line| line.to_string().contains(CLIENT)), "the access log is sent as well");
    let _seen = got.span("tls.handshake");
    let is_of_error = |span: &Value| span["attributes"].to_string().contains("tollgate.error_code");
    let failed: Vec<Value> = got.spans().into_iter().filter(is_of_error).collect();
    assert_eq!(
        (failed.len(), attribute(&failed[0], "tollgate.error_code")),
        (1, "internal-error".into()),
        "{failed:#?}"
    );
}

/// OTLP's JSON has ids in base64 in protobuf's standard mapping.
pub(crate) fn hex_to_base64(hex: &str) -> Value {
    let bytes = u128::from_str_radix(hex, 16).unwrap().to_be_bytes();
    base64::engine::general_purpose::STANDARD.encode(&bytes[bytes.len() - hex.len() / 2..]).into()
}

#[tokio::test]
async fn traces_are_sent_over_http_with_authorization() {
    let collector = Collector::start();
    let (port, _) = outside();
    let otlp = format!(
        "endpoint = \"http://127.0.0.1:{}\"\nprotocol = \"http/protobuf\"\ntraces = \"all\"\ninterval = \"200ms\"\n\
         authorization = {{ file = \"collector.token\" }}",
        collector.http
    );
    let gateway = Gateway::start(&site(&otlp, port).file("config/collector.token", "Bearer let-me-in\n"));
    assert_eq!(ask(&gateway, "/ok", None).await.text(), "ok");
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let got = collector.got();
    assert_eq!(attribute(&got.span("GET /..."), "url.path"), "/ok");
    assert!(got.metric("tollgate.connections")["gauge"].is_object());
    let logs = got.all(["logs", "resource_logs", "scope_logs", "log_records"]);
    assert!(
        !logs.is_empty() && logs.iter().all(|line| !line.to_string().contains("duration_us")),
        "no access log unasked"
    );
    let headers = got.0["headers"].as_array().unwrap();
    assert!(headers.len() >= 3 && headers.iter().all(|header| header == "Bearer let-me-in"), "{headers:?}");
}

#[tokio::test]
async fn an_unsampled_request_says_so_and_a_client_does_not_decide() {
    let collector = Collector::start();
    let (port, parents) = outside();
    // No request is sampled, but each has a trace.
    let otlp = format!(
        "endpoint = \"http://127.0.0.1:{}\"\ntraces = \"0.0001%\"\nmetrics = false\nlogs = false",
        collector.grpc
    );
    let gateway = Gateway::start(&site(&otlp, port));
    let parent = format!("00-{CLIENT}-00f067aa0ba902b7-01");
    ask(&gateway, &format!("/fetch/http/127.0.0.1:{port}/out"), Some(&parent)).await;
    let told = parents.lock().unwrap()[0].clone();
    assert!(told.starts_with(&format!("00-{CLIENT}-")) && told.ends_with("-00"), "{told}");
    gateway.signal("TERM");
    gateway.wait();
    assert_eq!(collector.got().spans(), [] as [Value; 0]);
}

#[tokio::test]
async fn a_missing_collector_affects_no_request() {
    let (port, _) = outside();
    let otlp = "endpoint = \"http://127.0.0.1:9\"\ntraces = \"all\"\ninterval = \"100ms\"\ntimeout = \"500ms\"";
    let gateway = Gateway::start(&site(otlp, port));
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "/ok", None).await.text(), "ok");
    }
    let told = until("the reason", async || {
        gateway
            .log("telemetry")
            .into_iter()
            .find(|line| line["message"].as_str().is_some_and(|text| text.contains("does not accept all data")))
    })
    .await;
    assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{told}");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0), "it ends in spite of it");
}

/// Prometheus's own tool, from `make setup-test` or from the system.
fn promtool() -> Command {
    let fetched = cache().join("promtool/usr/bin/promtool");
    if fetched.exists() { Command::new(fetched) } else { Command::new("promtool") }
}

/// Its verdict on a text on standard input.
fn checked(arguments: &[&str], text: &str) -> (bool, String) {
    let mut child =
        promtool().args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn neither_tenants_nor_strangers_can_exceed_the_limit_on_series() {
    let mut site = Site::new().gateway("[telemetry]\nmetrics_tenants = 10");
    for number in 0..40 {
        site = site.tenant(&format!("t{number:02}"), &Tenant::new(&format!("t{number:02}.localhost"), "echo"));
    }
    let gateway = Gateway::start(&site);
    let client = gateway.client(Protocol::H2);
    for number in 0..40 {
        assert_eq!(client.get(&format!("t{number:02}.localhost"), "/head").await.status.as_u16(), 200);
    }
    let series = async || gateway.admin("/metrics").await.lines().filter(|line| !line.starts_with('#')).count();
    let of_tenants = gateway.admin("/metrics").await;
    assert_eq!(of_tenants.matches("tollgate_requests_total{tenant=\"t").count(), 10);
    assert!(of_tenants.contains("tollgate_requests_total{tenant=\"+\",status=\"2xx\"} 30\n"), "{of_tenants}");
    let stranger = gateway.client(Protocol::H1);
    let mut connection = stranger.connect("localhost").await;
    let nobody = async |connection: &mut tests::Sender, number: u32| {
        let asked =
            request("GET", &format!("x{number}.nobody.example"), &format!("/{number}")).body(tests::empty()).unwrap();
        tests::read(connection.send(asked).await.unwrap()).await.status.as_u16()
    };
    assert_eq!(nobody(&mut connection, 0).await, 404);
    until("the first stranger", async || {
        gateway
            .admin("/metrics")
            .await
            .contains("tollgate_requests_total{tenant=\"-\",status=\"4xx\"} 1\n")
            .then_some(())
    })
    .await;
    let before = series().await;
    for number in 1..300 {
        assert_eq!(nobody(&mut connection, number).await, 404);
    }
    assert_eq!(series().await, before, "unknown hosts share one series");
    let (is_good, said) = checked(&["check", "metrics"], &gateway.admin("/metrics").await);
    assert!(is_good, "{said}");
    let answer = Client::plain(gateway.admin).get("localhost", "/metrics").await;
    assert_eq!(answer.status.as_u16(), 401);
    // Only clients that ask for OpenMetrics get it.
    let answer = gateway.operate("GET", "/metrics", "").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let open = gateway.open_metrics().await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"), "{:?}", open.headers);
    assert!(open.text().ends_with("# EOF\n") && !answer.text().contains("# EOF"));
}

#[test]
fn the_alert_rules_are_valid_and_name_existing_metrics() {
    let rules = top().join("config/observability/alerts.yml");
    let output = promtool().args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let known = std::fs::read_to_string(top().join("gateway/tests/golden/metrics.txt")).unwrap();
    let known: Vec<&str> = known.lines().filter_map(|line| line.split(' ').next()).collect();
    for file in [rules, top().join("config/observability/dashboard.json")] {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut count = 0;
        for part in text.split("tollgate_").skip(1) {
            let name: String =
                part.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            let name = format!("tollgate_{name}");
            let base =
                ["_total", "_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(known.contains(&base), "{} names {name}, which is no metric", file.display());
            count += 1;
        }
        assert!(count > 10, "{}", file.display());
    }
}

#[tokio::test]
async fn the_access_log_goes_to_its_configured_destination() {
    let ask = async |more: &str| {
        let site = Site::new()
            .tenant("a", &Tenant::new("a.localhost", "echo"))
            .tenant("b", &Tenant::new("b.localhost", "echo"))
            .gateway(&format!("[telemetry.access]\n{more}"));
        let gateway = Gateway::start(&site);
        for (host, path) in [("a.localhost", "/head?secret=1"), ("b.localhost", "/head"), ("a.localhost", "/x%0ay")] {
            gateway.get(host, path).await;
        }
        gateway.signal("TERM");
        (site, gateway.wait())
    };
    let (site, code) = ask("to = \"file\"\nformat = \"{tenant} {method} {host}{path} {status} {fault}\"").await;
    assert_eq!(code, Some(0));
    let text = std::fs::read_to_string(site.path("state/access.log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "a GET a.localhost/head 200 -", "the query is not in it: {text}");
    assert!(lines.len() == 3 && lines[2].starts_with("a GET a.localhost/x%0Ay "), "{text}");
    let (site, _) = ask("to = \"tenants\"").await;
    let of = |tenant: &str| std::fs::read_to_string(site.path(&format!("state/access/{tenant}.log"))).unwrap();
    assert_eq!((of("a").lines().count(), of("b").lines().count()), (2, 1));
    let line: Value = serde_json::from_str(of("b").lines().next().unwrap()).unwrap();
    assert_eq!((&line["tenant"], &line["status"], &line["path"]), (&"b".into(), &200.into(), &"/head".into()));
    assert!(line["duration_us"].as_u64() > Some(0) && line["fuel"].as_u64() > Some(0), "{line}");
    assert!(line.get("client").is_none() && line.get("user_agent").is_none(), "nobody asked who asks: {line}");
}

#[tokio::test]
async fn the_access_log_shows_clients_only_if_configured() {
    let asked = async |telemetry: &str| {
        let site = Site::new().tenant("a", &Tenant::new("a.localhost", "echo"));
        let proxies = "[http]\ntrusted_proxies = [\"127.0.0.1\"]";
        let site = site.gateway(&format!("{proxies}\n[telemetry.access]\n{telemetry}"));
        let gateway = Gateway::start(&site);
        let request = request("GET", "a.localhost", "/head")
            .header("user-agent", "Mozilla/5.0 \"x\" \u{9b}")
            .header("x-forwarded-for", "2001:db8::7")
            .body(tests::empty())
            .unwrap();
        let answer = gateway.client(Protocol::H2).send("a.localhost", request).await;
        (site, gateway, answer)
    };
    let (_site, gateway, answer) = asked("client = true\nuser_agent = true").await;
    let record = gateway.record(&answer).await;
    assert_eq!((&record["client"], &record["user_agent"]), (&"2001:db8::7".into(), &"Mozilla/5.0 \"x\" \u{9b}".into()));
    let (_site, gateway, answer) = asked("to = \"log\"").await;
    let record = gateway.record(&answer).await;
    assert!(record.get("client").is_none() && record.get("user_agent").is_none(), "{record}");
    // A format that names them asks for them.
    let (site, gateway, _) = asked("to = \"file\"\nformat = \"{client} {user_agent} {status}\"").await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let text = std::fs::read_to_string(site.path("state/access.log")).unwrap();
    assert_eq!(text, "2001:db8::7 Mozilla/5.0 \\\"x\\\" \\u009b 200\n");
}

/// Warnings about one signal, and messages that it works again.
fn said_of(gateway: &Gateway, signal: &str) -> Vec<String> {
    let of = gateway.log("telemetry").into_iter().filter(|line| line["signal"] == signal);
    of.map(|line| format!("{} {}", line["level"].as_str().unwrap(), line["error"].as_str().unwrap_or_default()))
        .collect()
}

async fn lost(gateway: &Gateway, signal: &str) -> f64 {
    gateway.metric(&format!("tollgate_otlp_lost_total{{signal=\"{signal}\"}}")).await
}

#[tokio::test]
async fn a_partial_success_is_counted_and_logged_once() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start_with(&serde_json::json!({ "seconds": 60, "rejects": 2 }));
        let at = if protocol == "grpc" { collector.grpc } else { collector.http };
        let otlp = format!(
            "endpoint = \"http://127.0.0.1:{at}\"\nprotocol = \"{protocol}\"\ntraces = \"all\"\ninterval = \"200ms\""
        );
        let gateway = Gateway::start(&site(&otlp, 1));
        for _ in 0..3 {
            assert_eq!(ask(&gateway, "/ok", None).await.text(), "ok");
        }
        for signal in ["traces", "metrics", "logs"] {
            until(&format!("{protocol}: a loss of {signal}"), async || {
                (lost(&gateway, signal).await >= 2.0).then_some(())
            })
            .await;
        }
        // Many deliveries, one message.
        until("more of them", async || (lost(&gateway, "metrics").await >= 8.0).then_some(())).await;
        let said = said_of(&gateway, "metrics");
        assert!(said.len() == 1 && said[0].starts_with("WARN") && said[0].contains("there is no room"), "{said:?}");
    }
}

#[tokio::test]
async fn each_kind_of_collector_failure_is_logged() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    let answer = Arc::new(Mutex::new("307 Temporary Redirect\r\nlocation: http://elsewhere.example/v1/metrics"));
    let now = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let head: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let length =
                head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            // Reads the whole body, because otherwise the answer might be lost with it.
            let _body = std::io::copy(&mut reader.take(length.unwrap_or(0)), &mut std::io::sink());
            let mut stream = stream;
            let said = *now.lock().unwrap();
            let _gone = write!(stream, "HTTP/1.1 {said}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let otlp = format!(
        "endpoint = \"http://127.0.0.1:{at}\"\nprotocol = \"http/protobuf\"\ntraces = \"none\"\nlogs = false\ninterval = \"100ms\""
    );
    let gateway = Gateway::start(&site(&otlp, 1));
    let words = async |count: usize| {
        until("a word", async || {
            let said = said_of(&gateway, "metrics");
            (said.len() >= count).then_some(said)
        })
        .await
    };
    let said = words(1).await;
    assert!(
        said[0].starts_with("WARN") && said[0].contains("307") && said[0].contains("elsewhere.example"),
        "{said:?}"
    );
    let before = lost(&gateway, "metrics").await;
    assert!(before > 50.0, "all points of a reading are lost: {before}");
    *answer.lock().unwrap() = "200 OK";
    assert!(words(2).await[1].starts_with("INFO"));
    *answer.lock().unwrap() = "403 Forbidden";
    let said = words(3).await;
    assert!(said[2].starts_with("WARN") && said[2].contains("403"), "{said:?}");
    assert!(lost(&gateway, "metrics").await > before);
    assert_eq!(lost(&gateway, "traces").await, 0.0);
}
