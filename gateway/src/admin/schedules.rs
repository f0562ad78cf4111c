//! Schedules of the gateway's tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use super::refusal::{ProblemDetails, Query, Refusal};
use super::tenants::OfTenant;
use crate::ids::TenantId;

/// The most rows in one answer.
const ROWS_MAX: usize = 500;

/// One schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleRow {
    pub(crate) tenant: String,
    pub(crate) component: String,
    /// Cron expression, in UTC.
    pub(crate) expression: String,
    /// Next time at which it is due; null if there is none.
    pub(crate) next_ms: Option<u64>,
    /// Whether this gateway runs it now.
    pub(crate) is_running: bool,
    /// Last time at which it was due since this gateway started.
    pub(crate) last_ms: Option<u64>,
    /// Outcome of the last run: `ok`, `failed`, `no-room`, `overlap`, `missed`, `suspended`, `unclaimed`, `gone`, or `elsewhere` where
    /// another gateway had it.
    pub(crate) last_outcome: Option<&'static str>,
}

/// All schedules, or those of one tenant, in any order.
pub(crate) struct Timetable(pub(crate) Box<Look>);

/// Returns the rows.
type Look = dyn Fn(Option<&TenantId>) -> Vec<ScheduleRow> + Send + Sync;

impl std::fmt::Debug for Timetable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timetable")
    }
}

/// Lists at most 500 schedules, by their next run.
#[utoipa::path(get, path = "/v1/schedules", tag = "gateway", params(OfTenant), responses(
    (status = 200, body = Vec<ScheduleRow>),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn schedules(
    State(admin): State<Arc<Admin>>,
    Query(of): Query<OfTenant>,
) -> Result<Json<Vec<ScheduleRow>>, Refusal> {
    let tenant = admin.asked_for(&of)?;
    let mut rows = (admin.timetable.0)(tenant.as_ref().map(|(id, _)| id));
    rows.sort_by_key(|row| (row.next_ms.is_none(), row.next_ms));
    rows.truncate(ROWS_MAX);
    Ok(Json(rows))
}
