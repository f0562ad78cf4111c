//! Traces, metrics and logs to a collector, by OTLP over gRPC or HTTP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Spans and log records are batched by OpenTelemetry's SDK, on threads of its own; metrics are those of `/metrics`, sent each
//! interval. Limit: 2048 spans and as many records wait at the most, and further ones are dropped: a collector that is slow or
//! gone costs nobody but who wants to see.

mod points;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    LogExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor as _};
use prost::Message as _;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::Metadata;

use super::Metrics;
use super::trace::Spans;
use wire::Wire;

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
    wire: Arc<Wire>,
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
        let wire = Arc::new(Wire::new(settings.timeout)?);
        let spans = (settings.traces_per_million > 0)
            .then(|| {
                let exporter = span_exporter(&settings, &wire)?;
                let mut processor = BatchSpanProcessor::builder(exporter).build();
                processor.set_resource(&resource);
                let spans = Spans::new(processor, settings.traces_per_million, settings.follows_client);
                anyhow::Ok(Arc::new(spans))
            })
            .transpose()?;
        let logs = settings
            .logs
            .then(|| {
                let exporter = log_exporter(&settings, &wire)?;
                let provider = SdkLoggerProvider::builder().with_resource(resource.clone());
                anyhow::Ok(provider.with_batch_exporter(exporter).build())
            })
            .transpose()?;
        Ok(Self { settings, resource, wire, spans, logs })
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

    /// Sends metrics each interval, as long as the process lives.
    pub(crate) async fn report(self: Arc<Self>, metrics: Arc<Metrics>) {
        if !self.settings.metrics {
            return;
        }
        let began = std::time::SystemTime::now();
        let mut told = false;
        loop {
            tokio::time::sleep(self.settings.interval).await;
            let request = points::request(&metrics.text(), &self.resource, began);
            let sent = tokio::time::timeout(self.settings.timeout, self.send(request)).await;
            let sent = sent.map_err(anyhow::Error::from).and_then(|sent| sent);
            // Once a failure, and once when it is over: not each interval.
            match (&sent, told) {
                (Err(error), false) => {
                    tracing::warn!(target: "telemetry", error = %format!("{error:#}"), "metrics cannot be sent to the collector");
                }
                (Ok(()), true) => tracing::info!(target: "telemetry", "metrics are sent to the collector again"),
                _ => {}
            }
            told = sent.is_err();
        }
    }

    async fn send(&self, request: ExportMetricsServiceRequest) -> anyhow::Result<()> {
        match self.settings.transport {
            Transport::HttpProtobuf => {
                let mut post = http::Request::post(path(&self.settings, "metrics"))
                    .header(http::header::CONTENT_TYPE, "application/x-protobuf");
                if let Some(authorization) = &self.settings.authorization {
                    post = post.header(http::header::AUTHORIZATION, authorization);
                }
                let answer = self.wire.exchange(post.body(request.encode_to_vec().into())?).await?;
                anyhow::ensure!(answer.status().is_success(), "the collector says {}", answer.status());
            }
            Transport::Grpc => {
                let mut endpoint =
                    Endpoint::from_shared(self.settings.endpoint.to_string())?.timeout(self.settings.timeout);
                if self.settings.endpoint.scheme_str() == Some("https") {
                    endpoint = endpoint.tls_config(ClientTlsConfig::new().with_webpki_roots())?;
                }
                let mut client = MetricsServiceClient::new(endpoint.connect().await?);
                let mut request = tonic::Request::new(request);
                *request.metadata_mut() = metadata(&self.settings)?;
                client.export(request).await?;
            }
        }
        Ok(())
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

/// Where a signal goes over HTTP.
fn path(settings: &Settings, signal: &str) -> String {
    format!("{}/v1/{signal}", settings.endpoint.to_string().trim_end_matches('/'))
}

fn metadata(settings: &Settings) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    if let Some(authorization) = &settings.authorization {
        metadata.insert("authorization", MetadataValue::try_from(authorization).context("it is no header's value")?);
    }
    Ok(metadata)
}

fn headers(settings: &Settings) -> std::collections::HashMap<String, String> {
    settings.authorization.iter().map(|value| ("authorization".to_owned(), value.clone())).collect()
}

/// Builds an exporter of either kind; the two differ in type and not in words.
macro_rules! exporter {
    ($kind:ident, $signal:literal, $settings:expr, $wire:expr) => {{
        let settings: &Settings = $settings;
        Ok(match settings.transport {
            Transport::Grpc => $kind::builder()
                .with_tonic()
                .with_endpoint(settings.endpoint.to_string())
                .with_timeout(settings.timeout)
                .with_metadata(metadata(settings)?)
                .build()?,
            Transport::HttpProtobuf => $kind::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(path(settings, $signal))
                .with_timeout(settings.timeout)
                .with_headers(headers(settings))
                .with_shared_http_client(Arc::clone($wire) as Arc<dyn opentelemetry_http::HttpClient>)
                .build()?,
        })
    }};
}

fn span_exporter(settings: &Settings, wire: &Arc<Wire>) -> anyhow::Result<SpanExporter> {
    exporter!(SpanExporter, "traces", settings, wire)
}

fn log_exporter(settings: &Settings, wire: &Arc<Wire>) -> anyhow::Result<LogExporter> {
    exporter!(LogExporter, "logs", settings, wire)
}
