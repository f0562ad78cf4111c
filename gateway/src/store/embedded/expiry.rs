//! Stores whose keys expire: finds the expired ones. A key's entry has its expiry time. Readers do not see expired keys,
//! and writers remove them, a hundred at a time, so that they do not count for longer than necessary.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Table, TableDefinition};

use super::tables::File;
use crate::store::layout::Bucket;

/// (bucket, milliseconds since 1970, key).
pub(super) const DUE: TableDefinition<'static, (&[u8], u64, &[u8]), ()> = TableDefinition::new("kv-due");
const AT_ONCE: usize = 100;

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// When a key that is set in the store now expires; 0 if it does not.
pub(super) fn end(bucket: &Bucket) -> u64 {
    bucket.ttl().map_or(0, |ttl| now().saturating_add(millis(ttl)))
}

/// The writer's index of expiry times.
pub(super) struct Expiries<'t> {
    by_time: Table<'t, (&'static [u8], u64, &'static [u8]), ()>,
}

impl<'t> Expiries<'t> {
    pub(super) fn open(transaction: &'t redb::WriteTransaction) -> File<Self> {
        Ok(Self { by_time: transaction.open_table(DUE)? })
    }

    /// Some expired keys of this store.
    pub(super) fn due(&self, bucket: &Bucket) -> File<Vec<Vec<u8>>> {
        use redb::ReadableTable as _;
        if bucket.ttl().is_none() {
            return Ok(Vec::new());
        }
        let (name, now) = (bucket.as_bytes(), now());
        let due = self.by_time.range((name, 0, [].as_slice())..(name, now + 1, [].as_slice()))?.take(AT_ONCE);
        due.map(|due| Ok(due?.0.value().2.to_vec())).collect()
    }

    /// Notes when a key expires.
    pub(super) fn note(&mut self, bucket: &Bucket, goes: u64, key: &[u8]) -> File<()> {
        if goes != 0 {
            self.by_time.insert((bucket.as_bytes(), goes, key), ())?;
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, bucket: &Bucket, goes: u64, key: &[u8]) -> File<()> {
        if goes != 0 {
            self.by_time.remove((bucket.as_bytes(), goes, key))?;
        }
        Ok(())
    }
}
