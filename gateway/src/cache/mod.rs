//! What guests' responses are kept (RFC 9111): each tenant's apart, within its own bytes.
//!
//! Invariant: a response that is kept was whole, and was made for the tenant, the host and the target that it is served for.
//! Limit: `quota.cache` bytes a tenant, an eighth of that for one response, [`VARIANTS_MAX`] for one target.

mod keeping;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use tokio::time::Instant;

use crate::http::{ResponseBody, empty, full};
use crate::ids::TenantId;

pub(crate) use keeping::Keeping;
use policy::{Freshness, Selected, Use};

/// Of one target, by what they vary by.
const VARIANTS_MAX: usize = 8;
/// The part of a tenant's bytes that one response may take.
const PART: u64 = 8;
/// What has not been asked for in so long goes.
const IDLE: Duration = Duration::from_hours(1);
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// What is said of a response in its 304 (RFC 9110 §15.4.5) leaves these out.
const OF_BODIES: [HeaderName; 2] = [CONTENT_LENGTH, http::header::CONTENT_TYPE];

/// The caches of all tenants that have one.
#[derive(Debug, Default)]
pub(crate) struct Caches(ArcSwap<HashMap<TenantId, Arc<Cache>>>);

impl Caches {
    pub(crate) fn of(&self, tenant: &TenantId) -> Option<Arc<Cache>> {
        self.0.load().get(tenant).cloned()
    }

    /// Those who may have one, and of how many bytes; whose bytes are others begins anew.
    pub(crate) fn set(&self, wanted: impl Iterator<Item = (TenantId, u64)>) {
        let before = self.0.load();
        let cache = |(id, bytes): (TenantId, u64)| {
            let known = before.get(&id).filter(|cache| cache.bytes_max == bytes);
            let cache = known.map_or_else(|| Arc::new(Cache::new(bytes)), Arc::clone);
            (id, cache)
        };
        self.0.store(Arc::new(wanted.map(cache).collect()));
    }
}

/// One tenant's.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: u64,
    kept: moka::sync::Cache<Arc<str>, Variants>,
}

/// Of one target.
type Variants = Arc<[Arc<Kept>]>;

#[derive(Debug)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    selected: Selected,
    fresh: Freshness,
    at: Instant,
    /// Whether somebody fetches another already.
    is_fetched: AtomicBool,
}

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is answered.
    Hit(Response<ResponseBody>),
    /// The same, and it is this request's part to fetch another.
    Stale(Response<ResponseBody>),
    /// The guest is asked.
    Miss,
    /// The guest must not be asked, and nothing is kept.
    Nothing,
}

impl Cache {
    fn new(bytes_max: u64) -> Self {
        let weigh = |target: &Arc<str>, variants: &Variants| {
            let bytes = variants.iter().map(|kept| kept.bytes()).sum::<u64>() + target.len() as u64;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().max_capacity(bytes_max).weigher(weigh).time_to_idle(IDLE).build();
        Self { bytes_max, kept }
    }

    /// The response that is kept for this request, if one may be served.
    pub(crate) fn find(&self, method: &Method, uri: &Uri, request: &HeaderMap) -> Found {
        if *method != Method::GET && *method != Method::HEAD {
            return Found::Miss;
        }
        let found = self.kept.get(&*target(uri)).and_then(|variants| {
            let kept = variants.iter().rev().find(|kept| policy::selects(&kept.selected, request))?;
            let age = kept.age();
            match policy::usable(request, &kept.fresh, age) {
                Use::Fresh => Some((Arc::clone(kept), age, false)),
                Use::Stale => {
                    let is_first = !kept.is_fetched.swap(true, Ordering::Relaxed);
                    Some((Arc::clone(kept), age, is_first))
                }
                Use::Not => None,
            }
        });
        let Some((kept, age, fetches)) = found else {
            return if policy::only_if_cached(request) { Found::Nothing } else { Found::Miss };
        };
        let response = kept.response(age, *method == Method::HEAD, request);
        if fetches { Found::Stale(response) } else { Found::Hit(response) }
    }

    /// Begins to keep the response to this request, if it may be kept.
    pub(crate) fn begin(
        self: &Arc<Self>,
        method: &Method,
        uri: &Uri,
        request: &HeaderMap,
        response: &Response<ResponseBody>,
    ) -> Option<Keeping> {
        if *method != Method::GET {
            return None;
        }
        let fresh = policy::freshness(request, response.status(), response.headers(), SystemTime::now())?;
        let selected = policy::selected(request, response.headers())?;
        let head = (response.status(), response.headers().clone());
        Some(Keeping::new(Arc::clone(self), target(uri), head, selected, fresh, self.bytes_max / PART))
    }

    /// What was done to a target makes what was kept of it worth nothing (RFC 9111 §4.4).
    pub(crate) fn changed(&self, method: &Method, uri: &Uri, status: StatusCode) {
        if !method.is_safe() && (status.is_success() || status.is_redirection()) {
            self.kept.invalidate(&*target(uri));
        }
    }

    /// Forgets what is kept for targets that begin so, such as `https://shop.example/news`; says how many those were.
    pub(crate) fn purge(&self, prefix: &str) -> usize {
        let keys = self.kept.iter().filter(|(target, _)| target.starts_with(prefix)).map(|(target, _)| target);
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            self.kept.invalidate(&**key);
        }
        keys.len()
    }

    /// What is kept, for operators.
    pub(crate) fn usage(&self) -> serde_json::Value {
        self.kept.run_pending_tasks();
        serde_json::json!({ "now": self.kept.weighted_size(), "max": self.bytes_max, "targets": self.kept.entry_count() })
    }

    fn put(&self, target: Arc<str>, new: Kept) {
        let before = self.kept.get(&*target);
        let is_other = |kept: &&Arc<Kept>| kept.selected != new.selected && kept.age() < kept.fresh.lifetime;
        let mut variants: Vec<Arc<Kept>> =
            before.iter().flat_map(|variants| variants.iter()).filter(is_other).cloned().collect();
        // The oldest goes.
        let excess = (variants.len() + 1).saturating_sub(VARIANTS_MAX);
        variants.drain(..excess);
        variants.push(Arc::new(new));
        self.kept.insert(target, variants.into());
    }
}

/// As the guest sees it, whole.
fn target(uri: &Uri) -> Arc<str> {
    uri.to_string().into()
}

impl Kept {
    fn bytes(&self) -> u64 {
        let heads = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum::<usize>();
        let selected =
            self.selected.iter().map(|(name, value)| name.as_str().len() + value.as_ref().map_or(0, Vec::len));
        (heads + selected.sum::<usize>() + self.body.len() + size_of::<Self>()) as u64
    }

    fn age(&self) -> Duration {
        self.fresh.age.saturating_add(self.at.elapsed())
    }

    fn response(&self, age: Duration, is_head: bool, request: &HeaderMap) -> Response<ResponseBody> {
        let is_known = self.status == StatusCode::OK && self.is_known_to(request);
        let has_body = !is_head && !is_known && self.status != StatusCode::NO_CONTENT;
        let mut response = Response::new(if has_body { full(self.body.clone()) } else { empty() });
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
        let left = self.fresh.lifetime.as_secs().cast_signed() - age.as_secs().cast_signed();
        tell(headers, &format!("tollgate; hit; ttl={left}"));
        response
    }

    /// Whether the client has it already (RFC 9110 §13.1.2, §13.1.3).
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

/// The answer to whoever wants what is kept or nothing, where nothing is.
pub(crate) fn nothing() -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    tell(response.headers_mut(), "tollgate; detail=only-if-cached");
    response
}

/// Says what the cache did, beside what caches behind the guest said.
pub(crate) fn tell(headers: &mut HeaderMap, what: &str) {
    if let Ok(value) = HeaderValue::try_from(what) {
        headers.append(CACHE_STATUS, value);
    }
}
