//! A tenant's rates, shared by gateways on one Redis: the combined buckets of all gateways are stored there, as moments on
//! the server's clock.

use super::{Backend, Result, Store};
use crate::ids::TenantId;

/// What was used of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spent {
    pub(crate) name: &'static str,
    pub(crate) amount: u64,
    /// The time in which one unit refills.
    pub(crate) nanos_each: f64,
    /// The most that may be missing after a change of the rate.
    pub(crate) burst: u64,
}

/// The state of the fleet's buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Gateways that reported for this tenant within the last seconds, including this one.
    pub(crate) gateways: u64,
    /// Microseconds until each bucket is full, in the order of the report.
    pub(crate) micros: Vec<u64>,
}

impl Store {
    /// Whether other gateways may use the store.
    pub(crate) fn is_shared(&self) -> bool {
        self.share_rates && matches!(*self.home, Backend::Redis(_))
    }

    /// Reports what this gateway gave out of a tenant's rates. Does nothing if there can be no other gateway.
    pub(crate) async fn share_rates(
        &self,
        tenant: &TenantId,
        gateway: &str,
        spent: &[Spent],
    ) -> Result<Option<Levels>> {
        let Backend::Redis(redis) = &*self.home else { return Ok(None) };
        let rates = self.prefix.rates(tenant);
        self.timed(None, "share", async { redis.share_rates(&rates, gateway, spent).await.map(Some) }).await
    }

    /// Fills these rates of a tenant, for all gateways.
    ///
    /// # Errors
    /// Errors of the store; then nothing was changed.
    pub(crate) async fn fill_rates(&self, tenant: &TenantId, names: &[&'static str]) -> Result<()> {
        let Backend::Redis(redis) = &*self.home else { return Ok(()) };
        let rates = self.prefix.rates(tenant);
        self.timed(None, "share", redis.fill_rates(&rates, names)).await
    }
}
