//! Files of earlier versions, which stored every value beside its key, and had a table of names. They are converted when
//! they are opened, some keys in each transaction. An interrupted conversion continues at the next start.

use std::collections::BTreeMap;

use anyhow::Context as _;
use redb::{Database, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, TableHandle as _};

use super::entries::Kind;
use super::sets::Members;
use super::tables::{File, Fresh, Tables, USAGE};
use crate::store::account::Usage;
use crate::store::layout::Bucket;

type Keyed<V> = TableDefinition<'static, (&'static [u8], &'static [u8]), V>;
pub(super) const VALUES: Keyed<&[u8]> = TableDefinition::new("kv");
pub(super) const NAMES: Keyed<()> = TableDefinition::new("kv-names");
pub(super) const EXPIRIES: Keyed<u64> = TableDefinition::new("kv-expiries");

const KEYS: usize = 10_000;
const BYTES: usize = 32 << 20;

/// Converts the file if it is from an earlier version.
pub(super) fn migrate(database: &Database) -> anyhow::Result<()> {
    let write = database.begin_write()?;
    let is_older = write.list_tables()?.any(|table| table.name() == VALUES.name());
    write.abort()?;
    if !is_older {
        return Ok(());
    }
    tracing::info!(target: "store", "the gateway converts the embedded store to this version");
    count_if_never(database).context("cannot count the data in the embedded store")?;
    let mut number = 0;
    loop {
        let moved = some(database, &mut number).context("cannot convert the embedded store")?;
        if moved == 0 {
            break;
        }
    }
    let write = database.begin_write()?;
    for table in [write.delete_table(VALUES), write.delete_table(NAMES), write.delete_table(EXPIRIES)] {
        table?;
    }
    write.commit()?;
    Ok(())
}

/// Counts what every tenant uses, in a file from a version that did not.
fn count_if_never(database: &Database) -> File<()> {
    let write = database.begin_write()?;
    {
        let (values, mut usage) = (write.open_table(VALUES)?, write.open_table(USAGE)?);
        let mut sums: BTreeMap<Vec<u8>, Usage> = BTreeMap::new();
        if usage.is_empty()? {
            for entry in values.iter()? {
                let (place, value) = entry?;
                let (bucket, key) = place.value();
                let Some(usage) = Bucket::usage_beside(bucket) else { continue };
                let sum = sums.entry(usage).or_default();
                sum.keys += 1;
                sum.bytes += (key.len() + value.value().len()) as u64;
            }
        }
        for (of, sum) in sums {
            usage.insert(of.as_slice(), (sum.bytes, sum.keys))?;
        }
    }
    write.commit()?;
    Ok(())
}

/// Converts some keys, and returns their number.
fn some(database: &Database, number: &mut u64) -> File<usize> {
    let write = database.begin_write()?;
    let moved = {
        let (mut values, mut names) = (write.open_table(VALUES)?, write.open_table(NAMES)?);
        let mut expiries = write.open_table(EXPIRIES)?;
        let (mut next, mut places) = (*number, Vec::new());
        let mut tables = Tables::open(&write, &mut next)?;
        if *number == 0 {
            *tables.next_mut() = tables.first_free()?;
        }
        let mut bytes = 0;
        for entry in values.iter()?.take(KEYS) {
            let (place, value) = entry?;
            let ((bucket, key), value) = (place.value(), value.value());
            let goes = expiries.get((bucket, key))?.map_or(0, |goes| goes.value());
            tables.bring(bucket, key, &fresh(bucket, value), goes)?;
            places.push((bucket.to_vec(), key.to_vec()));
            bytes += value.len();
            if bytes > BYTES {
                break;
            }
        }
        for (bucket, key) in &places {
            let place = (bucket.as_slice(), key.as_slice());
            values.remove(place)?;
            names.remove(place)?;
            expiries.remove(place)?;
        }
        drop(tables);
        *number = next;
        places.len()
    };
    write.commit()?;
    Ok(moved)
}

fn fresh<'v>(bucket: &[u8], value: &'v [u8]) -> Fresh<'v> {
    let kind = match value.first() {
        _ if !Bucket::is_raw(bucket) => Kind::Plain,
        Some(b'S') => Kind::Set,
        _ => Kind::Text,
    };
    let members = if kind == Kind::Set { Members::of(value).count() } else { 0 };
    Fresh::of(kind, value.into()).with_members(members)
}
