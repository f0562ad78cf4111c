//! Who compiles next: places for compiling children, shared out by tenant.
//!
//! A tenant has one place at most, and whoever used the least processor time lately is next. One place is never held by a tenant
//! that compiled for longer than [`LIGHT_MAX`] lately: a tenant with a thousand slow components has the other one for as long as
//! it likes, and everybody else's deploy passes it by.
//!
//! Limit: as many tenants wait as are configured, each once for each plan of it that is looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::ids::TenantId;

/// Processor time after which a tenant is one that compiles a lot.
const LIGHT_MAX: Duration = Duration::from_secs(60);
/// In which time half of what was used is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// What a child costs at the least, so that many small ones count as well.
const COST_MIN: Duration = Duration::from_millis(50);

/// All places. The lock is held for a walk over who waits, and never across an await.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The share of who got a place last: nobody who comes later stands before it.
    floor: Duration,
    accounts: HashMap<TenantId, Account>,
    /// By share and then by arrival.
    waiting: BTreeMap<(Duration, u64), (TenantId, oneshot::Sender<Place>)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Account {
    /// Processor time used since it came, above the floor of then.
    share: Duration,
    /// The same, half of it forgotten every [`HALF_LIFE`].
    recent: Duration,
    since: Instant,
    /// What its child used so far, where it has one.
    holds: Option<Arc<AtomicU64>>,
    waits: usize,
}

/// A place for one child, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Option<Places>,
    tenant: TenantId,
    spent_us: Arc<AtomicU64>,
    /// Whether its tenant compiled little lately.
    pub(super) is_light: bool,
}

/// A wait in the queue, until it is dropped.
struct Wait {
    places: Places,
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
    /// Takes the next one out, where a place is free for it.
    fn next(&mut self, now: Instant) -> Option<(TenantId, oneshot::Sender<Place>)> {
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

    /// Puts who waits for this tenant behind those who used less than it by now.
    fn sort_again(&mut self, tenant: &TenantId, share: Duration) {
        let is_its = |(_, (of, _)): &(&(Duration, u64), &(TenantId, oneshot::Sender<Place>))| of == tenant;
        let keys: Vec<_> = self.waiting.iter().filter(is_its).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(wait) = self.waiting.remove(&key) {
                self.waiting.insert((share, key.1), wait);
            }
        }
    }

    /// Forgets who neither has a place nor waits, and used little lately.
    fn tidy(&mut self, now: Instant) {
        let is_idle = self.waiting.is_empty() && self.accounts.values().all(|account| account.holds.is_none());
        let floor = self.floor;
        self.accounts.retain(|_, account| {
            let is_here = account.holds.is_some() || account.waits > 0;
            is_here || account.recent(now) > COST_MIN || (account.share > floor && !is_idle)
        });
    }
}

impl Places {
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

    /// A place for a child of this tenant's, when it is its turn.
    ///
    /// Cancel safety: whoever stops waiting leaves the queue.
    pub(super) async fn take(&self, tenant: &TenantId) -> Place {
        loop {
            let (grant, granted) = oneshot::channel();
            let mut wait = self.join(tenant, grant);
            self.share_out();
            // The queue drops no grant that somebody waits for.
            if let Ok(place) = granted.await {
                wait.is_over = true;
                return place;
            }
        }
    }

    fn join(&self, tenant: &TenantId, grant: oneshot::Sender<Place>) -> Wait {
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

    /// Gives free places to those who are next.
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
            // Where nobody waits for it any more it is dropped, and given back.
            let _unwanted = grant.send(Place { places: Some(self.clone()), tenant, spent_us, is_light });
        }
    }
}

impl Place {
    /// Notes what its child used of the processor so far.
    pub(super) fn spent(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.spent_us.fetch_max(us, Ordering::Relaxed);
    }

    /// What its child used so far.
    pub(super) fn used(&self) -> Duration {
        Duration::from_micros(self.spent_us.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
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

    /// One who waits: polled once, so that it stands in the queue.
    fn waits(places: &Places, id: &str) -> std::pin::Pin<Box<dyn Future<Output = Place>>> {
        let (places, tenant) = (places.clone(), tenant(id));
        let mut wait: std::pin::Pin<Box<dyn Future<Output = Place>>> =
            Box::pin(async move { places.take(&tenant).await });
        assert!((&mut wait).now_or_never().is_none(), "{id} does not have to wait");
        wait
    }

    fn takes(places: &Places, id: &str) -> Place {
        places.take(&tenant(id)).now_or_never().unwrap()
    }

    #[test]
    fn a_tenant_has_one_place_however_many_are_free() {
        let places = Places::new(2);
        let first = takes(&places, "greedy");
        let mut second = waits(&places, "greedy");
        let _other = takes(&places, "other");
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[test]
    fn who_used_the_least_is_next_and_not_who_came_first() {
        let places = Places::new(1);
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
    fn one_place_is_never_held_by_who_compiles_a_lot() {
        let places = Places::new(2);
        let [first, second] = ["a", "b"].map(|id| takes(&places, id));
        assert!(first.is_light && second.is_light);
        // Both turn out to be slow, and have many more.
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
    fn who_stops_waiting_leaves_nothing_behind() {
        let places = Places::new(1);
        let place = takes(&places, "one");
        let gone = waits(&places, "gone");
        let mut stays = waits(&places, "stays");
        drop(gone);
        drop(place);
        drop((&mut stays).now_or_never().unwrap());
        // A grant that comes to nobody is given on.
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
