//! Host and path → tenant, component and limits. Pure: no I/O, no clock.
//!
//! Invariant: a [`Routed`] is made by [`Table::find`] alone, so whoever holds one knows that a tenant claimed the host.
//! A lookup costs two hashes for the host and one walk over that tenant's own routes, however many tenants there are.

mod path;

use std::sync::Arc;

use crate::domain::{Domain, Pattern, Table as Domains};
use crate::fault::Fault;
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
}

/// All hosts of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sites: Domains<Arc<Site>>,
}

/// A request that belongs to a tenant.
#[derive(Debug)]
pub(crate) struct Routed {
    site: Arc<Site>,
    index: usize,
}

impl Table {
    /// Adds a tenant. A host that is taken stays with its present owner.
    pub(crate) fn add(&mut self, tenant: Arc<Tenant>, hosts: Vec<Pattern>, mut routes: Vec<Route>) {
        routes.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        let site = Arc::new(Site { tenant, routes });
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
        Ok(Routed { site: Arc::clone(site), index })
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

    pub(crate) fn route(&self) -> &Route {
        &self.site.routes[self.index]
    }
}

#[cfg(test)]
mod tests;
