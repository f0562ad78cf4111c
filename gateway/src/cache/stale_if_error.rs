//! A kept response that is too old, but may be served if the guest fails (`stale-if-error`, RFC 5861 §4).

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};

use super::stored::StoredResponse;
use super::{policy, tell};
use crate::http::ResponseBody;

/// For one request.
#[derive(Debug)]
pub(crate) struct StaleIfError {
    kept: Arc<StoredResponse>,
    is_head: bool,
    request: HeaderMap,
}

impl StaleIfError {
    pub(super) fn new(kept: Arc<StoredResponse>, is_head: bool, request: &HeaderMap) -> Self {
        Self { kept, is_head, request: request.clone() }
    }

    /// The response to serve instead of one with this status. Nothing if the status is not an error, or the response is too
    /// old even for this.
    pub(crate) fn instead_of(self, status: StatusCode) -> Option<Response<ResponseBody>> {
        let age = self.kept.age();
        // RFC 5861 §4 lists these.
        if !matches!(status.as_u16(), 500 | 502 | 503 | 504) || !policy::is_good_on_error(&self.kept.fresh, age) {
            return None;
        }
        let mut response = self.kept.response(age, self.is_head, &self.request);
        let told = format!("tollgate; fwd=stale; fwd-status={}; ttl={}", status.as_u16(), self.kept.left(age));
        tell(response.headers_mut(), &told);
        Some(response)
    }
}
