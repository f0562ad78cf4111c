//! A tenant's use of its rate limits, read for a fleet of gateways and adjusted to the fleet's sums.
//!
//! No request waits for this: each gateway gives out of its own buckets, and exchanges sums with the fleet between
//! requests. Until then, it does not know what the others gave.

use super::Ledger;
use super::bucket::{Bucket, BucketState, Rate};
use crate::deadline::Moment;

/// The number of a tenant's rates.
pub(crate) const RATES: usize = 7;

/// A tenant's rates in a stable order: the names of the fleet's sums.
pub(crate) const NAMES: [&str; RATES] = ["req", "fuel", "body", "ops", "bytes", "out", "log"];

/// One rate, and what was used of it since the last exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) name: &'static str,
    pub(crate) rate: Rate,
    pub(crate) amount: u64,
}

/// What was last reported to the fleet, for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastReport([u64; RATES]);

/// The state of all rates of a tenant.
#[derive(Debug)]
pub(crate) struct RatesState {
    pub(crate) used: Vec<Used>,
    seen: [Option<BucketState>; RATES],
}

impl Ledger {
    fn rates(&self) -> [&Bucket; RATES] {
        let Self { requests, fuel, body_bytes, storage_ops, storage_bytes, outbound, log_bytes, .. } = self;
        [requests, fuel, body_bytes, storage_ops, storage_bytes, outbound, log_bytes]
    }

    /// Fills all buckets, by an operator's command.
    pub(crate) fn fill(&self) {
        self.rates().into_iter().for_each(Bucket::fill);
    }

    /// What was used since `told`. Nothing if nothing was used. A tenant that has used up a rate asks anyway: another
    /// gateway may know that there is more.
    pub(crate) fn look(&self, told: &LastReport, now: Moment) -> Option<RatesState> {
        let seen = self.rates().map(|bucket| bucket.look(now));
        let mut used = Vec::new();
        for (((bucket, seen), before), name) in self.rates().into_iter().zip(&seen).zip(told.0).zip(NAMES) {
            let (Some(seen), Some(rate)) = (seen, bucket.rate()) else { continue };
            used.push(Used { name, rate, amount: seen.used.wrapping_sub(before) });
        }
        let is_empty = |bucket: &Bucket| bucket.open(now).is_err();
        let is_told = used.iter().any(|used| used.amount > 0) || self.rates().into_iter().any(is_empty);
        is_told.then_some(RatesState { used, seen })
    }

    /// Adjusts the rates to the fleet's: `fleet` says in how many microseconds each will be full, in the order of the look.
    pub(crate) fn align(&self, look: &RatesState, fleet: &[u64], now: Moment) -> LastReport {
        let mut fleet = fleet.iter();
        for (bucket, seen) in self.rates().into_iter().zip(look.seen) {
            if let (Some(seen), Some(micros)) = (seen, seen.and_then(|_| fleet.next())) {
                bucket.align(seen, *micros, now);
            }
        }
        look.told()
    }

    /// The fleet cannot be reached: each of its gateways then gives only its share, so what was used here is charged for
    /// the others as well.
    pub(crate) fn pay_for(&self, look: &RatesState, others: u64, now: Moment) -> LastReport {
        for used in &look.used {
            if let Some(at) = NAMES.iter().position(|name| *name == used.name)
                && let Some(bucket) = self.rates().get(at)
            {
                bucket.charge(used.amount.saturating_mul(others), now);
            }
        }
        // What was charged for the others is nobody's use.
        let now_used = self.rates().map(Bucket::used);
        LastReport(now_used)
    }
}

impl RatesState {
    /// As if everything had been reported to the fleet.
    pub(crate) fn told(&self) -> LastReport {
        LastReport(self.seen.map(|seen| seen.map_or(0, |seen| seen.used)))
    }
}
