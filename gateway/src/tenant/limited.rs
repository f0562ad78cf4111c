//! A refusal at a tenant's own door, and what the client is told about it.

use http::HeaderValue;

use super::bucket::Bucket;
use crate::fault::{Fault, QuotaKind};

/// The quota that refused a request, and when a retry is useful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    pub(crate) quota: QuotaKind,
    pub(crate) max: u64,
    /// The time in which the burst refills. Nothing for quotas on concurrent use.
    pub(crate) window_seconds: Option<u64>,
    pub(crate) retry_seconds: u64,
}

impl Limited {
    /// The fields for the client: Retry-After (RFC 9110 §10.2.3), RateLimit-Policy and RateLimit
    /// (draft-ietf-httpapi-ratelimit-headers-10).
    pub(crate) fn fields(&self) -> [HeaderValue; 3] {
        let Self { quota, max, window_seconds, retry_seconds } = self;
        let name = quota.name();
        let policy = match (window_seconds, quota) {
            (Some(window), _) => format!("\"{name}\";q={max};w={window}"),
            (None, QuotaKind::Memory) => format!("\"{name}\";q={max};qu=\"bytes\""),
            (None, _) => format!("\"{name}\";q={max};qu=\"concurrent-requests\""),
        };
        let limit = format!("\"{name}\";r=0;t={retry_seconds}");
        // All of it is ASCII.
        let value = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"));
        [HeaderValue::from(*retry_seconds), value(policy), value(limit)]
    }
}

pub(super) fn limited(quota: QuotaKind, bucket: &Bucket, retry_seconds: u64) -> Limited {
    let (max, window) = bucket.rate().map_or((0, 1), |rate| (rate.burst, rate.window_seconds()));
    Limited { quota, max, window_seconds: Some(window), retry_seconds }
}

impl From<Limited> for Fault {
    fn from(limited: Limited) -> Self {
        Self::Quota(limited.quota)
    }
}
