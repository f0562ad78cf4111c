//! The tenant's door, then the gateway's. Whoever passes both holds an [`Admitted`], which gives everything back on drop.
//!
//! Invariant: the sandbox takes an `Admitted` and only this file makes one, so no request reaches an instance without
//! its permits. The tenant's quotas come first: a tenant at its quota cannot queue for the gateway's instances.
//! Where there is no place, one may be had that is kept by a client who takes or gives too little: of more than one in
//! [`SLOW_SHARE`] that are ([`Slow`]).
//! Limit: [`Settings::waiting`] requests wait for an instance, and of each tenant `quota.waiting` for that and as many for a place in
//! flight, each for [`Settings::wait`] at most; `queue` says who is next and who is shed.

mod queue;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::deadline::{Deadline, Moment};
use crate::fault::{Fault, Quotum};
use crate::http::{Permits, Slow};
use crate::route::Routed;
pub(crate) use crate::tenant::WhenFull;
use crate::tenant::{Allotment, Entry, InFlight, Ledger, Limited};

use queue::{Asked, Queue};

/// One in so many of a tenant's places, and of the instances, may be kept by clients while somebody else needs one.
const SLOW_SHARE: u64 = 2;

/// How often whoever waits looks for an exchange that may be cut.
const LOOK: Duration = Duration::from_millis(100);

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
    gate: Gate,
    wait: Duration,
    instances: u32,
    slow: Arc<Slow>,
}

/// The gateway's door. The lock is held for a few hashes and never across an await.
#[derive(Clone, Debug)]
struct Gate(Arc<Mutex<Queue<oneshot::Sender<Instance>>>>);

/// A permit for an instance, until it is dropped.
#[derive(Debug)]
struct Instance {
    /// Nothing, where the permit went on to somebody else already.
    gate: Option<Gate>,
    serial: u64,
}

/// A place in the queue, until it is dropped.
struct Place {
    gate: Gate,
    serial: u64,
    ticket: u64,
}

/// A request that may run: where to, and its permits.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) routed: Routed,
    /// How long it waited for an instance.
    pub(crate) queued: Duration,
    // In this order: whoever waits for the instance must find that this one is not in flight any more.
    tenant: InFlight,
    _instance: Instance,
}

impl Admitted {
    /// The guest has ended, and its tenant's place is free: what is left is to clear away.
    pub(crate) fn give_place_back(&self) {
        self.tenant.leave();
    }
}

impl Permits for Admitted {
    fn serial(&self) -> u64 {
        self.routed.tenant().ledger.serial
    }

    fn give_way(&self) {
        self.tenant.leave();
    }

    fn response_is_out(&self) {
        self.tenant.works_on();
    }
}

/// A request that may not, and by which quota where it was one.
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

    /// Where exchanges say that they wait for their clients.
    pub(crate) const fn slow(&self) -> &Arc<Slow> {
        &self.slow
    }

    /// Lets a request in, after a wait if it must be; `when_full` is about the tenant's door.
    ///
    /// # Errors
    /// [`Fault::Suspended`], [`Fault::Quota`] at the tenant's door; [`Fault::Overload`] at the gateway's.
    pub(crate) async fn admit(&self, routed: Routed, when_full: WhenFull) -> Result<Arc<Admitted>, Refused> {
        let ledger = &routed.tenant().ledger;
        let arrived = Instant::now();
        let tenant = self.pass(ledger, when_full).await?;
        let instance = self.instance(ledger, self.wait.saturating_sub(arrived.elapsed())).await?;
        Ok(Arc::new(Admitted { queued: arrived.elapsed(), routed, tenant, _instance: instance }))
    }

    /// Through the tenant's door alone, for what needs no instance.
    ///
    /// # Errors
    /// [`Fault::Suspended`], [`Fault::Quota`].
    pub(crate) async fn pass(&self, ledger: &Arc<Ledger>, when_full: WhenFull) -> Result<InFlight, Refused> {
        if ledger.is_stopped() {
            return Err(Fault::Suspended.into());
        }
        let entry = match ledger.enter(Moment::now(), when_full) {
            // A place that a client kept may be had instead.
            Err(refused) if refused.quotum == Quotum::InFlight && self.makes_room(ledger, refused.max) => {
                ledger.enter(Moment::now(), when_full)
            }
            entry => entry,
        };
        let place = match entry? {
            Entry::Granted(place) => place,
            Entry::Awaited(place) => {
                let place = self.place(ledger, place).await?;
                // Others burned meanwhile.
                ledger.owes_nothing(Moment::now())?;
                place
            }
        };
        Ok(ledger.entered(place, Moment::now())?)
    }

    /// Waits for a place in flight. What keeps one for its client may be cut meanwhile.
    async fn place(&self, ledger: &Ledger, place: oneshot::Receiver<Allotment>) -> Result<Allotment, Refused> {
        let (full, stop) = (ledger.no_place(), ledger.stop());
        let waiting = cutting(place, || self.makes_room(ledger, full.max));
        tokio::select! {
            biased;
            place = Deadline::after(self.wait).run(waiting) => place.ok().and_then(Result::ok).ok_or_else(|| full.into()),
            () = stop.cancelled() => Err(Fault::stopped(ledger.is_stopped()).into()),
        }
    }

    /// Cuts an exchange of the tenant's that keeps a place for its client, where many do.
    fn makes_room(&self, ledger: &Ledger, places: u64) -> bool {
        self.slow.make_room(Some(ledger.serial), share(places))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.gate.queue().waiting()
    }

    /// The most that waited since this was asked last.
    pub(crate) fn take_waiting_peak(&self) -> usize {
        self.gate.queue().take_waiting_peak()
    }

    async fn instance(&self, ledger: &Ledger, wait: Duration) -> Result<Instance, Refused> {
        let (serial, weight, own_max) = (ledger.serial, ledger.weight(), ledger.waiting_max());
        let mut granted = None;
        let asked = self.gate.queue().ask(serial, weight, own_max, || {
            let (grant, waiter) = oneshot::channel();
            granted = Some(waiter);
            grant
        });
        let ticket = match (asked, &granted) {
            (Asked::Run, _) => return Ok(Instance { gate: Some(self.gate.clone()), serial }),
            // Whoever was evicted finds its channel closed.
            (Asked::Wait { ticket, evicted: _closed }, Some(_)) => ticket,
            (Asked::FullOfOwn, _) => return Err(ledger.queue_is_full().into()),
            (Asked::Wait { .. } | Asked::Full, _) => return Err(Fault::Overload.into()),
        };
        let _place = Place { gate: self.gate.clone(), serial, ticket };
        let stop = ledger.stop();
        let granted = async {
            let granted = granted.ok_or(Fault::Internal)?;
            // The permit of what is cut comes back when its guest has ended, to whoever is next.
            let cut = || self.slow.make_room(None, share(self.instances.into()));
            cutting(granted, cut).await.map_err(|_evicted| Fault::Overload)
        };
        tokio::select! {
            granted = Deadline::after(wait).run(granted) => Ok(granted.unwrap_or(Err(Fault::Overload))?),
            () = stop.cancelled() => Err(Fault::stopped(ledger.is_stopped()).into()),
        }
    }
}

/// Waits for this, and has an exchange that keeps what is waited for be cut now and then, where one may be.
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
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue<oneshot::Sender<Instance>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let mut serial = self.serial;
        loop {
            let next = gate.queue().release(serial);
            let Some((next, grant)) = next else { return };
            let Err(mut unwanted) = grant.send(Self { gate: Some(gate.clone()), serial: next }) else { return };
            // It stopped waiting at this very moment. The permit goes on from here and not by its own drop, which would go
            // as deep as there are such.
            unwanted.gate = None;
            serial = next;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.queue().leave(self.serial, self.ticket);
    }
}

#[cfg(test)]
mod tests;
