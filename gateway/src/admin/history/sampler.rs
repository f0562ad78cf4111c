//! Samples once a second: takes the peaks, publishes a tick if somebody watches, and ends a step of the history at each tenth sample.
//!
//! Limit: the cost of a sample does not depend on the number of tenants. The sampler walks all tenants only at the end of a step, and
//! each second while somebody watches. It runs in one task of its own, which no request waits for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::live::{Live, Rates};
use super::busiest::Busiest;
use super::reading::{Between, Reading, answered};
use super::steps::{Latency, Step, TenantStep};
use super::{History, STEP_SECONDS};
use crate::ids::TenantId;
use crate::request::Road;
use crate::telemetry::unix_ms;
use crate::tenant::Ledger;

/// The metrics of peaks cover this many seconds.
const MINUTE: usize = 60;

/// The highest levels within a time.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::admin) struct Peaks {
    pub(in crate::admin) in_flight: u64,
    pub(in crate::admin) instances: u64,
    pub(in crate::admin) waiting: u64,
    pub(in crate::admin) memory: u64,
}

impl Peaks {
    fn take(road: &Road) -> Self {
        Self {
            in_flight: road.metrics.requests_in_flight.take_peak(),
            instances: road.metrics.instances.take_peak(),
            waiting: road.doors.take_waiting_peak() as u64,
            memory: road.sandbox.take_memory_peak(),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            in_flight: self.in_flight.max(other.in_flight),
            instances: self.instances.max(other.instances),
            waiting: self.waiting.max(other.waiting),
            memory: self.memory.max(other.memory),
        }
    }
}

/// See the top of this file.
pub(in crate::admin) struct Sampler {
    live: Arc<Live>,
    /// The reading of the previous second, if somebody watched then.
    second: Option<Reading>,
    /// The tenants' counters at that time: requests, requests with a 5xx, and fuel.
    tenants: HashMap<TenantId, (u64, u64, u64)>,
    /// The reading at the start of the step, the samples since then, and their peaks.
    step: Reading,
    looks: u32,
    peaks: Peaks,
    minute: VecDeque<Peaks>,
    busiest: Busiest,
}

impl Sampler {
    pub(in crate::admin) fn new(live: Arc<Live>) -> Self {
        let step = Reading::of(&live.road.metrics);
        let (second, tenants, looks, peaks, minute, busiest) = Default::default();
        Self { live, second, tenants, step, looks, peaks, minute, busiest }
    }

    /// Takes one sample. The caller calls it once a second.
    pub(in crate::admin) fn look(&mut self) {
        let live = Arc::clone(&self.live);
        let peaks = Peaks::take(&live.road);
        self.peaks = self.peaks.max(peaks);
        self.minute.truncate(MINUTE - 1);
        self.minute.push_front(peaks);
        let minute = self.minute.iter().fold(Peaks::default(), |most, peaks| most.max(*peaks));
        live.road.metrics.peaks_of_minute(minute.instances, minute.in_flight, minute.memory);
        self.looks += 1;
        let is_end = self.looks >= STEP_SECONDS;
        let is_wanted = live.is_wanted();
        let ledgers = if is_wanted || is_end { live.registry.all() } else { Vec::new() };
        let reading = Reading::of(&live.road.metrics);
        let tenants_peaks: Vec<_> = ledgers.iter().map(|ledger| ledger.take_peaks()).collect();
        for (ledger, (in_flight, memory)) in ledgers.iter().zip(&tenants_peaks) {
            if let Some(place) = self.busiest.place(ledger.serial) {
                place.in_flight_peak = place.in_flight_peak.max(*in_flight);
                place.memory_peak = place.memory_peak.max(*memory);
            }
        }
        if is_wanted {
            self.second(&live, &reading, peaks, &ledgers, &tenants_peaks);
        } else if self.second.take().is_some() {
            self.tenants.clear();
            live.put(HashMap::new());
        }
        if is_end {
            let step = self.end_of_step(&live.road, &reading);
            let tenants = self.tenants_steps(&ledgers, &tenants_peaks, (step.at_ms, step.took_ms));
            live.history.add(step, tenants);
            (self.step, self.looks, self.peaks) = (reading, 0, Peaks::default());
        }
    }

    fn second(
        &mut self,
        live: &Live,
        reading: &Reading,
        peaks: Peaks,
        ledgers: &[Arc<Ledger>],
        tenants_peaks: &[(u64, u64)],
    ) {
        // The first tick of a watcher has no rates, because there is no earlier reading.
        let between = self.second.as_ref().map(|before| reading.since(before));
        let seconds = between.as_ref().map(Between::seconds);
        let mut rates = HashMap::new();
        let mut counted = HashMap::new();
        for (ledger, (in_flight_peak, memory_peak)) in ledgers.iter().zip(tenants_peaks) {
            let totals = &ledger.figures.totals;
            let ((requests, errors), fuel) = (totals.requests(), totals.fuel());
            if (requests, fuel, *in_flight_peak, *memory_peak) == (0, 0, 0, 0) {
                continue;
            }
            let now = (requests, errors, fuel);
            let before = self.tenants.get(&ledger.id).copied().unwrap_or(now);
            counted.insert(ledger.id.clone(), now);
            if before != now || *in_flight_peak > 0 || *memory_peak > 0 {
                let peaks = (*in_flight_peak, *memory_peak);
                rates.insert(ledger.id.clone(), Rates::of(now, before, seconds, peaks));
            }
        }
        (self.tenants, self.second) = (counted, Some(reading.clone()));
        live.put(rates);
        live.tell(between, peaks);
    }

    /// Returns the step of the gateway that ends with this reading.
    fn end_of_step(&self, road: &Road, reading: &Reading) -> Step {
        let between = reading.since(&self.step);
        Step {
            at_ms: unix_ms(SystemTime::now()),
            took_ms: between.took.as_millis().try_into().unwrap_or(u64::MAX),
            requests_by_class: between.answered,
            fuel: between.fuel,
            latency: Latency::of(&between.latencies),
            faults: between.faults.iter().map(|(_, count)| count).sum(),
            connections: road.metrics.connections.get().try_into().unwrap_or(0),
            in_flight_peak: self.peaks.in_flight,
            instances_peak: self.peaks.instances,
            waiting_peak: self.peaks.waiting,
            memory_peak: self.peaks.memory,
            cache_asked: between.cache.0,
            cache_hits: between.cache.1,
            storage_calls: between.storage.count(),
            storage_latency: Latency::of(&between.storage),
        }
    }

    /// Returns the steps of the tenants that have a history.
    fn tenants_steps(
        &mut self,
        ledgers: &[Arc<Ledger>],
        tenants_peaks: &[(u64, u64)],
        (at_ms, took_ms): (u64, u64),
    ) -> Vec<(TenantId, TenantStep)> {
        let seen = |ledger: &Arc<Ledger>| {
            let totals = &ledger.figures.totals;
            (ledger.serial, totals.requests().0, totals.fuel())
        };
        self.busiest.step(ledgers.iter().map(seen));
        let mut steps = Vec::new();
        for (ledger, (in_flight, memory)) in ledgers.iter().zip(tenants_peaks) {
            let Some(place) = self.busiest.place(ledger.serial) else { continue };
            let now = ledger.figures.totals.counted();
            let before = std::mem::replace(&mut place.before, now.clone());
            let in_flight_peak = std::mem::take(&mut place.in_flight_peak).max(*in_flight);
            let memory_peak = std::mem::take(&mut place.memory_peak).max(*memory);
            if std::mem::take(&mut place.is_new) {
                continue;
            }
            let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            let step = TenantStep {
                at_ms,
                took_ms: narrow(took_ms),
                requests_by_class: answered(&now, &before).map(narrow),
                fuel: now.fuel.saturating_sub(before.fuel),
                latency: Latency::of(&now.latencies.since(&before.latencies)),
                in_flight_peak: narrow(in_flight_peak),
                memory_peak,
            };
            steps.push((ledger.id.clone(), step));
        }
        steps
    }
}

impl Between {
    /// Returns the time between the readings, which is never zero.
    pub(in crate::admin) fn seconds(&self) -> f64 {
        self.took.as_secs_f64().max(0.001)
    }
}

impl History {
    /// Returns how many tenants have a history.
    #[cfg(test)]
    pub(in crate::admin) fn tenants(&self) -> usize {
        self.kept().tenants.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, requests: u32) -> (TenantId, TenantStep) {
        let step = TenantStep { requests_by_class: [0, requests, 0, 0, 0], at_ms: 1, ..TenantStep::default() };
        (TenantId::parse(id).unwrap(), step)
    }

    #[test]
    fn a_tenant_that_lost_its_history_starts_a_new_one() {
        let history = History::default();
        history.add(Step::default(), vec![step("a", 1), step("b", 1)]);
        history.add(Step::default(), vec![step("b", 2)]);
        history.add(Step::default(), vec![step("a", 3), step("b", 3)]);
        let kept = history.kept();
        let of = |id: &str| {
            let ring = kept.tenants.get(&TenantId::parse(id).unwrap()).unwrap();
            ring.after(0).iter().map(|step| step.requests_by_class[1]).collect::<Vec<_>>()
        };
        assert_eq!((of("a"), of("b")), (vec![3], vec![1, 2, 3]));
        drop(kept);
        assert_eq!(history.tenants(), 2);
    }
}
