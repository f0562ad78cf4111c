//! One kept response: how it applies to a request, and what a client is told about it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, PRAGMA, RANGE,
};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::policy::{Freshness, Selected};
use super::tell;
use crate::http::{ResponseBody, empty, whole};

/// If fetching a stale response again failed, how long until the next attempt.
const REVALIDATE_AGAIN: Duration = Duration::from_secs(10);
/// Fields that ask for a part of a response (RFC 9110 §13.1, §14.2), state how old it may be, or identify the client.
const OF_ONE_CLIENT: [HeaderName; 10] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
    CACHE_CONTROL,
    PRAGMA,
    AUTHORIZATION,
    COOKIE,
];
/// Fields of a response that its 304 omits (RFC 9110 §15.4.5).
const OF_BODIES: [HeaderName; 2] = [CONTENT_LENGTH, http::header::CONTENT_TYPE];

#[derive(Debug)]
pub(super) struct StoredResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) selected: Selected,
    pub(super) fresh: Freshness,
    pub(super) at: Instant,
    /// From when on a request may fetch the response again, in milliseconds after `at`.
    pub(super) revalidate_at: AtomicU64,
}

impl StoredResponse {
    pub(super) fn bytes(&self) -> u64 {
        let heads = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum::<usize>();
        let selected =
            self.selected.iter().map(|(name, value)| name.as_str().len() + value.as_ref().map_or(0, Vec::len));
        (heads + selected.sum::<usize>() + self.body.len() + size_of::<Self>()) as u64
    }

    /// Whether this caller should fetch the response again. Only one caller should, and another one if that failed.
    pub(super) fn claim_revalidation(&self) -> bool {
        let now = self.at.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let after = now.saturating_add(REVALIDATE_AGAIN.as_millis().try_into().unwrap_or(u64::MAX));
        let known = self.revalidate_at.load(Ordering::Relaxed);
        known <= now && self.revalidate_at.compare_exchange(known, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The fields of a request that fetches it again: those by which this response was selected, and nothing that belongs
    /// to one client.
    pub(super) fn revalidation_headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut fields = request.clone();
        for name in OF_ONE_CLIENT.iter().filter(|name| self.selected.iter().all(|(by, _)| by != *name)) {
            fields.remove(name);
        }
        fields
    }

    pub(super) fn age(&self) -> Duration {
        self.fresh.age.saturating_add(self.at.elapsed())
    }

    /// Whether it may still be served to anybody in any case.
    pub(super) fn is_usable(&self) -> bool {
        let longest = self.fresh.while_revalidate.max(self.fresh.if_error);
        self.age() < self.fresh.lifetime.saturating_add(longest)
    }

    /// The answer to a request for which no guest runs.
    pub(super) fn hit(&self, age: Duration, is_head: bool, request: &HeaderMap) -> Response<ResponseBody> {
        let mut response = self.response(age, is_head, request);
        tell(response.headers_mut(), &format!("tollgate; hit; ttl={}", self.left(age)));
        response
    }

    /// Seconds until it is stale; negative if it already is.
    pub(super) fn left(&self, age: Duration) -> i64 {
        self.fresh.lifetime.as_secs().cast_signed() - age.as_secs().cast_signed()
    }

    pub(super) fn response(&self, age: Duration, is_head: bool, request: &HeaderMap) -> Response<ResponseBody> {
        let is_known = self.status == StatusCode::OK && self.is_known_to(request);
        let has_body = !is_head && !is_known && self.status != StatusCode::NO_CONTENT;
        let mut response = Response::new(if has_body { whole(self.body.clone()) } else { empty() });
        *response.status_mut() = if is_known { StatusCode::NOT_MODIFIED } else { self.status };
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        if is_known {
            OF_BODIES.iter().for_each(|name| {
                headers.remove(name);
            });
        } else if self.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len() as u64));
        }
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
        response
    }

    /// Whether the client already has it (RFC 9110 §13.1.2, §13.1.3).
    fn is_known_to(&self, request: &HeaderMap) -> bool {
        let mut lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok()).peekable();
        if lists.peek().is_some() {
            let opaque = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()).to_owned();
            let own = self.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(opaque);
            return lists.flat_map(|list| list.split(',')).any(|tag| tag.trim() == "*" || Some(opaque(tag)) == own);
        }
        let time = |headers: &HeaderMap, name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
        let (since, own) = (time(request, IF_MODIFIED_SINCE), time(&self.headers, LAST_MODIFIED));
        since.zip(own).is_some_and(|(since, own)| own <= since)
    }
}
