//! Connections to origins that are kept for reuse, separately for each tenant.
//!
//! Security: a [`Key`] begins with the tenant's id, and its only constructor takes it from the tenant. A connection serves
//! requests of the same tenant with the same grant, scheme and server name, whose own lookup of the name found the
//! connection's address. So removing a grant or changing a name's address takes effect at once: kept connections do not
//! bypass it.
//!
//! Limit: `egress.kept` connections of all tenants, `egress.kept_per_tenant` of one, each for `egress.kept_idle` without a
//! request and `egress.kept_life` in all. If a tenant exceeds its limit, its own oldest connection is closed. If the
//! gateway's limit is exceeded, the tenant's own oldest is closed, or, if it has none, the oldest of the tenant with the
//! most.
//!
//! `hyper_util::client::legacy` is not used: its pool is keyed only by scheme and authority, and it resolves a name only
//! when it connects, so that the address could not be checked for each request. `hyper_util::client::pool` allows any key,
//! but has no limits across several keys, no idle time, and no way to close the connections of one key.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::body::Sending;
use crate::ids::TenantId;
use crate::telemetry::Metrics;
use crate::tenant::{Grant, Tenant};

/// The operator's settings for kept connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// The maximum over all tenants; 0 keeps none.
    pub(crate) all: u32,
    pub(crate) of_tenant: u32,
    pub(crate) idle: Duration,
    pub(crate) life: Duration,
}

/// Concurrent requests on one HTTP/2 connection, unless the origin allows fewer.
const STREAMS_MAX: usize = 64;
/// How many origins' TLS sessions a tenant may resume. Each tenant has its own sessions: an origin must not be able to link
/// two tenants.
const SESSIONS_MAX: usize = 4;

/// The destinations that one request may have.
pub(super) struct Destination<'a> {
    pub(super) grant: &'a Grant,
    pub(super) host: &'a str,
    /// The name's addresses at this moment, as far as they are allowed.
    pub(super) addresses: &'a [SocketAddr],
}

/// The key of a kept connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    tenant: TenantId,
    /// It includes the scheme.
    grant: Grant,
    /// The server name of TLS, or the host of plain requests.
    host: String,
    address: SocketAddr,
}

impl Key {
    pub(super) fn new(tenant: &Tenant, way: &Destination<'_>, address: SocketAddr) -> Self {
        Self { tenant: tenant.id.clone(), grant: way.grant.clone(), host: way.host.to_owned(), address }
    }

    fn serves(&self, tenant: &TenantId, way: &Destination<'_>) -> bool {
        self.tenant == *tenant
            && self.host == way.host
            && self.grant == *way.grant
            && way.addresses.contains(&self.address)
    }
}

/// A connection for one request at a time (HTTP/1.1).
#[derive(Debug)]
pub(super) struct Exclusive {
    pub(super) sender: http1::SendRequest<Sending>,
    /// Bytes received so far.
    pub(super) received: Arc<AtomicUsize>,
    pub(super) kept: Of,
}

/// A connection for many requests at once (HTTP/2).
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Sending>,
    /// How many, as the origin says.
    pub(super) streams_max: Arc<AtomicUsize>,
    pub(super) kept: Of,
}

/// What both kinds have.
#[derive(Debug)]
pub(super) struct Of {
    pub(super) key: Key,
    pub(super) born: Instant,
    /// Tells the driving task that nobody uses the connection any more.
    pub(super) _held: DropGuard,
}

/// A connection in use.
#[derive(Debug)]
pub(super) enum Lease {
    Exclusive(Box<Exclusive>),
    Shared(Arc<Shared>),
}

impl Lease {
    fn of(&self) -> &Of {
        match self {
            Self::Exclusive(alone) => &alone.kept,
            Self::Shared(shared) => &shared.kept,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Exclusive(alone) => alone.sender.is_closed(),
            Self::Shared(shared) => shared.sender.is_closed(),
        }
    }

    /// Whether a kept connection is in use.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Shared(shared) if Arc::strong_count(shared) > 1)
    }

    /// Whether a kept connection can take one more request.
    fn has_room(&self) -> bool {
        let Self::Shared(shared) = self else { return true };
        let max = shared.streams_max.load(Ordering::Relaxed).clamp(1, STREAMS_MAX);
        Arc::strong_count(shared) <= max
    }
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    since: Instant,
}

/// The connections of one tenant.
#[derive(Debug)]
struct Own {
    tls: Arc<ClientConfig>,
    /// Ordered by last use, the most recent at the end.
    idle: Vec<Idle>,
    seen: Instant,
}

impl Own {
    /// Removes the oldest unused one.
    fn evict(&mut self) -> Option<Idle> {
        let at = self.idle.iter().position(|idle| !idle.lease.is_busy())?;
        Some(self.idle.remove(at))
    }

    /// Whether there already is one for many requests: several may have been opened before the first was known.
    fn has_another(&self, new: &Idle) -> bool {
        let is_same = |idle: &Idle| idle.lease.of().key == new.lease.of().key;
        let fits = |idle: &Idle| is_same(idle) && idle.lease.has_room() && !idle.lease.is_closed();
        matches!(new.lease, Lease::Shared(_))
            && self.idle.iter().any(|idle| matches!(idle.lease, Lease::Shared(_)) && fits(idle))
    }
}

#[derive(Debug, Default)]
struct All {
    tenants: HashMap<TenantId, Own>,
    count: usize,
    /// The gateway shuts down and keeps no more connections.
    closed: bool,
}

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Pool {
    bounds: Kept,
    tls: Arc<ClientConfig>,
    all: Mutex<All>,
    metrics: Arc<Metrics>,
}

impl Pool {
    pub(super) fn new(bounds: Kept, tls: Arc<ClientConfig>, metrics: Arc<Metrics>) -> Self {
        Self { bounds, tls, all: Mutex::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A TLS configuration with the tenant's own sessions.
    pub(super) fn tls_of(&self, tenant: &Tenant) -> Arc<ClientConfig> {
        Arc::clone(&self.own(&mut self.lock(), &tenant.id).tls)
    }

    fn own<'a>(&self, all: &'a mut All, tenant: &TenantId) -> &'a mut Own {
        let own = all.tenants.entry(tenant.clone()).or_insert_with(|| {
            let mut tls = ClientConfig::clone(&self.tls);
            tls.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Own { tls: Arc::new(tls), idle: Vec::new(), seen: Instant::now() }
        });
        own.seen = Instant::now();
        own
    }

    /// Takes a kept connection for this request. An `Exclusive` is used by one request at a time.
    pub(super) fn take(&self, tenant: &Tenant, way: &Destination<'_>) -> Option<Lease> {
        let mut gone = Vec::new();
        let mut all = self.lock();
        let taken = self.find(&mut all, &tenant.id, way, &mut gone);
        self.count(&mut all, gone.len() + usize::from(matches!(taken, Some(Lease::Exclusive(_)))), 0);
        // Closing wakes tasks, which must not happen under a lock.
        drop(all);
        taken
    }

    fn find(&self, all: &mut All, tenant: &TenantId, way: &Destination<'_>, gone: &mut Vec<Idle>) -> Option<Lease> {
        let now = Instant::now();
        let own = all.tenants.get_mut(tenant)?;
        own.seen = now;
        loop {
            let at =
                own.idle.iter().rposition(|idle| idle.lease.of().key.serves(tenant, way) && idle.lease.has_room())?;
            let idle = own.idle.remove(at);
            if self.is_over(&idle, now) {
                gone.push(idle);
                continue;
            }
            let shared = match idle.lease {
                Lease::Exclusive(alone) => return Some(Lease::Exclusive(alone)),
                Lease::Shared(shared) => shared,
            };
            own.idle.push(Idle { lease: Lease::Shared(Arc::clone(&shared)), since: now });
            return Some(Lease::Shared(shared));
        }
    }

    fn is_over(&self, idle: &Idle, now: Instant) -> bool {
        let life = now.duration_since(idle.lease.of().born) >= self.bounds.life;
        life || idle.lease.is_closed() || (!idle.lease.is_busy() && now.duration_since(idle.since) >= self.bounds.idle)
    }

    /// Keeps a connection for another request: an `Exclusive` after its response was read completely, a `Shared` from its
    /// start.
    pub(super) fn keep(&self, lease: Lease) {
        let mut gone = Vec::new();
        let mut all = self.lock();
        self.keep_in(&mut all, lease, &mut gone);
        drop(all);
    }

    fn keep_in(&self, all: &mut All, lease: Lease, gone: &mut Vec<Idle>) {
        let now = Instant::now();
        let idle = Idle { lease, since: now };
        let tenant = idle.lease.of().key.tenant.clone();
        let (of_tenant, of_all) = (self.bounds.of_tenant as usize, self.bounds.all as usize);
        // A tenant that is not there was removed meanwhile.
        let own = all.tenants.get_mut(&tenant).filter(|_| !all.closed);
        let Some(own) = own.filter(|own| !self.is_over(&idle, now) && !own.has_another(&idle)) else {
            return gone.push(idle);
        };
        let mut evicted = if own.idle.len() >= of_tenant || all.count >= of_all { own.evict() } else { None };
        let is_full = own.idle.len() >= of_tenant;
        if evicted.is_none() && !is_full && all.count >= of_all {
            evicted = most(&mut all.tenants).and_then(Own::evict);
        }
        all.count -= usize::from(evicted.is_some());
        gone.extend(evicted);
        match all.tenants.get_mut(&tenant) {
            Some(own) if !is_full && all.count < of_all => {
                own.idle.push(idle);
                all.count += 1;
            }
            _ => gone.push(idle),
        }
        self.show(all);
    }

    fn count(&self, all: &mut All, less: usize, more: usize) {
        all.count = all.count + more - less;
        if less + more > 0 {
            self.show(all);
        }
    }

    fn show(&self, all: &All) {
        self.metrics.outbound_kept.set(i64::try_from(all.count).unwrap_or(i64::MAX));
    }

    /// Closes connections that are too old or that their origin closed.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.retain(
            |idle| !self.is_over(idle, now),
            |own| !own.idle.is_empty() || now.duration_since(own.seen) < self.bounds.life,
        );
    }

    /// Closes all connections of tenants that are gone.
    pub(super) fn keep_only(&self, present: impl Fn(&TenantId) -> bool) {
        let mut all = self.lock();
        let gone: Vec<Own> = all.tenants.extract_if(|tenant, _own| !present(tenant)).map(|(_, own)| own).collect();
        self.count(&mut all, gone.iter().map(|own| own.idle.len()).sum(), 0);
        drop(all);
    }

    /// Closes everything, and keeps nothing from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.keep_only(|_tenant| false);
    }

    fn retain(&self, stays: impl Fn(&Idle) -> bool, own_stays: impl Fn(&Own) -> bool) {
        let mut gone = Vec::new();
        let mut all = self.lock();
        for own in all.tenants.values_mut() {
            gone.extend(own.idle.extract_if(.., |idle| !stays(idle)));
            for idle in own.idle.iter_mut().filter(|idle| idle.lease.is_busy()) {
                idle.since = Instant::now();
            }
        }
        all.tenants.retain(|_tenant, own| own_stays(own));
        self.count(&mut all, gone.len(), 0);
        drop(all);
    }
}

/// The tenant with the most connections.
fn most(tenants: &mut HashMap<TenantId, Own>) -> Option<&mut Own> {
    tenants.values_mut().max_by_key(|own| own.idle.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Pattern;
    use crate::tenant::{GrantedHost, Quota, Registry, StoreTtl};

    fn tenant(id: &str) -> Tenant {
        let id = TenantId::parse(id).unwrap();
        let ledger = Registry::default().ledger(&id, &Quota::unbounded(), true);
        Tenant { id, store_ttl: StoreTtl::default(), ledger, callers: None, compress: Vec::new() }
    }

    fn grant(https: bool, host: &str) -> Grant {
        Grant { https, host: GrantedHost::Name(Pattern::parse(host).unwrap()), port: None }
    }

    #[test]
    fn a_connection_serves_only_its_own_tenant_grant_name_and_address() {
        let addresses = ["192.0.2.1:443".parse().unwrap(), "192.0.2.2:443".parse().unwrap()];
        let (own, other) = (grant(true, "*.example"), grant(true, "a.example"));
        let plain = grant(false, "*.example");
        let way = |grant, host, addresses| Destination { grant, host, addresses };
        let key = Key::new(&tenant("a"), &way(&own, "a.example", &addresses), addresses[1]);
        let a = TenantId::parse("a").unwrap();
        assert!(key.serves(&a, &way(&own, "a.example", &addresses)));
        assert!(!key.serves(&TenantId::parse("b").unwrap(), &way(&own, "a.example", &addresses)), "another tenant");
        assert!(!key.serves(&a, &way(&other, "a.example", &addresses)), "another grant");
        assert!(!key.serves(&a, &way(&plain, "a.example", &addresses)), "another scheme");
        assert!(!key.serves(&a, &way(&own, "b.example", &addresses)), "another server name");
        // The name has another address now, or one that this tenant may not use.
        assert!(!key.serves(&a, &way(&own, "a.example", &addresses[..1])), "another address");
        assert!(!key.serves(&a, &way(&own, "a.example", &["192.0.2.2:8443".parse().unwrap()])), "another port");
    }

    #[test]
    fn each_tenant_has_its_own_tls_sessions() {
        let time = Duration::from_secs(60);
        let bounds = Kept { all: 1, of_tenant: 1, idle: time, life: time };
        let tls = Arc::new(super::super::trusting(None).unwrap());
        let pool = Pool::new(bounds, tls, Arc::default());
        let (a, b) = (tenant("a"), tenant("b"));
        assert!(Arc::ptr_eq(&pool.tls_of(&a), &pool.tls_of(&a)));
        assert!(!Arc::ptr_eq(&pool.tls_of(&a), &pool.tls_of(&b)));
        pool.keep_only(|id| *id == b.id);
        assert_eq!(pool.lock().tenants.len(), 1);
    }
}
