//! Use against quota, as operators see it.

use serde::Serialize;
use utoipa::ToSchema;

use super::bucket::{Bucket, Count};
use crate::deadline::Moment;

/// What a tenant uses, and what is left of each rate limit. A rate without a limit is omitted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub(crate) weight: u64,
    pub(crate) in_flight: Held,
    /// Guests that still work after their responses are sent.
    pub(crate) ending: Held,
    pub(crate) connections: Held,
    /// Bytes.
    pub(crate) memory: Held,
    pub(crate) outbound_in_flight: Held,
    pub(crate) requests: Option<Flow>,
    pub(crate) fuel: Option<Flow>,
    /// Burned since the start.
    pub(crate) fuel_total: u64,
    pub(crate) body_bytes: Option<Flow>,
    pub(crate) storage_ops: Option<Flow>,
    pub(crate) storage_bytes: Option<Flow>,
    pub(crate) outbound: Option<Flow>,
    pub(crate) log_bytes: Option<Flow>,
}

/// A current value and its maximum.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Held {
    pub(crate) now: u64,
    pub(crate) max: u64,
}

impl Held {
    pub(super) fn of(count: &Count) -> Self {
        Self { now: count.now(), max: count.max() }
    }
}

/// A rate limit: `amount` within `per_ms`, with a burst of `burst`, of which `left` is left.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Flow {
    pub(crate) amount: u64,
    pub(crate) per_ms: u64,
    pub(crate) burst: u64,
    pub(crate) left: u64,
}

impl Flow {
    pub(super) fn of(bucket: &Bucket, now: Moment) -> Option<Self> {
        let rate = bucket.rate()?;
        let per_ms = u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX);
        Some(Self { amount: rate.amount, per_ms, burst: rate.burst, left: bucket.left(now)? })
    }
}
