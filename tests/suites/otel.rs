//! wasi:otel: a guest's spans are part of its request's trace, and its log records and metrics are lines of its tenant's
//! log.

use serde_json::Value;
use tests::{Gateway, Site, Tenant, until};

use crate::observed::{Collector, attribute, hex_to_base64};

fn site(otlp: &str) -> Site {
    let site = Site::new().tenant("own", &Tenant::new("own.localhost", "otel"));
    if otlp.is_empty() { site } else { site.gateway(&format!("[telemetry.otlp]\n{otlp}")) }
}

#[tokio::test]
async fn a_guests_spans_join_its_own_requests_trace() {
    let collector = Collector::start();
    let otlp = format!(
        "endpoint = \"http://127.0.0.1:{}\"\ntraces = \"all\"\nmetrics = false\nlogs = false\ninterval = \"200ms\"",
        collector.grpc
    );
    let gateway = Gateway::start(&site(&otlp));
    let outer = gateway.get("own.localhost", "/outer").await.text();
    assert!(outer.ends_with(" true") && !outer.starts_with("000"), "{outer}");
    for path in ["/spans", "/foreign", "/many"] {
        let answer = gateway.get("own.localhost", path).await;
        assert_eq!(answer.text(), "sent", "{path}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let got = collector.got();

    let (first, inner) = (got.span("first"), got.span("inner"));
    let of_trace = |span: &Value| -> Vec<Value> {
        got.spans().into_iter().filter(|other| other["trace_id"] == span["trace_id"]).collect()
    };
    let guest = of_trace(&first).into_iter().find(|span| span["name"] == "guest").unwrap();
    assert_eq!(first["parent_span_id"], guest["span_id"]);
    assert_eq!(inner["parent_span_id"], first["span_id"]);
    assert_eq!((attribute(&inner, "text"), attribute(&inner, "number")), ("a".into(), "7".into()));
    let owners: Vec<_> =
        inner["attributes"].as_array().unwrap().iter().filter(|one| one["key"] == "tollgate.tenant").collect();
    assert_eq!((owners.len(), attribute(&inner, "tollgate.tenant")), (1, "own".into()), "nobody else's name");
    assert_eq!(inner["events"][0]["name"], "half way");
    assert_eq!(inner["links"][0]["span_id"], first["span_id"]);
    assert_eq!(inner["status"]["message"], "did not work");

    let elsewhere = got.span("elsewhere");
    assert_ne!(elsewhere["trace_id"], hex_to_base64(&"f".repeat(32)), "a trace that a guest made up is not written to");
    let guest = of_trace(&elsewhere).into_iter().find(|span| span["name"] == "guest").unwrap();
    assert_eq!(elsewhere["parent_span_id"], guest["span_id"], "what begins a trace of its own is below the guest");
    let names: Vec<_> = got.spans().iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("in the place of") || name == "without an id"), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("span ")).count(), 100, "a request has so many");
}

#[tokio::test]
async fn log_records_and_metrics_are_lines_of_the_tenants_log() {
    let site = site("");
    let gateway = Gateway::start(&site);
    assert_eq!(
        gateway.get("own.localhost", "/outer").await.text(),
        format!("{} {} false", "0".repeat(32), "0".repeat(16))
    );
    for (path, wanted) in [
        ("/spans", "sent"),
        ("/log", "logged"),
        ("/metrics", "Ok(())"),
        ("/many-metrics", "Err(\"quota-exceeded: a request may export 100 data points\")"),
    ] {
        assert_eq!(gateway.get("own.localhost", path).await.text(), wanted, "{path}");
    }
    let path = site.path("state/logs/own.log");
    let look = async || {
        let text = std::fs::read_to_string(&path).ok()?;
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<_> =
            lines.map(|line| (line["stream"].clone(), line["text"].as_str().unwrap().to_owned())).collect();
        (lines.len() >= 103).then_some(lines)
    };
    let lines = until("all lines", look).await;
    for (stream, wanted) in [
        ("stdout", "INFO login came in user=ann tries=3"),
        ("stderr", "ERROR login was\nrefused user=ann tries=3"),
        ("stdout", "metric temperature 21 Cel room=kitchen"),
    ] {
        assert!(lines.contains(&(stream.into(), wanted.to_owned())), "{wanted}: {lines:?}");
    }
    assert_eq!(lines.len(), 103, "2 of the log, 1 and 100 of metrics");
    assert!(!gateway.admin("/metrics").await.contains("temperature"), "a tenant's names are no labels");
}

#[tokio::test]
async fn a_span_costs_the_same_whether_it_is_sampled_or_not() {
    let mut costs = Vec::new();
    for sampled in ["all", "0.0001%"] {
        // Nothing listens there, which a guest does not notice either.
        let otlp = format!("endpoint = \"http://127.0.0.1:9\"\ntraces = \"{sampled}\"\nmetrics = false\nlogs = false");
        let gateway = Gateway::start(&site(&otlp));
        let answer = gateway.get("own.localhost", "/many").await;
        assert_eq!(answer.text(), "sent");
        costs.push(gateway.record(&answer).await["fuel"].as_u64().unwrap());
    }
    assert!(costs[0] > 150 * 4000, "{costs:?}");
    assert_eq!(costs[0], costs[1], "a request costs the same on every run");
}
