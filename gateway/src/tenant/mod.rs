//! A tenant and what it may use: its identity, the limits of one request, and the quota of the tenant as a whole.
//!
//! The [`Registry`] keeps by identity what must outlive a reload (the [`Ledger`]). The rest comes from files.

mod bucket;
mod budget;
mod causes;
pub(crate) mod cost;
mod guards;
mod ledger;
mod limited;
mod needs;
mod per_address;
mod ports;
mod registry;
mod shared;
mod semaphore;
mod usage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{ComponentName, Digest, StoreName, TenantId};

pub(crate) use bucket::{Count, Rate};
pub(crate) use budget::{Budget, MESSAGES_IN_A_LINE_MAX};
pub(crate) use guards::{Connected, InFlight};
pub(crate) use ledger::Ledger;
pub(crate) use limited::Limited;
pub(crate) use needs::Needs;
pub(crate) use per_address::PerAddress;
pub(crate) use ports::Ports;
pub(crate) use registry::Registry;
pub(crate) use semaphore::{Entry, QuotaPermit, WhenFull};
pub(crate) use shared::{LastReport, NAMES as RATE_NAMES, RatesState};
pub(crate) use usage::{Held, Usage};

/// Limits of any one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Fuel is Wasmtime's count, about one for each wasm instruction, plus the host's work by the table in [`cost`].
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

/// Which of wasi:http's handlers is called if a component has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    V02,
    V03,
}

impl Handler {
    pub(crate) const ALL: [(&str, Self); 2] = [("0.2", Self::V02), ("0.3", Self::V03)];

    /// How the names of the handler's exports begin.
    pub(crate) const fn export(self) -> &'static str {
        match self {
            Self::V02 => "wasi:http/incoming-handler@0.2",
            Self::V03 => "wasi:http/handler@0.3",
        }
    }
}

/// One of a tenant's components, as the files describe it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: ComponentName,
    pub(crate) digest: Digest,
    /// How many requests one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// The handler to call. If the component has both, the default is that of 0.2.
    pub(crate) handler: Option<Handler>,
    /// The stores that are granted to it. Other stores do not exist for it.
    pub(crate) stores: Vec<StoreName>,
    /// The Redis addresses that it may use. Each leads to the tenant's own namespace.
    pub(crate) redis: Vec<String>,
    /// Its environment variables: `[env]` and `[secrets]` of the tenant's file, and its own.
    pub(crate) environment: Vec<(String, String)>,
    /// The folder of files that it may read, mounted at `/`.
    pub(crate) files: Option<PathBuf>,
    /// The variables that it may read by name, if it imports the interface for that.
    pub(crate) variables: Vec<(String, String)>,
    /// Origins to which it may send requests. If empty, it may send none.
    pub(crate) egress: Vec<Grant>,
    /// Whether a Spin manifest defines it and its grants.
    pub(crate) is_spin: bool,
    /// How much of the tenant's memory its instances need.
    pub(crate) needs: Needs,
}

impl Component {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it may use this address for Redis: one that was granted, or one with the same host and port. `*` grants any.
    pub(crate) fn may_name(&self, address: &str) -> bool {
        let same = |granted: &String| {
            granted == address || granted == "*" || authority(granted).is_some_and(|of| Some(of) == authority(address))
        };
        self.redis.iter().any(same)
    }
}

/// Host and port of a Redis URL, without user, password, database and options.
fn authority(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_user, authority)| authority);
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => Some((host, port)),
        _ => Some((authority, "6379")),
    }
}

/// How long values in a store last, by the store's name (`[store_ttl]`). In other stores they do not expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreTtl(pub(crate) Vec<(StoreName, Duration)>);

impl StoreTtl {
    pub(crate) fn of(&self, name: &StoreName) -> Option<Duration> {
        self.0.iter().find(|(store, _)| store == name).map(|(_, ttl)| *ttl)
    }
}

/// A tenant as its file describes it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) store_ttl: StoreTtl,
    /// Shared by all versions of this tenant that reloads create.
    pub(crate) ledger: Arc<Ledger>,
    /// The client certificates that it accepts, if it asks for any.
    pub(crate) callers: Option<Callers>,
    /// Codings with which its responses may be compressed, in order of preference. If empty, they are not compressed.
    pub(crate) compress: Vec<Coding>,
}

/// A content coding (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Which client certificates a tenant accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callers {
    /// The digest of the CAs that the handshake verified against.
    pub(crate) by: Digest,
    /// Whether clients without a certificate are refused.
    pub(crate) is_required: bool,
}

/// One origin to which a tenant may send requests (`[egress] allow`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) https: bool,
    pub(crate) host: GrantedHost,
    /// Any port if absent.
    pub(crate) port: Option<Ports>,
}

impl Grant {
    /// Whether it leads to a component of the same tenant, by Spin's name for that.
    pub(crate) fn is_for_neighbours(&self) -> bool {
        let is_inner = |name: &str| name == "spin.internal" || name.ends_with(".spin.internal");
        match &self.host {
            GrantedHost::Any => true,
            GrantedHost::Name(name) => is_inner(&name.to_string()),
            GrantedHost::Plain(name) => is_inner(name),
            GrantedHost::Below(name) => is_inner(name.as_str()),
            GrantedHost::Itself | GrantedHost::Address(_) | GrantedHost::Network(_) | GrantedHost::ThisMachine(_) => {
                false
            }
        }
    }
}

/// The host of a [`Grant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantedHost {
    /// Every name, and the tenant itself. An address inside the network still needs a grant of its own.
    Any,
    /// The tenant's own paths, with any scheme and port.
    Itself,
    /// A name, or `*.` and a name for one more label.
    Name(crate::domain::Pattern),
    /// `localhost` or a name below it, which leads to a developer's own machine.
    ThisMachine(String),
    /// A name that is no public domain, in lower case.
    Plain(Box<str>),
    /// All names below a name, at any depth.
    Below(crate::domain::Domain),
    /// An address. It is reachable even if no name may lead to it.
    Address(std::net::IpAddr),
    /// All addresses of a network. Internal ones are reachable if the whole network is internal.
    Network(ipnet::IpNet),
}
