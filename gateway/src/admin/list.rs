//! Lists tenants: with search, sort order and pages.
//!
//! Limit: it walks over all tenants, outside of any request's road. An answer has at most 500.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::live::Rates;
use super::refusal::{ProblemDetails, Query, Refusal};
use super::tenants;
use crate::config::{Plan, Problem, Snapshot, Standing};
use crate::deadline::Moment;
use crate::ids::TenantId;
use crate::tenant::Ledger;

/// Tenants on one page.
const LIMIT_DEFAULT: u32 = 50;

/// How tenants are sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sort {
    #[default]
    Id,
    Standing,
    Requests,
    Errors,
    Fuel,
    Memory,
    InFlight,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    #[default]
    Ascending,
    Descending,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Text to find in names and hosts.
    search: Option<String>,
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    #[serde(default)]
    #[param(inline)]
    order: Order,
    #[serde(default)]
    #[param(value_type = u64, minimum = 0, maximum = 4294967295u64)]
    offset: u32,
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    /// Number of tenants that were found, on all pages.
    total: u64,
    tenants: Vec<Row>,
}

/// One tenant in a list; rates are those of the last second.
#[derive(Serialize, ToSchema)]
pub(super) struct Row {
    id: String,
    standing: Standing,
    hosts: Vec<String>,
    requests_per_second: f64,
    /// Of those, with a 5xx.
    errors_per_second: f64,
    fuel_per_second: f64,
    /// Fuel burned since the start, including by running instances.
    fuel_total: u64,
    in_flight: u64,
    /// The most at once within the last second.
    in_flight_peak: u64,
    in_flight_max: u64,
    /// Bytes.
    memory: u64,
    /// The most at once within the last second.
    memory_peak: u64,
    memory_max: u64,
    /// Number of errors in its files, without warnings.
    problems: u64,
    warnings: u64,
}

/// The data for a row and its sort order.
struct Found<'s> {
    id: &'s str,
    standing: Standing,
    plan: Option<&'s Arc<Plan>>,
    ledger: Option<Arc<Ledger>>,
    /// The peaks of the last second, as values of one moment: they must not change during the sort.
    memory: u64,
    in_flight: u64,
    rates: Rates,
}

/// Lists tenants.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(Asked), responses(
    (status = 200, body = Page),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(admin): State<Arc<Admin>>, Query(asked): Query<Asked>) -> Result<Json<Page>, Refusal> {
    let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=500).contains(&limit) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "limit: 1 to 500"));
    }
    let snapshot = admin.road.snapshot.load_full();
    let rates = admin.live.rates();
    let search = asked.search.unwrap_or_default().to_lowercase();
    let mut found: Vec<Found<'_>> = Vec::new();
    for (id, standing) in &snapshot.standings {
        let name = TenantId::parse(id);
        let plan = name.as_ref().and_then(|name| snapshot.plan(name));
        let hosts = || plan.into_iter().flat_map(|plan| &plan.hosts).map(ToString::to_string);
        if !search.is_empty() && !id.contains(&search) && !hosts().any(|host| host.contains(&search)) {
            continue;
        }
        let ledger = name.as_ref().and_then(|name| admin.suspension.registry.find(name));
        let (memory, in_flight) =
            ledger.as_ref().map(|ledger| (ledger.memory_now(), ledger.in_flight_now())).unwrap_or_default();
        let rates = name.and_then(|name| rates.get(&name).copied()).unwrap_or_default();
        found.push(Found {
            id,
            standing: tenants::standing(ledger.as_deref(), *standing),
            plan,
            ledger,
            memory: memory.max(rates.memory_peak),
            in_flight: in_flight.max(rates.in_flight_peak),
            rates,
        });
    }
    found.sort_by(|a, b| {
        let by = compare(asked.sort, a, b);
        let by = if asked.order == Order::Descending { by.reverse() } else { by };
        by.then_with(|| a.id.cmp(b.id))
    });
    let (total, offset) = (found.len() as u64, usize::try_from(asked.offset).unwrap_or(usize::MAX));
    let page = found.iter().skip(offset).take(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(Page { total, tenants: page.map(|found| row(found, &snapshot)).collect() }))
}

fn compare(sort: Sort, a: &Found<'_>, b: &Found<'_>) -> Ordering {
    match sort {
        Sort::Id => a.id.cmp(b.id),
        Sort::Standing => (a.standing as u8).cmp(&(b.standing as u8)),
        Sort::Requests => a.rates.requests.total_cmp(&b.rates.requests),
        Sort::Errors => a.rates.errors.total_cmp(&b.rates.errors),
        Sort::Fuel => a.rates.fuel.total_cmp(&b.rates.fuel),
        Sort::Memory => a.memory.cmp(&b.memory),
        Sort::InFlight => a.in_flight.cmp(&b.in_flight),
    }
}

fn row(found: &Found<'_>, snapshot: &Snapshot) -> Row {
    let usage = found.ledger.as_ref().map(|ledger| ledger.usage(Moment::now()));
    let of_tenant = |problem: &&Problem| problem.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == found.id);
    let (warnings, problems): (Vec<_>, Vec<_>) =
        snapshot.problems.iter().filter(of_tenant).partition(|problem| problem.is_warning());
    Row {
        id: found.id.to_owned(),
        standing: found.standing,
        hosts: found.plan.into_iter().flat_map(|plan| &plan.hosts).map(ToString::to_string).collect(),
        requests_per_second: found.rates.requests,
        errors_per_second: found.rates.errors,
        fuel_per_second: found.rates.fuel,
        fuel_total: usage.as_ref().map_or(0, |usage| usage.fuel_total),
        in_flight: usage.as_ref().map_or(0, |usage| usage.in_flight.now),
        in_flight_peak: found.in_flight,
        in_flight_max: usage.as_ref().map_or(0, |usage| usage.in_flight.max),
        memory: usage.as_ref().map_or(0, |usage| usage.memory.now),
        memory_peak: found.memory,
        memory_max: usage.as_ref().map_or(0, |usage| usage.memory.max),
        problems: problems.len() as u64,
        warnings: warnings.len() as u64,
    }
}
