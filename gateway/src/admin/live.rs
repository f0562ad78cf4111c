//! Metrics of the last second, published once a second while somebody watches. The sampler of `history` computes them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::history::{Between, History, Peaks, Sampler};
use crate::ids::TenantId;
use crate::request::Road;
use crate::telemetry::{Counts, unix_ms};
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
    in_flight: u64,
    /// The highest value within this second. The other peaks are the same.
    in_flight_peak: u64,
    instances: Held,
    instances_peak: u64,
    /// Requests that wait for an instance.
    waiting: u64,
    waiting_peak: u64,
    /// Memory of all instances, in bytes.
    memory: Held,
    memory_peak: u64,
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
    /// The highest values within the second.
    pub(super) in_flight_peak: u64,
    pub(super) memory_peak: u64,
}

impl Rates {
    /// Computes rates from two readings of the counters (requests, requests with a 5xx, fuel), this many seconds apart.
    pub(super) fn of(
        now: (u64, u64, u64),
        before: (u64, u64, u64),
        seconds: Option<f64>,
        (in_flight_peak, memory_peak): (u64, u64),
    ) -> Self {
        let per = |now: u64, before: u64| seconds.map_or(0.0, |seconds| lossy(now.saturating_sub(before)) / seconds);
        Self {
            requests: per(now.0, before.0),
            errors: per(now.1, before.1),
            fuel: per(now.2, before.2),
            in_flight_peak,
            memory_peak,
        }
    }
}

/// Who has it, and what it looks at.
pub(crate) struct Live {
    pub(super) road: Arc<Road>,
    pub(super) registry: Arc<Registry>,
    pub(super) history: History,
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

impl Live {
    pub(crate) fn new(road: Arc<Road>, registry: Arc<Registry>, instances_max: u32) -> Arc<Self> {
        Arc::new(Self {
            road,
            registry,
            history: History::default(),
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

    pub(super) fn is_wanted(&self) -> bool {
        let wanted = self.wanted_ms.load(Ordering::Relaxed);
        let since = self.began.elapsed().saturating_sub(Duration::from_millis(wanted));
        self.ticks.receiver_count() > 0 || (wanted > 0 && since < WANTED_FOR)
    }

    /// What the tenants did in the last second; nothing of whom did nothing.
    pub(super) fn rates(&self) -> Arc<HashMap<TenantId, Rates>> {
        self.want();
        Arc::clone(&self.rates.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, rates: HashMap<TenantId, Rates>) {
        *self.rates.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rates);
    }

    /// As long as the process lives.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut seconds = tokio::time::interval(EVERY);
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one comes at once.
        seconds.tick().await;
        let mut sampler = Sampler::new(self);
        loop {
            seconds.tick().await;
            sampler.look();
        }
    }

    /// Publishes the last second. Without an earlier reading, its rates are zero.
    pub(super) fn tell(&self, between: Option<Between>, peaks: Peaks) {
        let (metrics, snapshot) = (&self.road.metrics, self.road.snapshot.load());
        let seconds = between.as_ref().map_or(1.0, Between::seconds);
        let per = |count: u64| lossy(count) / seconds;
        let (memory, memory_max) = self.road.sandbox.memory();
        let (problems, warnings) = snapshot.counts();
        let now = Tick {
            at_ms: unix_ms(SystemTime::now()),
            connections: metrics.connections.get(),
            in_flight: metrics.requests_in_flight.now(),
            in_flight_peak: peaks.in_flight,
            instances: Held { now: metrics.instances.now(), max: self.instances_max },
            instances_peak: peaks.instances,
            waiting: self.road.doors.waiting() as u64,
            waiting_peak: peaks.waiting,
            memory: Held { now: memory, max: memory_max },
            memory_peak: peaks.memory,
            generation: snapshot.generation,
            problems,
            warnings,
            tenants: snapshot.standings.len() as u64,
            is_draining: self.road.tasks.is_draining(),
            ..Tick::default()
        };
        let tick = match between {
            None => now,
            Some(between) => Tick {
                requests_per_second: per(between.answered.iter().sum()),
                by_class_per_second: between.answered.map(per),
                fuel_per_second: per(between.fuel),
                latency: Percentiles::of(&between.latencies),
                faults: between.faults.into_iter().map(|(kind, count)| FaultCount { kind, count }).collect(),
                cache_asked_per_second: per(between.cache.0),
                cache_hits_per_second: per(between.cache.1),
                storage_calls_per_second: per(between.storage.count()),
                storage_latency: Percentiles::of(&between.storage),
                ..now
            },
        };
        self.ticks.send_replace(Arc::new(tick));
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
