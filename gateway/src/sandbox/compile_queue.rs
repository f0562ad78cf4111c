//! Which tenant compiles next: places for compiling children, shared fairly between tenants.
//!
//! A tenant has at most one place, and the tenant that used the least processor time recently is next. One place is never
//! given to a tenant that compiled for longer than [`LIGHT_MAX`] recently. A tenant with a thousand slow components may
//! hold the other place for as long as it likes, and everybody else's deploys pass it.
//!
//! Limit: the number of configured tenants, each of which waits once for each of its plans.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::ids::TenantId;

/// Processor time above which a tenant counts as one that compiles a lot.
const LIGHT_MAX: Duration = Duration::from_secs(60);
/// The time in which half of the use is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// The least that a child costs, so that many small ones count as well.
const COST_MIN: Duration = Duration::from_millis(50);

/// All places. The lock is held for a walk over the waiting tenants, and never across an await.
#[derive(Clone, Debug)]
pub(super) struct CompileQueue(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The share of the tenant that got the last place. No later tenant is placed before it.
    floor: Duration,
    accounts: HashMap<TenantId, Account>,
    /// The queue, ordered by share and then by arrival.
    waiting: BTreeMap<(Duration, u64), (TenantId, oneshot::Sender<CompilePermit>)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Account {
    /// Processor time used since the tenant arrived, added to the floor at that time.
    share: Duration,
    /// The same, halved every [`HALF_LIFE`].
    recent: Duration,
    since: Instant,
    /// What its child has used so far, if it has one.
    holds: Option<Arc<AtomicU64>>,
    waits: usize,
}

/// A place for one child, released on drop.
#[derive(Debug)]
pub(super) struct CompilePermit {
    places: Option<CompileQueue>,
    tenant: TenantId,
    spent_us: Arc<AtomicU64>,
    /// Whether its tenant compiled little recently.
    pub(super) is_light: bool,
}

/// A wait in the queue, until it is dropped.
struct Wait {
    places: CompileQueue,
    tenant: TenantId,
    arrival: u64,
    is_over: bool,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self { share: Duration::ZERO, recent: Duration::ZERO, since: now, holds: None, waits: 0 }
    }

    fn recent(&self, now: Instant) -> Duration {
        let halves = now.saturating_duration_since(self.since).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let spent = self.holds.as_ref().map_or(0, |spent| spent.load(Ordering::Relaxed));
        self.recent.mul_f64((-halves).exp2()) + Duration::from_micros(spent)
    }

    fn is_light(&self, now: Instant) -> bool {
        self.recent(now) <= LIGHT_MAX
    }
}

impl Queue {
    /// Takes the next tenant out of the queue, if there is a free place for it.
    fn next(&mut self, now: Instant) -> Option<(TenantId, oneshot::Sender<CompilePermit>)> {
        if self.free == 0 {
            return None;
        }
        let is_heavy_held = self.accounts.values().any(|account| account.holds.is_some() && !account.is_light(now));
        let may = |tenant: &TenantId| {
            let account = self.accounts.get(tenant);
            account.is_none_or(|account| account.holds.is_none() && (account.is_light(now) || !is_heavy_held))
        };
        let key = *self.waiting.iter().find(|(_, (tenant, _))| may(tenant))?.0;
        self.floor = self.floor.max(key.0);
        self.waiting.remove(&key)
    }

    /// Moves the waits of this tenant behind those of tenants that used less by now.
    fn sort_again(&mut self, tenant: &TenantId, share: Duration) {
        let is_its = |(_, (of, _)): &(&(Duration, u64), &(TenantId, oneshot::Sender<CompilePermit>))| of == tenant;
        let keys: Vec<_> = self.waiting.iter().filter(is_its).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(wait) = self.waiting.remove(&key) {
                self.waiting.insert((share, key.1), wait);
            }
        }
    }

    /// Forgets tenants that neither hold a place nor wait, and used little recently.
    fn tidy(&mut self, now: Instant) {
        let is_idle = self.waiting.is_empty() && self.accounts.values().all(|account| account.holds.is_none());
        let floor = self.floor;
        self.accounts.retain(|_, account| {
            let is_here = account.holds.is_some() || account.waits > 0;
            is_here || account.recent(now) > COST_MIN || (account.share > floor && !is_idle)
        });
    }
}

impl CompileQueue {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free: count,
            floor: Duration::ZERO,
            accounts: HashMap::new(),
            waiting: BTreeMap::new(),
            arrivals: 0,
        })))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this tenant's turn, and returns a place for a child.
    ///
    /// Cancel safety: a caller that stops waiting leaves the queue.
    pub(super) async fn take(&self, tenant: &TenantId) -> CompilePermit {
        loop {
            let (grant, granted) = oneshot::channel();
            let mut wait = self.join(tenant, grant);
            self.share_out();
            // The queue does not drop the grant of a caller that waits.
            if let Ok(place) = granted.await {
                wait.is_over = true;
                return place;
            }
        }
    }

    fn join(&self, tenant: &TenantId, grant: oneshot::Sender<CompilePermit>) -> Wait {
        let mut queue = self.queue();
        let (floor, arrival) = (queue.floor, queue.arrivals);
        queue.arrivals += 1;
        let account = queue.accounts.entry(tenant.clone()).or_insert_with(|| Account::new(Instant::now()));
        account.share = account.share.max(floor);
        account.waits += 1;
        let key = (account.share, arrival);
        queue.waiting.insert(key, (tenant.clone(), grant));
        Wait { places: self.clone(), tenant: tenant.clone(), arrival, is_over: false }
    }

    /// Gives free places to the tenants that are next.
    fn share_out(&self) {
        loop {
            let mut queue = self.queue();
            let now = Instant::now();
            let Some((tenant, grant)) = queue.next(now) else { return };
            queue.free -= 1;
            let spent_us = Arc::<AtomicU64>::default();
            let account = queue.accounts.entry(tenant.clone()).or_insert_with(|| Account::new(now));
            let is_light = account.is_light(now);
            account.holds = Some(Arc::clone(&spent_us));
            drop(queue);
            // If the caller no longer waits, the place is dropped and released.
            let _unwanted = grant.send(CompilePermit { places: Some(self.clone()), tenant, spent_us, is_light });
        }
    }
}

impl CompilePermit {
    /// Notes the processor time that its child has used so far.
    pub(super) fn spent(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.spent_us.fetch_max(us, Ordering::Relaxed);
    }

    /// The processor time that its child has used so far.
    pub(super) fn used(&self) -> Duration {
        Duration::from_micros(self.spent_us.load(Ordering::Relaxed))
    }
}

impl Drop for CompilePermit {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else { return };
        let mut queue = places.queue();
        let now = Instant::now();
        if let Some(account) = queue.accounts.get_mut(&self.tenant) {
            let cost = Duration::from_micros(self.spent_us.load(Ordering::Relaxed)).max(COST_MIN);
            account.holds = None;
            account.recent = account.recent(now) + cost;
            account.since = now;
            account.share += cost;
            let (share, waits) = (account.share, account.waits);
            if waits > 0 {
                queue.sort_again(&self.tenant, share);
            }
        }
        queue.free += 1;
        queue.tidy(now);
        drop(queue);
        places.share_out();
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut queue = self.places.queue();
        if !self.is_over {
            queue.waiting.retain(|(_, arrival), _| *arrival != self.arrival);
        }
        if let Some(account) = queue.accounts.get_mut(&self.tenant) {
            account.waits = account.waits.saturating_sub(1);
        }
        queue.tidy(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    /// A waiting caller: polled once, so that it is in the queue.
    fn waits(places: &CompileQueue, id: &str) -> std::pin::Pin<Box<dyn Future<Output = CompilePermit>>> {
        let (places, tenant) = (places.clone(), tenant(id));
        let mut wait: std::pin::Pin<Box<dyn Future<Output = CompilePermit>>> =
            Box::pin(async move { places.take(&tenant).await });
        assert!((&mut wait).now_or_never().is_none(), "{id} does not have to wait");
        wait
    }

    fn takes(places: &CompileQueue, id: &str) -> CompilePermit {
        places.take(&tenant(id)).now_or_never().unwrap()
    }

    #[test]
    fn a_tenant_has_one_place_however_many_are_free() {
        let places = CompileQueue::new(2);
        let first = takes(&places, "greedy");
        let mut second = waits(&places, "greedy");
        let _other = takes(&places, "other");
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[test]
    fn the_tenant_that_used_least_is_next_and_not_the_first_one() {
        let places = CompileQueue::new(1);
        let used = takes(&places, "slow");
        used.spent(Duration::from_secs(20));
        let mut again = waits(&places, "slow");
        let mut thousandth = waits(&places, "slow");
        let mut quick = waits(&places, "quick");
        drop(used);
        let place = (&mut quick).now_or_never().unwrap();
        place.spent(Duration::from_secs(1));
        let mut more = waits(&places, "quick");
        drop(place);
        // Two seconds are still less than twenty.
        let place = (&mut more).now_or_never().unwrap();
        drop(place);
        assert!((&mut thousandth).now_or_never().is_none());
        let place = (&mut again).now_or_never().unwrap();
        drop(place);
        assert!((&mut thousandth).now_or_never().is_some());
    }

    #[test]
    fn one_place_is_never_given_to_a_tenant_that_compiles_a_lot() {
        let places = CompileQueue::new(2);
        let [first, second] = ["a", "b"].map(|id| takes(&places, id));
        assert!(first.is_light && second.is_light);
        // Both turn out to be slow, and have many more components.
        for place in [&first, &second] {
            place.spent(LIGHT_MAX + Duration::from_secs(1));
        }
        let mut more = [waits(&places, "a"), waits(&places, "b")];
        drop(first);
        assert!(more.iter_mut().all(|wait| wait.now_or_never().is_none()), "the other one has the one place of such");
        let new = takes(&places, "new");
        drop(second);
        let held: Vec<_> = more.iter_mut().filter_map(|wait| wait.now_or_never()).collect();
        assert!(held.len() == 1 && !held[0].is_light);
        drop(new);
        let _newer = takes(&places, "newer");
    }

    #[test]
    fn a_caller_that_stops_waiting_leaves_nothing_behind() {
        let places = CompileQueue::new(1);
        let place = takes(&places, "one");
        let gone = waits(&places, "gone");
        let mut stays = waits(&places, "stays");
        drop(gone);
        drop(place);
        drop((&mut stays).now_or_never().unwrap());
        // A grant that reaches nobody is passed on.
        let place = takes(&places, "one");
        let granted = waits(&places, "gone");
        drop(place);
        drop(granted);
        drop(takes(&places, "other"));
        let mut queue = places.queue();
        assert!(queue.free == 1 && queue.waiting.is_empty());
        queue.tidy(Instant::now() + HALF_LIFE * 20);
        assert!(queue.accounts.is_empty(), "{:?}", queue.accounts);
    }
}
