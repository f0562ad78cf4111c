//! Delivers a request of any signal, over gRPC or HTTP, and reads what the collector accepted: everything, a part
//! (`partial_success`), or nothing.
//!
//! The exporters of `opentelemetry-otlp` do not report what was rejected, so the gateway delivers itself; OpenTelemetry's
//! own crates build the content. Limit: [`TRIES`] attempts within the time limit of one delivery.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{StatusCode, header};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tokio::runtime::Handle;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::losses::{Losses, Outcome, Signal};
use super::wire::Wire;
use super::{Settings, Transport};

/// How often a delivery is attempted if a retry may help, and the pause before the second attempt. Each pause is twice as
/// long as the one before.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// A request of one signal, and the meaning of its response.
pub(super) trait Export: Message + Clone + Default + Send + 'static {
    const SIGNAL: Signal;
    type Answer: Message + Default + Send;

    /// Sends it over gRPC.
    fn grpc(
        request: tonic::Request<Self>,
        channel: Channel,
    ) -> impl Future<Output = Result<tonic::Response<Self::Answer>, Status>> + Send;

    /// How many items were rejected, and why.
    fn rejected(answer: Self::Answer) -> Option<(i64, String)>;
}

macro_rules! export {
    ($request:ident, $answer:ident, $client:ident, $signal:ident, $rejected:ident) => {
        impl Export for $request {
            const SIGNAL: Signal = Signal::$signal;
            type Answer = $answer;

            async fn grpc(request: tonic::Request<Self>, channel: Channel) -> Result<tonic::Response<$answer>, Status> {
                $client::new(channel).export(request).await
            }

            fn rejected(answer: $answer) -> Option<(i64, String)> {
                answer.partial_success.map(|said| (said.$rejected, said.error_message))
            }
        }
    };
}
export!(ExportTraceServiceRequest, ExportTraceServiceResponse, TraceServiceClient, Traces, rejected_spans);
export!(ExportMetricsServiceRequest, ExportMetricsServiceResponse, MetricsServiceClient, Metrics, rejected_data_points);
export!(ExportLogsServiceRequest, ExportLogsServiceResponse, LogsServiceClient, Logs, rejected_log_records);

/// Why an attempt failed.
struct Failed {
    said: String,
    /// Whether a retry may help (OTLP, "Failures").
    passes: bool,
}

/// Sends to one collector, from any thread, on the runtime in which it was created.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    runtime: Handle,
    settings: Arc<Settings>,
    wire: Arc<Wire>,
    channel: Option<Channel>,
    pub(super) losses: Arc<Losses>,
}

impl Delivery {
    /// # Errors
    /// There is no runtime, no TLS, or the endpoint is invalid.
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let channel = (settings.transport == Transport::Grpc).then(|| channel(settings)).transpose()?;
        Ok(Self {
            runtime: Handle::try_current()?,
            settings: Arc::new(settings.clone()),
            wire: Arc::new(Wire::new()?),
            channel,
            losses: Arc::default(),
        })
    }

    /// Delivers these items and notes the outcome. Succeeds if the collector accepted all or some of them.
    pub(super) async fn send<R: Export>(&self, request: R, items: u64) -> Result<(), String> {
        let this = self.clone();
        let timeout = self.settings.timeout;
        let tried = self.runtime.spawn(async move { tokio::time::timeout(timeout, this.try_all(request)).await });
        let outcome = match tried.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_elapsed)) => Outcome::Lost("the collector did not answer in time".to_owned()),
            Err(error) => Outcome::Lost(error.to_string()),
        };
        self.losses.note(R::SIGNAL, items, &outcome);
        match outcome {
            Outcome::Taken | Outcome::Partly(..) => Ok(()),
            Outcome::Lost(said) => Err(said),
        }
    }

    async fn try_all<R: Export>(&self, request: R) -> Outcome {
        let (mut pause, mut tries) = (PAUSE, 1);
        loop {
            let tried = match &self.channel {
                Some(channel) => self.grpc(request.clone(), channel.clone()).await,
                None => self.http(&request).await,
            };
            match tried {
                Ok(answer) => {
                    let rejected = R::rejected(answer).filter(|(items, said)| *items > 0 || !said.is_empty());
                    return rejected.map_or(Outcome::Taken, |(items, said)| {
                        let said = shown(&said);
                        Outcome::Partly(u64::try_from(items).unwrap_or(0), format!("it rejected {items}: {said}"))
                    });
                }
                Err(failed) if failed.passes && tries < TRIES => {
                    tokio::time::sleep(pause).await;
                    (pause, tries) = (pause * 2, tries + 1);
                }
                Err(failed) => return Outcome::Lost(failed.said),
            }
        }
    }

    async fn grpc<R: Export>(&self, request: R, channel: Channel) -> Result<R::Answer, Failed> {
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() =
            metadata(&self.settings).map_err(|error| Failed { said: error.to_string(), passes: false })?;
        match R::grpc(request, channel).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                let passes = matches!(
                    status.code(),
                    Code::Unavailable
                        | Code::Cancelled
                        | Code::DeadlineExceeded
                        | Code::Aborted
                        | Code::OutOfRange
                        | Code::DataLoss
                );
                let said = format!("the collector answers {}: {}", status.code(), shown(status.message()));
                Err(Failed { said, passes })
            }
        }
    }

    async fn http<R: Export>(&self, request: &R) -> Result<R::Answer, Failed> {
        let lasting = |error: anyhow::Error| Failed { said: format!("{error:#}"), passes: false };
        let base = self.settings.endpoint.to_string();
        let path = format!("{}/v1/{}", base.trim_end_matches('/'), R::SIGNAL.name());
        let mut post = http::Request::post(path).header(header::CONTENT_TYPE, "application/x-protobuf");
        if let Some(authorization) = &self.settings.authorization {
            post = post.header(header::AUTHORIZATION, authorization);
        }
        let post = post.body(request.encode_to_vec().into()).map_err(|error| lasting(error.into()))?;
        let answer = self.wire.exchange(post).await;
        let answer = answer.map_err(|error| Failed { said: format!("{error:#}"), passes: true })?;
        let status = answer.status();
        if status.is_success() {
            // An invalid message counts as an empty one.
            return Ok(R::Answer::decode(answer.into_body()).unwrap_or_default());
        }
        let elsewhere = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        let said = match elsewhere.filter(|_| status.is_redirection()) {
            Some(to) => format!(
                "the collector answers {status} with a redirect to {}, which the gateway does not follow: set \
                    telemetry.otlp.endpoint to the final address",
                shown(to)
            ),
            None => format!("the collector answers {status}"),
        };
        let passes = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        Err(Failed { said, passes })
    }
}

/// The collector's text, shortened.
fn shown(said: &str) -> String {
    said.chars().take(200).collect()
}

/// Connects when something is sent, and reconnects when the connection is gone.
fn channel(settings: &Settings) -> anyhow::Result<Channel> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.to_string())?.timeout(settings.timeout);
    if settings.endpoint.scheme_str() == Some("https") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_webpki_roots())?;
    }
    Ok(endpoint.connect_lazy())
}

fn metadata(settings: &Settings) -> anyhow::Result<MetadataMap> {
    let mut metadata = MetadataMap::new();
    if let Some(authorization) = &settings.authorization {
        metadata
            .insert("authorization", MetadataValue::try_from(authorization).context("it is not a valid header value")?);
    }
    Ok(metadata)
}
