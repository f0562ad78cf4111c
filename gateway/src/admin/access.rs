//! Who may do what: every call needs a token, one with full rights or one that may only read; and each change is noted.
//!
//! Security: tokens are compared in constant time. They come in a header that no page of another origin can set, so that a
//! browser that holds one cannot be abused. Until the token is verified, nothing of the call is parsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use super::refusal::Refusal;
use super::token::Token;
use crate::telemetry::{Recent, unix_ms};

/// Changes that are kept for the audit log's view; the log has them all.
const CHANGES_KEPT: usize = 200;

/// The valid tokens.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The token with full rights.
    pub(crate) admin: Token,
    /// Tokens that may only read, and see no tenant's data: the operators' own, and the one in `running.json`.
    pub(crate) readers: Vec<Token>,
}

/// The role that a call's token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Admin,
    Reader,
}

impl Who {
    fn refusal() -> Refusal {
        let text = "this token has read access only, and no access to tenants' data";
        Refusal::new(StatusCode::FORBIDDEN, text)
    }

    /// # Errors
    /// The token may not see tenants' own data.
    pub(super) fn may_see_data(self) -> Result<(), Refusal> {
        match self {
            Self::Admin => Ok(()),
            Self::Reader => Err(Self::refusal()),
        }
    }
}

impl Access {
    fn who(&self, headers: &http::HeaderMap) -> Option<Who> {
        if self.admin.is_in(headers) {
            return Some(Who::Admin);
        }
        self.readers.iter().any(|reader| reader.is_in(headers)).then_some(Who::Reader)
    }
}

/// The address from which a call came.
#[derive(Clone, Debug)]
pub(super) struct CameFrom(pub(super) Arc<str>);

/// One entry of the audit log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Change {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// `admin` or `reader`.
    by: &'static str,
    /// Its address.
    from: String,
    /// Path of the call.
    action: String,
    /// Status of the answer; 2xx means success.
    status: u16,
}

/// The latest changes by callers with a token.
#[derive(Debug)]
pub(super) struct Audit {
    changes: Recent<Change>,
    /// The second in which a call without a token was last logged.
    told: AtomicU64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { changes: Recent::new(CHANGES_KEPT), told: AtomicU64::new(0) }
    }
}

impl Audit {
    /// Logs a call without a valid token: at most one line a second, however many there are.
    fn stranger(&self, from: &str, path: &str) {
        let second = unix_ms(SystemTime::now()) / 1000;
        if self.told.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(target: "audit", %from, action = path, status = 401, "the token is missing or wrong");
        }
    }

    fn note(&self, change: Change) {
        let Change { by, from, action, status, .. } = &change;
        tracing::info!(target: "audit", by, %from, %action, status, "a change was requested");
        self.changes.add(change);
    }

    pub(super) fn all(&self) -> Vec<Change> {
        self.changes.all()
    }
}

/// The longest path that a log line repeats.
const PATH_BYTES_MAX: usize = 200;

/// Accepts calls with a sufficient token, and notes those that change anything.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let who = admin.access.who(request.headers());
    let is_change = request.method() == Method::POST;
    let path: String = request.uri().path().chars().take(PATH_BYTES_MAX).collect();
    let from = request.extensions().get::<CameFrom>().map(|from| from.0.to_string()).unwrap_or_default();
    let response = match who {
        None => {
            let text = "this call requires `Authorization: Bearer TOKEN`, with the token in admin.token in the gateway's \
                    state folder";
            Refusal::new(StatusCode::UNAUTHORIZED, text).into_response()
        }
        Some(Who::Reader) if is_change => Who::refusal().into_response(),
        Some(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
    };
    let by = match who {
        Some(Who::Admin) => "admin",
        Some(Who::Reader) => "reader",
        None => {
            admin.desk.audit.stranger(&from, &path);
            return response;
        }
    };
    if is_change {
        let (at_ms, status) = (unix_ms(SystemTime::now()), response.status().as_u16());
        admin.desk.audit.note(Change { at_ms, by, from, action: path, status });
    }
    response
}
