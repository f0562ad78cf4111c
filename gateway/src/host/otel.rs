//! wasi:otel 0.2.0-rc.2: a guest's spans join its request's trace; its log records and metrics become lines of its tenant's
//! log.
//!
//! A call costs the same whether tracing is on or off, so that a request costs the same on every run.
//!
//! Limit: a request has at most [`SPANS_MAX`] spans and [`POINTS_MAX`] data points of metrics. A span has at most
//! [`BYTES_MAX`] bytes of text and [`ENTRIES_MAX`] each of attributes, events and links. The excess is dropped, and counted
//! in the span if it has a counter for that. Spans that are sent count against `quota.log_bytes`, as lines do.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, KeyValue, Value};

use super::guest::Guest;
use super::meter::Held;
use super::priced::Weight as _;
use crate::fault::Quotum;
use crate::telemetry::GuestSpan;
use crate::tenant::cost;

pub(super) mod bindings {
    //! Generated from `wit/wasi-otel-0.2.0-rc.2`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-otel-0.2.0-rc.2",
        world: "imports",
        imports: { default: trappable },
        require_store_data_send: true,
    });
}

use bindings::wasi::clocks::wall_clock::Datetime;
use bindings::wasi::otel::{logs, metrics, tracing, types};

const SPANS_MAX: u32 = 100;
const POINTS_MAX: u32 = 100;
/// The memory of a span beside its texts: the span itself, and its attributes, events and links.
const SPAN_BYTES: u64 = 8 << 10;
/// The most bytes of names and values together, in a span or a line.
const BYTES_MAX: usize = 16 << 10;
const ENTRIES_MAX: usize = 64;
/// The prefix of names that only the gateway may write.
const OURS: &str = "tollgate.";

/// What a request has sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    spans: u32,
    points: u32,
    /// The memory of its spans until the request's trace is exported.
    held: Option<Held>,
}

/// Space for the texts of one span.
struct Room {
    left: usize,
}

impl Room {
    const fn new() -> Self {
        Self { left: BYTES_MAX }
    }

    const fn used(&self) -> usize {
        BYTES_MAX - self.left
    }

    /// Returns as much of the text as fits.
    fn text(&mut self, mut text: String) -> String {
        text.truncate(text.floor_char_boundary(self.left));
        self.left -= text.len();
        text
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    /// Returns the attributes that fit, and counts the others.
    fn attributes(&mut self, given: Vec<types::KeyValue>, dropped: &mut u32) -> Vec<KeyValue> {
        let mut kept = Vec::new();
        for types::KeyValue { key, value } in given {
            let may_be =
                kept.len() < ENTRIES_MAX && !key.starts_with(OURS) && self.fits(key.len().saturating_add(value.len()));
            if may_be {
                kept.push(KeyValue::new(key, value_of(value)));
            } else {
                *dropped = dropped.saturating_add(1);
            }
        }
        kept
    }

    fn events(&mut self, given: Vec<tracing::Event>, dropped: &mut u32) -> Vec<Event> {
        *dropped = dropped.saturating_add(over(given.len()));
        let taken = given.into_iter().take(ENTRIES_MAX).map(|event| {
            let mut dropped = 0;
            let (name, attributes) = (self.text(event.name), self.attributes(event.attributes, &mut dropped));
            Event::new(name, time_of(event.time), attributes, dropped)
        });
        taken.collect()
    }

    fn links(&mut self, given: Vec<tracing::Link>, dropped: &mut u32) -> Vec<Link> {
        *dropped = dropped.saturating_add(over(given.len()));
        let taken = given.into_iter().take(ENTRIES_MAX).filter_map(|link| {
            let trace = TraceId::from_hex(&link.span_context.trace_id).ok()?;
            let span = SpanId::from_hex(&link.span_context.span_id).ok()?;
            let mut dropped = 0;
            let attributes = self.attributes(link.attributes, &mut dropped);
            let context = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::NONE);
            Some(Link::new(context, attributes, dropped))
        });
        taken.collect()
    }
}

/// How many of `count` exceed the limit.
fn over(count: usize) -> u32 {
    u32::try_from(count.saturating_sub(ENTRIES_MAX)).unwrap_or(u32::MAX)
}

/// A value is JSON. An invalid or nested one stays a text.
fn value_of(json: String) -> Value {
    use serde_json::Value as Json;
    match serde_json::from_str(&json) {
        Ok(Json::Bool(value)) => Value::Bool(value),
        Ok(Json::String(text)) => Value::String(text.into()),
        Ok(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::I64(value),
            (None, Some(value)) => Value::F64(value),
            (None, None) => Value::String(json.into()),
        },
        Ok(Json::Array(all)) => list_of(&all).map_or_else(|| Value::String(json.into()), Value::Array),
        Ok(Json::Null | Json::Object(_)) | Err(_) => Value::String(json.into()),
    }
}

/// A list whose elements have one type.
fn list_of(all: &[serde_json::Value]) -> Option<Array> {
    let texts: Option<Vec<_>> = all.iter().map(|one| one.as_str().map(|text| text.to_owned().into())).collect();
    let whole = || all.iter().map(serde_json::Value::as_i64).collect::<Option<Vec<_>>>();
    let numbers = || all.iter().map(serde_json::Value::as_f64).collect::<Option<Vec<_>>>();
    let bools = || all.iter().map(serde_json::Value::as_bool).collect::<Option<Vec<_>>>();
    texts
        .map(Array::String)
        .or_else(|| whole().map(Array::I64))
        .or_else(|| numbers().map(Array::F64))
        .or_else(|| bools().map(Array::Bool))
}

/// The text for a person. A text above the limit is truncated and not parsed: a parsed list needs thirty times the memory
/// of its text.
fn shown(mut json: String) -> String {
    if json.len() > BYTES_MAX {
        json.truncate(json.floor_char_boundary(BYTES_MAX));
        return json;
    }
    match serde_json::from_str(&json) {
        Ok(serde_json::Value::String(text)) => text,
        _ => json,
    }
}

/// The present time, if the value is outside of the clock's range.
fn time_of(time: Datetime) -> SystemTime {
    let since = Duration::new(time.seconds, time.nanoseconds.min(999_999_999));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or_else(SystemTime::now)
}

const fn kind_of(kind: tracing::SpanKind) -> SpanKind {
    match kind {
        tracing::SpanKind::Client => SpanKind::Client,
        tracing::SpanKind::Server => SpanKind::Server,
        tracing::SpanKind::Producer => SpanKind::Producer,
        tracing::SpanKind::Consumer => SpanKind::Consumer,
        tracing::SpanKind::Internal => SpanKind::Internal,
    }
}

/// The span within its limits, and its bytes of text.
fn span_of(given: tracing::SpanData) -> (GuestSpan, usize) {
    let mut room = Room::new();
    let mut dropped = [given.dropped_attributes, given.dropped_events, given.dropped_links];
    let [attributes, events, links] = &mut dropped;
    let name = room.text(given.name);
    let scope = given.instrumentation_scope;
    let scope = (room.text(scope.name), scope.version.map(|version| room.text(version)));
    let status = match given.status {
        tracing::Status::Unset => Status::Unset,
        tracing::Status::Ok => Status::Ok,
        tracing::Status::Error(text) => Status::error(room.text(text)),
    };
    let span = GuestSpan {
        span: given.span_context.span_id,
        parent: given.parent_span_id,
        kind: kind_of(given.span_kind),
        name,
        began: time_of(given.start_time),
        ended: time_of(given.end_time),
        attributes: room.attributes(given.attributes, attributes),
        events: room.events(given.events, events),
        links: room.links(given.links, links),
        status,
        scope,
        dropped,
    };
    (span, room.used())
}

impl tracing::Host for Guest {
    fn on_start(&mut self, context: tracing::SpanContext) -> wasmtime::Result<()> {
        self.charge(context.weight());
        if let Some(trace) = self.record.trace() {
            trace.begin_in_guest(&context.span_id);
        }
        Ok(())
    }

    fn on_end(&mut self, span: tracing::SpanData) -> wasmtime::Result<()> {
        self.charge(cost::SPAN.saturating_add(span.weight()));
        self.otel.spans = self.otel.spans.saturating_add(1);
        if self.otel.spans > SPANS_MAX {
            return Ok(());
        }
        let (span, bytes) = span_of(span);
        self.charge(bytes as u64 / cost::STORAGE_BYTES_A_UNIT);
        let Some(trace) = self.record.trace().filter(|trace| trace.of_guest().2) else { return Ok(()) };
        if !self.ledger.log(bytes as u64) {
            self.record.quota_refused(Quotum::LogBytes);
            return Ok(());
        }
        if !self.meter.keep(&mut self.otel.held, bytes as u64 + SPAN_BYTES) {
            return Ok(());
        }
        trace.end_in_guest(span, [self.ledger.id.as_str(), self.stores.component().name.as_str()]);
        Ok(())
    }

    fn outer_span_context(&mut self) -> wasmtime::Result<tracing::SpanContext> {
        let zeros = || ("0".repeat(32), "0".repeat(16), false);
        let (trace_id, span_id, is_sampled) = self.record.trace().map_or_else(zeros, |trace| trace.of_guest());
        let trace_flags = if is_sampled { tracing::TraceFlags::SAMPLED } else { tracing::TraceFlags::empty() };
        Ok(tracing::SpanContext { trace_id, span_id, trace_flags, is_remote: false, trace_state: Vec::new() })
    }
}

impl types::Host for Guest {}

/// The names of severities, and from which one on a record goes to standard error.
const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
const SEVERITY_OF_ERRORS: u8 = 17;

fn line_of(record: logs::LogRecord) -> String {
    let mut room = Room::new();
    let number = record.severity_number.and_then(|number| SEVERITIES.get(usize::from(number.checked_sub(1)?) / 4));
    let mut text =
        record.severity_text.or(number.map(|name| (*name).to_owned())).map_or_else(String::new, |name| room.text(name));
    let body = record.body.map(shown);
    for part in record.event_name.into_iter().chain(body) {
        if !text.is_empty() {
            text.push(' ');
        }
        text += &room.text(part);
    }
    for types::KeyValue { key, value } in record.attributes.into_iter().flatten().take(ENTRIES_MAX) {
        if room.fits(key.len().saturating_add(value.len())) {
            text += &format!(" {key}={}", shown(value));
        }
    }
    text
}

impl logs::Host for Guest {
    fn on_emit(&mut self, record: logs::LogRecord) -> wasmtime::Result<()> {
        let is_error = record.severity_number.is_some_and(|number| number >= SEVERITY_OF_ERRORS);
        self.charge(record.weight());
        let line = line_of(record);
        self.charge(line.len() as u64 / cost::STORAGE_BYTES_A_UNIT);
        self.print(is_error, &line);
        Ok(())
    }
}

fn number(value: metrics::MetricNumber) -> String {
    match value {
        metrics::MetricNumber::F64(value) => value.to_string(),
        metrics::MetricNumber::S64(value) => value.to_string(),
        metrics::MetricNumber::U64(value) => value.to_string(),
    }
}

/// A short form of a histogram, without its buckets.
fn summary(count: u64, sum: metrics::MetricNumber, ends: [Option<metrics::MetricNumber>; 2]) -> String {
    let ends = ["min", "max"].into_iter().zip(ends);
    let ends: String = ends.filter_map(|(name, end)| Some(format!(" {name}={}", number(end?)))).collect();
    format!("count={count} sum={}{ends}", number(sum))
}

/// The data points of a metric: attributes and values.
fn points_of(data: metrics::MetricData) -> Vec<(Vec<types::KeyValue>, String)> {
    use metrics::MetricData as Data;
    match data {
        Data::F64Gauge(of) | Data::U64Gauge(of) | Data::S64Gauge(of) => {
            of.data_points.into_iter().map(|point| (point.attributes, number(point.value))).collect()
        }
        Data::F64Sum(of) | Data::U64Sum(of) | Data::S64Sum(of) => {
            of.data_points.into_iter().map(|point| (point.attributes, number(point.value))).collect()
        }
        Data::F64Histogram(of) | Data::U64Histogram(of) | Data::S64Histogram(of) => {
            let points = of.data_points.into_iter();
            points.map(|point| (point.attributes, summary(point.count, point.sum, [point.min, point.max]))).collect()
        }
        Data::F64ExponentialHistogram(of) | Data::U64ExponentialHistogram(of) | Data::S64ExponentialHistogram(of) => {
            let points = of.data_points.into_iter();
            points.map(|point| (point.attributes, summary(point.count, point.sum, [point.min, point.max]))).collect()
        }
    }
}

impl metrics::Host for Guest {
    fn export(&mut self, given: metrics::ResourceMetrics) -> wasmtime::Result<Result<(), metrics::Error>> {
        self.charge(given.weight());
        for metric in given.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let [name, unit] = [metric.name, metric.unit].map(|text| Room::new().text(text));
            for (attributes, measured) in points_of(metric.data) {
                if self.otel.points >= POINTS_MAX {
                    return Ok(Err(format!("quota-exceeded: a request may export {POINTS_MAX} data points")));
                }
                self.otel.points += 1;
                let mut room = Room::new();
                let mut line = format!("metric {} {measured}", room.text(name.clone()));
                if !unit.is_empty() {
                    line += &format!(" {}", room.text(unit.clone()));
                }
                for types::KeyValue { key, value } in attributes.into_iter().take(ENTRIES_MAX) {
                    if room.fits(key.len().saturating_add(value.len())) {
                        line += &format!(" {key}={}", shown(value));
                    }
                }
                self.charge(line.len() as u64 / cost::STORAGE_BYTES_A_UNIT);
                self.print(false, &line);
            }
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> types::KeyValue {
        types::KeyValue { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn values_are_read_from_json() {
        for (json, wanted) in [
            ("\"text\"", Value::from("text")),
            ("true", Value::Bool(true)),
            ("-3", Value::I64(-3)),
            ("1.5", Value::F64(1.5)),
            ("[1,2]", Value::Array(Array::I64(vec![1, 2]))),
            ("[\"a\"]", Value::Array(Array::String(vec!["a".into()]))),
            ("[1,\"a\"]", Value::from("[1,\"a\"]")),
            ("{\"a\":1}", Value::from("{\"a\":1}")),
            ("not JSON", Value::from("not JSON")),
        ] {
            assert_eq!(value_of(json.to_owned()), wanted, "{json}");
        }
    }

    #[test]
    fn a_text_above_the_limit_is_truncated_and_not_parsed() {
        assert_eq!(shown("\"a\\nb\"".to_owned()), "a\nb");
        assert_eq!(shown("[1,2]".to_owned()), "[1,2]");
        let long = format!("\"{}\"", "ä".repeat(BYTES_MAX));
        let cut = shown(long.clone());
        assert!(long.starts_with(&cut) && (BYTES_MAX - 4..=BYTES_MAX).contains(&cut.len()), "{}", cut.len());
    }

    #[test]
    fn the_excess_of_a_span_is_dropped_and_counted() {
        let mut room = Room::new();
        let mut dropped = 0;
        let many: Vec<_> = (0..100).map(|n| pair(&format!("k{n}"), "1")).collect();
        assert_eq!((room.attributes(many, &mut dropped).len(), dropped), (64, 36));
        let large =
            vec![pair("large", &"x".repeat(BYTES_MAX)), pair("tollgate.tenant", "\"other\""), pair("small", "1")];
        let kept = room.attributes(large, &mut dropped);
        assert_eq!((kept.len(), kept[0].key.as_str(), dropped), (1, "small", 38));
        let cut = Room { left: 3 }.text("aéé".to_owned());
        assert_eq!(cut, "aé", "at a character's end");
    }
}
