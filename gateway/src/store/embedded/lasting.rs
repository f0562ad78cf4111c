//! Stores of which the keys go after a time: when each goes, and which are due. What is over is not there for readers, and
//! writers take it away, a hundred at a time, so that it is counted no longer than it must be.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError};

use super::tables::{Changes, File};
use super::{Result, internal};
use crate::store::layout::Bucket;

/// A bucket, and a key in it.
type Place = (&'static [u8], &'static [u8]);

/// (bucket, key) → milliseconds since 1970.
pub(super) const EXPIRIES: TableDefinition<'static, (&[u8], &[u8]), u64> = TableDefinition::new("kv-expiries");
/// The same by when they go.
pub(super) const DUE: TableDefinition<'static, (&[u8], u64, &[u8]), ()> = TableDefinition::new("kv-due");
const AT_ONCE: usize = 100;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// When a store's keys go, as a reader sees it; nothing is there for a store that lasts for ever.
pub(super) struct Moments<'b>(Option<(ReadOnlyTable<Place, u64>, &'b Bucket)>);

impl<'b> Moments<'b> {
    pub(super) fn open(read: &ReadTransaction, bucket: &'b Bucket) -> Result<Self> {
        if bucket.ttl().is_none() {
            return Ok(Self(None));
        }
        match read.open_table(EXPIRIES) {
            Err(TableError::TableDoesNotExist(_)) => Ok(Self(None)),
            table => Ok(Self(Some((table.map_err(internal)?, bucket)))),
        }
    }

    /// Whether the key is over.
    pub(super) fn is_over(&self, key: &[u8]) -> Result<bool> {
        let Some((table, bucket)) = &self.0 else { return Ok(false) };
        Ok(table.get((bucket.as_bytes(), key)).map_err(internal)?.is_some_and(|at| at.value() <= now()))
    }
}

/// Both tables, as the writer has them.
pub(super) struct Expiries<'t> {
    by_key: Table<'t, Place, u64>,
    by_time: Table<'t, (&'static [u8], u64, &'static [u8]), ()>,
}

impl<'t> Expiries<'t> {
    pub(super) fn open(transaction: &'t redb::WriteTransaction) -> File<Self> {
        Ok(Self { by_key: transaction.open_table(EXPIRIES)?, by_time: transaction.open_table(DUE)? })
    }

    /// What must go before something else is done in this store: some of what is due, and those of the keys that are.
    pub(super) fn over<'k>(&self, bucket: &Bucket, keys: impl Iterator<Item = &'k [u8]>) -> File<Changes<'static>> {
        if bucket.ttl().is_none() {
            return Ok(Vec::new());
        }
        let (name, now) = (bucket.as_bytes(), now());
        let mut over = std::collections::BTreeSet::new();
        for due in self.by_time.range((name, 0, [].as_slice())..(name, now + 1, [].as_slice()))?.take(AT_ONCE) {
            over.insert(due?.0.value().2.to_vec());
        }
        for key in keys {
            if self.by_key.get((name, key))?.is_some_and(|at| at.value() <= now) {
                over.insert(key.to_vec());
            }
        }
        Ok(over.into_iter().map(|key| (Cow::Owned(key), None)).collect())
    }

    /// Notes when what was changed goes.
    pub(super) fn note(&mut self, bucket: &Bucket, changes: &Changes<'_>) -> File<()> {
        let Some(ttl) = bucket.ttl() else { return Ok(()) };
        let (name, at) = (bucket.as_bytes(), now().saturating_add(millis(ttl)));
        for (key, value) in changes {
            let key = key.as_ref();
            let before = match value {
                Some(_) => self.by_key.insert((name, key), at)?.map(|before| before.value()),
                None => self.by_key.remove((name, key))?.map(|before| before.value()),
            };
            if let Some(before) = before {
                self.by_time.remove((name, before, key))?;
            }
            if value.is_some() {
                self.by_time.insert((name, at, key), ())?;
            }
        }
        Ok(())
    }
}
