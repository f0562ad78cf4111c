//! What a tenant uses and what its quotas allow: the part of a tenant that outlives a reload.
//!
//! Invariant: everything that is added is released by a guard's drop (requests, memory, outbound requests) or refills with
//! time (the buckets), so that no cancellation leaks. A reload changes the maxima and forgives nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bucket::{Bucket, Count, Rate};
use super::causes::Causes;
use super::guards::{Connected, InFlight};
use super::limited::{Limited, limited};
use super::per_address::PerAddress;
use super::semaphore::{Entry, QuotaPermit, QuotaSemaphore, WhenFull};
use super::usage::{Flow, Held, Usage};
use super::{Quota, Space};
use crate::deadline::Moment;
use crate::fault::QuotaKind;
use crate::ids::{Line, TenantId};
use crate::telemetry::Figures;

/// How many clients of one tenant are counted individually.
const ADDRESSES_MAX: usize = 4096;

const UNBOUNDED: Space = Space { bytes: u64::MAX, keys: u64::MAX };

const LEFT_SHARE: u64 = 8;

/// How many refusals of a tenant's requests are answered at once, and the rate of further ones. Each costs sockets, a
/// record and some ten microseconds of processor time, which a client that retries at once would get for nothing.
const REFUSALS: Rate = Rate { amount: 500, per: Duration::from_secs(1), burst: 50 };
const REFUSAL_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How many components of one tenant are loaded at once, and the rate of further loads. Mapping and unmapping code stops
/// all threads for a moment, so a tenant whose components do not fit into the cache must not do it without end.
const LOADS: Rate = Rate { amount: 100, per: Duration::from_secs(1), burst: 100 };

/// One tenant's use. All versions of the tenant that reloads create, and everything that runs for it, share it.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) id: TenantId,
    /// The tenant's figures.
    pub(crate) figures: Arc<Figures>,
    /// Identifies the tenant in ordered queues. Never zero, and never used again in this process.
    pub(crate) serial: u64,
    weight: AtomicU32,
    waiting_max: AtomicU32,
    pub(super) in_flight: Arc<QuotaSemaphore>,
    /// Guests that still work after their responses are sent.
    pub(crate) ending: Count,
    pub(super) connections: Count,
    /// Bytes of the memories and tables of all instances.
    memory: Count,
    /// The same, plus what is promised to instances that have not used it yet.
    promised: Arc<QuotaSemaphore>,
    /// Bytes that ended guests left for their clients; at most a part of the tenant's memory.
    pub(crate) left: Count,
    pub(super) requests: Bucket,
    /// Its requests by client.
    pub(crate) by_address: PerAddress,
    pub(super) fuel: Bucket,
    pub(super) body_bytes: Bucket,
    pub(super) storage_ops: Bucket,
    pub(super) storage_bytes: Bucket,
    /// The quota in the store; the maximum number if there is none.
    space_bytes: AtomicU64,
    space_keys: AtomicU64,
    pub(super) outbound: Bucket,
    pub(super) out: Arc<QuotaSemaphore>,
    pub(super) log_bytes: Bucket,
    refusals: Bucket,
    loads: Bucket,
    causes: Causes,
    /// All fuel it ever burned in this process.
    fuel_total: AtomicU64,
    /// Fuel burned, divided by the weight: the tenant with the least is next. `sandbox/turns.rs` maintains it.
    pub(crate) virtual_time: AtomicU64,
    /// A weighted count of recent long turns, which `sandbox/turns.rs` also maintains.
    pub(crate) long_turns: AtomicU32,
    /// Whether the files, or an operator, stop the tenant. Either is enough.
    disabled: AtomicBool,
    suspended: AtomicBool,
    /// Cancelled when the tenant is stopped. It is replaced when the tenant may continue.
    stop: Mutex<CancellationToken>,
}

impl Ledger {
    pub(super) fn new(id: TenantId, serial: u64, figures: Figures) -> Self {
        Self {
            id,
            figures: Arc::new(figures),
            serial,
            weight: AtomicU32::new(1),
            waiting_max: AtomicU32::new(0),
            in_flight: Arc::default(),
            ending: Count::default(),
            connections: Count::default(),
            memory: Count::default(),
            promised: Arc::default(),
            left: Count::default(),
            requests: Bucket::default(),
            by_address: PerAddress::new(ADDRESSES_MAX),
            fuel: Bucket::default(),
            body_bytes: Bucket::default(),
            storage_ops: Bucket::default(),
            storage_bytes: Bucket::default(),
            space_bytes: AtomicU64::new(u64::MAX),
            space_keys: AtomicU64::new(u64::MAX),
            outbound: Bucket::default(),
            out: Arc::default(),
            log_bytes: Bucket::default(),
            refusals: Bucket::default(),
            loads: Bucket::default(),
            causes: Causes::default(),
            fuel_total: AtomicU64::new(0),
            virtual_time: AtomicU64::new(0),
            long_turns: AtomicU32::new(0),
            disabled: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            stop: Mutex::default(),
        }
    }

    pub(super) fn set(self: &Arc<Self>, quota: &Quota) {
        let now = Moment::now();
        self.weight.store(quota.weight.max(1), Ordering::Relaxed);
        self.waiting_max.store(quota.waiting, Ordering::Relaxed);
        self.in_flight.set(quota.in_flight.into(), quota.waiting as usize);
        self.ending.set_max(quota.in_flight.into());
        self.connections.set_max(quota.connections.into());
        // Requests that wait for memory are in flight, which bounds their number.
        self.promised.set(quota.memory, usize::MAX);
        self.memory.set_max(quota.memory);
        self.left.set_max(quota.memory / LEFT_SHARE);
        self.requests.set(quota.requests, now);
        self.by_address.set(quota.requests_per_address);
        self.fuel.set(quota.fuel, now);
        self.body_bytes.set(quota.body_bytes, now);
        self.storage_ops.set(quota.storage_ops, now);
        self.storage_bytes.set(quota.storage_bytes, now);
        let space = quota.storage.unwrap_or(UNBOUNDED);
        self.space_bytes.store(space.bytes, Ordering::Relaxed);
        self.space_keys.store(space.keys, Ordering::Relaxed);
        self.outbound.set(quota.outbound, now);
        self.out.set(quota.outbound_in_flight.into(), quota.outbound_waiting as usize);
        self.log_bytes.set(quota.log_bytes, now);
        self.refusals.set(Some(REFUSALS), now);
        self.loads.set(Some(LOADS), now);
    }

    /// The quota in the store, if there is one.
    pub(crate) fn space(&self) -> Option<Space> {
        let bytes = self.space_bytes.load(Ordering::Relaxed);
        let space = Space { bytes, keys: self.space_keys.load(Ordering::Relaxed) };
        (space != UNBOUNDED).then_some(space)
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed).into()
    }

    pub(crate) fn waiting_max(&self) -> usize {
        self.waiting_max.load(Ordering::Relaxed) as usize
    }

    /// Whether there are requests in flight, and no more than `max`.
    pub(crate) fn has_few_requests(&self, max: u64) -> bool {
        (1..=max).contains(&self.in_flight.count().now())
    }

    /// Takes a place for one more request if every quota has room, or queues for one. If a quota has no room, nothing is
    /// taken.
    ///
    /// # Errors
    /// The first quota without room.
    pub(crate) fn enter(&self, now: Moment, when_full: WhenFull) -> Result<Entry, Limited> {
        self.owes_nothing(now)?;
        self.in_flight.enter(1, when_full).ok_or_else(|| self.no_place())
    }

    /// # Errors
    /// The tenant has burned or transferred more than it may for now.
    pub(crate) fn owes_nothing(&self, now: Moment) -> Result<(), Limited> {
        let spent =
            |quota, bucket: &Bucket| bucket.open(now).map_err(|empty| limited(quota, bucket, empty.retry_seconds));
        spent(QuotaKind::Fuel, &self.fuel)?;
        spent(QuotaKind::BodyBytes, &self.body_bytes)
    }

    /// The refusal of a request that found no place.
    pub(crate) fn no_place(&self) -> Limited {
        let max = self.in_flight.count().max();
        Limited { quota: QuotaKind::InFlight, max, window_seconds: None, retry_seconds: 1 }
    }

    /// Counts one more request, which has its place.
    ///
    /// # Errors
    /// The tenant has had as many requests as it may for now.
    pub(crate) fn entered(self: &Arc<Self>, place: QuotaPermit, now: Moment) -> Result<InFlight, Limited> {
        place.keep();
        let entered = InFlight::of(self);
        self.requests
            .take(1, now)
            .map_err(|empty| limited(QuotaKind::Requests, &self.requests, empty.retry_seconds))?;
        Ok(entered)
    }

    /// How long the refusal of a request is delayed, so that clients that retry at once get no faster answers.
    pub(crate) fn refusal_pause(&self, now: Moment) -> Duration {
        self.refusals.wait(now).min(REFUSAL_PAUSE_MAX)
    }

    /// How long the load of one of its components must wait.
    pub(crate) fn load_pause(&self, now: Moment) -> Duration {
        self.loads.wait(now)
    }

    /// Notes burned fuel.
    pub(crate) fn burn(&self, fuel: u64) {
        self.fuel_total.fetch_add(fuel, Ordering::Relaxed);
        self.fuel.charge(fuel, Moment::now());
    }

    /// Postpones the tenant's next turn as if it had burned this fuel.
    pub(crate) fn owes_turns(&self, fuel: u64) {
        self.virtual_time.fetch_add(fuel / self.weight().max(1), Ordering::Relaxed);
    }

    /// Notes bytes of bodies, in or out.
    pub(crate) fn charge_body_bytes(&self, bytes: u64) {
        if self.body_bytes.rate().is_some() {
            self.body_bytes.charge(bytes, Moment::now());
        }
    }

    /// Takes storage operations and the bytes that they carry. The error is the quota without room. [`Self::stored`]
    /// charges the bytes of a response when they are known.
    pub(crate) fn store(&self, ops: u64, bytes: u64) -> Result<(), QuotaKind> {
        if self.storage_bytes.rate().is_none() && self.storage_ops.rate().is_none() {
            return Ok(());
        }
        let now = Moment::now();
        self.storage_bytes.open(now).map_err(|_empty| QuotaKind::StorageBytes)?;
        self.storage_ops.take(ops, now).map_err(|_empty| QuotaKind::StorageOps)?;
        self.storage_bytes.charge(bytes, now);
        Ok(())
    }

    pub(crate) fn stored(&self, bytes: u64) {
        if self.storage_bytes.rate().is_some() {
            self.storage_bytes.charge(bytes, Moment::now());
        }
    }

    /// Counts one more connection. Nothing if the tenant has as many as it may.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<Connected> {
        self.connections.add(1).then(|| Connected::of(self))
    }

    /// Counts one more outbound request. The error is the quota without room.
    pub(crate) fn go_out(&self, when_full: WhenFull) -> Result<Entry, QuotaKind> {
        let place = self.out.enter(1, when_full).ok_or(QuotaKind::OutboundInFlight)?;
        self.outbound.take(1, Moment::now()).map_err(|_empty| QuotaKind::Outbound)?;
        Ok(place)
    }

    /// Counts a message that a component sends. Returns whether it may be sent.
    pub(crate) fn send_message(&self, line: Line, max: u64) -> bool {
        self.causes.send(line, max)
    }

    /// Whether a line of this many bytes may be logged.
    pub(crate) fn log(&self, bytes: u64) -> bool {
        self.log_bytes.rate().is_none() || self.log_bytes.take(bytes, Moment::now()).is_ok()
    }

    /// Takes more bytes of memory, or none. Of these, `promised` bytes were promised before. Promises to other instances do
    /// not count here. The holder gives the bytes back.
    pub(crate) fn grow(&self, bytes: u64, promised: u64) -> bool {
        let grows = self.memory.add(bytes);
        if grows && bytes > promised {
            self.promised.take_anyway(bytes - promised);
        }
        grows
    }

    /// Takes memory for an instance that is about to start, or queues for it. Nothing if the tenant may never have so much.
    pub(crate) fn memory_for(&self, bytes: u64) -> Option<Entry> {
        self.promised.enter(bytes, WhenFull::Wait)
    }

    pub(crate) fn shrink(&self, bytes: u64) {
        self.memory.give_back(bytes);
        self.promised.give_back(bytes);
    }

    /// Returns memory that was promised to an instance and not used.
    pub(crate) fn not_needed(&self, promised: u64) {
        self.promised.give_back(promised);
    }

    /// The refusal of a request because the tenant has its maximum of waiting requests.
    pub(crate) fn queue_is_full(&self) -> Limited {
        Limited { quota: QuotaKind::Waiting, max: self.waiting_max() as u64, window_seconds: None, retry_seconds: 1 }
    }

    /// The refusal of a request because its tenant has no memory left.
    pub(crate) fn out_of_memory(&self) -> Limited {
        Limited { quota: QuotaKind::Memory, max: self.memory.max(), window_seconds: None, retry_seconds: 1 }
    }

    pub(super) fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Relaxed);
        self.heed();
    }

    pub(super) fn disable(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
        self.heed();
    }

    /// Ends running and waiting requests. Later ones are not affected.
    pub(super) fn interrupt(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        self.heed();
    }

    fn heed(&self) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.is_stopped(), stop.is_cancelled()) {
            (true, false) => stop.cancel(),
            (false, true) => *stop = CancellationToken::new(),
            _ => {}
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.suspended.load(Ordering::Relaxed) || self.disabled.load(Ordering::Relaxed)
    }

    /// Whether an operator, and not the files, stops the tenant.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    /// Cancelled at the moment when the tenant is stopped.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(test)]
    pub(crate) fn memory_promised(&self) -> u64 {
        self.promised.count().now()
    }

    pub(crate) fn memory_now(&self) -> u64 {
        self.memory.now()
    }

    pub(crate) fn in_flight_now(&self) -> u64 {
        self.in_flight.count().now()
    }

    /// Returns the most requests in flight, and the most bytes of memory, since the last call.
    pub(crate) fn take_peaks(&self) -> (u64, u64) {
        (self.in_flight.count().take_peak(), self.memory.take_peak())
    }

    /// Use against quota, for operators.
    pub(crate) fn usage(&self, now: Moment) -> Usage {
        Usage {
            weight: self.weight(),
            in_flight: Held::of(self.in_flight.count()),
            ending: Held::of(&self.ending),
            connections: Held::of(&self.connections),
            memory: Held::of(&self.memory),
            outbound_in_flight: Held::of(self.out.count()),
            requests: Flow::of(&self.requests, now),
            fuel: Flow::of(&self.fuel, now),
            fuel_total: self.fuel_total.load(Ordering::Relaxed),
            body_bytes: Flow::of(&self.body_bytes, now),
            storage_ops: Flow::of(&self.storage_ops, now),
            storage_bytes: Flow::of(&self.storage_bytes, now),
            outbound: Flow::of(&self.outbound, now),
            log_bytes: Flow::of(&self.log_bytes, now),
        }
    }
}
