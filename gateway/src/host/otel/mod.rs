//! wasi:otel 0.2.0-rc.2: a guest's spans join its request's trace; its log records and metrics become lines of its tenant's
//! log.
//!
//! A call costs the same whether tracing is on or off, so that a request costs the same on every run.
//!
//! Limit: a request has [`SPANS_MAX`] spans and [`POINTS_MAX`] data points of metrics. A span has at most
//! `BYTES_MAX` bytes of text and [`ENTRIES_MAX`] each of attributes, events and links. The excess is dropped, and counted
//! in the span if it has a counter for that. Spans that are sent count against `quota.log_bytes`, as lines do.

pub(super) mod bindings;
mod spans;

use super::guest::Guest;
use super::priced::Weight as _;
use crate::fault::QuotaKind;
use crate::tenant::cost;
use bindings::wasi::otel::{logs, metrics, tracing, types};
pub(super) use spans::Sent;
use spans::{ENTRIES_MAX, SPAN_BYTES, TextBudget, shown, span_of};

const SPANS_MAX: u32 = 100;
const POINTS_MAX: u32 = 100;

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
            self.record.quota_refused(QuotaKind::LogBytes);
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
    let mut room = TextBudget::new();
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
            let [name, unit] = [metric.name, metric.unit].map(|text| TextBudget::new().text(text));
            for (attributes, measured) in points_of(metric.data) {
                if self.otel.points >= POINTS_MAX {
                    return Ok(Err(format!("quota-exceeded: a request may export {POINTS_MAX} data points")));
                }
                self.otel.points += 1;
                let mut room = TextBudget::new();
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
