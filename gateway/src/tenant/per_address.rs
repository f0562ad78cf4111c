//! A rate limit for each client address. An IPv6 client counts by its /64, in which it can choose any address.
//!
//! For each address, one moment is stored at which its bucket is full again, as in `bucket`. Limit: a number of addresses
//! have a bucket of their own, in two maps: the current one, and the previous one, which is dropped once every bucket in it
//! is full. Further addresses share [`SHARED`] buckets by a hash that nobody can predict. So a flood of addresses neither
//! uses memory nor avoids the limit.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::Limited;
use super::bucket::Rate;
use crate::deadline::Moment;
use crate::fault::QuotaKind;
use crate::networks;

/// Number of buckets for addresses without their own.
const SHARED: usize = 256;

/// Rate limits by address.
#[derive(Debug)]
pub(crate) struct PerAddress {
    addresses_max: usize,
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

/// Moments, as nanoseconds on the clock of [`Moment`].
#[derive(Debug, Default)]
struct Buckets {
    rate: Option<Rate>,
    /// When the current map was started.
    since: u64,
    current: HashMap<IpAddr, u64>,
    before: HashMap<IpAddr, u64>,
    shared: Vec<u64>,
}

impl PerAddress {
    pub(crate) fn new(addresses_max: usize) -> Self {
        Self { addresses_max, hasher: RandomState::new(), buckets: Mutex::default() }
    }

    /// Sets another rate from now on, or none. What was taken before stays taken.
    pub(crate) fn set(&self, rate: Option<Rate>) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.is_none() {
            *buckets = Buckets::default();
        }
        buckets.rate = rate;
    }

    /// Takes one from this address's rate.
    ///
    /// # Errors
    /// The address has none left; the error says when to retry.
    pub(crate) fn take(&self, address: IpAddr, now: Moment) -> Result<(), Limited> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rate) = buckets.rate else { return Ok(()) };
        let nanos = |of: u128| u64::try_from(of).unwrap_or(u64::MAX);
        let step = nanos(rate.per.as_nanos() / u128::from(rate.amount.max(1)));
        let room = nanos(u128::from(rate.burst) * rate.per.as_nanos() / u128::from(rate.amount.max(1)));
        buckets.turn(now.0, room);
        let address = networks::of_client(address);
        let shared = usize::try_from(self.hasher.hash_one(address) % SHARED as u64).unwrap_or(0);
        let full_at = buckets.of(address, shared, self.addresses_max);
        let next = (*full_at).max(now.0).saturating_add(step);
        let over = next.saturating_sub(now.0).saturating_sub(room);
        if over == 0 {
            *full_at = next;
            return Ok(());
        }
        let retry_seconds = over.div_ceil(1_000_000_000).max(1);
        let (quota, window_seconds) = (QuotaKind::RequestsPerAddress, Some(rate.window_seconds()));
        Err(Limited { quota, max: rate.burst, window_seconds, retry_seconds })
    }
}

impl Buckets {
    /// Drops the buckets that are full again: all those that were not used while the current map was in use.
    fn turn(&mut self, now: u64, room: u64) {
        if now.saturating_sub(self.since) > room {
            self.before = std::mem::take(&mut self.current);
            self.since = now;
        }
    }

    fn of(&mut self, address: IpAddr, shared: usize, max: usize) -> &mut u64 {
        if self.current.contains_key(&address) || self.current.len() < max {
            let before = self.before.remove(&address);
            return self.current.entry(address).or_insert_with(|| before.unwrap_or(0));
        }
        if self.shared.len() <= shared {
            self.shared.resize(SHARED, 0);
        }
        &mut self.shared[shared]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limited(addresses_max: usize) -> PerAddress {
        let limits = PerAddress::new(addresses_max);
        limits.set(Some(Rate { amount: 1, per: Duration::from_secs(1), burst: 2 }));
        limits
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let limits = limited(100);
        let take = |text: &str, at: u64| limits.take(text.parse().unwrap(), Moment(at)).map_err(|of| of.retry_seconds);
        assert_eq!([take("192.0.2.1", 0), take("::ffff:192.0.2.1", 0), take("192.0.2.1", 0)], [Ok(()), Ok(()), Err(1)]);
        assert_eq!(take("192.0.2.2", 0), Ok(()));
        assert_eq!((take("192.0.2.1", SECOND), take("192.0.2.1", SECOND)), (Ok(()), Err(1)));
        // An IPv6 network is one client.
        assert_eq!([take("2001:db8::1", 0), take("2001:db8::2", 0), take("2001:db8::3", 0)], [Ok(()), Ok(()), Err(1)]);
        assert_eq!(take("2001:db8:0:1::1", 0), Ok(()));
    }

    #[test]
    fn a_full_bucket_is_dropped_and_others_stay() {
        let limits = limited(100);
        let take = |text: &str, at: u64| limits.take(text.parse().unwrap(), Moment(at)).is_ok();
        assert!(take("192.0.2.1", 2 * SECOND) && take("192.0.2.1", 2 * SECOND) && !take("192.0.2.1", 2 * SECOND));
        // The maps are swapped, and the bucket is still empty.
        assert!(!take("192.0.2.1", 2 * SECOND + SECOND / 2));
        for second in 5..20 {
            assert!(take("192.0.2.9", second * SECOND));
        }
        let buckets = limits.buckets.lock().unwrap();
        assert!(buckets.current.len() + buckets.before.len() <= 2, "{buckets:?}");
    }

    #[test]
    fn a_flood_of_addresses_uses_no_more_memory_and_stays_limited() {
        let limits = limited(10);
        let mut passed = 0_usize;
        for number in 0..100_000_u32 {
            passed += usize::from(limits.take(IpAddr::from(number.to_be_bytes()), Moment(0)).is_ok());
        }
        assert!(passed <= 10 + 2 * SHARED, "{passed}");
        let buckets = limits.buckets.lock().unwrap();
        assert_eq!((buckets.current.len(), buckets.shared.len()), (10, SHARED));
    }
}
