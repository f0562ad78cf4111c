//! What gateways that share a Redis have in common and no tenant owns: a few hashes, and locks that expire.
//!
//! Invariant: no tenant's key is one of these, because their braces contain `+`, which no tenant's name has.

use std::time::Duration;

use super::Store;
use super::backend::Backend;
use super::error::Result;
use super::redis::Redis;

/// Fields that one call checks on the server.
const SWAPS_AT_ONCE: usize = 500;
/// The field that counts how often [`Common::swap`] changed the hash.
pub(crate) const SWAPPED: &str = "+";

/// One field with its expected and its new value. An empty text stands for an absent field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swap<'s> {
    pub(crate) field: &'s str,
    /// Nothing if the old value does not matter.
    pub(crate) from: Option<&'s str>,
    pub(crate) to: &'s str,
}

/// Data that all gateways on one Redis share. An embedded store has none.
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

    /// Reads one field of a hash.
    pub(crate) async fn get(&self, hash: &str, field: &str) -> Result<Option<String>> {
        let key = self.key(hash);
        let mut command = ::redis::cmd("HGET");
        command.arg(&key).arg(field);
        self.store.timed(None, "common", self.redis.command(&key, &command)).await
    }

    /// Reads all fields of a small hash.
    pub(crate) async fn all(&self, hash: &str) -> Result<Vec<(String, String)>> {
        let key = self.key(hash);
        let mut command = ::redis::cmd("HGETALL");
        command.arg(&key);
        self.store.timed(None, "common", self.redis.command(&key, &command)).await
    }

    /// Sets the fields of a hash that have the expected value, checking and setting in one step. Returns each field's
    /// resulting value, and how often the hash was changed this way.
    ///
    /// # Errors
    /// Errors of the store. The first chunks may already be applied.
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

    /// Removes a whole hash, or our own lock.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        let mut command = ::redis::cmd("DEL");
        command.arg(&key);
        self.store.timed(None, "common", self.redis.command::<()>(&key, &command)).await
    }

    /// Acquires a lock until it is removed or expires. Returns whether it is ours.
    pub(crate) async fn lock(&self, name: &str, holder: &str, time: Duration) -> Result<bool> {
        let key = self.key(name);
        let mut command = ::redis::cmd("SET");
        command.arg(&key).arg(holder).arg("NX").arg("PX").arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let taken: Option<String> = self.store.timed(None, "common", self.redis.command(&key, &command)).await?;
        Ok(taken.is_some())
    }
}
