//! The weights of spans, log records and metrics, for everything that a guest passes: more is lifted than is kept.

use super::super::otel::bindings::wasi::otel::{logs, metrics, tracing, types};
use super::Weight;
use super::weight::small;

small! {
    f64, metrics::MetricNumber,
}

/// Records, by their fields that contain a text or a list.
macro_rules! records {
    ($($kind:path { $($field:ident),* })*) => {$(
        impl Weight for $kind {
            fn weight(&self) -> u64 {
                0_u64 $(.saturating_add(self.$field.weight()))*
            }
        }
    )*};
}
records! {
    types::KeyValue { key, value }
    types::Resource { attributes, schema_url }
    types::InstrumentationScope { name, version, schema_url, attributes }
    tracing::SpanContext { trace_id, span_id, trace_state }
    tracing::SpanData {
        span_context, parent_span_id, name, attributes, events, links, status, instrumentation_scope
    }
    tracing::Event { name, attributes }
    tracing::Link { span_context, attributes }
    logs::LogRecord {
        severity_text, body, attributes, event_name, resource, instrumentation_scope, trace_id, span_id
    }
    metrics::ResourceMetrics { resource, scope_metrics }
    metrics::ScopeMetrics { scope, metrics }
    metrics::Metric { name, description, unit, data }
    metrics::Gauge { data_points }
    metrics::GaugeDataPoint { attributes, exemplars }
    metrics::Sum { data_points }
    metrics::SumDataPoint { attributes, exemplars }
    metrics::Histogram { data_points }
    metrics::HistogramDataPoint { attributes, bounds, bucket_counts, exemplars }
    metrics::ExponentialHistogram { data_points }
    metrics::ExponentialHistogramDataPoint { attributes, positive_bucket, negative_bucket, exemplars }
    metrics::ExponentialBucket { counts }
    metrics::Exemplar { filtered_attributes, span_id, trace_id }
}

impl Weight for tracing::Status {
    fn weight(&self) -> u64 {
        if let Self::Error(text) = self { text.weight() } else { 0 }
    }
}

impl Weight for metrics::MetricData {
    fn weight(&self) -> u64 {
        match self {
            Self::F64Gauge(of) | Self::U64Gauge(of) | Self::S64Gauge(of) => of.weight(),
            Self::F64Sum(of) | Self::U64Sum(of) | Self::S64Sum(of) => of.weight(),
            Self::F64Histogram(of) | Self::U64Histogram(of) | Self::S64Histogram(of) => of.weight(),
            Self::F64ExponentialHistogram(of)
            | Self::U64ExponentialHistogram(of)
            | Self::S64ExponentialHistogram(of) => of.weight(),
        }
    }
}
