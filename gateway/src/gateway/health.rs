//! Health checks of load balancers on the clients' listeners: whether this gateway accepts requests.
//!
//! Security: the path is the operator's only where no tenant answers: a request for a tenant's host is that tenant's,
//! whatever its path. So balancers send requests by address, by a name that no tenant has, or without `Host`, as HTTP/1.0
//! allows.

use std::sync::Arc;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use ::http::{Method, Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::http::{self, ResponseBody};
use crate::request::Road;

/// Answers at one path, if the operator named one.
#[derive(Clone, Debug)]
pub(super) struct Health {
    path: Option<Arc<str>>,
    /// Cancelled when the first load is over.
    started: CancellationToken,
}

impl Health {
    pub(super) fn new(path: Option<&str>, started: CancellationToken) -> Self {
        Self { path: path.map(Arc::from), started }
    }

    /// The answer, if the request is a health check.
    pub(super) fn answer<B>(&self, request: &Request<B>, road: &Road) -> Option<Response<ResponseBody>> {
        let path = self.path.as_deref()?;
        let asks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !asks || request.uri().path() != path {
            return None;
        }
        // A malformed request is refused as everywhere.
        let whom = http::whom(request).ok()?;
        let is_ours = whom.is_none_or(|host| road.snapshot.load().routes.owner(&host).is_none());
        is_ours.then(|| self.said(road, request.method() == Method::HEAD))
    }

    fn said(&self, road: &Road, is_head: bool) -> Response<ResponseBody> {
        let (status, word) = if road.tasks.is_leaving() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else if !self.started.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "loading\n")
        } else {
            (StatusCode::OK, "ok\n")
        };
        let mut response = Response::new(if is_head { http::empty() } else { http::full(word.to_owned()) });
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
