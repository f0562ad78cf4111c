//! The writer's transaction: what is at a key, and how a change affects it.
//!
//! Invariants: in every committed state, a tenant's row in the table of usage equals what it uses; and every chunk belongs
//! to one entry, or is in the table of waste, from which it is deleted later.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use redb::{ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::entries::{CHUNK, CHUNKS, ENTRIES, Entry, Head, KEY_PRICE, Kind, Place, chunks};
use super::expiry::Expiries;
use super::layout::LAYOUTS;
use super::raw::Keys;
use super::{Result, SLICE, internal};
use crate::store::account::{Account, Change, Usage};
use crate::store::layout::Bucket;
use crate::store::{Allowance, Error};

/// A tenant's use: bytes and keys.
pub(super) const USAGE: TableDefinition<'static, &[u8], (u64, u64)> = TableDefinition::new("usage");
/// (owner, first chunk) → the chunk after the last: chunks that belong to no entry, or not yet.
pub(super) const WASTE: TableDefinition<'static, (&[u8], u64), u64> = TableDefinition::new("kv-waste");

/// Up to this many keys, values are written and old values deleted in the slice that creates the entries.
pub(super) const FEW: usize = 16;

/// An error of the file, which aborts the whole transaction.
pub(super) type File<T> = std::result::Result<T, redb::Error>;
/// Keys, each once, with their new values.
pub(super) type Changes<'w> = Vec<(Cow<'w, [u8]>, Option<Fresh<'w>>)>;

/// A new value for a key.
pub(super) struct Fresh<'w> {
    kind: Kind,
    members: usize,
    value: Given<'w>,
}

enum Given<'w> {
    Bytes(Cow<'w, [u8]>),
    /// Already in the file from this chunk on, with its length.
    Staged(u64, usize),
}

impl<'w> Fresh<'w> {
    pub(super) const fn of(kind: Kind, value: Cow<'w, [u8]>) -> Self {
        Self { kind, members: 0, value: Given::Bytes(value) }
    }

    pub(super) const fn staged(kind: Kind, first: u64, length: usize) -> Self {
        Self { kind, members: 0, value: Given::Staged(first, length) }
    }

    /// For a set.
    pub(super) fn with_members(self, members: usize) -> Self {
        Self { members, ..self }
    }

    pub(super) fn length(&self) -> usize {
        match &self.value {
            Given::Bytes(value) => value.len(),
            Given::Staged(_, length) => *length,
        }
    }

    fn head(&self, goes: u64) -> Head {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Head { kind: self.kind, members: number(self.members), length: number(self.length()), goes }
    }
}

pub(super) struct Tables<'t> {
    pub(super) entries: Table<'t, Place, &'static [u8]>,
    pub(super) chunks: Table<'t, u64, &'static [u8]>,
    pub(super) usage: Table<'t, &'static [u8], (u64, u64)>,
    waste: Table<'t, (&'static [u8], u64), u64>,
    pub(super) layouts: Table<'t, &'static [u8], u16>,
    pub(super) expiries: Expiries<'t>,
    /// The number of the next chunk, which outlives the transaction.
    next: &'t mut u64,
    /// Bytes that were touched since this was set to 0.
    pub(super) price: usize,
    /// Whether there is anything to commit.
    pub(super) is_changed: bool,
    /// Owners with new waste.
    pub(super) wasters: BTreeSet<Vec<u8>>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, next: &'t mut u64) -> File<Self> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            chunks: transaction.open_table(CHUNKS)?,
            usage: transaction.open_table(USAGE)?,
            waste: transaction.open_table(WASTE)?,
            layouts: transaction.open_table(LAYOUTS)?,
            expiries: Expiries::open(transaction)?,
            next,
            price: 0,
            is_changed: false,
            wasters: BTreeSet::new(),
        })
    }

    pub(super) const fn next_mut(&mut self) -> &mut u64 {
        self.next
    }

    /// The number of the first unused chunk.
    pub(super) fn first_free(&self) -> File<u64> {
        let last = self.chunks.last()?.map_or(0, |(number, _)| number.value() + 1);
        // Chunks that are noted as waste may not be written yet.
        let mut noted = last;
        for range in self.waste.iter()? {
            noted = noted.max(range?.1.value());
        }
        Ok(noted)
    }

    /// Owners whose waste is from before the gateway started.
    pub(super) fn owners_of_waste(&self) -> File<Vec<Vec<u8>>> {
        let mut owners: Vec<Vec<u8>> = Vec::new();
        for range in self.waste.iter()? {
            let (place, _) = range?;
            let owner = place.value().0;
            if owners.last().is_none_or(|last| last != owner) {
                owners.push(owner.to_vec());
            }
        }
        Ok(owners)
    }

    /// The entry at a key, expired or not.
    pub(super) fn before(&mut self, bucket: &Bucket, key: &[u8]) -> File<Result<Option<Entry>>> {
        self.price += KEY_PRICE;
        let entry = self.entries.get((bucket.as_bytes(), key))?;
        Ok(entry.map(|entry| Entry::parse(entry.value())).transpose())
    }

    /// Writes a value that is not stored in its entry. Returns its first chunk.
    pub(super) fn put_chunks(&mut self, value: &[u8], first: Option<u64>) -> File<u64> {
        let first = first.unwrap_or_else(|| self.reserve(chunks(value.len())));
        for (number, chunk) in (first..).zip(value.chunks(CHUNK)) {
            self.chunks.insert(number, chunk)?;
        }
        self.price += value.len();
        self.is_changed = true;
        Ok(first)
    }

    pub(super) fn reserve(&mut self, chunks: u64) -> u64 {
        let first = *self.next;
        *self.next += chunks;
        first
    }

    /// Notes chunks that belong to no entry.
    pub(super) fn note_waste(&mut self, owner: &[u8], range: &Range<u64>) -> File<()> {
        self.waste.insert((owner, range.start), range.end)?;
        self.is_changed = true;
        Ok(())
    }

    /// Has an owner's waste deleted after the commit.
    pub(super) fn has_waste(&mut self, owner: &[u8]) {
        self.wasters.insert(owner.to_vec());
    }

    /// The chunks now belong to entries.
    pub(super) fn forget_waste(&mut self, owner: &[u8], first: u64) -> File<()> {
        self.waste.remove((owner, first))?;
        Ok(())
    }

    /// Deletes one slice of an owner's waste. Returns whether there is more. Meanwhile nobody writes chunks for the owner.
    pub(super) fn sweep(&mut self, owner: &[u8]) -> File<bool> {
        let end = self.price + SLICE;
        loop {
            let next = self.waste.range((owner, 0)..=(owner, u64::MAX))?.next().transpose()?;
            let Some(range) = next.map(|(place, end)| place.value().1..end.value()) else { return Ok(false) };
            self.waste.remove((owner, range.start))?;
            self.is_changed = true;
            for number in range.clone() {
                if self.price >= end {
                    self.waste.insert((owner, number), range.end)?;
                    return Ok(true);
                }
                let chunk = self.chunks.remove(number)?.map_or(0, |chunk| chunk.value().len());
                self.price += chunk + KEY_PRICE / 16;
            }
        }
    }

    /// Applies the changes, if the tenant's quota allows the result.
    pub(super) fn change(&mut self, account: &Account, of: &Bucket, changes: &Changes<'_>) -> File<Result<()>> {
        let befores = match self.befores(of, changes)? {
            Ok(befores) => befores,
            Err(error) => return Ok(Err(error)),
        };
        let sum = sum(changes, &befores);
        let usage = account.usage.as_bytes();
        let (bytes, keys) = self.usage.get(usage)?.map_or((0, 0), |usage| usage.value());
        let after = match (Usage { bytes, keys }).after(sum, account.allowance) {
            Ok(after) => after,
            Err(what) => return Ok(Err(Error::OverQuota(what))),
        };
        let goes = super::expiry::end(of);
        let mut waste = Vec::new();
        // For few keys the old values are deleted at once; for many, in slices.
        let room = if changes.len() <= FEW { 2 * SLICE } else { 0 };
        for ((key, fresh), before) in changes.iter().zip(&befores) {
            if let Some(before) = before {
                self.expiries.forget(of, before.head.goes, key)?;
                if let Some(range) = before.far() {
                    self.drop_chunks(range, room.saturating_sub(before.head.bytes()), &mut waste)?;
                }
            }
            match fresh {
                Some(fresh) => self.put(of, key, fresh, goes)?,
                None if before.is_some() => {
                    self.entries.remove((of.as_bytes(), key.as_ref()))?;
                    self.is_changed = true;
                }
                None => {}
            }
        }
        for range in &waste {
            self.has_waste(of.owner());
            self.note_waste(of.owner(), range)?;
        }
        if sum != Change::default() {
            self.usage.insert(usage, (after.bytes, after.keys))?;
        }
        Ok(Ok(()))
    }

    fn befores(&mut self, of: &Bucket, changes: &Changes<'_>) -> File<Result<Vec<Option<Entry>>>> {
        let mut befores = Vec::with_capacity(changes.len());
        for (key, _) in changes {
            match self.before(of, key)? {
                Ok(before) => befores.push(before),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(befores))
    }

    /// Whether the tenant's quota allows the changes, as far as is known before they are applied.
    pub(super) fn may(&mut self, account: &Account, of: &Bucket, changes: &Changes<'_>) -> File<Result<()>> {
        let Some(allowance) = account.allowance else { return Ok(Ok(())) };
        let befores = match self.befores(of, changes)? {
            Ok(befores) => befores,
            Err(error) => return Ok(Err(error)),
        };
        // Expired keys are removed first, which makes room.
        let most = Allowance { keys: u64::MAX, ..allowance };
        let most = if of.ttl().is_some() { None } else { Some(most) };
        let (bytes, keys) = self.usage.get(account.usage.as_bytes())?.map_or((0, 0), |usage| usage.value());
        Ok((Usage { bytes, keys }).after(sum(changes, &befores), most).map(|_| ()).map_err(Error::OverQuota))
    }

    fn put(&mut self, of: &Bucket, key: &[u8], fresh: &Fresh<'_>, goes: u64) -> File<()> {
        self.bring(of.as_bytes(), key, fresh, goes)?;
        self.expiries.note(of, goes, key)
    }

    /// Creates an entry, and nothing else.
    pub(super) fn bring(&mut self, bucket: &[u8], key: &[u8], fresh: &Fresh<'_>, goes: u64) -> File<()> {
        let head = fresh.head(goes);
        let entry = match &fresh.value {
            Given::Staged(first, _) => head.far(*first),
            Given::Bytes(value) if head.is_near() => head.near(value),
            Given::Bytes(value) => head.far(self.put_chunks(value, None)?),
        };
        self.price += entry.len();
        self.entries.insert((bucket, key), entry.as_slice())?;
        self.is_changed = true;
        Ok(())
    }

    /// Deletes chunks up to a price, and notes the rest as waste. The chunks of one batch are consecutive and become one
    /// piece of waste.
    fn drop_chunks(&mut self, range: Range<u64>, most: usize, waste: &mut Vec<Range<u64>>) -> File<()> {
        if self.price > most {
            match waste.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => waste.push(range),
            }
            return Ok(());
        }
        for number in range {
            self.price += self.chunks.remove(number)?.map_or(0, |chunk| chunk.value().len());
        }
        Ok(())
    }
}

fn sum(changes: &Changes<'_>, befores: &[Option<Entry>]) -> Change {
    changes.iter().zip(befores).fold(Change::default(), |sum, ((key, fresh), before)| {
        let before = before.as_ref().map(|before| before.head.bytes());
        sum.plus(Change::of(key, before, fresh.as_ref().map(Fresh::length)))
    })
}

/// The data for commands on raw keys. Expired keys stay visible until they are removed.
pub(super) struct Found<'a, 't> {
    pub(super) tables: &'a mut Tables<'t>,
    pub(super) bucket: &'a Bucket,
}

impl Keys for Found<'_, '_> {
    fn look(&mut self, key: &[u8]) -> Result<Option<Entry>> {
        self.tables.before(self.bucket, key).map_err(internal)?
    }

    fn value(&mut self, entry: &Entry, skip: usize) -> Result<Vec<u8>> {
        self.tables.price += entry.head.bytes();
        entry.value(&self.tables.chunks, skip)
    }
}
