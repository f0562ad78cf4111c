//! A tenant's shards: with `quota.shards` its data is in several slots of a cluster, and may outgrow one server.
//!
//! A key is in one shard, chosen by Redis Cluster's hash (so that a hash tag in a raw key keeps it beside others). A call
//! on several keys is executed shard by shard, and is refused if it must be one step (`commands/split.rs`). Each shard
//! counts its own share of `quota.storage`, in one step with the write.
//!
//! Invariant: the number of shards is noted in the store when the tenant first uses it. No call is made under a
//! configuration with another number, because it would look for keys in the wrong shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::account::{Account, Allowance};
use super::layout::{Place, slot};
use super::{Error, Result, Store, Write};
use crate::ids::TenantId;

pub(crate) const SHARDS_MAX: u32 = 64;

/// The number of shards of a tenant.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) shards: u16,
    is_noted: AtomicBool,
}

impl Default for Shards {
    fn default() -> Self {
        Self::over(1)
    }
}

impl Shards {
    pub(super) const fn over(shards: u16) -> Self {
        Self { shards, is_noted: AtomicBool::new(false) }
    }

    pub(super) fn shard_of(&self, key: &[u8]) -> u16 {
        if self.shards == 1 { 0 } else { slot(key) % self.shards }
    }

    /// The items for each shard, in their original order.
    pub(super) fn sorted<T>(&self, items: Vec<T>, key: impl Fn(&T) -> &[u8]) -> Vec<(u16, Vec<T>)> {
        if self.shards == 1 {
            return vec![(0, items)];
        }
        let mut parts: BTreeMap<u16, Vec<T>> = BTreeMap::new();
        for item in items {
            parts.entry(self.shard_of(key(&item))).or_default().push(item);
        }
        parts.into_iter().collect()
    }

    pub(super) fn writes(&self, write: Write) -> Vec<(u16, Write)> {
        match write {
            Write::Set(pairs) => {
                let parts = self.sorted(pairs, |(key, _)| key).into_iter();
                parts.map(|(shard, pairs)| (shard, Write::Set(pairs))).collect()
            }
            Write::Delete(keys) => {
                let parts = self.sorted(keys, |key| key).into_iter();
                parts.map(|(shard, keys)| (shard, Write::Delete(keys))).collect()
            }
            Write::Increment(ref key, _) | Write::Swap { ref key, .. } => vec![(self.shard_of(key), write)],
        }
    }

    /// The shard of a cursor, and the cursor there: `SHARD.CURSOR`, if there are several shards.
    pub(super) fn place<'c>(&self, cursor: Option<&'c str>) -> Result<(u16, Option<&'c str>)> {
        let Some(cursor) = cursor else { return Ok((0, None)) };
        if self.shards == 1 {
            return Ok((0, Some(cursor)));
        }
        let (shard, rest) = cursor.split_once('.').ok_or(Error::BadCursor)?;
        let shard = shard.parse().ok().filter(|shard| *shard < self.shards).ok_or(Error::BadCursor)?;
        Ok((shard, (!rest.is_empty()).then_some(rest)))
    }

    /// The cursor after a page of this shard.
    pub(super) fn next(&self, shard: u16, cursor: Option<String>) -> Option<String> {
        match cursor {
            cursor if self.shards == 1 => cursor,
            Some(cursor) => Some(format!("{shard}.{cursor}")),
            None => (shard + 1 < self.shards).then(|| format!("{}.", shard + 1)),
        }
    }

    /// The quota of one shard.
    pub(super) fn share(&self, allowance: Allowance) -> Allowance {
        let shards = u64::from(self.shards);
        Allowance { bytes: allowance.bytes / shards, keys: allowance.keys / shards }
    }
}

impl Store {
    /// Sets the number of shards of each tenant.
    pub(crate) fn spread(&self, tenants: impl Iterator<Item = (TenantId, u32)>) {
        let before = self.spreads.load();
        let spread = |id: &TenantId, shards: u32| {
            let shards = u16::try_from(shards.min(SHARDS_MAX)).unwrap_or(1);
            let same = before.get(id).filter(|spread| spread.shards == shards).cloned();
            same.unwrap_or_else(|| Arc::new(Shards::over(shards)))
        };
        let spreads: HashMap<_, _> = tenants.map(|(id, shards)| (id.clone(), spread(&id, shards))).collect();
        self.spreads.store(Arc::new(spreads));
    }

    pub(super) fn spread_of(&self, tenant: &TenantId) -> Arc<Shards> {
        self.spreads.load().get(tenant).cloned().unwrap_or_default()
    }

    /// Compares with the note in the store, once. Nothing is done with the tenant's data before.
    pub(super) async fn agreed(&self, tenant: &TenantId, spread: &Shards) -> Result<()> {
        if spread.is_noted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (layout, prefix) = (self.prefix.layout(tenant), self.prefix.of_place(&Place::of(tenant, 0, 1)));
        let wanted = spread.shards;
        let noted = self.backend(tenant).note_layout(&layout, (&prefix, wanted)).await?;
        if noted != wanted {
            tracing::error!(
                target: "store", %tenant, noted, wanted,
                "quota.shards does not match the data: restore the old value, or export, purge, change the value, and \
                    import"
            );
            return Err(Error::Shards { noted, wanted });
        }
        spread.is_noted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// All places with data of the tenant, even of a tenant that is not loaded.
    pub(super) async fn places(&self, tenant: &TenantId) -> Result<Vec<Place>> {
        let spread = self.noted(tenant).await?;
        Ok((0..spread.shards).map(|shard| Place::of(tenant, shard, spread.shards)).collect())
    }

    /// The number in the store's note, or else the configured one.
    pub(super) async fn noted(&self, tenant: &TenantId) -> Result<Shards> {
        let noted = self.backend(tenant).noted_layout(&self.prefix.layout(tenant)).await?;
        Ok(Shards::over(noted.unwrap_or_else(|| self.spread_of(tenant).shards)))
    }

    /// Once no data is left, the tenant may get another number of shards.
    pub(super) async fn forget_layout(&self, tenant: &TenantId) -> Result<()> {
        self.backend(tenant).forget_layout(&self.prefix.layout(tenant)).await?;
        self.spread_of(tenant).is_noted.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn account(&self, place: &Place, allowance: Option<Allowance>) -> Account {
        Account { usage: self.prefix.usage(place), allowance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_visits_every_shard_once() {
        let spread = Shards::over(3);
        let mut cursor = None;
        let mut seen = Vec::new();
        for inner in [Some("5"), None, None, Some("7"), None] {
            let (shard, rest) = spread.place(cursor.as_deref()).unwrap();
            seen.push((shard, rest.map(str::to_owned)));
            cursor = spread.next(shard, inner.map(str::to_owned));
        }
        assert_eq!(cursor, None);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(seen, [(0, None), (0, text("5")), (1, None), (2, None), (2, text("7"))]);
        for wrong in ["", "7", "3.", "x.1", "-1.0"] {
            assert_eq!(spread.place(Some(wrong)), Err(Error::BadCursor), "{wrong}");
        }
        assert_eq!(Shards::over(1).place(Some("7")).unwrap(), (0, Some("7")));
    }

    #[test]
    fn keys_spread_evenly_and_those_with_a_tag_stay_together() {
        let spread = Shards::over(8);
        let keys: Vec<String> = (0..8000).map(|n| format!("key-{n}")).collect();
        let parts = spread.sorted(keys, |key| key.as_bytes());
        assert_eq!(parts.len(), 8);
        assert!(parts.iter().all(|(_, keys)| (800..1200).contains(&keys.len())));
        assert_eq!(spread.shard_of(b"{user1}:a"), spread.shard_of(b"b:{user1}"));
    }
}
