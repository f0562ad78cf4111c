//! Lists a tenant's stores and raw keys by name, and deletes them. For operators only: it walks through the backend's keys,
//! in small steps.

use super::layout::{Place, store_of};
use super::{Backend, Result, Store};
use crate::deadline::Deadline;
use crate::ids::{StoreName, TenantId};

/// A store or a raw key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Store(StoreName),
    /// A raw Redis key, by the guest's name.
    Raw(Vec<u8>),
}

impl Name {
    /// Parses what follows the tenant's prefix. Nothing for the gateway's own keys.
    pub(super) fn parse(rest: &[u8]) -> Option<Self> {
        if let Some(key) = rest.strip_prefix(b"r:") {
            return Some(Self::Raw(key.to_vec()));
        }
        let name = str::from_utf8(rest.strip_prefix(b"kv:")?).ok()?;
        store_of(name).map(Self::Store)
    }
}

/// Some of the names, and the continuation. A backend that changes meanwhile may list one twice.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) names: Vec<Name>,
    pub(crate) cursor: Option<String>,
}

impl Store {
    pub(crate) async fn names(&self, tenant: &TenantId, cursor: Option<&str>) -> Result<Names> {
        let work = async {
            let spread = self.noted(tenant).await?;
            let (shard, cursor) = spread.place(cursor)?;
            let prefix = self.prefix.of_place(&Place::of(tenant, shard, spread.shards));
            let mut names = self.names_in(tenant, prefix, cursor).await?;
            names.cursor = spread.next(shard, names.cursor);
            Ok(names)
        };
        // A step through other tenants' keys may take longer than a guest may wait.
        Deadline::after(self.timeout * 4).run(work).await.unwrap_or(Err(super::Error::Timeout))
    }

    pub(super) async fn names_in(&self, tenant: &TenantId, prefix: String, cursor: Option<&str>) -> Result<Names> {
        match &*self.backend(tenant) {
            Backend::Embedded(embedded) => embedded.names(prefix.into_bytes(), cursor).await,
            Backend::Redis(redis) => redis.names(prefix.as_bytes(), cursor).await,
        }
    }

    /// Deletes some of a tenant's data, in one store or in all. Returns the number of keys, or nothing once nothing is
    /// left.
    pub(crate) async fn purge(&self, tenant: &TenantId, only: Option<&StoreName>) -> Result<Option<u64>> {
        let work = async {
            for place in self.places(tenant).await? {
                let prefix = self.prefix.of_place(&place);
                let store = only.map(|name| self.prefix.bucket(&place, name));
                let account = self.account(&place, None);
                let removed = match &*self.backend(tenant) {
                    Backend::Embedded(embedded) => embedded.purge(&account, prefix.into_bytes(), store).await?,
                    Backend::Redis(redis) => redis.purge(&account, prefix.as_bytes(), store).await?,
                };
                if removed.is_some() {
                    return Ok(removed);
                }
            }
            if only.is_none() {
                self.forget_layout(tenant).await?;
            }
            Ok(None)
        };
        Deadline::after(self.timeout * 4).run(work).await.unwrap_or(Err(super::Error::Timeout))
    }
}
