//! Calls about one tenant: its state, and orders for it.

use std::sync::{Arc, PoisonError};

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::live::{FaultCount, Percentiles};
use super::refusal::{Json, Path, ProblemDetails, Refusal};
use super::{Admin, if_match};
use crate::config::{Plan, Problem, Standing};
use crate::deadline::Moment;
use crate::ids::{Digest, TenantId};
use crate::telemetry::unix_ms;
use crate::tenant::{Ledger, RATE_NAMES, Usage};

/// An operator's order overrides the files.
pub(super) fn standing(ledger: Option<&Ledger>, of_files: Standing) -> Standing {
    if ledger.is_some_and(Ledger::is_suspended) { Standing::Suspended } else { of_files }
}

impl Admin {
    /// The same for a tenant by its name.
    pub(super) fn standing(&self, id: &str, of_files: Standing) -> Standing {
        let ledger = TenantId::parse(id).and_then(|id| self.suspension.registry.find(&id));
        standing(ledger.as_deref(), of_files)
    }

    /// The tenant with this name. Its files may be invalid at the moment: it can still be suspended and inspected.
    pub(super) fn known(&self, id: &str) -> Result<TenantId, Refusal> {
        let known = |id: &TenantId| self.road.snapshot.load().standings.contains_key(id.as_str());
        TenantId::parse(id).filter(known).ok_or_else(Refusal::no_tenant)
    }

    /// The tenant whose list is requested. Nothing for the list of all.
    ///
    /// # Errors
    /// 400 if it is not a valid name, 404 if there is no such tenant.
    pub(super) fn asked_for(&self, of: &OfTenant) -> Result<Option<(TenantId, Arc<Ledger>)>, Refusal> {
        let Some(id) = &of.tenant else { return Ok(None) };
        let id = TenantId::parse(id).ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, crate::ids::NAME_RULE))?;
        let ledger = self.suspension.registry.find(&id).ok_or_else(Refusal::no_tenant)?;
        Ok(Some((id, ledger)))
    }
}

/// Which tenant's part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfTenant {
    /// Only of this tenant.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub(super) tenant: Option<String>,
}

/// One tenant with all details.
#[derive(Serialize, ToSchema)]
pub(super) struct Tenant {
    id: String,
    standing: Standing,
    hosts: Vec<String>,
    routes: Vec<Route>,
    /// Usage of every quota; null for a tenant whose files were never valid.
    usage: Option<Usage>,
    /// Usage of `quota.storage`, if the tenant has this quota and the store answers.
    stored: Option<Space>,
    /// Bytes of its kept responses.
    cache: Option<Kept>,
    /// Storage of its data.
    storage: &'static str,
    /// Since the start.
    requests: u64,
    latency: Percentiles,
    faults: Vec<FaultCount>,
    requests_per_second: f64,
    errors_per_second: f64,
    fuel_per_second: f64,
    /// The highest values within the last second; the memory is in bytes.
    in_flight_peak: u64,
    memory_peak: u64,
    /// Expiry of the certificate that expires first, of those that clients need.
    certificate_not_after_ms: Option<u64>,
    /// Problems in its files, one line each.
    problems: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Route {
    path: String,
    component: String,
    /// SHA-256 of the component.
    digest: String,
    /// Limits of one request: fuel, bytes, milliseconds.
    fuel: u64,
    memory: u64,
    time_ms: u64,
}

/// Usage of the store, and its limits.
#[derive(Serialize, ToSchema)]
pub(super) struct Space {
    bytes: u64,
    bytes_max: u64,
    keys: u64,
    keys_max: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Kept {
    pub(super) now: u64,
    pub(super) max: u64,
    pub(super) targets: u64,
}

impl Admin {
    async fn tenant(&self, id: &TenantId) -> Tenant {
        let snapshot = self.road.snapshot.load_full();
        let plan = snapshot.plan(id);
        let stored = match plan.and_then(|plan| plan.quota.storage) {
            Some(max) => self.store.booked(id).await.ok().map(|now| Space {
                bytes: now.bytes,
                bytes_max: max.bytes,
                keys: now.keys,
                keys_max: max.keys,
            }),
            None => None,
        };
        let ledger = self.suspension.registry.find(id);
        let of_files = snapshot.standings.get(id.as_str()).copied().unwrap_or(Standing::Broken);
        let figures = ledger.as_ref().map(|ledger| &ledger.figures.totals);
        let rates = self.live.rates().get(id).copied().unwrap_or_default();
        let of_tenant = |problem: &&Problem| problem.tenant.as_ref() == Some(id);
        let pairs = plan.map(|plan| plan.certificates(self.acme.as_deref())).unwrap_or_default();
        Tenant {
            id: id.to_string(),
            standing: standing(ledger.as_deref(), of_files),
            hosts: plan.into_iter().flat_map(|plan| &plan.hosts).map(ToString::to_string).collect(),
            routes: plan.map(|plan| routes(plan)).unwrap_or_default(),
            usage: ledger.as_ref().map(|ledger| ledger.usage(Moment::now())),
            stored,
            cache: self.road.caches.of(id).map(|cache| {
                let (now, max, targets) = cache.usage();
                Kept { now, max, targets }
            }),
            storage: self.store.backend_of(id),
            requests: figures.map_or(0, |figures| figures.requests().0),
            latency: figures.map(|figures| Percentiles::of(&figures.latencies.counts())).unwrap_or_default(),
            faults: figures
                .map(|figures| figures.faults().into_iter().map(|(kind, count)| FaultCount { kind, count }).collect())
                .unwrap_or_default(),
            requests_per_second: rates.requests,
            errors_per_second: rates.errors,
            fuel_per_second: rates.fuel,
            in_flight_peak: ledger.as_ref().map_or(0, |ledger| ledger.in_flight_now()).max(rates.in_flight_peak),
            memory_peak: ledger.as_ref().map_or(0, |ledger| ledger.memory_now()).max(rates.memory_peak),
            certificate_not_after_ms: pairs.iter().map(|pair| unix_ms(pair.ends())).min(),
            problems: snapshot.problems.iter().filter(of_tenant).map(Problem::line).collect(),
        }
    }

    /// The ETag of what a change may depend on: the files' contents in force, and whether the tenant is suspended.
    fn tenant_etag(&self, id: &TenantId) -> String {
        let snapshot = self.road.snapshot.load();
        let of_files = snapshot.standings.get(id.as_str()).copied();
        let standing = of_files.map(|standing| self.standing(id.as_str(), standing));
        let said = snapshot.plans.get(id).map(|plan| plan.stamp.to_string()).unwrap_or_default();
        let digest = Digest::of(format!("{} {standing:?} {said}", self.desk.began).as_bytes()).to_string();
        format!("\"{}\"", digest.get(..16).unwrap_or_default())
    }

    async fn tenant_answer(&self, id: &TenantId) -> impl IntoResponse + use<> {
        ([(header::ETAG, self.tenant_etag(id))], Answer(self.tenant(id).await))
    }
}

fn routes(plan: &Plan) -> Vec<Route> {
    let of = |route: &crate::config::PlannedRoute| {
        let component = plan.components.get(route.component)?;
        Some(Route {
            path: route.pattern.to_string(),
            component: component.name.to_string(),
            digest: component.digest.to_string(),
            fuel: route.limits.fuel,
            memory: route.limits.memory,
            time_ms: u64::try_from(route.limits.time.as_millis()).unwrap_or(u64::MAX),
        })
    };
    plan.routes.iter().filter_map(of).collect()
}

/// Returns one tenant: routes, usage of every quota, faults.
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "the name of the tenant's folder")),
    responses(
        (status = 200, body = Tenant, headers(("ETag" = String, description = "of its files and its standing"))),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn one(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<impl IntoResponse, Refusal> {
    let id = admin.known(&id)?;
    Ok(admin.tenant_answer(&id).await)
}

/// Suspends a tenant: its requests get 503, and its running instances are ended. This outlives a restart.
#[utoipa::path(post, path = "/v1/tenants/{id}/suspend", tag = "tenants",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "the tenant's ETag")),
    responses(
        (status = 200, body = Tenant, headers(("ETag" = String))),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 500, description = "done, but not recorded: a restart undoes it", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn suspend(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let id = set(&admin, &id, &headers, true)?;
    Ok(admin.tenant_answer(&id).await)
}

/// Resumes a suspended tenant.
#[utoipa::path(post, path = "/v1/tenants/{id}/resume", tag = "tenants",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "the tenant's ETag")),
    responses(
        (status = 200, body = Tenant, headers(("ETag" = String))),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 500, description = "done, but not recorded: a restart undoes it", body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let id = set(&admin, &id, &headers, false)?;
    Ok(admin.tenant_answer(&id).await)
}

fn set(admin: &Admin, id: &str, headers: &HeaderMap, suspended: bool) -> Result<TenantId, Refusal> {
    let id = admin.known(id)?;
    // Checking the ETag and applying the change are one step.
    let _one_at_a_time = admin.desk.steer.lock().unwrap_or_else(PoisonError::into_inner);
    if_match(headers, &admin.tenant_etag(&id))?;
    admin.suspension.set(&id, suspended).map_err(|error| {
        let text = format!("{id}: done, but not recorded: a restart undoes it: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(id)
}

/// Resets a tenant's rate limits (`quota.requests`, `fuel_per_second` and so on) to a full burst, on all gateways of
/// its Redis.
#[utoipa::path(post, path = "/v1/tenants/{id}/reset-quota", tag = "tenants", params(("id" = String, Path)), responses(
    (status = 200, body = Tenant, headers(("ETag" = String))),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, description = "done on this gateway, but not on the others", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn reset_quota(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let id = admin.known(&id)?;
    // The fleet's sums first: otherwise this gateway would receive them again.
    let shared = if admin.store.is_shared() { admin.store.fill_rates(&id, &RATE_NAMES).await } else { Ok(()) };
    if let Some(ledger) = admin.suspension.registry.find(&id) {
        ledger.fill();
    }
    shared.map_err(|error| {
        let text = format!("{id}: done on this gateway, but not on the others: {error}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    Ok(admin.tenant_answer(&id).await)
}

/// A tenant's data in the store.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    bytes: u64,
    keys: u64,
    /// Tracked usage before the recount.
    booked_bytes: u64,
    booked_keys: u64,
}

/// Recounts a tenant's data in the store. On Redis, this scans the server's keys and corrects the tracked usage.
#[utoipa::path(post, path = "/v1/tenants/{id}/count", tag = "tenants", params(("id" = String, Path)), responses(
    (status = 200, body = Stored),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn count(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<Answer<Stored>, Refusal> {
    let id = admin.known(&id)?;
    let counted = admin.store.count(&id).await;
    let (booked, now) = counted
        .map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{id} cannot be counted: {error}")))?;
    Ok(Answer(Stored { bytes: now.bytes, keys: now.keys, booked_bytes: booked.bytes, booked_keys: booked.keys }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Purge {
    /// Only URLs with this beginning: scheme, host, and the first part of the path; by default all.
    target: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    /// Number of URLs whose responses were deleted.
    targets: u64,
}

/// Deletes kept responses of a tenant.
#[utoipa::path(post, path = "/v1/tenants/{id}/purge", tag = "tenants", params(("id" = String, Path)), request_body = Purge,
    responses(
        (status = 200, body = Purged),
        (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Json(Purge { target }): Json<Purge>,
) -> Result<Answer<Purged>, Refusal> {
    let id = admin.known(&id)?;
    let forgotten = admin.road.caches.of(&id).map_or(0, |cache| cache.purge(target.as_deref().unwrap_or_default()));
    Ok(Answer(Purged { targets: forgotten as u64 }))
}
