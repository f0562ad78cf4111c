//! Which tenant has which host: reads the notes, and changes them by an operator's order.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Admin;
use super::refusal::{Json, ProblemDetails, Query, Refusal};
use super::tenants::OfTenant;
use crate::domain::Pattern;
use crate::ids::{NAME_RULE, TenantId};
use crate::owners::{Change, From};

/// One host.
#[derive(Serialize, ToSchema)]
pub(super) struct Host {
    host: String,
    /// Who has it.
    tenant: String,
    /// Whether that tenant answers its requests now.
    is_served: bool,
    /// Whether the tenant's configuration in force lists it.
    is_named: bool,
}

/// Lists hosts and their tenants, by name, including hosts of tenants that are gone.
#[utoipa::path(get, path = "/v1/hosts", tag = "gateway", params(OfTenant), responses(
    (status = 200, body = Vec<Host>),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn hosts(
    State(admin): State<Arc<Admin>>,
    Query(of): Query<OfTenant>,
) -> Result<axum::Json<Vec<Host>>, Refusal> {
    let of = of.tenant.as_deref().map(id).transpose()?;
    admin.owners.refresh().await;
    let noted = admin.owners.noted();
    let rows = noted.iter().filter(|(_, id)| of.as_ref().is_none_or(|of| of == *id));
    Ok(axum::Json(rows.map(|(host, id)| admin.host(host, id)).collect()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    host: String,
    /// The tenant that gets the host; it need not exist yet.
    to: String,
}

/// Assigns a host to a tenant, even if another tenant has it, and reloads the tenants' files. The previous tenant is
/// not served while its file lists the host.
#[utoipa::path(post, path = "/v1/hosts/move", tag = "gateway", request_body = Move, responses(
    (status = 200, body = Host),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn give(
    State(admin): State<Arc<Admin>>,
    Json(Move { host, to }): Json<Move>,
) -> Result<axum::Json<Host>, Refusal> {
    let (host, to) = (pattern(&host)?, id(&to)?);
    admin.change(&host, Some(to.clone())).await?;
    Ok(axum::Json(admin.host(&host, &to)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    host: String,
}

/// Releases a host that no tenant's file lists any more. The next tenant that claims the host gets it.
#[utoipa::path(post, path = "/v1/hosts/release", tag = "gateway", request_body = Release, responses(
    (status = 204, description = "the host was released"),
    (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 401, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 403, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 409, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(super) async fn release(
    State(admin): State<Arc<Admin>>,
    Json(Release { host }): Json<Release>,
) -> Result<StatusCode, Refusal> {
    let host = pattern(&host)?;
    admin.owners.refresh().await;
    let nobody = || Refusal::new(StatusCode::NOT_FOUND, format!("{host} belongs to no tenant"));
    let owner = admin.owners.noted().get(&host).cloned().ok_or_else(nobody)?;
    if admin.host(&host, &owner).is_named {
        let text = format!("{owner} has {host}, and its file lists it: remove it there, or move it to another tenant");
        return Err(Refusal::new(StatusCode::CONFLICT, text));
    }
    admin.change(&host, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Admin {
    fn host(&self, host: &Pattern, id: &TenantId) -> Host {
        let snapshot = self.road.snapshot.load();
        Host {
            host: host.to_string(),
            tenant: id.to_string(),
            is_served: snapshot.routes.has(id, host) && snapshot.plans.contains_key(id),
            is_named: snapshot.plan(id).is_some_and(|plan| plan.hosts.contains(host)),
        }
    }

    /// Notes the change. It is in force when this returns.
    async fn change(&self, host: &Pattern, to: Option<TenantId>) -> Result<(), Refusal> {
        if !self.owners.is_kept() {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "only one project is served, and it has every host",
            ));
        }
        tracing::warn!(target: "admin", %host, to = to.as_ref().map(TenantId::as_str), "an operator moves a host");
        self.owners.note(&[Change { host: host.clone(), from: From::Whoever, to }]).await;
        match self.steering.reload().await {
            Some(true) => Ok(()),
            Some(false) | None => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "it is recorded, and takes effect with the next reload: this reload failed, or several are waiting",
            )),
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, Refusal> {
    let wrong = || {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("{text:?} is not a valid host: wanted a domain name, or *. and a domain name"),
        )
    };
    Pattern::parse(text).ok_or_else(wrong)
}

fn id(text: &str) -> Result<TenantId, Refusal> {
    let wrong = || Refusal::new(StatusCode::BAD_REQUEST, format!("{text:?} is not a valid tenant name: {NAME_RULE}"));
    TenantId::parse(text).ok_or_else(wrong)
}
