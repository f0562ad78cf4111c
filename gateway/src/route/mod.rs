//! Host and path → tenant, component and limits. Pure: no I/O, no clock.
//!
//! Invariant: a [`Routed`] is made by [`Table::find`] and [`Table::listeners`] alone, so whoever holds one knows that a tenant
//! claimed the host, or the channel.
//! A lookup costs two hashes for the host and one walk over that tenant's own routes, however many tenants there are.

mod path;

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{Domain, Pattern, Table as Domains};
use crate::fault::Fault;
use crate::ids::TenantId;
use crate::tenant::{Component, Limits, Tenant};

pub(crate) use path::PathPattern;

/// The most routes a tenant may have.
pub(crate) const ROUTES_MAX: usize = 200;

/// One route of a tenant: what answers, and within which bounds.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) pattern: PathPattern,
    pub(crate) component: Arc<Component>,
    pub(crate) limits: Arc<Limits>,
}

#[derive(Debug)]
struct Site {
    tenant: Arc<Tenant>,
    /// The most specific first.
    routes: Vec<Route>,
    subscriptions: Vec<Subscription>,
}

/// What messages on one of the tenant's channels start.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: String,
    pub(crate) component: Arc<Component>,
    pub(crate) limits: Arc<Limits>,
    /// How many of its messages are handled at once; with one, in their order.
    pub(crate) at_once: u32,
}

/// All hosts of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sites: Domains<Arc<Site>>,
    /// Of those with subscriptions, by tenant.
    listening: HashMap<TenantId, Arc<Site>>,
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
}

impl Table {
    /// Adds a tenant. A host that is taken stays with its present owner.
    pub(crate) fn add(
        &mut self,
        tenant: Arc<Tenant>,
        hosts: Vec<Pattern>,
        mut routes: Vec<Route>,
        subscriptions: Vec<Subscription>,
    ) {
        routes.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        let site = Arc::new(Site { tenant, routes, subscriptions });
        if !site.subscriptions.is_empty() {
            self.listening.insert(site.tenant.id.clone(), Arc::clone(&site));
        }
        for host in hosts {
            // The loader refuses a host that is claimed twice.
            let _first = self.sites.insert(host, Arc::clone(&site));
        }
    }

    /// Finds who answers.
    ///
    /// # Errors
    /// [`Fault::NoRoute`] where nobody does, be it for the host or for the path.
    pub(crate) fn find(&self, host: &Domain, path: &str) -> Result<Routed, Fault> {
        let site = self.sites.find(host).ok_or(Fault::NoRoute)?;
        let index = site.routes.iter().position(|route| route.pattern.matches(path)).ok_or(Fault::NoRoute)?;
        Ok(Routed { site: Arc::clone(site), at: At::Route(index) })
    }

    /// Who listens: each tenant, and one of its channels as it calls it.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (&TenantId, &str)> {
        let of = |(id, site)| {
            let site: &Arc<Site> = site;
            site.subscriptions.iter().map(move |subscription| (id, subscription.channel.as_str()))
        };
        self.listening.iter().flat_map(of)
    }

    /// What a message on this channel of this tenant's starts: nothing, or several components.
    pub(crate) fn listeners(&self, tenant: &TenantId, channel: &str) -> Vec<Routed> {
        let Some(site) = self.listening.get(tenant) else { return Vec::new() };
        let of = site.subscriptions.iter().enumerate().filter(|(_, subscription)| subscription.channel == channel);
        of.map(|(at, _)| Routed { site: Arc::clone(site), at: At::Subscription(at) }).collect()
    }

    /// Whether two names belong to one tenant; names of nobody belong together.
    pub(crate) fn same_owner(&self, a: &Domain, b: &Domain) -> bool {
        let owner = |name| self.sites.find(name).map(|site| &site.tenant.id);
        owner(a) == owner(b)
    }
}

impl Routed {
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.site.tenant
    }

    pub(crate) fn component(&self) -> &Arc<Component> {
        match self.at {
            At::Route(index) => &self.site.routes[index].component,
            At::Subscription(index) => &self.site.subscriptions[index].component,
        }
    }

    pub(crate) fn limits(&self) -> &Arc<Limits> {
        match self.at {
            At::Route(index) => &self.site.routes[index].limits,
            At::Subscription(index) => &self.site.subscriptions[index].limits,
        }
    }

    /// How many messages of this channel may be handled at once.
    pub(crate) fn at_once(&self) -> u32 {
        match self.at {
            At::Route(_) => 1,
            At::Subscription(index) => self.site.subscriptions[index].at_once,
        }
    }

    /// What the record says of where it came in: the route's pattern, or the channel.
    pub(crate) fn name(&self) -> &str {
        match self.at {
            At::Route(index) => self.site.routes[index].pattern.as_str(),
            At::Subscription(index) => &self.site.subscriptions[index].channel,
        }
    }
}

#[cfg(test)]
mod tests;
