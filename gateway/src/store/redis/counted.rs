//! Writes that are counted against a tenant's quota, in one step with the write: scripts whose keys are all in the tenant's
//! slot.
//!
//! [`Redis::count`] counts what a tenant had before it had a quota, by walking through the server's keys in small steps.
//! Limit: data that is written meanwhile may be counted twice or not at all, until the next count.

use deadpool_redis::redis::{Cmd, RedisError, Value};

use super::{Redis, read};
use crate::store::account::{Account, Usage};
use crate::store::layout::Bucket;
use crate::store::redis::node::Call;
use crate::store::{Error, Result, Write, Written};

/// The quota that a script reports as exceeded.
pub(super) fn over_quota(error: &RedisError) -> Option<Error> {
    let what = if error.detail().is_some_and(|detail| detail.starts_with("keys")) { "keys" } else { "bytes" };
    (error.code() == Some("OVERQUOTA")).then_some(Error::OverQuota(what))
}

impl Redis {
    pub(super) async fn write_counted(&self, account: &Account, bucket: &Bucket, write: Write) -> Result<Written> {
        let mut call = self.scripts.counted.prepare_invoke();
        call.key(bucket.as_bytes()).key(account.usage.as_bytes()).key(bucket.expiries());
        match account.allowance {
            Some(allowance) => call.arg(allowance.bytes).arg(allowance.keys),
            None => call.arg(-1).arg(-1),
        };
        call.arg(bucket.ttl().map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        match write {
            Write::Set(pairs) if pairs.is_empty() => Ok(Written::Done),
            Write::Delete(keys) if keys.is_empty() => Ok(Written::Done),
            Write::Set(pairs) => {
                call.arg("set");
                for (key, value) in &pairs {
                    call.arg(key.as_slice()).arg(value.as_slice());
                }
                self.script::<i64>(bucket.as_bytes(), &call).await.map(|_one| Written::Done)
            }
            Write::Delete(keys) => {
                call.arg("delete");
                keys.iter().for_each(|key| _ = call.arg(key.as_slice()));
                self.script::<i64>(bucket.as_bytes(), &call).await.map(|_one| Written::Done)
            }
            Write::Increment(key, delta) => {
                call.arg("increment").arg(key).arg(delta);
                // As text: a script's own numbers have 53 bits.
                self.script::<i64>(bucket.as_bytes(), &call).await.map(Written::Sum)
            }
            Write::Swap { key, expected, new } => {
                call.arg("swap").arg(key).arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(new);
                self.script::<bool>(bucket.as_bytes(), &call).await.map(Written::Swapped)
            }
        }
    }

    /// The tenant's use, as far as it was counted.
    pub(in crate::store) async fn usage(&self, account: &Account) -> Result<Usage> {
        let usage = account.usage.as_bytes();
        let mut ask = Cmd::new();
        let answer = self.call(usage, &Call::Command(ask.arg("HMGET").arg(usage).arg("bytes").arg("keys"))).await?;
        let (bytes, keys): (Option<i64>, Option<i64>) = read(answer)?;
        // It is negative only after a count and a write overlapped.
        let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
        Ok(Usage { bytes: positive(bytes), keys: positive(keys) })
    }

    /// Counts the tenant's use again and stores the sum, one page of the server's keys after the other.
    pub(in crate::store) async fn count(&self, tenant_prefix: &[u8], account: &Account) -> Result<Usage> {
        let (mut usage, mut cursor) = (Usage::default(), 0);
        loop {
            let (next, keys) = self.some_keys(tenant_prefix, cursor).await?;
            // Sums and waiting messages have limits of their own.
            let own = ["q:", "ms:", "dl:"].map(|kind| [tenant_prefix, kind.as_bytes()].concat());
            for key in keys.iter().filter(|key| !own.iter().any(|own| key.starts_with(own))) {
                let of_key = self.count_key(tenant_prefix, key).await?;
                usage.bytes += of_key.bytes;
                usage.keys += of_key.keys;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut book = Cmd::new();
        book.arg("HSET").arg(account.usage.as_bytes()).arg("bytes").arg(usage.bytes).arg("keys").arg(usage.keys);
        read::<Value>(self.call(tenant_prefix, &Call::Command(&book)).await?)?;
        Ok(usage)
    }

    async fn count_key(&self, tenant_prefix: &[u8], key: &[u8]) -> Result<Usage> {
        let is_store = key.strip_prefix(tenant_prefix).is_some_and(|rest| rest.starts_with(b"kv:"));
        if !is_store {
            let mut ask = Cmd::new();
            let answer =
                self.call(key, &Call::Command(ask.arg("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0))).await?;
            let bytes: Option<u64> = read(answer)?;
            return Ok(Usage { bytes: bytes.unwrap_or_default(), keys: u64::from(bytes.is_some()) });
        }
        let (mut usage, mut cursor) = (Usage::default(), 0u64);
        loop {
            let mut scan = Cmd::new();
            scan.arg("HSCAN").arg(key).arg(cursor).arg("COUNT").arg(100);
            let (next, entries): (u64, Vec<Vec<u8>>) = read(self.call(key, &Call::Command(&scan)).await?)?;
            usage.bytes += entries.iter().map(Vec::len).sum::<usize>() as u64;
            usage.keys += entries.len() as u64 / 2;
            cursor = next;
            if cursor == 0 {
                return Ok(usage);
            }
        }
    }
}
