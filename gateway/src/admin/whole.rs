//! Calls about the gateway as a whole: how it stands, what is wrong, what happened, and what it shall do.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::access::Change;
use super::live::{Percentiles, Tick};
use super::refusal::{ProblemDetails, Query, Refusal};
use super::tenants::OfTenant;
use super::{Admin, if_match};
use crate::config::{Problem, Standing};
use crate::ids::TenantId;
use crate::telemetry::{FaultLooked, FaultSeen, unix_ms};
use crate::tenant::{Held, Ledger};

/// Answers of a list at the most.
const LISTED_MAX: usize = 1000;

/// How it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    /// Generation of the current configuration.
    generation: u64,
    is_draining: bool,
    storage: Storage,
    /// Running, and at the most.
    instances: Held,
    /// Requests that wait for one.
    waiting: u64,
    /// Memory of all instances, in bytes.
    memory: Held,
    connections: i64,
    in_flight: u64,
    /// Since the start.
    requests: u64,
    latency: Percentiles,
    tenants: Standings,
    /// Of the configuration: errors, and warnings.
    problems: u64,
    warnings: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Storage {
    backend: &'static str,
    answers: bool,
    problem: Option<String>,
    /// Error code with which Redis refused a call within the last minute, such as `WRONGPASS`.
    refused: Option<&'static str>,
}

/// Number of tenants by state.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Standings {
    serving: u64,
    suspended: u64,
    stale: u64,
    broken: u64,
    loading: u64,
}

impl Admin {
    /// Of the configuration in force.
    fn etag(&self) -> String {
        format!("\"{}-{}\"", self.desk.began, self.road.snapshot.load().generation)
    }
}

/// Returns the state of the gateway.
#[utoipa::path(get, path = "/v1/status", tag = "gateway", responses(
    (status = 200, body = Status, headers(("ETag" = String, description = "of the configuration in force"))),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let road = &admin.road;
    let ping = admin.store.ping().await;
    let snapshot = road.snapshot.load_full();
    let mut tenants = Standings::default();
    for (id, standing) in &snapshot.standings {
        *match admin.standing(id, *standing) {
            Standing::Serving => &mut tenants.serving,
            Standing::Suspended => &mut tenants.suspended,
            Standing::Stale => &mut tenants.stale,
            Standing::Broken => &mut tenants.broken,
            Standing::Loading => &mut tenants.loading,
        } += 1;
    }
    let (now, max) = road.sandbox.memory();
    let (problems, warnings) = snapshot.counts();
    let counted = road.metrics.totals.counted();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        generation: snapshot.generation,
        is_draining: road.tasks.is_draining(),
        storage: Storage {
            backend: admin.store.backend_name(),
            answers: ping.is_ok(),
            problem: ping.err().map(|error| error.to_string()),
            refused: admin.store.refusal(),
        },
        instances: Held { now: road.metrics.instances.now(), max: admin.live.instances_max() },
        waiting: road.doors.waiting() as u64,
        memory: Held { now, max },
        connections: road.metrics.connections.get(),
        in_flight: road.metrics.requests_in_flight.now(),
        requests: counted.answered.iter().sum(),
        latency: Percentiles::of(&counted.latencies),
        tenants,
        problems,
        warnings,
    };
    ([(header::ETAG, admin.etag())], Json(status))
}

/// Lists the problems of the configuration in force.
#[utoipa::path(get, path = "/v1/problems", tag = "gateway", responses(
    (status = 200, body = Vec<ConfigurationProblem>),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn problems(State(admin): State<Arc<Admin>>) -> Json<Vec<Value>> {
    Json(admin.road.snapshot.load().problems.iter().take(LISTED_MAX).map(Problem::to_json).collect())
}

/// One problem, in the form of `tollgate check --json`.
#[derive(Serialize, ToSchema)]
pub(super) struct ConfigurationProblem {
    /// Code, such as `E0104`; `tollgate explain` explains it.
    code: String,
    kind: String,
    severity: String,
    tenant: Option<String>,
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    summary: String,
    found: String,
    wanted: String,
    hint: Option<String>,
    also: Option<String>,
}

/// A tenant's certificate.
#[derive(Serialize, ToSchema)]
pub(super) struct Certificate {
    tenant: String,
    /// Names that it covers.
    names: Vec<String>,
    /// Expiry of the certificate in its chain that expires first, of those that clients need, in milliseconds since
    /// 1970.
    not_after_ms: u64,
    /// Reasons for which clients may refuse it, beside its dates.
    doubts: Vec<String>,
    /// `files`, or `acme`.
    from: &'static str,
}

/// Lists the tenants' certificates by expiry, without those of the development CA.
#[utoipa::path(get, path = "/v1/certificates", tag = "gateway", responses(
    (status = 200, body = Vec<Certificate>),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn certificates(State(admin): State<Arc<Admin>>) -> Json<Vec<Certificate>> {
    let snapshot = admin.road.snapshot.load_full();
    let of = |plan: &Arc<crate::config::Plan>| {
        let (tenant, from) = (plan.id.to_string(), if plan.pairs.is_empty() { "acme" } else { "files" });
        let pairs = plan.certificates(admin.acme.as_deref()).into_iter();
        pairs.map(move |pair| Certificate {
            tenant: tenant.clone(),
            names: pair.names.iter().map(ToString::to_string).collect(),
            not_after_ms: unix_ms(pair.ends()),
            doubts: pair.verdict.doubts.iter().map(|doubt| doubt.words().to_owned()).collect(),
            from,
        })
    };
    let mut all: Vec<_> = snapshot.plans.values().flat_map(of).collect();
    all.sort_by_key(|certificate| certificate.not_after_ms);
    all.truncate(LISTED_MAX);
    Json(all)
}

/// A request that failed or was refused.
#[derive(Serialize, ToSchema)]
pub(super) struct SeenFault {
    at_ms: u64,
    tenant: Option<String>,
    /// Id of the request, as in the access log and the response.
    request_id: String,
    kind: &'static str,
    /// 0 for a message.
    status: u16,
    route: String,
    /// Number of equal faults of this tenant within the same second; `request_id` is that of the first one.
    count: u64,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfFaults {
    /// Only of this tenant.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    tenant: Option<String>,
    /// Only the request with this id (`x-request-id` of the response).
    request: Option<String>,
}

impl From<FaultSeen> for SeenFault {
    fn from(seen: FaultSeen) -> Self {
        let FaultSeen { at, tenant, request, kind, status, route, count } = seen;
        let tenant = tenant.as_ref().map(ToString::to_string);
        let count = count.load(Ordering::Relaxed);
        Self { at_ms: unix_ms(at), tenant, request_id: request.to_string(), kind, status, route, count }
    }
}

impl SeenFault {
    fn of(tenant: &TenantId, seen: FaultLooked) -> Self {
        let FaultLooked { at, request, kind, status, route } = seen;
        let (tenant, route) = (Some(tenant.to_string()), route.into());
        Self { at_ms: unix_ms(at), tenant, request_id: request.to_string(), kind, status, route, count: 1 }
    }
}

/// Lists the latest faults that a tenant or the gateway caused, the newest first; or the fault of one request, if it
/// is among the last 64 of its tenant.
#[utoipa::path(get, path = "/v1/faults", tag = "gateway", params(OfFaults), responses(
    (status = 200, body = Vec<SeenFault>),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn faults(
    State(admin): State<Arc<Admin>>,
    Query(OfFaults { tenant, request }): Query<OfFaults>,
) -> Result<Json<Vec<SeenFault>>, Refusal> {
    let of = admin.asked_for(&OfTenant { tenant })?;
    if let Some(request) = request {
        let ledgers = of.map_or_else(|| admin.suspension.registry.all(), |(_, ledger)| vec![ledger]);
        let in_one = |ledger: &Arc<Ledger>| {
            let seen = ledger.figures.each_fault.all().into_iter().find(|seen| seen.request.to_string() == request);
            seen.map(|seen| SeenFault::of(&ledger.id, seen))
        };
        return Ok(Json(ledgers.iter().find_map(in_one).into_iter().collect()));
    }
    let seen = match of {
        None => admin.road.metrics.last_faults.all(),
        Some((_, ledger)) => ledger.figures.faults.all(),
    };
    Ok(Json(seen.into_iter().map(SeenFault::from).collect()))
}

/// Lists the latest calls that change something (audit log), the newest first.
#[utoipa::path(get, path = "/v1/changes", tag = "gateway", responses(
    (status = 200, body = Vec<Change>),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn changes(State(admin): State<Arc<Admin>>) -> Json<Vec<Change>> {
    Json(admin.desk.audit.all())
}

/// Result of a reload.
#[derive(Serialize, ToSchema)]
pub(super) struct Reloaded {
    generation: u64,
    /// Tenants that are not served yet because a component is compiling.
    loading: u64,
    /// Number of errors, each of which keeps a tenant's new configuration from being applied; `/v1/problems` lists them.
    problems: u64,
    /// Number of warnings.
    warnings: u64,
}

/// Reloads all tenants' files, and waits for the result.
#[utoipa::path(post, path = "/v1/reload", tag = "gateway",
    params(("If-Match" = Option<String>, Header, description = "the ETag of /v1/status")),
    responses(
        (status = 200, body = Reloaded, headers(("ETag" = String))),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn reload(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    if_match(&headers, &admin.etag())?;
    let busy = "it drains, or several reloads wait already";
    match admin.steering.reload().await {
        Some(true) => {
            let snapshot = admin.road.snapshot.load();
            let (problems, warnings) = snapshot.counts();
            let (generation, loading) = (snapshot.generation, snapshot.loading.len() as u64);
            let told = Reloaded { generation, loading, problems, warnings };
            Ok(([(header::ETAG, admin.etag())], Json(told)))
        }
        Some(false) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the reload failed; the log says why")),
        None => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, busy)),
    }
}

/// Drains the gateway, as SIGTERM does: it finishes the requests in flight and exits.
#[utoipa::path(post, path = "/v1/drain", tag = "gateway",
    params(("If-Match" = Option<String>, Header, description = "the ETag of /v1/status")),
    responses(
        (status = 202, description = "the drain has begun"),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn drain(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<StatusCode, Refusal> {
    if_match(&headers, &admin.etag())?;
    admin.steering.drain();
    Ok(StatusCode::ACCEPTED)
}

/// Streams the metrics of each second as server-sent events, each with a `Tick` as data.
#[utoipa::path(get, path = "/v1/events", tag = "gateway", responses(
    (status = 200, content((Tick = "text/event-stream"))),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn events(State(admin): State<Arc<Admin>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = admin.live.watch();
    let seconds = futures_util::stream::unfold(ticks, async |mut ticks| {
        ticks.changed().await.ok()?;
        let tick = Arc::clone(&ticks.borrow_and_update());
        Some((tick, ticks))
    });
    let events = seconds.filter_map(async |tick| Some(Ok(Event::default().json_data(&*tick).ok()?)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// What a load balancer asks, without a token: one word each.
pub(super) fn probes() -> Router<Arc<Admin>> {
    Router::new().route("/healthz", axum::routing::get(async || "ok\n")).route("/readyz", axum::routing::get(ready))
}

/// Ready once every tenant is in force or was refused, or has had its time for that, until a drain begins.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.road.tasks.is_leaving() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !admin.steering.is_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "loading\n").into_response();
    }
    if !admin.road.snapshot.load().loading.is_empty() {
        return "ready, but for tenants that are loading\n".into_response();
    }
    "ready\n".into_response()
}
