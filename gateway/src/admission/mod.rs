//! The tenant's door, then the gateway's. Whoever passes both holds an [`Admitted`], which gives everything back on drop.
//!
//! Invariant: the sandbox takes an `Admitted` and only this file makes one, so no request reaches an instance without
//! its permits. The tenant's permit comes first: a tenant at its quota cannot queue for the gateway's instances.
//! Limit: [`Settings::waiting`] requests wait for an instance, each for [`Settings::wait`] at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::deadline::Deadline;
use crate::fault::Fault;
use crate::route::Routed;
use crate::tenant::InFlight;

/// What the operator chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Instances that may run at once.
    pub(crate) instances: u32,
    /// Requests that may wait for one.
    pub(crate) waiting: u32,
    pub(crate) wait: Duration,
}

/// Both doors.
#[derive(Debug)]
pub(crate) struct Doors {
    instances: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    wait: Duration,
}

/// A request that may run: where to, and its permits.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) routed: Routed,
    /// How long it waited for an instance.
    pub(crate) queued: Duration,
    _tenant: InFlight,
    _instance: OwnedSemaphorePermit,
}

impl Doors {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            instances: Arc::new(Semaphore::new(settings.instances as usize)),
            waiting: Arc::new(Semaphore::new(settings.waiting as usize)),
            wait: settings.wait,
        }
    }

    /// Lets a request in, after a wait if it must be.
    ///
    /// # Errors
    /// [`Fault::Suspended`], [`Fault::QuotaInFlight`] at the tenant's door; [`Fault::Overload`] at the gateway's.
    pub(crate) async fn admit(&self, routed: Routed) -> Result<Admitted, Fault> {
        let tenant = routed.tenant();
        if !tenant.enabled {
            return Err(Fault::Suspended);
        }
        let tenant = tenant.gate.enter().ok_or(Fault::QuotaInFlight)?;
        let arrived = Instant::now();
        let instance = match Arc::clone(&self.instances).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_none_free) => self.wait_for_instance().await?,
        };
        Ok(Admitted { routed, queued: arrived.elapsed(), _tenant: tenant, _instance: instance })
    }

    async fn wait_for_instance(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let _place = self.waiting.try_acquire().map_err(|_queue_full| Fault::Overload)?;
        let permit = Deadline::after(self.wait).run(Arc::clone(&self.instances).acquire_owned()).await;
        permit.map_err(|_elapsed| Fault::Overload)?.map_err(|_closed| Fault::Internal)
    }
}

#[cfg(test)]
mod tests;
