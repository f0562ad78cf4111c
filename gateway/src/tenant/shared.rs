//! What a tenant uses of its rates, looked at for a fleet of gateways and moved to where the fleet's sums are.
//!
//! Nothing on a request's road waits for this: each gateway gives out of its own buckets, and tells the fleet and hears from it
//! between requests. Until it has heard, it does not know what others gave.

use super::Ledger;
use super::bucket::{Bucket, Rate, Seen};
use crate::deadline::Moment;

/// How many rates a tenant has.
pub(crate) const RATES: usize = 7;

/// A tenant's rates, in an order that stays: what the fleet's sums are called.
pub(crate) const NAMES: [&str; RATES] = ["req", "fuel", "body", "ops", "bytes", "out", "log"];

/// One of the rates, and what was used of it since the last time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) name: &'static str,
    pub(crate) rate: Rate,
    pub(crate) amount: u64,
}

/// What was told to the fleet before, a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told([u64; RATES]);

/// A look at all of a tenant's rates.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) used: Vec<Used>,
    seen: [Option<Seen>; RATES],
}

impl Ledger {
    fn rates(&self) -> [&Bucket; RATES] {
        let Self { requests, fuel, body_bytes, storage_ops, storage_bytes, outbound, log_bytes, .. } = self;
        [requests, fuel, body_bytes, storage_ops, storage_bytes, outbound, log_bytes]
    }

    /// Fills all of them: an operator's word.
    pub(crate) fn fill(&self) {
        self.rates().into_iter().for_each(Bucket::fill);
    }

    /// What was used since that was told; nothing where nothing was. Whoever has used up a rate asks all the same: another
    /// gateway may know that there is more.
    pub(crate) fn look(&self, told: &Told, now: Moment) -> Option<Look> {
        let seen = self.rates().map(|bucket| bucket.look(now));
        let mut used = Vec::new();
        for (((bucket, seen), before), name) in self.rates().into_iter().zip(&seen).zip(told.0).zip(NAMES) {
            let (Some(seen), Some(rate)) = (seen, bucket.rate()) else { continue };
            used.push(Used { name, rate, amount: seen.used.wrapping_sub(before) });
        }
        let is_empty = |bucket: &Bucket| bucket.open(now).is_err();
        let is_told = used.iter().any(|used| used.amount > 0) || self.rates().into_iter().any(is_empty);
        is_told.then_some(Look { used, seen })
    }

    /// Moves the rates to where the fleet's are: in how many microseconds each will be full, in the order of the look.
    pub(crate) fn align(&self, look: &Look, fleet: &[u64], now: Moment) -> Told {
        let mut fleet = fleet.iter();
        for (bucket, seen) in self.rates().into_iter().zip(look.seen) {
            if let (Some(seen), Some(micros)) = (seen, seen.and_then(|_| fleet.next())) {
                bucket.align(seen, *micros, now);
            }
        }
        look.told()
    }

    /// The fleet cannot be asked: each of these gateways then gives its share and no more, so what was used here is paid for
    /// the others as well.
    pub(crate) fn pay_for(&self, look: &Look, others: u64, now: Moment) -> Told {
        for used in &look.used {
            if let Some(at) = NAMES.iter().position(|name| *name == used.name)
                && let Some(bucket) = self.rates().get(at)
            {
                bucket.charge(used.amount.saturating_mul(others), now);
            }
        }
        // What was paid for others is nobody's use.
        let now_used = self.rates().map(Bucket::used);
        Told(now_used)
    }
}

impl Look {
    /// As if the fleet had been told.
    pub(crate) fn told(&self) -> Told {
        Told(self.seen.map(|seen| seen.map_or(0, |seen| seen.used)))
    }
}
