//! Sends traces, metrics and logs to a collector, by OTLP over gRPC or HTTP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! OpenTelemetry's SDK batches spans and log records, on threads of its own. The metrics are those of `/metrics`, sent at
//! each interval. Limit: at most 2048 spans and as many records wait; further ones are dropped. So a slow or missing
//! collector affects no request.

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

/// The transport for records and spans.
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
    /// Of a million requests, this many are traced. Zero turns tracing off.
    pub(crate) traces_per_million: u32,
    /// Whether the gateway follows a client that says that it samples.
    pub(crate) follows_client: bool,
    pub(crate) metrics: bool,
    pub(crate) logs: bool,
    /// Whether the access log is sent too, which costs a tenth of a request's work.
    pub(crate) access_log: bool,
    /// Time between two exports of metrics.
    pub(crate) interval: Duration,
    /// Time limit for one delivery.
    pub(crate) timeout: Duration,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for Settings {
    /// Omits the authorization.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Forwards log lines.
pub(super) type Bridge = OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>;

/// The exporters to the collector.
#[derive(Debug)]
pub(crate) struct Otlp {
    settings: Settings,
    resource: Resource,
    delivery: Delivery,
    spans: Option<Arc<Spans>>,
    logs: Option<SdkLoggerProvider>,
}

impl Otlp {
    /// Starts, within a runtime that lives as long as the process.
    ///
    /// # Errors
    /// The endpoint cannot be used. Whether a server answers there is not checked.
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

    /// A layer that forwards log lines, and a filter that selects them.
    pub(super) fn bridge(&self) -> Option<(Bridge, impl Fn(&Metadata<'_>) -> bool + use<>)> {
        let access_log = self.settings.access_log;
        let is_sent = move |line: &Metadata<'_>| access_log || line.target() != "access";
        Some((OpenTelemetryTracingBridge::new(self.logs.as_ref()?), is_sent))
    }

    pub(crate) fn spans(&self) -> Option<Arc<Spans>> {
        self.spans.clone()
    }

    /// Sends metrics at each interval, as long as the process lives, and counts in them what does not reach the collector.
    pub(crate) async fn report(self: Arc<Self>, metrics: Arc<Metrics>) {
        self.delivery.losses.count_in(metrics.otlp_lost());
        if !self.settings.metrics {
            return;
        }
        let began = std::time::SystemTime::now();
        loop {
            tokio::time::sleep(self.settings.interval).await;
            let (request, points) = points::request(&metrics.text(), &self.resource, began);
            // `send` notes and logs the outcome itself.
            let _noted = self.delivery.send(request, points).await;
        }
    }

    /// Sends everything that waits. Blocks for at most the time of one delivery and one more batch.
    pub(crate) fn end(&self) {
        if let Some(spans) = &self.spans {
            spans.end();
        }
        // If the collector is gone, only the last records are lost.
        let _lost = self.logs.as_ref().map(SdkLoggerProvider::shutdown);
    }
}
