//! Every limit and every quota, and exactly what the request gets that exceeds it: status, problem type, log field, metric.
//!
//! `budget` has the same rows for requests to the own tenant.
//!
//! The rows are compared with the keys that a tenant's file may have, so a new limit without a row fails here. There are no
//! gaps, and there must be none.

use tests::{Answer, Client, Gateway, Protocol, Site, Tenant};

/// Where a refusal is visible.
enum Shows {
    /// In the answer to a client and in its record.
    Fault(u16, &'static str),
    /// In the guest's error, which the guest repeats; and in the metric.
    Guest(&'static str, Option<&'static str>),
    /// Only in the metric.
    Metric(&'static str),
    /// In a failed handshake, and in the metric.
    Handshake(&'static str),
}

struct Row {
    key: &'static str,
    guest: &'static str,
    /// A value that is soon exceeded, in the table of the key's first half.
    value: &'static str,
    /// Requests that are served before the one that is refused.
    before: &'static [&'static str],
    refused: &'static str,
    shows: Shows,
}

const fn row(
    key: &'static str,
    guest: &'static str,
    value: &'static str,
    before: &'static [&'static str],
    refused: &'static str,
    shows: Shows,
) -> Row {
    Row { key, guest, value, before, refused, shows }
}

const ROWS: [Row; 23] = [
    row("limits.fuel", "hostile", "\"20M\"", &[], "/loop", Shows::Fault(502, "fuel-exhausted")),
    row("limits.memory", "hostile", "\"8MiB\"", &[], "/grow", Shows::Fault(502, "memory-exhausted")),
    row("limits.time", "hostile", "\"300ms\"", &[], "/sleep", Shows::Fault(504, "deadline")),
    row("limits.request_body", "hostile", "\"10B\"", &[], "/read-all", Shows::Fault(413, "body-too-large")),
    row("limits.response_head", "hostile", "\"20KiB\"", &[], "/huge-headers", Shows::Fault(502, "bad-response")),
    row("limits.storage_ops", "kv", "5", &[], "/-/flood/k", Shows::Guest("quota-exceeded: storage_ops 5", None)),
    row(
        "limits.outbound",
        "hostile",
        "3",
        &[],
        "/fetch-many/http/127.0.0.1:9",
        Shows::Guest("ConnectionLimitReached", None),
    ),
    row("quota.connections", "hostile", "1", &[], "", Shows::Handshake("connections")),
    row(
        "quota.requests",
        "hostile",
        "{ rate = 1, per = \"1h\", burst = 2 }",
        &["/ok", "/ok"],
        "/ok",
        Shows::Fault(429, "quota-requests"),
    ),
    row(
        "quota.requests_per_address",
        "hostile",
        "{ rate = 1, per = \"1h\", burst = 2 }",
        &["/ok", "/ok"],
        "/ok",
        Shows::Fault(429, "quota-requests-per-address"),
    ),
    row(
        "quota.fuel_per_second",
        "hostile",
        "\"1K\"\nfuel_burst = \"1M\"",
        &["/burn/1000000"],
        "/ok",
        Shows::Fault(429, "quota-fuel"),
    ),
    row(
        "quota.fuel_burst",
        "hostile",
        "\"1M\"\nfuel_per_second = \"1K\"",
        &["/burn/1000000"],
        "/ok",
        Shows::Fault(429, "quota-fuel"),
    ),
    row("quota.in_flight", "hostile", "1", &[], "/ok", Shows::Fault(429, "quota-in-flight")),
    row("quota.waiting", "hostile", "1", &[], "/ok", Shows::Fault(429, "quota-waiting")),
    row("quota.memory", "hostile", "\"4MiB\"", &[], "/hold/8388608/0", Shows::Fault(429, "quota-memory")),
    row(
        "quota.body_bytes",
        "hostile",
        "{ rate = \"1B\", per = \"1h\", burst = \"1B\" }",
        &["/ok"],
        "/ok",
        Shows::Fault(429, "quota-body-bytes"),
    ),
    row(
        "quota.storage_ops",
        "kv",
        "{ rate = 1, per = \"1h\", burst = 3 }",
        &[],
        "/-/flood/k",
        Shows::Guest("quota-exceeded: storage-ops", Some("storage-ops")),
    ),
    row(
        "quota.storage",
        "kv",
        "{ bytes = \"1MiB\", keys = 3 }",
        &[],
        "/-/flood/k",
        Shows::Guest("quota-exceeded: storage.keys", Some("storage")),
    ),
    row(
        "quota.storage_bytes",
        "kv",
        "{ rate = \"1B\", per = \"1h\", burst = \"10B\" }",
        &[],
        "/-/flood/k",
        Shows::Guest("quota-exceeded: storage-bytes", Some("storage-bytes")),
    ),
    row(
        "quota.outbound",
        "hostile",
        "{ rate = 1, per = \"1h\", burst = 3 }",
        &[],
        "/fetch-many/http/127.0.0.1:9",
        Shows::Guest("ConnectionLimitReached", Some("outbound")),
    ),
    row(
        "quota.outbound_in_flight",
        "hostile",
        "2",
        &[],
        "/fetch-many/http/127.0.0.1:9",
        Shows::Guest("ConnectionLimitReached", Some("outbound-in-flight")),
    ),
    row(
        "quota.outbound_waiting",
        "hostile",
        "1",
        &[],
        "/fetch-many/http/127.0.0.1:9",
        Shows::Guest("ConnectionLimitReached", Some("outbound-in-flight")),
    ),
    row(
        "quota.log_bytes",
        "hostile",
        "{ rate = \"1B\", per = \"1h\", burst = \"100B\" }",
        &[],
        "/chatter",
        Shows::Metric("log-bytes"),
    ),
];

fn tenant(row: &Row) -> Tenant {
    let (section, key) = row.key.split_once('.').unwrap();
    let mut text = format!("[{section}]\n{key} = {}\n", row.value);
    match row.key {
        "quota.outbound_in_flight" => text += "outbound_waiting = 0\n",
        "quota.outbound_waiting" => text += "outbound_in_flight = 1\n",
        _ => {}
    }
    if row.key != "limits.outbound" && row.refused.starts_with("/fetch-many") {
        text += "[limits]\noutbound = 50\n";
    }
    if row.refused.starts_with("/fetch-many") {
        text += "[egress]\nallow = [\"http://127.0.0.1:9\"]\n";
    }
    if held(row.key) > 0 {
        text += "[limits]\ntime = \"50s\"\n";
    }
    let tenant = Tenant::new("it.localhost", row.guest).with(&text);
    if row.guest == "kv" { tenant.stores(&["default"]) } else { tenant }
}

/// How many requests are in progress when the refused one comes.
fn held(key: &str) -> usize {
    match key {
        "quota.in_flight" => 1,
        // One has the only instance, and one waits for it.
        "quota.waiting" => 2,
        _ => 0,
    }
}

async fn ask(client: &Client, path: &str) -> Answer {
    client.call("POST", "it.localhost", path, "more than ten bytes").await
}

#[tokio::test]
async fn every_limit_has_its_exact_refusal() {
    for row in &ROWS {
        let key = row.key;
        let mut site = Site::new().tenant("it", &tenant(row)).tenant("other", &Tenant::new("other.localhost", "echo"));
        if key == "quota.waiting" {
            site = site.gateway("[sandbox]\ninstances = 1\nwait = \"50s\"");
        }
        let gateway = Gateway::start(&site);
        let client = gateway.client(Protocol::H2);
        let hold = |_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("it.localhost", "/sleep").await })
        };
        let held: Vec<_> = (0..held(key)).map(hold).collect();
        tests::until("those that are held", async || {
            let in_flight = gateway.tenant("it").await["usage"]["in_flight"]["now"].as_u64();
            let waiting = gateway.status().await["waiting"].as_u64();
            let held = held.len() as u64;
            (in_flight == Some(held) && waiting == Some(held.saturating_sub(1))).then_some(())
        })
        .await;
        for path in row.before {
            let answer = ask(&client, path).await;
            assert_eq!(answer.status.as_u16(), 200, "{key}: {path} comes before: {}", answer.text());
            // A charge is made when the answer has ended on both sides.
            gateway.record(&answer).await;
        }
        if let Shows::Handshake(name) = row.shows {
            let _first = client.tls("it.localhost").await;
            let second = tokio::net::TcpStream::connect(gateway.https).await.unwrap();
            assert!(client.shake("it.localhost", second).await.is_err(), "{key}");
            let metric = format!("tollgate_quota_refusals_total{{tenant=\"it\",quota=\"{name}\"}}");
            assert_eq!(gateway.metric(&metric).await, 1.0, "{key}");
            let other = gateway.client(Protocol::H1).call("POST", "other.localhost", "/", "untouched").await;
            assert_eq!(other.text(), "untouched", "{key}: another tenant's affair it is not");
            continue;
        }
        let mut answer = ask(&client, row.refused).await;
        // A refused connection may release its place before the next request asks for it.
        for _ in 0..50 {
            let Shows::Guest(words, _) = row.shows else { break };
            if !row.refused.starts_with("/fetch-many") || answer.text().contains(words) {
                break;
            }
            answer = ask(&client, row.refused).await;
        }
        let record = gateway.record(&answer).await;
        shown(&gateway, row, &answer, &record).await;
        if key == "quota.waiting" {
            // The only instance is in use: the other tenant waits for it as well.
            held.iter().for_each(tokio::task::JoinHandle::abort);
        }
        let other = gateway.client(Protocol::H1).call("POST", "other.localhost", "/", "untouched").await;
        assert_eq!(other.text(), "untouched", "{key}: another tenant's affair it is not");
        held.iter().for_each(tokio::task::JoinHandle::abort);
        gateway.quiet().await;
    }
}

/// Compares a refusal with its row.
async fn shown(gateway: &Gateway, row: &Row, answer: &Answer, record: &serde_json::Value) {
    let key = row.key;
    let metric = async |line: String| {
        tests::until("the metric", async || {
            gateway.admin("/metrics").await.contains(&format!("\n{line} ")).then_some(())
        })
        .await;
        gateway.metric(&line).await
    };
    let quota = |name: &str| format!("tollgate_quota_refusals_total{{tenant=\"it\",quota=\"{name}\"}}");
    match row.shows {
        Shows::Fault(status, kind) => {
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, kind), "{key}: {}", answer.text());
            assert_eq!(
                (&record["status"], &record["fault"], &record["tenant"]),
                (&status.into(), &kind.into(), &"it".into())
            );
            assert_eq!(metric(format!("tollgate_faults_total{{kind=\"{kind}\"}}")).await, 1.0, "{key}");
            if let Some(name) = kind.strip_prefix("quota-") {
                assert_eq!(metric(quota(name)).await, 1.0, "{key}");
                assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1, "{key}");
                let policy = answer.header("ratelimit-policy");
                assert!(policy.starts_with(&format!("\"{name}\";q=")), "{key}: {policy}");
                let limit = answer.header("ratelimit");
                let retry = answer.header("retry-after");
                assert_eq!(limit, format!("\"{name}\";r=0;t={retry}"), "{key}");
            } else {
                assert_eq!(answer.header("ratelimit"), "", "{key}");
            }
        }
        Shows::Guest(words, name) => {
            assert_eq!(answer.status.as_u16(), 200, "{key}: the guest lives to tell: {}", answer.text());
            assert!(answer.text().contains(words), "{key}: {}", answer.text());
            assert_eq!(record["fault"], "", "{key}");
            if let Some(name) = name {
                assert!(metric(quota(name)).await >= 1.0, "{key}");
            }
        }
        Shows::Handshake(_) => unreachable!("there is no answer"),
        Shows::Metric(name) => {
            assert_eq!(answer.status.as_u16(), 200, "{key}: {}", answer.text());
            assert!(metric(quota(name)).await >= 1.0, "{key}");
        }
    }
}

/// The keys that `check` knows are those of the rows: for an unknown key in a section, it lists them all.
#[test]
fn every_key_has_a_row() {
    let mut keys = Vec::new();
    for section in ["limits", "quota"] {
        let site =
            Site::new().tenant("it", &Tenant::new("it.localhost", "echo").with(&format!("[{section}]\nnot_a_key = 1")));
        let output = tests::check(&site, &["--json"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let wanted = found["problems"][0]["wanted"].as_str().unwrap().strip_prefix("one of ").unwrap().to_owned();
        keys.extend(wanted.split(", ").map(|key| format!("{section}.{key}")));
    }
    assert!(keys.len() > 15, "{keys:?}");
    for key in keys {
        // These refuse nothing: fairness.rs, cached.rs, shards.rs and messages.rs test their effects.
        let is_limit =
            !["quota.weight", "quota.cache", "quota.shards", "quota.messages_at_once"].contains(&key.as_str());
        let known = !is_limit || ROWS.iter().any(|row| row.key == key);
        assert!(known, "{key} has no row in the matrix");
    }
}
