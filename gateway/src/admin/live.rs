//! Figures of the last second, for whoever watches: computed once a second, and only while somebody does.
//!
//! Limit: one task, which walks all tenants once a second while it is wanted; nobody who serves waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::ids::TenantId;
use crate::request::Road;
use crate::telemetry::{Counts, TotalsSnapshot, unix_ms};
use crate::tenant::{Held, Registry};

const EVERY: Duration = Duration::from_secs(1);
/// After the last look at a tenant's rates.
const WANTED_FOR: Duration = Duration::from_secs(15);

/// One second of the gateway as a whole.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Tick {
    /// When it ended, in milliseconds since 1970.
    at_ms: u64,
    requests_per_second: f64,
    /// Of those, by the first digit of their status, from 1xx to 5xx.
    by_class_per_second: [f64; 5],
    fuel_per_second: f64,
    latency: Percentiles,
    /// Faults of this second by kind.
    faults: Vec<FaultCount>,
    connections: i64,
    in_flight: i64,
    instances: Held,
    /// Requests that wait for an instance.
    waiting: u64,
    /// Memory of all instances, in bytes.
    memory: Held,
    /// Requests that looked for a kept response, and those that found one.
    cache_asked_per_second: f64,
    cache_hits_per_second: f64,
    storage_calls_per_second: f64,
    storage_latency: Percentiles,
    generation: u64,
    /// Number of errors in the configuration in force, without warnings.
    problems: u64,
    warnings: u64,
    tenants: u64,
    is_draining: bool,
}

/// Percentiles of durations, in milliseconds; null if there was nothing to measure.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Percentiles {
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Percentiles {
    pub(super) fn of(counts: &Counts) -> Self {
        let ms = |per_mille| counts.per_mille(per_mille).map(|time| time.as_secs_f64() * 1000.0);
        Self { p50_ms: ms(500), p90_ms: ms(900), p99_ms: ms(990) }
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FaultCount {
    pub(super) kind: &'static str,
    pub(super) count: u64,
}

/// What one tenant did in the last second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) fuel: f64,
}

/// Who has it, and what it looks at.
pub(crate) struct Live {
    road: Arc<Road>,
    registry: Arc<Registry>,
    instances_max: u64,
    ticks: watch::Sender<Arc<Tick>>,
    rates: RwLock<Arc<HashMap<TenantId, Rates>>>,
    /// When somebody last looked at rates, in milliseconds since `began`; 0 is never.
    wanted_ms: AtomicU64,
    began: Instant,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// What was counted a second ago.
#[derive(Default)]
struct Before {
    at: Option<Instant>,
    all: TotalsSnapshot,
    faults: HashMap<&'static str, u64>,
    storage: Counts,
    cache: (u64, u64),
    tenants: HashMap<TenantId, (u64, u64, u64)>,
}

impl Live {
    pub(crate) fn new(road: Arc<Road>, registry: Arc<Registry>, instances_max: u32) -> Arc<Self> {
        Arc::new(Self {
            road,
            registry,
            instances_max: instances_max.into(),
            ticks: watch::Sender::new(Arc::default()),
            rates: RwLock::default(),
            wanted_ms: AtomicU64::new(0),
            began: Instant::now(),
        })
    }

    /// The seconds as they end.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Tick>> {
        self.want();
        self.ticks.subscribe()
    }

    fn want(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wanted_ms.store(now.max(1), Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        let wanted = self.wanted_ms.load(Ordering::Relaxed);
        let since = self.began.elapsed().saturating_sub(Duration::from_millis(wanted));
        self.ticks.receiver_count() > 0 || (wanted > 0 && since < WANTED_FOR)
    }

    /// What the tenants did in the last second; nothing of whom did nothing.
    pub(super) fn rates(&self) -> Arc<HashMap<TenantId, Rates>> {
        self.want();
        Arc::clone(&self.rates.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, rates: HashMap<TenantId, Rates>) {
        *self.rates.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rates);
    }

    /// As long as the process lives.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut seconds = tokio::time::interval(EVERY);
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Before::default();
        loop {
            seconds.tick().await;
            if self.is_wanted() {
                self.second(&mut before);
            } else if before.at.take().is_some() {
                self.put(HashMap::new());
            }
        }
    }

    fn second(&self, before: &mut Before) {
        let now = Instant::now();
        // Who begins to watch sees rates from the second second on.
        let seconds = before.at.map(|at| now.duration_since(at).as_secs_f64().max(0.001));
        let per = |count: u64| seconds.map_or(0.0, |seconds| lossy(count) / seconds);
        let metrics = &self.road.metrics;
        let all = metrics.totals.counted();
        let since = all.latencies.since(&before.all.latencies);
        let storage = metrics.storage_latencies.counts();
        let cache = metrics.cache_counted();
        let faults: HashMap<&'static str, u64> = metrics.totals.faults().into_iter().collect();
        let new_faults = faults.iter().filter_map(|(kind, count)| {
            let count = count - before.faults.get(kind).copied().unwrap_or(0);
            (count > 0 && seconds.is_some()).then_some(FaultCount { kind, count })
        });
        let classes = all.answered.iter().zip(before.all.answered).map(|(now, before)| per(now - before));
        let mut by_class_per_second = [0.0; 5];
        by_class_per_second.iter_mut().zip(classes).for_each(|(into, class)| *into = class);
        let snapshot = self.road.snapshot.load();
        let (memory, memory_max) = self.road.sandbox.memory();
        let stored = storage.since(&before.storage);
        let (problems, warnings) = snapshot.counts();
        let tick = Tick {
            at_ms: unix_ms(SystemTime::now()),
            requests_per_second: by_class_per_second.iter().sum(),
            by_class_per_second,
            fuel_per_second: per(all.fuel - before.all.fuel),
            latency: if seconds.is_some() { Percentiles::of(&since) } else { Percentiles::default() },
            faults: new_faults.collect(),
            connections: metrics.connections.get(),
            in_flight: metrics.requests_in_flight.get(),
            instances: Held { now: metrics.instances.get().try_into().unwrap_or(0), max: self.instances_max },
            waiting: self.road.doors.waiting() as u64,
            memory: Held { now: memory, max: memory_max },
            cache_asked_per_second: per(cache.0 - before.cache.0),
            cache_hits_per_second: per(cache.1 - before.cache.1),
            storage_calls_per_second: per(stored.count()),
            storage_latency: if seconds.is_some() { Percentiles::of(&stored) } else { Percentiles::default() },
            generation: snapshot.generation,
            problems,
            warnings,
            tenants: snapshot.standings.len() as u64,
            is_draining: self.road.tasks.is_draining(),
        };
        self.tenants(&mut before.tenants, per);
        (before.at, before.all, before.faults, before.storage, before.cache) = (Some(now), all, faults, storage, cache);
        self.ticks.send_replace(Arc::new(tick));
    }

    fn tenants(&self, before: &mut HashMap<TenantId, (u64, u64, u64)>, per: impl Fn(u64) -> f64) {
        let mut rates = HashMap::new();
        let mut counted = HashMap::new();
        for ledger in self.registry.all() {
            let totals = &ledger.figures.totals;
            let (requests, errors) = totals.requests();
            let fuel = totals.fuel();
            if requests == 0 && fuel == 0 {
                continue;
            }
            let (requests_before, errors_before, fuel_before) =
                before.get(&ledger.id).copied().unwrap_or((requests, errors, fuel));
            if (requests, fuel) != (requests_before, fuel_before) {
                let of = Rates {
                    requests: per(requests.saturating_sub(requests_before)),
                    errors: per(errors.saturating_sub(errors_before)),
                    fuel: per(fuel.saturating_sub(fuel_before)),
                };
                rates.insert(ledger.id.clone(), of);
            }
            counted.insert(ledger.id.clone(), (requests, errors, fuel));
        }
        *before = counted;
        self.put(rates);
    }

    pub(super) const fn instances_max(&self) -> u64 {
        self.instances_max
    }
}

/// Counts stay far below what a double holds exactly.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown to a person")]
const fn lossy(count: u64) -> f64 {
    count as f64
}
