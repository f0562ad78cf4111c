//! What is left in an embedded store if its gateway now keeps tenants' data elsewhere. Read-only.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{ReadOnlyDatabase, ReadableDatabase as _, ReadableTable as _};

use super::tables::USAGE;
use super::{FILE, internal};
use crate::ids::TenantId;
use crate::store::Result;

/// The most sums that are read.
const SUMS_MAX: usize = 100_000;

/// Tenants with keys in the store of this folder, and the number of keys. Nothing if there is no store.
///
/// # Errors
/// It cannot be read, for example because it was not closed properly.
pub(crate) fn left_behind(dir: &Path) -> Result<BTreeMap<TenantId, u64>> {
    let path = dir.join(FILE);
    let mut left = BTreeMap::new();
    if !path.exists() {
        return Ok(left);
    }
    let database = ReadOnlyDatabase::open(&path).map_err(internal)?;
    let read = database.begin_read().map_err(internal)?;
    let table = match read.open_table(USAGE) {
        Ok(table) => table,
        // Nobody ever wrote to it.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(left),
        Err(error) => return Err(internal(error)),
    };
    for entry in table.iter().map_err(internal)?.take(SUMS_MAX) {
        let (name, sum) = entry.map_err(internal)?;
        if let (Some(id), (_, keys @ 1..)) = (tenant(name.value()), sum.value()) {
            *left.entry(id).or_default() += keys;
        }
    }
    Ok(left)
}

/// The tenant of a sum: `PREFIX:{TENANT}:q:usage`, with `.N` after a tenant with several shards.
pub(super) fn tenant(name: &[u8]) -> Option<TenantId> {
    let inside = str::from_utf8(name).ok()?.split_once('{')?.1.split_once('}')?.0;
    TenantId::parse(inside.split('.').next()?)
}
