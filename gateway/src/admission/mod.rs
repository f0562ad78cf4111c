//! The tenant's door, then the gateway's. A request that passes both holds an [`Admitted`], which releases everything on
//! drop.
//!
//! Invariant: the sandbox takes an `Admitted` and only this file makes one, so that no request reaches an instance without
//! its permits. The tenant's quotas come first: a tenant at its quota cannot queue for the gateway's instances. If there is
//! no free place, the gateway may cut an exchange that holds one for a slow client, provided that more than one place in
//! [`SLOW_SHARE`] is held so ([`Slow`]). Limit: [`Settings::waiting`] requests wait for an instance. Of each tenant,
//! `quota.waiting` requests wait for an instance and as many for a place in flight. Each waits for at most
//! [`Settings::wait`]. `queue` decides which request is next and which one is shed.

mod queue;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::deadline::{Deadline, Moment};
use crate::fault::{Fault, QuotaKind};
use crate::http::{Permits, Slow};
use crate::route::Routed;
pub(crate) use crate::tenant::WhenFull;
use crate::tenant::{Entry, InFlight, Ledger, Limited, QuotaPermit};

use queue::{Decision, Queue};

/// One in this many of a tenant's places, and of the instances, may be held for slow clients while another request needs
/// one.
const SLOW_SHARE: u64 = 2;

/// How often a waiting request looks for an exchange that may be cut.
const LOOK: Duration = Duration::from_millis(100);

/// What the operator chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Instances that may run at once.
    pub(crate) instances: u32,
    /// Requests that may wait for an instance.
    pub(crate) waiting: u32,
    pub(crate) wait: Duration,
}

/// Both doors.
#[derive(Debug)]
pub(crate) struct Doors {
    gate: Gate,
    wait: Duration,
    instances: u32,
    slow: Arc<Slow>,
}

/// The gateway's door. The lock is held for a few hash operations and never across an await.
#[derive(Clone, Debug)]
struct Gate(Arc<Mutex<Queue<oneshot::Sender<InstancePermit>>>>);

/// A permit for an instance, released on drop.
#[derive(Debug)]
struct InstancePermit {
    /// Nothing if the permit has already been passed on.
    gate: Option<Gate>,
    serial: u64,
}

/// A place in the queue, released on drop.
struct QueuePlace {
    gate: Gate,
    serial: u64,
    ticket: u64,
}

/// A request that may run: its target, and its permits.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) routed: Routed,
    /// How long the request waited for an instance.
    pub(crate) queued: Duration,
    // The order matters: when the next request gets the instance, this one must no longer be in flight.
    tenant: InFlight,
    _instance: InstancePermit,
}

impl Admitted {
    /// Releases the tenant's place when the guest has ended. Only clean-up remains.
    pub(crate) fn release_tenant_place(&self) {
        self.tenant.leave();
    }
}

impl Permits for Admitted {
    fn serial(&self) -> u64 {
        self.routed.tenant().ledger.serial
    }

    fn evict(&self) {
        self.tenant.leave();
    }

    fn response_sent(&self) {
        self.tenant.works_on();
    }
}

/// A request that was refused, and the quota that refused it, if any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) fault: Fault,
    pub(crate) limited: Option<Limited>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, limited: None }
    }
}

impl From<Limited> for Refused {
    fn from(limited: Limited) -> Self {
        Self { fault: limited.into(), limited: Some(limited) }
    }
}

impl Doors {
    pub(crate) fn new(settings: Settings) -> Self {
        let queue = Queue::new(settings.instances, settings.waiting);
        let slow = Arc::default();
        Self { gate: Gate(Arc::new(Mutex::new(queue))), wait: settings.wait, instances: settings.instances, slow }
    }

    /// The list of exchanges that wait for their clients.
    pub(crate) const fn slow(&self) -> &Arc<Slow> {
        &self.slow
    }

    /// Admits a request, if necessary after a wait. `when_full` applies to the tenant's door.
    ///
    /// # Errors
    /// [`Fault::Suspended`] and [`Fault::Quota`] at the tenant's door; [`Fault::Overload`] at the gateway's.
    pub(crate) async fn admit(&self, routed: Routed, when_full: WhenFull) -> Result<Arc<Admitted>, Refused> {
        let ledger = &routed.tenant().ledger;
        let arrived = Instant::now();
        let tenant = self.pass(ledger, when_full).await?;
        let instance = self.instance(ledger, self.wait.saturating_sub(arrived.elapsed())).await?;
        Ok(Arc::new(Admitted { queued: arrived.elapsed(), routed, tenant, _instance: instance }))
    }

    /// Passes only the tenant's door, for requests that need no instance.
    ///
    /// # Errors
    /// [`Fault::Suspended`], [`Fault::Quota`].
    pub(crate) async fn pass(&self, ledger: &Arc<Ledger>, when_full: WhenFull) -> Result<InFlight, Refused> {
        if ledger.is_stopped() {
            return Err(Fault::Suspended.into());
        }
        let entry = match ledger.enter(Moment::now(), when_full) {
            // A place that is held for a slow client can be freed.
            Err(refused) if refused.quota == QuotaKind::InFlight && self.makes_room(ledger, refused.max) => {
                ledger.enter(Moment::now(), when_full)
            }
            entry => entry,
        };
        let place = match entry? {
            Entry::Granted(place) => place,
            Entry::Awaited(place) => {
                let place = self.place(ledger, place).await?;
                // Other requests burned fuel meanwhile.
                ledger.owes_nothing(Moment::now())?;
                place
            }
        };
        Ok(ledger.entered(place, Moment::now())?)
    }

    /// Waits for a place in flight. Meanwhile, exchanges that hold one for a slow client may be cut.
    async fn place(&self, ledger: &Ledger, place: oneshot::Receiver<QuotaPermit>) -> Result<QuotaPermit, Refused> {
        let (full, stop) = (ledger.no_place(), ledger.stop());
        let waiting = cutting(place, || self.makes_room(ledger, full.max));
        tokio::select! {
            biased;
            place = Deadline::after(self.wait).run(waiting) => place.ok().and_then(Result::ok).ok_or_else(|| full.into()),
            () = stop.cancelled() => Err(Fault::stopped(ledger.is_stopped()).into()),
        }
    }

    /// Cuts an exchange of the tenant that holds a place for a slow client, if there are many.
    fn makes_room(&self, ledger: &Ledger, places: u64) -> bool {
        self.slow.make_room(Some(ledger.serial), share(places))
    }

    /// Number of waiting requests.
    pub(crate) fn waiting(&self) -> usize {
        self.gate.queue().waiting()
    }

    /// Returns the most requests that waited at once since the last call.
    pub(crate) fn take_waiting_peak(&self) -> usize {
        self.gate.queue().take_waiting_peak()
    }

    async fn instance(&self, ledger: &Ledger, wait: Duration) -> Result<InstancePermit, Refused> {
        let (serial, weight, own_max) = (ledger.serial, ledger.weight(), ledger.waiting_max());
        let mut granted = None;
        let asked = self.gate.queue().ask(serial, weight, own_max, || {
            let (grant, waiter) = oneshot::channel();
            granted = Some(waiter);
            grant
        });
        let ticket = match (asked, &granted) {
            (Decision::Run, _) => return Ok(InstancePermit { gate: Some(self.gate.clone()), serial }),
            // An evicted request finds its channel closed.
            (Decision::Wait { ticket, evicted: _closed }, Some(_)) => ticket,
            (Decision::FullOfOwn, _) => return Err(ledger.queue_is_full().into()),
            (Decision::Wait { .. } | Decision::Full, _) => return Err(Fault::Overload.into()),
        };
        let _place = QueuePlace { gate: self.gate.clone(), serial, ticket };
        let stop = ledger.stop();
        let granted = async {
            let granted = granted.ok_or(Fault::Internal)?;
            // The permit of a cut exchange is released when its guest has ended, and goes to the next request.
            let cut = || self.slow.make_room(None, share(self.instances.into()));
            cutting(granted, cut).await.map_err(|_evicted| Fault::Overload)
        };
        tokio::select! {
            granted = Deadline::after(wait).run(granted) => Ok(granted.unwrap_or(Err(Fault::Overload))?),
            () = stop.cancelled() => Err(Fault::stopped(ledger.is_stopped()).into()),
        }
    }
}

/// Waits for a place. From time to time it cuts an exchange that holds such a place, if that is allowed.
async fn cutting<T>(mut awaited: oneshot::Receiver<T>, cut: impl Fn() -> bool) -> Result<T, oneshot::error::RecvError> {
    loop {
        let _was_cut = cut();
        if let Ok(came) = tokio::time::timeout(LOOK, &mut awaited).await {
            return came;
        }
    }
}

fn share(places: u64) -> usize {
    usize::try_from(places / SLOW_SHARE).unwrap_or(usize::MAX)
}

impl Gate {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue<oneshot::Sender<InstancePermit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut serial = self.serial;
        loop {
            let next = gate.queue().release(serial);
            let Some((next, grant)) = next else { return };
            let Err(mut unwanted) = grant.send(Self { gate: Some(gate.clone()), serial: next }) else { return };
            // The receiver stopped waiting at this moment. The permit is passed on here and not by its own drop, which
            // would recurse once for each such receiver.
            unwanted.gate = None;
            serial = next;
        }
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.gate.queue().leave(self.serial, self.ticket);
    }
}

#[cfg(test)]
mod tests;
