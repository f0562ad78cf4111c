//! Keeps responses of guests (RFC 9111), each tenant's separately and within its own bytes.
//!
//! Invariant: a kept response is complete, and is served only for the tenant, the host and the target for which it was
//! made. Limit: `quota.cache` bytes for each tenant, and as many again for responses on their way; an eighth of that for
//! one response, and [`VARIANTS_MAX`] for one target.

mod directives;
mod recorder;
mod stored;
mod policy;
mod stale_if_error;
mod structured;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Response, StatusCode, Uri};
use tokio::time::Instant;

use crate::http::{ResponseBody, empty};
use crate::ids::TenantId;

use policy::Use;
pub(crate) use recorder::Recorder;
pub(crate) use stale_if_error::StaleIfError;
use stored::StoredResponse;

/// Responses for one target, by the fields that they vary by.
const VARIANTS_MAX: usize = 8;
/// A change to one target also invalidates pending requests for targets with the same hash, so there are several epochs: 2
/// KiB for each cache.
const EPOCHS: usize = 256;
/// The fraction of a tenant's bytes that one response may use.
const PART: u64 = 8;
/// A response that is not requested for this long is evicted.
const IDLE: Duration = Duration::from_hours(1);
/// RFC 9111 §3.1. Hop-by-hop fields were removed before.
const NEVER_KEPT: [HeaderName; 3] =
    [PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, HeaderName::from_static("proxy-authentication-info")];
/// The `X-Forwarded-` fields that describe the client and not the URL.
const OF_THE_CLIENT: [&str; 2] = ["for", "client-cert"];
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// The caches of all tenants that have one.
#[derive(Debug, Default)]
pub(crate) struct Caches(ArcSwap<HashMap<TenantId, Arc<Cache>>>);

impl Caches {
    pub(crate) fn of(&self, tenant: &TenantId) -> Option<Arc<Cache>> {
        self.0.load().get(tenant).cloned()
    }

    /// Empties all caches.
    pub(crate) fn forget(&self) {
        for cache in self.0.load().values() {
            let _count = cache.purge("");
        }
    }

    /// Sets which tenants have a cache, and its bytes. A cache whose size changes starts empty.
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

/// One tenant's cache.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: u64,
    kept: moka::sync::Cache<Arc<str>, Variants>,
    /// How often something was forgotten, for groups of targets. A response to a request from before that is not stored.
    epochs: [AtomicU64; EPOCHS],
    hashes: RandomState,
    /// Bytes of responses that are on their way.
    filling: AtomicU64,
}

/// The responses for one target.
type Variants = Arc<[Arc<StoredResponse>]>;

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Answer it with this response.
    Hit(Response<ResponseBody>),
    /// The same, and this request has to fetch the response again, with these fields.
    Stale(Response<ResponseBody>, HeaderMap),
    /// Run the guest. The fallback response may be served if the guest fails.
    Miss(Option<StaleIfError>),
    /// The guest must not run, and nothing is kept.
    OnlyIfCached,
}

impl Cache {
    fn new(bytes_max: u64) -> Self {
        let weigh = |target: &Arc<str>, variants: &Variants| {
            let bytes = variants.iter().map(|kept| kept.bytes()).sum::<u64>() + target.len() as u64;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().max_capacity(bytes_max).weigher(weigh).time_to_idle(IDLE).build();
        let epochs = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bytes_max, kept, epochs, hashes: RandomState::new(), filling: AtomicU64::new(0) }
    }

    /// Finds the response for this request, if one may be served.
    pub(crate) fn find(&self, method: &Method, uri: &Uri, request: &HeaderMap) -> Found {
        if *method != Method::GET && *method != Method::HEAD {
            return Found::Miss(None);
        }
        let is_head = *method == Method::HEAD;
        let nothing =
            |fallback| if policy::only_if_cached(request) { Found::OnlyIfCached } else { Found::Miss(fallback) };
        let chosen = self
            .kept
            .get(&*target(uri, request))
            .and_then(|variants| variants.iter().rev().find(|kept| policy::selects(&kept.selected, request)).cloned());
        let Some(kept) = chosen else { return nothing(None) };
        let age = kept.age();
        match policy::usable(request, &kept.fresh, age) {
            Use::Fresh => Found::Hit(kept.hit(age, is_head, request)),
            Use::Stale if kept.claim_revalidation() => {
                Found::Stale(kept.hit(age, is_head, request), kept.revalidation_headers(request))
            }
            Use::Stale => Found::Hit(kept.hit(age, is_head, request)),
            Use::OnError => nothing(Some(StaleIfError::new(kept, is_head, request))),
            Use::Not => nothing(None),
        }
    }

    /// Prepares for a request to the guest. The response is stored only if `keeps`, but the effect of a change is noted in
    /// any case.
    pub(crate) fn ask(self: &Arc<Self>, method: &Method, uri: &Uri, request: &HeaderMap, keeps: bool) -> Asked {
        let target = target(uri, request);
        let epoch = self.epoch(&target).load(Ordering::Acquire);
        let request = (keeps && *method == Method::GET).then(|| request.clone());
        Asked { cache: Arc::clone(self), is_safe: method.is_safe(), target, request, epoch, at: Instant::now() }
    }

    fn epoch(&self, target: &str) -> &AtomicU64 {
        let hash = self.hashes.hash_one(target) % EPOCHS as u64;
        &self.epochs[usize::try_from(hash).unwrap_or(0)]
    }

    /// Forgets the responses for targets with this prefix, such as `https://shop.example/news`. Returns their number.
    pub(crate) fn purge(&self, prefix: &str) -> usize {
        let keys = self.kept.iter().filter(|(target, _)| target.starts_with(prefix)).map(|(target, _)| target);
        let keys: Vec<_> = keys.collect();
        self.epochs.iter().for_each(|epoch| {
            epoch.fetch_add(1, Ordering::Release);
        });
        for key in &keys {
            self.kept.invalidate(&**key);
        }
        keys.len()
    }

    /// The cache's usage, for operators: bytes, maximum bytes and number of responses.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        self.kept.run_pending_tasks();
        (self.kept.weighted_size(), self.bytes_max, self.kept.entry_count())
    }

    /// Stores it, unless something was forgotten since the request.
    fn put(&self, asked: &Asked, new: StoredResponse) {
        let current = self.epoch(&asked.target);
        self.kept.entry(Arc::clone(&asked.target)).and_compute_with(|before| {
            if current.load(Ordering::Acquire) != asked.epoch {
                return moka::ops::compute::Op::Nop;
            }
            let before = before.map(moka::Entry::into_value);
            let is_other = |kept: &&Arc<StoredResponse>| kept.selected != new.selected && kept.is_usable();
            let others = before.iter().flat_map(|variants| variants.iter()).filter(is_other).cloned();
            let mut variants: Vec<Arc<StoredResponse>> = others.collect();
            // The oldest one is dropped.
            let excess = (variants.len() + 1).saturating_sub(VARIANTS_MAX);
            variants.drain(..excess);
            variants.push(Arc::new(new));
            moka::ops::compute::Op::Put(variants.into())
        });
    }
}

/// A request that the guest answers.
#[derive(Debug)]
pub(crate) struct Asked {
    cache: Arc<Cache>,
    is_safe: bool,
    target: Arc<str>,
    /// Its fields, if the response may be stored.
    request: Option<HeaderMap>,
    epoch: u64,
    at: Instant,
}

impl Asked {
    /// Starts to store the response if that is allowed, and forgets the responses that it invalidates (RFC 9111 §4.4). Adds
    /// either fact to its head.
    pub(crate) fn answered(self, response: &mut Response<ResponseBody>) -> Option<Recorder> {
        let status = response.status();
        if !self.is_safe && (status.is_success() || status.is_redirection()) {
            self.cache.epoch(&self.target).fetch_add(1, Ordering::Release);
            self.cache.kept.invalidate(&*self.target);
        }
        let recorder = self.recorder(response);
        let told = if recorder.is_some() { "tollgate; fwd=miss; stored" } else { "tollgate; fwd=miss" };
        tell(response.headers_mut(), told);
        recorder
    }

    fn recorder(self, response: &Response<ResponseBody>) -> Option<Recorder> {
        let request = self.request.as_ref()?;
        let bytes_max = self.cache.bytes_max / PART;
        let length = http_body::Body::size_hint(response.body()).lower();
        let said = response.headers().get(CONTENT_LENGTH).and_then(|of| of.to_str().ok()?.parse::<u64>().ok());
        if length.max(said.unwrap_or(0)) > bytes_max {
            return None;
        }
        let (status, headers) = (response.status(), response.headers());
        let fresh = policy::freshness(request, status, headers, SystemTime::now(), self.at.elapsed())?;
        let selected = policy::selected(request, headers)?;
        let mut headers = headers.clone();
        NEVER_KEPT.iter().for_each(|name| drop(headers.remove(name)));
        // The cache must send on this date, and not one of its own (RFC 9110 §6.6.1).
        if !headers.contains_key(DATE)
            && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        {
            headers.insert(DATE, now);
        }
        Some(Recorder::new(self, (status, headers), selected, fresh, bytes_max))
    }
}

/// The target as the guest sees it: its URL, followed by everything else that the gateway and the proxies before it say
/// about the URL that the client used. A guest may base its response on that without mentioning it in `Vary`, for example a
/// redirect from `http` to `https`.
fn target(uri: &Uri, request: &HeaderMap) -> Arc<str> {
    let mut target = uri.to_string();
    let is_of_the_url = |name: &HeaderName| {
        let of_forwarding = name.as_str().strip_prefix("x-forwarded-");
        of_forwarding.is_some_and(|what| !OF_THE_CLIENT.contains(&what))
    };
    let mut told: Vec<_> = request.iter().filter(|(name, _)| is_of_the_url(name)).collect();
    told.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in told {
        // A URL contains no space, and a value no line end.
        target.push(' ');
        target.push_str(name.as_str());
        target.push('=');
        target.extend(value.as_bytes().iter().flat_map(|byte| byte.escape_ascii()).map(char::from));
    }
    target.into()
}

/// The answer to a client that accepts only a kept response, if there is none.
pub(crate) fn only_if_cached_miss() -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    tell(response.headers_mut(), "tollgate; detail=only-if-cached");
    response
}

/// Adds what the cache did, after what caches behind the guest added.
fn tell(headers: &mut HeaderMap, what: &str) {
    if let Ok(value) = HeaderValue::try_from(what) {
        headers.append(CACHE_STATUS, value);
    }
}
