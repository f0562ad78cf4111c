//! The limits of one request, and the quota of a tenant as a whole.

use std::time::Duration;

use super::bucket::Rate;

/// Limits of any one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Fuel is Wasmtime's count, about one for each wasm instruction, plus the host's work by the table in [`super::cost`].
    pub(crate) fuel: u64,
    /// Bytes of all linear memories and tables of the instance, and of what the host keeps for it, together.
    pub(crate) memory: u64,
    /// Wall-clock time from instantiation to the last byte of the response.
    pub(crate) time: Duration,
    /// Bytes of the request's body.
    pub(crate) request_body: u64,
    /// Bytes of names and values of the response's header section.
    pub(crate) response_head: u64,
    /// Keys read or written.
    pub(crate) storage_ops: u64,
    /// Outbound requests.
    pub(crate) outbound: u64,
}

/// Quota of the tenant as a whole. A rate that is absent is not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The tenant's share of scarce resources, relative to other tenants that need them.
    pub(crate) weight: u32,
    /// Requests in flight, including those that wait for an instance. As many guests may still work after their responses
    /// are sent.
    pub(crate) in_flight: u32,
    /// Open connections whose handshake asked for one of its hosts.
    pub(crate) connections: u32,
    /// Requests that may wait for a place in flight, and as many for an instance of the gateway.
    pub(crate) waiting: u32,
    /// Bytes of all its instances together, each counted as in [`Limits::memory`].
    pub(crate) memory: u64,
    pub(crate) requests: Option<Rate>,
    /// The rate for one client address.
    pub(crate) requests_per_address: Option<Rate>,
    pub(crate) fuel: Option<Rate>,
    /// Bytes of request and response bodies together.
    pub(crate) body_bytes: Option<Rate>,
    pub(crate) storage_ops: Option<Rate>,
    /// Space in the store.
    pub(crate) storage: Option<Space>,
    /// Bytes of its responses in the cache. With 0 there is no cache.
    pub(crate) cache: u64,
    /// The number of a cluster's slots over which its data is spread. Each has its part of `storage`.
    pub(crate) shards: u32,
    /// Bytes of keys and values, to and from the store.
    pub(crate) storage_bytes: Option<Rate>,
    pub(crate) outbound: Option<Rate>,
    pub(crate) outbound_in_flight: u32,
    /// Outbound requests that may wait for another one to end.
    pub(crate) outbound_waiting: u32,
    /// Messages of one channel that are handled at once.
    pub(crate) messages_at_once: u32,
    /// Bytes of lines to the tenant's log.
    pub(crate) log_bytes: Option<Rate>,
}

/// Space for a tenant's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes of keys and values; for raw Redis keys, the size that Redis reports.
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
}

#[cfg(test)]
impl Quota {
    /// A quota without limits, for tests about other things.
    pub(crate) const fn unbounded() -> Self {
        Self {
            weight: 1,
            in_flight: u32::MAX,
            connections: u32::MAX,
            waiting: u32::MAX,
            memory: u64::MAX,
            requests: None,
            requests_per_address: None,
            fuel: None,
            body_bytes: None,
            storage_ops: None,
            storage: None,
            cache: 0,
            shards: 1,
            storage_bytes: None,
            outbound: None,
            outbound_in_flight: u32::MAX,
            outbound_waiting: u32::MAX,
            messages_at_once: 1,
            log_bytes: None,
        }
    }
}
