//! Traces, metrics and logs to a collector, by OTLP over gRPC or HTTP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Spans and log records are batched by OpenTelemetry's SDK, on threads of its own; metrics are those of `/metrics`, sent each
//! interval. Limit: 2048 spans and as many records wait at the most, and further ones are dropped: a collector that is slow or
//! gone costs nobody but who wants to see.

mod delivery;
mod exporters;
mod losses;
mod points;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor as _};
use tracing::Metadata;

use super::Metrics;
use super::trace::Spans;
use delivery::Delivery;
use exporters::Exporter;
pub(crate) use losses::Signal;

/// How records and spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    HttpProtobuf,
}

/// What the operator chose.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `http://HOST:PORT` or `https://…`, without a path.
    pub(crate) endpoint: http::Uri,
    pub(crate) transport: Transport,
    /// Of a million requests, so many have spans; none where it is zero.
    pub(crate) traces_per_million: u32,
    /// Whether a client that says it samples is followed.
    pub(crate) follows_client: bool,
    pub(crate) metrics: bool,
    pub(crate) logs: bool,
    /// Whether those of the access log are among them, a tenth of what a request costs.
    pub(crate) access_log: bool,
    /// Between two readings of metrics.
    pub(crate) interval: Duration,
    /// For one delivery.
    pub(crate) timeout: Duration,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for Settings {
    /// Without what authorizes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// What hands log lines on.
pub(super) type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// What goes to the collector.
#[derive(Debug)]
pub(crate) struct Otlp {
    settings: Settings,
    resource: Resource,
    delivery: Delivery,
    spans: Option<Arc<Spans>>,
    logs: Option<SdkLoggerProvider>,
}

impl Otlp {
    /// Begins, within a runtime that lives as long as the process.
    ///
    /// # Errors
    /// The endpoint cannot be used; whether somebody answers there is not looked at.
    pub(super) fn start(settings: Settings) -> anyhow::Result<Self> {
        let resource = Resource::builder()
            .with_service_name("tollgate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()))
            .build();
        let delivery = Delivery::new(&settings)?;
        let spans = (settings.traces_per_million > 0).then(|| {
            let mut processor = BatchSpanProcessor::builder(Exporter::new(delivery.clone())).build();
            processor.set_resource(&resource);
            Arc::new(Spans::new(processor, settings.traces_per_million, settings.follows_client))
        });
        let logs = settings.logs.then(|| {
            let provider = SdkLoggerProvider::builder().with_resource(resource.clone());
            provider.with_batch_exporter(Exporter::new(delivery.clone())).build()
        });
        Ok(Self { settings, resource, delivery, spans, logs })
    }

    /// A layer that hands log lines on, and which it does.
    pub(super) fn bridge(&self) -> Option<(Bridge, impl Fn(&Metadata<'_>) -> bool + use<>)> {
        let access_log = self.settings.access_log;
        let is_sent = move |line: &Metadata<'_>| access_log || line.target() != "access";
        Some((OpenTelemetryTracingBridge::new(self.logs.as_ref()?), is_sent))
    }

    pub(crate) fn spans(&self) -> Option<Arc<Spans>> {
        self.spans.clone()
    }

    /// Sends metrics each interval, as long as the process lives; and counts in them what does not come to the collector.
    pub(crate) async fn report(self: Arc<Self>, metrics: Arc<Metrics>) {
        self.delivery.losses.count_in(metrics.otlp_lost());
        if !self.settings.metrics {
            return;
        }
        let began = std::time::SystemTime::now();
        loop {
            tokio::time::sleep(self.settings.interval).await;
            let (request, points) = points::request(&metrics.text(), &self.resource, began);
            // What came of it is noted and said there.
            let _noted = self.delivery.send(request, points).await;
        }
    }

    /// Sends what waits. Blocks for as long as a delivery may take, and one batch more.
    pub(crate) fn end(&self) {
        if let Some(spans) = &self.spans {
            spans.end();
        }
        // A collector that is gone loses the last records, and nothing else.
        let _lost = self.logs.as_ref().map(SdkLoggerProvider::shutdown);
    }
}
