//! Who a tenant is and what it may use: identity, limits of one request, quota of the tenant as a whole.
//!
//! What must outlive a reload (the [`Ledger`]) is kept by identity in the [`Registry`]; the rest comes from files.

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
mod supply;
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
pub(crate) use shared::{Look, NAMES as RATE_NAMES, Told};
pub(crate) use supply::{Allotment, Entry, WhenFull};
pub(crate) use usage::{Held, Usage};

/// Bounds of any one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Fuel is Wasmtime's count, about one a wasm instruction, and the host's work by the table in [`cost`].
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

/// Bounds of the tenant as a whole. A rate that is not there is not bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The tenant's share of what is short, beside others that want it too.
    pub(crate) weight: u32,
    /// Requests being answered at once, those included that wait for an instance. As many guests whose answer is out may still work.
    pub(crate) in_flight: u32,
    /// Open connections whose handshake asked for one of its hosts.
    pub(crate) connections: u32,
    /// Requests that may wait for a place among those in flight, and as many for an instance of the gateway.
    pub(crate) waiting: u32,
    /// Bytes of all its instances together, each by [`Limits::memory`].
    pub(crate) memory: u64,
    pub(crate) requests: Option<Rate>,
    /// Of one client's address.
    pub(crate) requests_per_address: Option<Rate>,
    pub(crate) fuel: Option<Rate>,
    /// Bytes of request and response bodies together.
    pub(crate) body_bytes: Option<Rate>,
    pub(crate) storage_ops: Option<Rate>,
    /// What it may have in the store.
    pub(crate) storage: Option<Space>,
    /// Bytes of its responses that are kept; none with 0.
    pub(crate) cache: u64,
    /// Over how many slots of a cluster its data is spread; each has its part of `storage`.
    pub(crate) shards: u32,
    /// Bytes of keys and values, to and from the store.
    pub(crate) storage_bytes: Option<Rate>,
    pub(crate) outbound: Option<Rate>,
    pub(crate) outbound_in_flight: u32,
    /// Outbound requests that may wait for one of those to end.
    pub(crate) outbound_waiting: u32,
    /// Messages of one channel that are handled at once.
    pub(crate) messages_at_once: u32,
    /// Bytes of lines to the tenant's log.
    pub(crate) log_bytes: Option<Rate>,
}

/// Room for a tenant's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Of keys and values; of raw Redis keys, what Redis says they take.
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
}

#[cfg(test)]
impl Quota {
    /// Everything that a test is not about.
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

/// By which of wasi:http's handlers a component is called, where it has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    V02,
    V03,
}

impl Handler {
    pub(crate) const ALL: [(&str, Self); 2] = [("0.2", Self::V02), ("0.3", Self::V03)];

    /// How the exports begin that are such a handler.
    pub(crate) const fn export(self) -> &'static str {
        match self {
            Self::V02 => "wasi:http/incoming-handler@0.2",
            Self::V03 => "wasi:http/handler@0.3",
        }
    }
}

/// One of a tenant's components, as far as the files tell.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: ComponentName,
    pub(crate) digest: Digest,
    /// Requests that one instance may answer, one after the other.
    pub(crate) reuse: u32,
    /// 0.2's where the file says nothing and it has both.
    pub(crate) handler: Option<Handler>,
    /// The stores it was granted; everything else is not there.
    pub(crate) stores: Vec<StoreName>,
    /// The addresses that it may give for Redis; each of them is the tenant's own namespace.
    pub(crate) redis: Vec<String>,
    /// What it finds in its environment: `[env]` and `[secrets]` of the tenant's file, and its own.
    pub(crate) environment: Vec<(String, String)>,
    /// The folder of files that it may read, under `/`.
    pub(crate) files: Option<PathBuf>,
    /// What it may ask for by name, where an interface for that is imported.
    pub(crate) variables: Vec<(String, String)>,
    /// Where it may send requests; nowhere, where this is empty.
    pub(crate) egress: Vec<Grant>,
    /// Whether a Spin manifest names it, which is where its grants stand.
    pub(crate) is_spin: bool,
    /// What its instances need of the tenant's memory.
    pub(crate) needs: Needs,
}

impl Component {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it may give this address for Redis: as it was granted, or to the same host and port. `*` grants any.
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

/// How long what is set in a store lasts, by its name (`[store_ttl]`); for ever in the others.
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
    /// Shared by every version of this tenant that a reload brings.
    pub(crate) ledger: Arc<Ledger>,
    /// Whose certificates its clients have, where it asks for any.
    pub(crate) callers: Option<Callers>,
    /// What its responses may be compressed with, the best first; nothing, where they are not.
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

/// By which client certificates somebody may come to a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callers {
    /// Of the CAs that were trusted in the handshake.
    pub(crate) by: Digest,
    /// Whether nobody else may.
    pub(crate) is_required: bool,
}

/// One origin that a tenant may send requests to (`[egress] allow`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) https: bool,
    pub(crate) host: GrantedHost,
    /// Any, where none is said.
    pub(crate) port: Option<Ports>,
}

impl Grant {
    /// Whether it leads to a component of the tenant's own, by Spin's name for that.
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
    /// Every name, and the tenant itself; what is inside the network still needs a grant of its address.
    Any,
    /// The tenant's own paths, whatever scheme and port.
    Itself,
    /// A name, or `*.` and a name for one label more.
    Name(crate::domain::Pattern),
    /// `localhost`, or a name below it, on a developer's own machine, which it leads to.
    ThisMachine(String),
    /// A name that no public domain has, in small letters.
    Plain(Box<str>),
    /// All that is below a name, at whatever depth.
    Below(crate::domain::Domain),
    /// An address, which is reachable even where no name may lead to it.
    Address(std::net::IpAddr),
    /// All addresses of a network; those inside are reachable where the whole of it is inside.
    Network(ipnet::IpNet),
}
