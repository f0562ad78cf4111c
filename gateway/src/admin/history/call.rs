//! The calls that return the last hour.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::Admin;
use super::super::refusal::{Path, ProblemDetails, Query, Refusal};
use super::steps::{Step, TenantStep};
use super::{STEP_SECONDS, STEPS};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::admin) struct After {
    /// Only steps that ended later, in milliseconds since 1970.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9007199254740991u64)]
    after_ms: u64,
}

impl After {
    /// # Errors
    /// `after_ms` is larger than a number that JSON holds exactly (RFC 8259 §6).
    fn at_ms(&self) -> Result<u64, Refusal> {
        let is_exact = self.after_ms < 1 << 53;
        let text = "after_ms: at most 9007199254740991";
        is_exact.then_some(self.after_ms).ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, text))
    }
}

/// The last hour of the gateway.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct GatewayHistory {
    /// How long a step is, and how many are kept.
    step_ms: u64,
    steps_max: u64,
    /// The oldest first.
    steps: Vec<Step>,
}

/// The last hour of one tenant.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct TenantHistory {
    /// How long a step is, and how many are kept.
    step_ms: u64,
    steps_max: u64,
    /// Whether the tenant is one of the busiest, whose steps are kept.
    is_kept: bool,
    /// The oldest first.
    steps: Vec<TenantStep>,
}

const STEP_MS: u64 = STEP_SECONDS as u64 * 1000;

/// Returns the last hour of the gateway in steps of ten seconds.
#[utoipa::path(get, path = "/v1/history", tag = "gateway", params(After), responses(
    (status = 200, body = GatewayHistory),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(in crate::admin) async fn gateway(
    State(admin): State<Arc<Admin>>,
    Query(after): Query<After>,
) -> Result<Json<GatewayHistory>, Refusal> {
    let steps = admin.live.history.kept().gateway.after(after.at_ms()?);
    Ok(Json(GatewayHistory { step_ms: STEP_MS, steps_max: STEPS as u64, steps }))
}

/// Returns the last hour of one tenant in steps of ten seconds. Only the 64 tenants that were busiest of late have one.
#[utoipa::path(get, path = "/v1/tenants/{id}/history", tag = "tenants",
    params(("id" = String, Path, description = "the name of the tenant's folder"), After),
    responses(
        (status = 200, body = TenantHistory),
        (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(in crate::admin) async fn tenant(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Query(after): Query<After>,
) -> Result<Json<TenantHistory>, Refusal> {
    let (id, at_ms) = (admin.known(&id)?, after.at_ms()?);
    let steps = admin.live.history.kept().tenants.get(&id).map(|ring| ring.after(at_ms));
    let (is_kept, steps) = (steps.is_some(), steps.unwrap_or_default());
    Ok(Json(TenantHistory { step_ms: STEP_MS, steps_max: STEPS as u64, is_kept, steps }))
}
