//! What is in the file, and what one write does to it.
//!
//! Invariants: the tables of values and of names have the same keys; what a tenant has is what its line in the table of usage
//! says, in every state that was committed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

use super::lasting::Expiries;
use super::{Job, Outcome, Work, internal, own};
use crate::store::account::{Account, Change, Usage};
use crate::store::layout::Bucket;
use crate::store::{Error, Prepared, Reply, Result, Write, Written, commands};

/// (bucket, key) → value, in byte order.
pub(super) const VALUES: TableDefinition<'static, (&[u8], &[u8]), &[u8]> = TableDefinition::new("kv");
/// The same keys without their values, so that a listing reads no value: one of a MiB takes pages of its own.
pub(super) const NAMES: TableDefinition<'static, (&[u8], &[u8]), ()> = TableDefinition::new("kv-names");
/// What a tenant has: bytes and keys.
pub(super) const USAGE: TableDefinition<'static, &[u8], (u64, u64)> = TableDefinition::new("usage");

/// What the file did not do, which spoils the whole transaction.
pub(super) type File<T> = std::result::Result<T, redb::Error>;
/// Keys, and what is there from now on.
pub(super) type Changes<'w> = Vec<(Cow<'w, [u8]>, Option<Cow<'w, [u8]>>)>;

pub(super) struct Tables<'t> {
    values: redb::Table<'t, (&'static [u8], &'static [u8]), &'static [u8]>,
    names: redb::Table<'t, (&'static [u8], &'static [u8]), ()>,
    usage: redb::Table<'t, &'static [u8], (u64, u64)>,
    expiries: Expiries<'t>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> File<Self> {
        let (values, names) = (transaction.open_table(VALUES)?, transaction.open_table(NAMES)?);
        Ok(Self { values, names, usage: transaction.open_table(USAGE)?, expiries: Expiries::open(transaction)? })
    }

    /// Counts what every tenant has, in a file of a version that did not.
    pub(super) fn count_if_never(&mut self) -> File<()> {
        if !self.usage.is_empty()? || self.values.is_empty()? {
            return Ok(());
        }
        let mut sums: BTreeMap<Vec<u8>, Usage> = BTreeMap::new();
        for entry in self.values.iter()? {
            let (place, value) = entry?;
            let (bucket, key) = place.value();
            let Some(usage) = Bucket::usage_beside(bucket) else { continue };
            let sum = sums.entry(usage).or_default();
            sum.keys += 1;
            sum.bytes += (key.len() + value.value().len()) as u64;
        }
        for (usage, sum) in sums {
            self.usage.insert(usage.as_slice(), (sum.bytes, sum.keys))?;
        }
        Ok(())
    }

    /// The outer error spoils the whole group; the inner one is this caller's own, for which nothing was done.
    pub(super) fn apply(&mut self, job: &Job) -> File<Result<Outcome>> {
        let bucket = job.bucket.as_bytes();
        if let Work::Write(write) = &job.work {
            let over = self.expiries.over(&job.bucket, write.keys())?;
            if !over.is_empty() {
                // What makes it less is never refused.
                let _less = self.change(&job.account, &job.bucket, &over)?;
            }
        }
        let done = match &job.work {
            Work::Write(write) => {
                self.written(bucket, write)?.map(|(changes, written)| (changes, Outcome::Written(written)))
            }
            Work::Command(command) => {
                self.commanded(&job.bucket, command).map(|(changes, answer)| (changes, Outcome::Answer(answer)))
            }
        };
        let (changes, outcome) = match done {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.change(&job.account, &job.bucket, &changes)?.map(|()| outcome))
    }

    fn written<'w>(&self, bucket: &[u8], write: &'w Write) -> File<Result<(Changes<'w>, Written)>> {
        let put = |key: &'w [u8], value: Cow<'w, [u8]>| (Cow::Borrowed(key), Some(value));
        Ok(Ok(match write {
            Write::Set(pairs) => {
                let changes = pairs.iter().map(|(key, value)| put(key, Cow::Borrowed(value)));
                (changes.collect(), Written::Done)
            }
            Write::Delete(keys) => {
                let changes = keys.iter().map(|key| (Cow::Borrowed(key.as_slice()), None));
                (changes.collect(), Written::Done)
            }
            Write::Increment(key, delta) => {
                let now = self.values.get((bucket, key.as_slice()))?.map(|value| commands::decimal(value.value()));
                let Some(sum) = now.unwrap_or(Some(0)).and_then(|now| now.checked_add(*delta)) else {
                    return Ok(Err(Error::NotANumber));
                };
                (vec![put(key, Cow::Owned(sum.to_string().into_bytes()))], Written::Sum(sum))
            }
            Write::Swap { key, expected, new } => {
                let now = self.values.get((bucket, key.as_slice()))?;
                if now.as_ref().map(|value| value.value()) == expected.as_deref() {
                    (vec![put(key, Cow::Borrowed(new))], Written::Swapped(true))
                } else {
                    (Vec::new(), Written::Swapped(false))
                }
            }
        }))
    }

    fn commanded(&self, bucket: &Bucket, command: &Prepared) -> Result<(Changes<'static>, Vec<Reply>)> {
        let get = |key: &[u8]| {
            let value = self.values.get((bucket.as_bytes(), own(bucket, key))).map_err(internal)?;
            Ok(value.map(|value| value.value().to_vec()))
        };
        let (changes, value) = commands::run(command, get)?;
        let changes =
            changes.into_iter().map(|(key, value)| (Cow::Owned(own(bucket, &key).to_vec()), value.map(Cow::Owned)));
        Ok((changes.collect(), command.answer(value)))
    }

    /// Does the changes, if the tenant may have what they come to.
    fn change(&mut self, account: &Account, of: &Bucket, changes: &Changes<'_>) -> File<Result<()>> {
        let bucket = of.as_bytes();
        let mut sum = Change::default();
        let mut seen: HashMap<&[u8], Option<usize>> = HashMap::new();
        for (key, value) in changes {
            let before = match seen.get(key.as_ref()) {
                Some(before) => *before,
                None => self.values.get((bucket, key.as_ref()))?.map(|value| value.value().len()),
            };
            let after = value.as_ref().map(|value| value.len());
            sum = sum.plus(Change::of(key, before, after));
            seen.insert(key, after);
        }
        let usage = account.usage.as_bytes();
        let (bytes, keys) = self.usage.get(usage)?.map_or((0, 0), |usage| usage.value());
        let after = match (Usage { bytes, keys }).after(sum, account.allowance) {
            Ok(after) => after,
            Err(what) => return Ok(Err(Error::OverQuota(what))),
        };
        for (key, value) in changes {
            if let Some(value) = value {
                self.values.insert((bucket, key.as_ref()), value.as_ref())?;
                self.names.insert((bucket, key.as_ref()), ())?;
            } else {
                self.values.remove((bucket, key.as_ref()))?;
                self.names.remove((bucket, key.as_ref()))?;
            }
        }
        self.expiries.note(of, changes)?;
        if sum != Change::default() {
            self.usage.insert(usage, (after.bytes, after.keys))?;
        }
        Ok(Ok(()))
    }
}
