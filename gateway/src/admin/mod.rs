//! The operators' listener: health, readiness, metrics, status; stopping a tenant at once; and tenants' data.
//!
//! Security: it is on loopback unless an operator moves it, and shows no secret, and a tenant's data only to whoever has the
//! token (`token.rs`). What changes anything is a POST that a page in a browser cannot make somebody send: it needs a content
//! type that pages may not set for other origins, and an `Origin` is refused.

mod data;
mod moves;
mod suspension;
mod token;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;

use crate::config::{Problem, Snapshot, Standing};
use crate::deadline::Moment;
use crate::http::{ResponseBody, full};
use crate::ids::TenantId;
use crate::request::Road;
use crate::store::Store;
use crate::tls::Acme;

pub(crate) use data::Data;
pub(crate) use moves::Moves;
pub(crate) use suspension::Suspension;
pub(crate) use token::Token;

/// What one connection may take in all.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
const HEAD_TIME: Duration = Duration::from_secs(5);

/// What a purge may say.
const PURGE_BYTES_MAX: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    target: Option<String>,
}

/// What it tells about.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) road: Arc<Road>,
    pub(crate) store: Arc<Store>,
    pub(crate) suspension: Suspension,
    pub(crate) data: Data,
    /// Whose certificates are served, where a CA gives them.
    pub(crate) acme: Option<Arc<Acme>>,
}

impl Admin {
    /// Serves one connection.
    pub(crate) async fn serve(self, stream: TcpStream) {
        let service = hyper::service::service_fn(|request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), service);
        // Whoever looks at it breaks off as they please.
        let _ended = tokio::time::timeout(CONNECTION_TIME, connection).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        if request.method() == Method::POST {
            return self.change(request).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return respond(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET, and POST /tenants/ID/suspend, /resume, /count, /purge and /data/…\n".to_owned(),
            );
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

    /// `POST /tenants/ID/suspend`, `/resume`, `/count`, `/purge` and `/data/…`.
    async fn change(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let headers = request.headers();
        let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
        if !is_json || headers.contains_key(header::ORIGIN) {
            let text = "a change needs Content-Type: application/json and no Origin\n".to_owned();
            return respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text);
        }
        let uri = request.uri().clone();
        let path: Vec<&str> = uri.path().split('/').skip(1).collect();
        let (id, change) = match path.as_slice() {
            ["tenants", id, change @ ("suspend" | "resume" | "count" | "purge")] => (id, *change),
            ["tenants", id, "data", call] => (id, *call),
            _ => return respond(StatusCode::NOT_FOUND, TEXT, "there is no such change\n".to_owned()),
        };
        // Also a tenant whose files are wrong at this moment can be stopped, and looked after.
        let known = |id: &TenantId| self.road.snapshot.load().standings.contains_key(id.as_str());
        let Some(id) = TenantId::parse(id).filter(known) else {
            return respond(StatusCode::NOT_FOUND, TEXT, "there is no such tenant\n".to_owned());
        };
        if path.len() == 4 {
            return self.data(&id, change, request).await;
        }
        match change {
            "count" => return self.count(&id).await,
            "purge" => return self.purge(&id, request).await,
            _ => {}
        }
        let suspended = change == "suspend";
        match self.suspension.set(&id, suspended) {
            Ok(()) => {
                respond(StatusCode::OK, TEXT, format!("{id} {}\n", if suspended { "suspended" } else { "resumed" }))
            }
            Err(error) => {
                let text = format!("{id}: done, but a restart will not know of it: {error}\n");
                respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }

    async fn data(&self, id: &TenantId, call: &str, request: Request<Incoming>) -> Response<ResponseBody> {
        let plan = self.road.snapshot.load().plans.get(id).cloned();
        match self.data.answer(id, plan.as_deref(), call, request).await {
            Ok(answer) => respond(StatusCode::OK, "application/json", format!("{answer}\n")),
            Err((status, text)) => respond(status, "text/plain; charset=utf-8", format!("{text}\n")),
        }
    }

    /// Forgets what is kept of the tenant's responses, or of those to targets that begin with `target`.
    async fn purge(&self, id: &TenantId, request: Request<Incoming>) -> Response<ResponseBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let body = Limited::new(request.into_body(), PURGE_BYTES_MAX).collect().await;
        let asked = body.ok().and_then(|body| serde_json::from_slice::<Purge>(&body.to_bytes()).ok());
        let Some(Purge { target }) = asked else {
            let text = "a purge says {\"target\": \"https://HOST/PATH\"}, or {} for all\n".to_owned();
            return respond(StatusCode::BAD_REQUEST, TEXT, text);
        };
        let count = self.road.caches.of(id).map_or(0, |cache| cache.purge(target.as_deref().unwrap_or_default()));
        respond(StatusCode::OK, TEXT, format!("{count} targets of {id} forgotten\n"))
    }

    /// What the tenant has in the store, counted anew where the backend has to.
    async fn count(&self, id: &TenantId) -> Response<ResponseBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        match self.store.count(id).await {
            Ok((booked, usage)) => {
                let text = format!("{id} has {} bytes in {} keys", usage.bytes, usage.keys);
                let before = format!("; {} in {} were booked", booked.bytes, booked.keys);
                let before = if booked == usage { String::new() } else { before };
                respond(StatusCode::OK, TEXT, format!("{text}{before}\n"))
            }
            Err(error) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{id} cannot be counted: {error}\n")),
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
        let tenants: Vec<_> = snapshot.standings.keys().map(|id| self.tenant(&snapshot, id)).collect();
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
            "gateway": {
                "instances": self.road.metrics.instances.get(),
                "waiting": self.road.doors.waiting(),
                "memory": self.road.sandbox.memory(),
            },
            "tenants": tenants,
            "problems": snapshot.problems.iter().map(Problem::to_json).collect::<Vec<_>>(),
        })
    }

    fn tenant(&self, snapshot: &Snapshot, id: &str) -> serde_json::Value {
        let plan = TenantId::parse(id).and_then(|id| snapshot.plans.get(&id));
        let of_tenant = |problem: &&Problem| problem.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == id);
        let hosts = plan.map(|plan| plan.hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let ledger = TenantId::parse(id).and_then(|id| self.suspension.registry.find(&id));
        let suspended = ledger.as_ref().is_some_and(|ledger| ledger.is_suspended()).then_some(Standing::Suspended);
        json!({
            "id": id,
            "standing": suspended.as_ref().or_else(|| snapshot.standings.get(id)),
            "hosts": hosts.unwrap_or_default(),
            "certificate_expires": plan.and_then(|plan| Some(plan.certificate(self.acme.as_deref())?.not_after_seconds())),
            "usage": ledger.map(|ledger| ledger.usage(Moment::now())),
            "cache": TenantId::parse(id).and_then(|id| Some(self.road.caches.of(&id)?.usage())),
            "storage": TenantId::parse(id).map(|id| self.store.backend_of(&id)),
            "problems": snapshot.problems.iter().filter(of_tenant).map(Problem::line).collect::<Vec<_>>(),
        })
    }
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
