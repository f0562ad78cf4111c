//! The operators' listener: health, readiness, metrics, status. It only tells; nothing is changed through it.
//!
//! Security: it is on loopback unless an operator moves it, and shows no secret and no tenant's data.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;

use crate::config::{Problem, Snapshot};
use crate::http::{ResponseBody, full};
use crate::request::Road;
use crate::store::Store;

/// What one connection may take in all.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
const HEAD_TIME: Duration = Duration::from_secs(5);

/// What it tells about.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) road: Arc<Road>,
    pub(crate) store: Arc<Store>,
}

impl Admin {
    /// Serves one connection.
    pub(crate) async fn serve(self, stream: TcpStream) {
        let service = hyper::service::service_fn(|request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), service);
        // Whoever looks at it breaks off as they please.
        let _ended = tokio::time::timeout(CONNECTION_TIME, connection).await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<ResponseBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.ready(TEXT),
            "/metrics" => respond(StatusCode::OK, METRICS, self.road.metrics.text()),
            "/status" => {
                let status = format!("{:#}\n", self.status().await);
                respond(StatusCode::OK, "application/json", status)
            }
            _ => respond(StatusCode::NOT_FOUND, TEXT, "there is /healthz, /readyz, /metrics and /status\n".to_owned()),
        }
    }

    /// Ready once a configuration is in force, until a drain begins.
    fn ready(&self, kind: &'static str) -> Response<ResponseBody> {
        if self.road.tasks.is_draining() {
            return respond(StatusCode::SERVICE_UNAVAILABLE, kind, "draining\n".to_owned());
        }
        respond(StatusCode::OK, kind, "ready\n".to_owned())
    }

    async fn status(&self) -> serde_json::Value {
        let snapshot = self.road.snapshot.load_full();
        let tenants: Vec<_> = snapshot.standings.keys().map(|id| tenant(&snapshot, id)).collect();
        let ping = self.store.ping().await;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": snapshot.generation,
            "draining": self.road.tasks.is_draining(),
            "storage": {
                "backend": self.store.backend_name(),
                "answers": ping.is_ok(),
                "problem": ping.err().map(|error| error.to_string()),
            },
            "tenants": tenants,
            "problems": snapshot.problems.iter().map(Problem::to_json).collect::<Vec<_>>(),
        })
    }
}

fn tenant(snapshot: &Snapshot, id: &str) -> serde_json::Value {
    let plan = snapshot.plans.iter().find(|(plan, _)| plan.as_str() == id).map(|(_, plan)| plan);
    let of_tenant = |problem: &&Problem| problem.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == id);
    let hosts = plan.map(|plan| plan.hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
    json!({
        "id": id,
        "standing": snapshot.standings.get(id),
        "hosts": hosts.unwrap_or_default(),
        "problems": snapshot.problems.iter().filter(of_tenant).map(Problem::line).collect::<Vec<_>>(),
    })
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
