//! The operators' listener: an API with an OpenAPI document, metrics, probes, and a dashboard.
//!
//! `access` decides who may call; `whole` covers the gateway, `list` all tenants, `hosts` which tenant has which host,
//! `tenants` one tenant, `data` its data in the store, `backup` all tenants' data, `logs` what its guests printed,
//! `schedules` what starts by itself; `live` has the metrics of the last second, `history` the last hour, `page` the
//! files for a browser.
//!
//! Security: it listens on loopback or a Unix socket unless an operator moves it. Everything except the probes and the
//! empty page needs a token (`access.rs`). No answer contains a secret, and tenants' data needs the token with full rights.

mod access;
mod backup;
mod client;
mod data;
mod history;
mod hosts;
mod list;
mod live;
mod logs;
mod metrics;
mod moves;
mod page;
mod refusal;
mod running;
mod schedules;
mod orders;
mod suspension;
mod tenants;
mod token;
mod whole;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::owners::Owners;
use crate::request::Road;
use crate::store::Store;
use crate::telemetry::unix_ms;
use crate::tls::Acme;

pub(crate) use access::Access;
pub(crate) use client::{Client, Lines, Unauthorized, is_nobody};
pub(crate) use data::Data;
pub(crate) use live::Live;
pub(crate) use moves::Moves;
pub(crate) use orders::{OrderReceiver, OrderSender, ReloadReply};
use refusal::Refusal;
pub(crate) use running::Running;
pub(crate) use schedules::{ScheduleRow, Timetable};
pub(crate) use suspension::Suspension;
pub(crate) use token::Token;

/// The longest life of a connection; a page that watches reconnects.
const CONNECTION_TIME: Duration = Duration::from_secs(3600);
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The longest body of a call, except for tenants' data.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What it reports on.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) road: Arc<Road>,
    pub(crate) store: Arc<Store>,
    pub(crate) suspension: Suspension,
    pub(crate) owners: Arc<Owners>,
    pub(crate) data: Data,
    /// Certificates from a CA, if there are any.
    pub(crate) acme: Option<Arc<Acme>>,
    pub(crate) access: Access,
    pub(crate) live: Arc<Live>,
    pub(crate) steering: OrderSender,
    /// The folder of what guests printed.
    pub(crate) logs: PathBuf,
    pub(crate) timetable: Timetable,
    pub(crate) desk: AdminState,
}

/// Its own state.
#[derive(Debug)]
pub(crate) struct AdminState {
    audit: access::Audit,
    /// Held while a tenant is suspended or resumed.
    steer: Mutex<()>,
    /// Has one permit, for the backup in progress.
    backups: Arc<Semaphore>,
    /// When this process started, so that no ETag of another process is valid here.
    began: u64,
}

impl Default for AdminState {
    fn default() -> Self {
        let backups = Arc::new(Semaphore::new(1));
        Self { audit: access::Audit::default(), steer: Mutex::default(), backups, began: unix_ms(SystemTime::now()) }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tollgate: the operators' API", description = "Controls one gateway. Every call requires \
        `Authorization: Bearer TOKEN`: with the token in `admin.token` in the gateway's state folder, or with that of \
        `admin.read_token` for read access."),
    security(("token" = []))
)]
struct Document;

/// Every call, and the document that describes them.
fn routes() -> (Router<Arc<Admin>>, utoipa::openapi::OpenApi) {
    let mut document = Document::openapi();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    let data = OpenApiRouter::new().routes(routes!(data::call)).layer(DefaultBodyLimit::max(data::BODY_BYTES_MAX));
    OpenApiRouter::with_openapi(document)
        .routes(routes!(whole::status))
        .routes(routes!(whole::problems))
        .routes(routes!(whole::certificates))
        .routes(routes!(whole::faults))
        .routes(routes!(whole::changes))
        .routes(routes!(whole::events))
        .routes(routes!(history::gateway))
        .routes(routes!(whole::reload))
        .routes(routes!(whole::drain))
        .routes(routes!(backup::backup))
        .routes(routes!(metrics::metrics))
        .routes(routes!(schedules::schedules))
        .routes(routes!(hosts::hosts))
        .routes(routes!(hosts::give))
        .routes(routes!(hosts::release))
        .routes(routes!(list::list))
        .routes(routes!(tenants::one))
        .routes(routes!(history::tenant))
        .routes(routes!(tenants::suspend))
        .routes(routes!(tenants::resume))
        .routes(routes!(tenants::count))
        .routes(routes!(tenants::reset_quota))
        .routes(routes!(tenants::purge))
        .routes(routes!(logs::tail))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(data)
        .split_for_parts()
}

/// The document as it is served, and as it is in the repository.
pub(crate) fn openapi() -> String {
    format!("{}\n", routes().1.to_pretty_json().unwrap_or_default())
}

/// Answers operators' connections.
#[derive(Clone)]
pub(crate) struct Service(Router);

impl Admin {
    pub(crate) fn service(self) -> Service {
        let admin = Arc::new(self);
        let (calls, _document) = routes();
        let guarded =
            calls.fallback(nothing_here).layer(middleware::from_fn_with_state(Arc::clone(&admin), access::guard));
        // Public paths are outside of the guard: probes, the page without metrics, the document.
        Service(
            page::routes()
                .merge(whole::probes())
                .fallback_service(guarded.with_state(Arc::clone(&admin)))
                .with_state(admin),
        )
    }
}

async fn nothing_here() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such call; /openapi.json lists all calls")
}

impl Service {
    /// Serves one connection from this address.
    pub(crate) async fn serve<S>(self, stream: S, from: String)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = self.0.layer(axum::Extension(access::CameFrom(from.into())));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        // A client may close the connection at any time.
        let _ended = tokio::time::timeout(CONNECTION_TIME, connection).await;
    }
}

/// Checks that the state is the one that the client saw (RFC 9110 §13.1.1), if the request names one.
fn if_match(headers: &HeaderMap, current: &str) -> Result<(), Refusal> {
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let is_current =
        wanted.to_str().is_ok_and(|list| list.split(',').any(|tag| matches!(tag.trim(), "*") || tag.trim() == current));
    let changed =
        || Refusal::new(StatusCode::PRECONDITION_FAILED, format!("it has changed: its ETag is {current} now"));
    if is_current { Ok(()) } else { Err(changed()) }
}
