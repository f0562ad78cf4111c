//! Converts metrics to OTLP, from the text that Prometheus gets. So there is one list of metrics, one set of names, and no
//! second count.
//!
//! Source: OpenMetrics 1.0, and OpenTelemetry's compatibility with it
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>). It converts the output of
//! `Metrics::text`, not any OpenMetrics text.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceProto;
use opentelemetry_sdk::Resource;

/// Metrics that have a name in OpenTelemetry's semantic conventions, with their units. All others begin with `tollgate.`.
const CONVENTIONS: [(&str, &str, &str); 3] = [
    ("tollgate_request_duration_seconds", "http.server.request.duration", "s"),
    ("tollgate_requests_in_flight", "http.server.active_requests", "{request}"),
    ("tollgate_storage_call_duration_seconds", "db.client.operation.duration", "s"),
];

/// The request for these metrics, which have counted since `began`, and its number of data points.
pub(super) fn request(text: &str, resource: &Resource, began: SystemTime) -> (ExportMetricsServiceRequest, u64) {
    let (since, now) = (nanos(began), nanos(SystemTime::now()));
    let attributes = resource.iter().map(|(key, value)| attribute(key.as_str(), &value.to_string())).collect();
    let scope = InstrumentationScope {
        name: "tollgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics: Vec<Metric> = families(text).iter().filter_map(|family| metric(family, since, now)).collect();
    let points = metrics.iter().map(points_of).sum();
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(ResourceProto { attributes, ..ResourceProto::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    };
    (request, points)
}

fn points_of(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(of)) => of.data_points.len(),
        Some(Data::Sum(of)) => of.data_points.len(),
        Some(Data::Histogram(of)) => of.data_points.len(),
        Some(Data::ExponentialHistogram(of)) => of.data_points.len(),
        Some(Data::Summary(of)) => of.data_points.len(),
        None => 0,
    };
    points as u64
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One metric with its samples.
struct Family<'t> {
    name: &'t str,
    kind: &'t str,
    help: &'t str,
    samples: Vec<Sample<'t>>,
}

/// One line.
struct Sample<'t> {
    /// What follows the family's name, such as `_total`.
    suffix: &'t str,
    labels: Vec<(&'t str, String)>,
    value: f64,
}

fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some((_name, said)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = said;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.push(Family { name, kind, help, samples: Vec::new() });
        } else if let Some(family) = families.last_mut()
            && let Some(sample) = sample(line, family.name)
        {
            family.samples.push(sample);
        }
    }
    families
}

fn sample<'t>(line: &'t str, family: &str) -> Option<Sample<'t>> {
    // An exemplar is only for readers of the text.
    let line = line.split_once(" # ").map_or(line, |(line, _exemplar)| line);
    let (named, value) = line.rsplit_once(' ')?;
    let (name, labels) =
        named.split_once('{').map_or((named, ""), |(name, labels)| (name, labels.trim_end_matches('}')));
    Some(Sample { suffix: name.strip_prefix(family)?, labels: of_labels(labels)?, value: value.parse().ok()? })
}

/// Parses `name="value",…`, with values escaped as in the text format.
fn of_labels(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next()? {
                (_, '\\') => value.push(letters.next().map(|(_, letter)| if letter == 'n' { '\n' } else { letter })?),
                (at, '"') => break at,
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name, value));
        text = rest.get(end + 1..)?.trim_start_matches(',');
    }
    Some(labels)
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| attribute(&format!("tollgate.{name}"), value)).collect()
}

fn metric(family: &Family<'_>, since: u64, now: u64) -> Option<Metric> {
    let (name, unit) = name(family.name);
    let cumulative = AggregationTemporality::Cumulative.into();
    let points = |suffix: &'static str| {
        let of = family.samples.iter().filter(move |sample| sample.suffix == suffix);
        of.map(|sample| NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: Some(Number::AsDouble(sample.value)),
            ..NumberDataPoint::default()
        })
        .collect::<Vec<_>>()
    };
    let data = match family.kind {
        "counter" => {
            Data::Sum(Sum { data_points: points("_total"), aggregation_temporality: cumulative, is_monotonic: true })
        }
        "gauge" => Data::Gauge(Gauge { data_points: points("") }),
        "histogram" => Data::Histogram(Histogram {
            data_points: histograms(&family.samples, since, now),
            aggregation_temporality: cumulative,
        }),
        _ => return None,
    };
    Some(Metric { name, unit, description: family.help.to_owned(), data: Some(data), ..Metric::default() })
}

fn name(of: &str) -> (String, String) {
    if let Some((_, name, unit)) = CONVENTIONS.iter().find(|(known, ..)| *known == of) {
        return ((*name).to_owned(), (*unit).to_owned());
    }
    (format!("tollgate.{}", of.trim_start_matches("tollgate_")), String::new())
}

/// A bucket in the text counts everything below its bound; a bucket in OTLP counts what is between two bounds.
fn histograms(samples: &[Sample<'_>], since: u64, now: u64) -> Vec<HistogramDataPoint> {
    let mut points: BTreeMap<Vec<(&str, String)>, HistogramDataPoint> = BTreeMap::new();
    for sample in samples {
        let bound = sample.labels.iter().find(|(name, _)| *name == "le").map(|(_, bound)| bound.parse::<f64>());
        let labels: Vec<_> = sample.labels.iter().filter(|(name, _)| *name != "le").cloned().collect();
        let point = points.entry(labels).or_insert_with_key(|labels| HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: since,
            time_unix_nano: now,
            ..HistogramDataPoint::default()
        });
        match (sample.suffix, bound) {
            ("_sum", _) => point.sum = Some(sample.value),
            ("_count", _) => point.count = whole(sample.value),
            ("_bucket", Some(bound)) => {
                let below: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push(whole(sample.value).saturating_sub(below));
                point.explicit_bounds.extend(bound.ok().filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    points.into_values().collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that was written as a number; it saturates"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn otlp_metrics_equal_those_that_prometheus_reads() {
        let metrics = Metrics::default();
        for (status, ms) in [(200, 1), (200, 30), (404, 3)] {
            metrics.answered_nobody(status, Duration::from_millis(ms), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        }
        metrics.config_problems.set(3);
        let resource = Resource::builder_empty().build();
        let (request, points) = request(&metrics.text(), &resource, SystemTime::now());
        assert!(points > 10, "{points}");
        let sent = &request.resource_metrics[0].scope_metrics[0].metrics;
        let of = |name: &str| sent.iter().find(|metric| metric.name == name).and_then(|metric| metric.data.clone());
        assert_eq!(metrics.text().matches("# TYPE").count(), sent.len(), "every metric is there");
        assert!(matches!(of("tollgate.config_problems"), Some(Data::Gauge(gauge))
            if gauge.data_points[0].value == Some(Number::AsDouble(3.0))));
        assert!(matches!(of("tollgate.requests"), Some(Data::Sum(sum)) if sum.is_monotonic
            && sum.data_points.iter().any(|point| point.value == Some(Number::AsDouble(2.0))
                && point.attributes.contains(&attribute("tollgate.status", "2xx")))));
        let Some(Data::Histogram(histogram)) = of("http.server.request.duration") else {
            return assert_eq!(sent.len(), 0, "there is no histogram");
        };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (3, 3));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        assert_eq!(of_labels(r#"a="x\"y\\z",b="\n""#), Some(vec![("a", "x\"y\\z".to_owned()), ("b", "\n".to_owned())]));
        assert_eq!(of_labels("a=\"x"), None);
    }
}
