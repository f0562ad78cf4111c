//! A guest that sends its own telemetry by wasi:otel: spans, log records and metrics, valid and invalid, one case per path.

use wstd::http::{Body, Error, Request, Response};

mod wit {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-otel-0.2.0-rc.2",
        world: "imports",
        generate_all,
    });
}

use wit::wasi::clocks::wall_clock::Datetime;
use wit::wasi::otel::logs::{self, LogRecord};
use wit::wasi::otel::metrics::{
    self, Gauge, GaugeDataPoint, Metric, MetricData, MetricNumber, ResourceMetrics, ScopeMetrics,
};
use wit::wasi::otel::tracing::{self, Event, Link, SpanContext, SpanData, SpanKind, Status, TraceFlags};
use wit::wasi::otel::types::{InstrumentationScope, KeyValue, Resource};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let said = match request.uri().path() {
        "/outer" => {
            let outer = tracing::outer_span_context();
            format!("{} {} {}", outer.trace_id, outer.span_id, outer.trace_flags.contains(TraceFlags::SAMPLED))
        }
        "/spans" => spans(),
        "/foreign" => foreign(),
        "/many" => {
            let outer = tracing::outer_span_context();
            (0..150).for_each(|n| whole(&outer, &format!("{:016x}", n + 1), &outer.span_id, &format!("span {n}")));
            "sent".to_owned()
        }
        "/log" => {
            log();
            "logged".to_owned()
        }
        "/metrics" => format!("{:?}", metrics::export(&gauges(1))),
        "/many-metrics" => format!("{:?}", metrics::export(&gauges(150))),
        _ => "no such path".to_owned(),
    };
    Ok(Response::new(said.into_bytes().into()))
}

fn at(seconds: u64) -> Datetime {
    Datetime { seconds: 1_700_000_000 + seconds, nanoseconds: 0 }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "own".to_owned(),
        version: Some("1.2".to_owned()),
        schema_url: None,
        attributes: vec![],
    }
}

fn context(outer: &SpanContext, span: &str) -> SpanContext {
    SpanContext { span_id: span.to_owned(), ..outer.clone() }
}

fn data(outer: &SpanContext, span: &str, parent: &str, name: &str) -> SpanData {
    SpanData {
        span_context: context(outer, span),
        parent_span_id: parent.to_owned(),
        span_kind: SpanKind::Internal,
        name: name.to_owned(),
        start_time: at(0),
        end_time: at(1),
        attributes: vec![],
        events: vec![],
        links: vec![],
        status: Status::Unset,
        instrumentation_scope: scope(),
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
    }
}

fn whole(outer: &SpanContext, span: &str, parent: &str, name: &str) {
    tracing::on_start(&context(outer, span));
    tracing::on_end(&data(outer, span, parent, name));
}

/// Two nested spans, with every field that a span can have.
fn spans() -> String {
    let outer = tracing::outer_span_context();
    let (first, second) = ("00000000000000a1", "00000000000000a2");
    tracing::on_start(&context(&outer, first));
    tracing::on_start(&context(&outer, second));
    let mut inner = data(&outer, second, first, "inner");
    inner.attributes = vec![pair("text", "\"a\""), pair("number", "7"), pair("tollgate.tenant", "\"another\"")];
    inner.events = vec![Event { name: "half way".to_owned(), time: at(0), attributes: vec![pair("n", "1")] }];
    inner.links = vec![Link { span_context: context(&outer, first), attributes: vec![] }];
    inner.status = Status::Error("did not work".to_owned());
    tracing::on_end(&inner);
    tracing::on_end(&data(&outer, first, &outer.span_id, "first"));
    "sent".to_owned()
}

/// A trace other than the request's, and spans that claim the gateway's ids.
fn foreign() -> String {
    let outer = tracing::outer_span_context();
    let other = SpanContext { trace_id: "f".repeat(32), ..outer.clone() };
    whole(&other, "00000000000000b1", "0000000000000000", "elsewhere");
    whole(&outer, &outer.span_id, "0000000000000000", "in the place of the guest's");
    whole(&outer, "not an id", &outer.span_id, "without an id");
    "sent".to_owned()
}

fn log() {
    let record = |severity_number, body: &str| LogRecord {
        timestamp: None,
        observed_timestamp: None,
        severity_text: None,
        severity_number: Some(severity_number),
        body: Some(body.to_owned()),
        attributes: Some(vec![pair("user", "\"ann\""), pair("tries", "3")]),
        event_name: Some("login".to_owned()),
        resource: None,
        instrumentation_scope: Some(scope()),
        trace_id: None,
        span_id: None,
        trace_flags: None,
    };
    logs::on_emit(&record(9, "\"came in\""));
    logs::on_emit(&record(17, "\"was\\nrefused\""));
}

fn gauges(count: usize) -> ResourceMetrics {
    let point = |n| GaugeDataPoint {
        attributes: vec![pair("room", "\"kitchen\"")],
        value: MetricNumber::S64(n),
        exemplars: vec![],
    };
    let data = Gauge { data_points: (21..).take(count).map(point).collect(), start_time: None, time: at(0) };
    let metric = Metric {
        name: "temperature".to_owned(),
        description: String::new(),
        unit: "Cel".to_owned(),
        data: MetricData::S64Gauge(data),
    };
    ResourceMetrics {
        resource: Resource { attributes: vec![], schema_url: None },
        scope_metrics: vec![ScopeMetrics { scope: scope(), metrics: vec![metric] }],
    }
}
