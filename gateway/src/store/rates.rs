//! What gateways that share a Redis tell each other of a tenant's rates: the buckets of all of them together are there, as
//! moments by the server's own clock.

use super::{Backend, Result, Store};
use crate::ids::TenantId;

/// What was used of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spent {
    pub(crate) name: &'static str,
    pub(crate) amount: u64,
    /// In which time one comes in.
    pub(crate) nanos_each: f64,
    /// The most that is missing after a change of the rate.
    pub(crate) burst: u64,
}

/// What the fleet knows after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Gateways that told of this tenant within the last seconds, this one included.
    pub(crate) gateways: u64,
    /// In how many microseconds each bucket will be full, in the order of what was told.
    pub(crate) micros: Vec<u64>,
}

impl Store {
    /// Whether there may be other gateways on it.
    pub(crate) fn is_shared(&self) -> bool {
        self.share_rates && matches!(*self.home, Backend::Redis(_))
    }

    /// Tells what this gateway gave of a tenant's rates; nothing comes of it where nobody else may be there.
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

    /// Has these rates of a tenant's be full, for all gateways.
    ///
    /// # Errors
    /// The store's; nothing was done then.
    pub(crate) async fn fill_rates(&self, tenant: &TenantId, names: &[&'static str]) -> Result<()> {
        let Backend::Redis(redis) = &*self.home else { return Ok(()) };
        let rates = self.prefix.rates(tenant);
        self.timed(None, "share", redis.fill_rates(&rates, names)).await
    }
}
