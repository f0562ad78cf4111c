//! Host and path → tenant, component and limits. Pure: no I/O, no clock.
//!
//! Invariant: only [`Table`] makes a [`Routed`], so that its holder knows that a tenant has claimed the host or the
//! channel. A lookup costs two hashes for the host and one pass over that tenant's own routes, however many tenants there
//! are.

#[cfg(any(test, fuzzing))]
mod fuzzed;
mod path;
mod schedule;
mod spin;

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Domain, Pattern, Table as Domains};
use crate::fault::Fault;
use crate::http::spin::Matched;
use crate::ids::TenantId;
use crate::tenant::{Component, Limits, Tenant};

pub(crate) use path::PathPattern;
pub(crate) use schedule::{EXPRESSION, Expression, SCHEDULES_MAX, Schedule, ScheduleId};

/// The most routes a tenant may have.
pub(crate) const ROUTES_MAX: usize = 200;

/// One route of a tenant: what answers, and under which limits.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) pattern: PathPattern,
    pub(crate) component: Arc<Component>,
    pub(crate) limits: Arc<Limits>,
    /// Whether it belongs to a Spin application, whose components are told how it matched.
    pub(crate) is_spin: bool,
}

/// A static answer that no component produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) status: http::StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

/// What a tenant serves.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) routes: Vec<Route>,
    pub(crate) fixed: Vec<(PathPattern, Arc<Fixed>)>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) schedules: Vec<Schedule>,
    /// All components, which other components of the tenant may call.
    pub(crate) components: Vec<(Arc<Component>, Arc<Limits>)>,
    /// Whether nothing can be served yet, because a component is being compiled.
    pub(crate) is_loading: bool,
}

/// A tenant and what it serves, with the most specific routes first.
#[derive(Debug)]
struct Site {
    tenant: Arc<Tenant>,
    served: Served,
}

/// What messages on one of the tenant's channels start.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: String,
    pub(crate) component: Arc<Component>,
    pub(crate) limits: Arc<Limits>,
    /// How many of the channel's messages one gateway handles at once; with one, in order.
    pub(crate) at_once: u32,
    /// Whether a message is kept until one gateway has handled it.
    pub(crate) is_once: bool,
}

/// A channel of a tenant with at least one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel<'t> {
    pub(crate) tenant: &'t TenantId,
    /// The channel's name, as the tenant uses it.
    pub(crate) name: &'t str,
    pub(crate) is_once: bool,
}

/// All hosts of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sites: Domains<Arc<Site>>,
    by_tenant: HashMap<TenantId, Arc<Site>>,
}

/// What answers a request.
#[derive(Debug)]
pub(crate) enum Found {
    Component(Routed),
    /// A static answer; the text is the route's pattern.
    Fixed(Arc<Tenant>, String, Arc<Fixed>),
    /// Nothing yet: the tenant's components are being compiled.
    Loading(Arc<Tenant>),
}

/// A request that belongs to a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    site: Arc<Site>,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Route(usize),
    Subscription(usize),
    Schedule(usize),
    Inner(usize),
}

impl Table {
    /// Adds a tenant. A host that is taken stays with its present owner.
    pub(crate) fn add(&mut self, tenant: Arc<Tenant>, hosts: Vec<Pattern>, mut served: Served) {
        served.routes.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        served.fixed.sort_by(|a, b| a.0.cmp(&b.0));
        self.put(&Arc::new(Site { tenant, served }), hosts);
    }

    /// Takes over a tenant as it is in `other`. Returns whether `other` has the tenant.
    pub(crate) fn keep(&mut self, other: &Self, tenant: &TenantId, hosts: Vec<Pattern>) -> bool {
        let Some(site) = other.by_tenant.get(tenant) else { return false };
        self.put(site, hosts);
        true
    }

    fn put(&mut self, site: &Arc<Site>, hosts: Vec<Pattern>) {
        self.by_tenant.insert(site.tenant.id.clone(), Arc::clone(site));
        for host in hosts {
            // The loader refuses a host that two tenants claim.
            let _first = self.sites.insert(host, Arc::clone(site));
        }
    }

    /// Finds what answers a request.
    ///
    /// # Errors
    /// [`Fault::NoRoute`] if no tenant has the host, or the tenant has no route for the path.
    pub(crate) fn find(&self, host: &Domain, path: &str) -> Result<Found, Fault> {
        Site::find(self.sites.find(host).ok_or(Fault::NoRoute)?, path)
    }

    /// Finds what the tenant itself has at a path, regardless of its hosts.
    ///
    /// # Errors
    /// [`Fault::NoRoute`] if the tenant has no such route.
    pub(crate) fn own(&self, tenant: &TenantId, path: &str) -> Result<Found, Fault> {
        Site::find(self.by_tenant.get(tenant).ok_or(Fault::NoRoute)?, path)
    }

    /// All channels that have listeners.
    pub(crate) fn channels(&self) -> impl Iterator<Item = Channel<'_>> {
        let of = |(tenant, site)| {
            let site: &Arc<Site> = site;
            site.served.subscriptions.iter().map(move |subscription| Channel {
                tenant,
                name: &subscription.channel,
                is_once: subscription.is_once,
            })
        };
        self.by_tenant.iter().flat_map(of)
    }

    /// The components that a message on this channel of this tenant starts. There may be none or several.
    pub(crate) fn listeners(&self, tenant: &TenantId, channel: &str) -> Vec<Routed> {
        let Some(site) = self.by_tenant.get(tenant) else { return Vec::new() };
        let of =
            site.served.subscriptions.iter().enumerate().filter(|(_, subscription)| subscription.channel == channel);
        of.map(|(at, _)| Routed { site: Arc::clone(site), at: At::Subscription(at) }).collect()
    }

    /// The schedules of all tenants.
    pub(crate) fn schedules(&self) -> impl Iterator<Item = (&TenantId, &Schedule)> {
        let of = |(tenant, site)| {
            let site: &Arc<Site> = site;
            site.served.schedules.iter().map(move |schedule| (tenant, schedule))
        };
        self.by_tenant.iter().flat_map(of)
    }

    /// The component that one of the tenant's schedules starts, if the schedule still exists.
    pub(crate) fn scheduled(&self, tenant: &TenantId, id: ScheduleId) -> Option<Routed> {
        let site = self.by_tenant.get(tenant)?;
        let at = site.served.schedules.iter().position(|schedule| schedule.id == id)?;
        Some(Routed { site: Arc::clone(site), at: At::Schedule(at) })
    }

    /// The component that another one of the same tenant calls by name: with this exact name, or else with the same name as
    /// a host name spells it, in any case and with `-` for `_`, if exactly one component matches.
    pub(crate) fn inner(&self, tenant: &TenantId, component: &str) -> Option<Routed> {
        let site = self.by_tenant.get(tenant)?;
        let components = &site.served.components;
        let exactly = components.iter().position(|(known, _)| known.name.as_str() == component);
        let at = exactly.or_else(|| {
            let folded = |name: &str| name.to_ascii_lowercase().replace('_', "-");
            let alike =
                |(_, (known, _)): &(usize, &(Arc<Component>, _))| folded(known.name.as_str()) == folded(component);
            let mut found = components.iter().enumerate().filter(alike).map(|(at, _)| at);
            found.next().filter(|_| found.next().is_none())
        })?;
        Some(Routed { site: Arc::clone(site), at: At::Inner(at) })
    }

    /// Whether this tenant has this host.
    pub(crate) fn has(&self, tenant: &TenantId, host: &Pattern) -> bool {
        self.sites.get(host).is_some_and(|site| site.tenant.id == *tenant)
    }

    /// The tenant that has this name.
    pub(crate) fn owner(&self, name: &Domain) -> Option<&Arc<Tenant>> {
        self.sites.find(name).map(|site| &site.tenant)
    }

    /// Whether two names belong to the same tenant. Names without a tenant belong together.
    pub(crate) fn same_owner(&self, a: &Domain, b: &Domain) -> bool {
        let owner = |name| self.sites.find(name).map(|site| &site.tenant.id);
        owner(a) == owner(b)
    }
}

impl Site {
    fn find(site: &Arc<Self>, path: &str) -> Result<Found, Fault> {
        if site.served.is_loading {
            return Ok(Found::Loading(Arc::clone(&site.tenant)));
        }
        let Served { routes, fixed, .. } = &site.served;
        let route = routes.iter().position(|route| route.pattern.matches(path));
        let is_better = |pattern: &PathPattern| route.is_none_or(|at| pattern.cmp(&routes[at].pattern).is_lt());
        let fixed = fixed.iter().find(|(pattern, _)| pattern.matches(path) && is_better(pattern));
        match (fixed, route) {
            (Some((pattern, answer)), _) => {
                Ok(Found::Fixed(Arc::clone(&site.tenant), pattern.as_str().to_owned(), Arc::clone(answer)))
            }
            (None, Some(at)) => Ok(Found::Component(Routed { site: Arc::clone(site), at: At::Route(at) })),
            (None, None) => Err(Fault::NoRoute),
        }
    }
}

impl Routed {
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.site.tenant
    }

    pub(crate) fn component(&self) -> &Arc<Component> {
        match self.at {
            At::Route(index) => &self.site.served.routes[index].component,
            At::Subscription(index) => &self.site.served.subscriptions[index].component,
            At::Schedule(index) => &self.site.served.schedules[index].component,
            At::Inner(index) => &self.site.served.components[index].0,
        }
    }

    pub(crate) fn limits(&self) -> &Arc<Limits> {
        match self.at {
            At::Route(index) => &self.site.served.routes[index].limits,
            At::Subscription(index) => &self.site.served.subscriptions[index].limits,
            At::Schedule(index) => &self.site.served.schedules[index].limits,
            At::Inner(index) => &self.site.served.components[index].1,
        }
    }

    /// How many messages of this channel may be handled at once.
    pub(crate) fn at_once(&self) -> u32 {
        match self.at {
            At::Route(_) | At::Inner(_) | At::Schedule(_) => 1,
            At::Subscription(index) => self.site.served.subscriptions[index].at_once,
        }
    }

    /// Whether a message is kept until one gateway has handled it.
    pub(crate) fn is_once(&self) -> bool {
        match self.at {
            At::Route(_) | At::Inner(_) | At::Schedule(_) => false,
            At::Subscription(index) => self.site.served.subscriptions[index].is_once,
        }
    }

    /// How the path matched, if the route belongs to a Spin application.
    pub(crate) fn spin_match<'p>(&'p self, path: &'p str) -> Option<Matched<'p>> {
        match self.at {
            At::Route(index) => {
                let route = &self.site.served.routes[index];
                route.is_spin.then(|| {
                    let (named, rest) = route.pattern.captured(path);
                    Matched { route: route.pattern.as_str(), matched: route.pattern.matched(), rest, named }
                })
            }
            At::Inner(_) => Some(Matched { route: "/...", matched: "/...", rest: path.into(), named: Vec::new() }),
            At::Subscription(_) | At::Schedule(_) => None,
        }
    }

    /// The name for the access record: the route's pattern, the channel, or the schedule's expression.
    pub(crate) fn name(&self) -> &str {
        match self.at {
            At::Route(index) => self.site.served.routes[index].pattern.as_str(),
            At::Subscription(index) => &self.site.served.subscriptions[index].channel,
            At::Schedule(index) => self.site.served.schedules[index].expression.as_str(),
            At::Inner(_) => "/...",
        }
    }
}

#[cfg(test)]
mod tests;
