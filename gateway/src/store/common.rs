//! What gateways that share a Redis have in common and is no tenant's: a few hashes, and locks with a time.
//!
//! Invariant: no tenant's key is one of these: the braces hold `+`, which no tenant's name has.

use std::time::Duration;

use super::Store;
use super::backend::Backend;
use super::error::Result;
use super::redis::Redis;

/// Fields that one call of the server looks at.
const SWAPS_AT_ONCE: usize = 500;
/// The field in which a hash has how often [`Common::swap`] changed it.
pub(crate) const SWAPPED: &str = "+";

/// One field, what it is to hold before, and what afterwards; an empty text is an absent field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swap<'s> {
    pub(crate) field: &'s str,
    /// Nothing where it does not matter.
    pub(crate) from: Option<&'s str>,
    pub(crate) to: &'s str,
}

/// A place that all gateways on one Redis have; there is none on an embedded store.
#[derive(Clone, Copy)]
pub(crate) struct Common<'s> {
    store: &'s Store,
    redis: &'s Redis,
}

impl Store {
    pub(crate) fn common(&self) -> Option<Common<'_>> {
        match &*self.home {
            Backend::Redis(redis) => Some(Common { store: self, redis }),
            Backend::Embedded(_) => None,
        }
    }
}

impl Common<'_> {
    fn key(&self, name: &str) -> Vec<u8> {
        self.store.prefix.common(name)
    }

    /// One field of a hash.
    pub(crate) async fn get(&self, hash: &str, field: &str) -> Result<Option<String>> {
        let key = self.key(hash);
        let mut command = ::redis::cmd("HGET");
        command.arg(&key).arg(field);
        self.store.timed(None, "common", self.redis.command(&key, &command)).await
    }

    /// All of one that is small.
    pub(crate) async fn all(&self, hash: &str) -> Result<Vec<(String, String)>> {
        let key = self.key(hash);
        let mut command = ::redis::cmd("HGETALL");
        command.arg(&key);
        self.store.timed(None, "common", self.redis.command(&key, &command)).await
    }

    /// Sets the fields of a hash that hold what is expected, each in one step with the look at it. What each holds then, and how
    /// often the hash was changed this way.
    ///
    /// # Errors
    /// The store's; the first chunks may be done.
    pub(crate) async fn swap(&self, hash: &str, swaps: &[Swap<'_>]) -> Result<(Vec<String>, u64)> {
        let key = self.key(hash);
        let (mut held, mut count) = (Vec::new(), 0);
        for chunk in swaps.chunks(SWAPS_AT_ONCE) {
            let (values, now) = self.store.timed(None, "common", self.redis.swap_fields(&key, chunk)).await?;
            held.extend(values);
            count = now;
        }
        Ok((held, count))
    }

    pub(crate) async fn put(&self, hash: &str, field: &str, value: &str) -> Result<()> {
        let key = self.key(hash);
        let mut command = ::redis::cmd("HSET");
        command.arg(&key).arg(field).arg(value);
        self.store.timed(None, "common", self.redis.command::<()>(&key, &command)).await
    }

    /// A whole hash, or a lock that is ours.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        let mut command = ::redis::cmd("DEL");
        command.arg(&key);
        self.store.timed(None, "common", self.redis.command::<()>(&key, &command)).await
    }

    /// Whether the lock is ours from now on: until it is removed, or for so long.
    pub(crate) async fn lock(&self, name: &str, holder: &str, time: Duration) -> Result<bool> {
        let key = self.key(name);
        let mut command = ::redis::cmd("SET");
        command.arg(&key).arg(holder).arg("NX").arg("PX").arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let taken: Option<String> = self.store.timed(None, "common", self.redis.command(&key, &command)).await?;
        Ok(taken.is_some())
    }
}
