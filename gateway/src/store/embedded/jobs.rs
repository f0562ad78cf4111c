//! The writer's jobs, executed slice by slice.
//!
//! Invariant: each job is applied completely or not at all. A large batch first writes its values to chunks, slice by
//! slice, which nobody sees; its last slice creates all entries in one transaction, together with the tenant's sum.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::entries::{KEY_PRICE, Kind, NEAR_MAX, chunks, is_over};
use super::raw::{self, decimal};
use super::tables::{Changes, FEW, File, Found, Fresh, Tables};
use super::{Result, SLICE};
use crate::store::account::Account;
use crate::store::layout::Bucket;
use crate::store::{Error, Prepared, Reply, Value, Write, Written};

pub(super) struct Job {
    pub(super) account: Account,
    pub(super) bucket: Bucket,
    pub(super) work: Work,
    pub(super) staged: Option<Staged>,
    pub(super) done: oneshot::Sender<Result<Outcome>>,
}

/// Each key occurs once.
pub(super) enum Work {
    Set {
        pairs: Vec<(Vec<u8>, Value)>,
        kind: Kind,
    },
    Delete(Vec<Vec<u8>>),
    Increment(Vec<u8>, i64),
    Swap {
        key: Vec<u8>,
        expected: Option<Value>,
        new: Value,
    },
    /// A Redis command that changes something.
    Command(Prepared),
    /// The number of shards of the tenant.
    Layout(Option<u16>),
    /// No work: when it is done, the tenant's earlier jobs are done.
    Barrier,
}

/// How much of a large batch's values is written.
pub(super) struct Staged {
    first: u64,
    /// The next value, and its chunk.
    at: usize,
    number: u64,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Written(Written),
    Answer(Vec<Reply>),
    Layout(u16),
    Nothing,
}

/// The result of one slice.
pub(super) enum Step {
    More,
    Done(Result<Outcome>),
}

impl From<Write> for Work {
    fn from(write: Write) -> Self {
        // The last value for a key wins.
        let last = |pairs: Vec<(Vec<u8>, Value)>| pairs.into_iter().collect::<std::collections::BTreeMap<_, _>>();
        match write {
            Write::Set(pairs) if pairs.len() == 1 => Self::Set { pairs, kind: Kind::Plain },
            Write::Set(pairs) => Self::Set { pairs: last(pairs).into_iter().collect(), kind: Kind::Plain },
            Write::Delete(keys) => Self::Delete(keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect()),
            Write::Increment(key, delta) => Self::Increment(key, delta),
            Write::Swap { key, expected, new } => Self::Swap { key, expected, new },
        }
    }
}

impl Work {
    /// Bytes that it carries while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set { pairs, .. } => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(Vec::len).sum(),
            Self::Increment(key, _) => key.len(),
            Self::Swap { key, expected, new } => key.len() + expected.as_ref().map_or(0, Vec::len) + new.len(),
            Self::Command(command) => command.words().iter().map(Vec::len).sum(),
            Self::Layout(_) | Self::Barrier => 0,
        }
    }
}

impl Job {
    /// Whether nobody waits for it any more, because the caller's deadline passed or its request ended.
    pub(super) fn is_left(&self) -> bool {
        self.done.is_closed()
    }

    /// The outer error aborts the whole group. The inner one is only this caller's, whose job changed nothing.
    pub(super) fn step(&mut self, tables: &mut Tables<'_>) -> File<Step> {
        if let Work::Set { pairs, kind } = &self.work {
            let carried: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
            // With many keys, the entries alone fill a slice.
            let most = if pairs.len() > FEW { SLICE / 2 } else { 2 * SLICE };
            match &mut self.staged {
                None if carried > most => {
                    let changes = changes(pairs, *kind, None);
                    if let Err(error) = tables.may(&self.account, &self.bucket, &changes)? {
                        return Ok(Step::Done(Err(error)));
                    }
                    let first = tables.reserve(far(pairs).map(|value| chunks(value.len())).sum());
                    let end = tables.reserve(0);
                    tables.note_waste(self.bucket.owner(), &(first..end))?;
                    self.staged = Some(Staged { first, at: 0, number: first });
                    return Ok(Step::More);
                }
                Some(staged) if staged.at < pairs.len() => {
                    stage(staged, pairs, tables)?;
                    return Ok(Step::More);
                }
                None | Some(_) => {}
            }
        }
        Ok(Step::Done(self.last(tables)?))
    }

    /// The slice that applies the job's changes.
    fn last(&self, tables: &mut Tables<'_>) -> File<Result<Outcome>> {
        self.clear_due(tables)?;
        let (changes, outcome) = match self.changes(tables)? {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        let changed = tables.change(&self.account, &self.bucket, &changes)?;
        if let Some(staged) = &self.staged {
            match changed {
                Ok(()) => tables.forget_waste(self.bucket.owner(), staged.first)?,
                Err(_) => tables.has_waste(self.bucket.owner()),
            }
        }
        Ok(changed.map(|()| outcome))
    }

    fn changes(&self, tables: &mut Tables<'_>) -> File<Result<(Changes<'_>, Outcome)>> {
        let bucket = &self.bucket;
        Ok(Ok(match &self.work {
            Work::Barrier => (Vec::new(), Outcome::Nothing),
            Work::Layout(shards) => (Vec::new(), Outcome::Layout(tables.set_layout(bucket, *shards)?)),
            Work::Set { pairs, kind } => {
                let outcome = match kind {
                    Kind::Plain => Outcome::Written(Written::Done),
                    Kind::Text | Kind::Set => Outcome::Answer(vec![Reply::Status("OK".to_owned())]),
                };
                (changes(pairs, *kind, self.staged.as_ref()), outcome)
            }
            Work::Delete(keys) => {
                let changes = keys.iter().map(|key| (Cow::Borrowed(key.as_slice()), None));
                (changes.collect(), Outcome::Written(Written::Done))
            }
            Work::Increment(key, delta) => match sum(tables, bucket, key, *delta)? {
                Ok(sum) => (one(key, Cow::Owned(sum.to_string().into_bytes())), Outcome::Written(Written::Sum(sum))),
                Err(error) => return Ok(Err(error)),
            },
            Work::Swap { key, expected, new } => match is_same(tables, bucket, key, expected.as_deref())? {
                Ok(true) => (one(key, Cow::Borrowed(new)), Outcome::Written(Written::Swapped(true))),
                Ok(false) => (Vec::new(), Outcome::Written(Written::Swapped(false))),
                Err(error) => return Ok(Err(error)),
            },
            Work::Command(command) => match raw::run(command, bucket, &mut Found { tables, bucket }) {
                Ok((changes, answer)) => (changes, Outcome::Answer(answer)),
                Err(error) => return Ok(Err(error)),
            },
        }))
    }

    /// Removes some expired keys of this store, so that they do not count for longer than necessary.
    fn clear_due(&self, tables: &mut Tables<'_>) -> File<()> {
        let due = tables.expiries.due(&self.bucket)?;
        if due.is_empty() {
            return Ok(());
        }
        let changes = due.into_iter().map(|key| (Cow::Owned(key), None)).collect();
        // A change that reduces the sum is never refused.
        let _less = tables.change(&self.account, &self.bucket, &changes)?;
        Ok(())
    }
}

fn one<'c>(key: &'c [u8], value: Cow<'c, [u8]>) -> Changes<'c> {
    vec![(Cow::Borrowed(key), Some(Fresh::of(Kind::Plain, value)))]
}

/// The values that are not stored in their entries.
fn far(pairs: &[(Vec<u8>, Value)]) -> impl Iterator<Item = &Value> {
    pairs.iter().map(|(_, value)| value).filter(|value| value.len() > NEAR_MAX)
}

fn changes<'p>(pairs: &'p [(Vec<u8>, Value)], kind: Kind, staged: Option<&Staged>) -> Changes<'p> {
    let mut number = staged.map(|staged| staged.first);
    let fresh = |value: &'p Value| match &mut number {
        Some(number) if value.len() > NEAR_MAX => {
            let first = *number;
            *number += chunks(value.len());
            Fresh::staged(kind, first, value.len())
        }
        _ => Fresh::of(kind, Cow::Borrowed(value)),
    };
    let mut fresh = fresh;
    pairs.iter().map(|(key, value)| (Cow::Borrowed(key.as_slice()), Some(fresh(value)))).collect()
}

/// Writes the next values, as many as fit into a slice.
fn stage(staged: &mut Staged, pairs: &[(Vec<u8>, Value)], tables: &mut Tables<'_>) -> File<()> {
    let end = tables.price + SLICE;
    while let Some((_, value)) = pairs.get(staged.at) {
        if value.len() > NEAR_MAX {
            if tables.price >= end {
                return Ok(());
            }
            tables.put_chunks(value, Some(staged.number))?;
            tables.price += KEY_PRICE;
            staged.number += chunks(value.len());
        }
        staged.at += 1;
    }
    Ok(())
}

fn sum(tables: &mut Tables<'_>, bucket: &Bucket, key: &[u8], delta: i64) -> File<Result<i64>> {
    let now = match tables.before(bucket, key)? {
        Ok(None) => Some(0),
        Ok(Some(entry)) if is_over(bucket, entry.head) => Some(0),
        // A longer value is not a number.
        Ok(Some(entry)) if !entry.head.is_near() => None,
        Ok(Some(entry)) => entry.value(&tables.chunks, 0).ok().and_then(|text| decimal(&text)),
        Err(error) => return Ok(Err(error)),
    };
    Ok(now.and_then(|now| now.checked_add(delta)).ok_or(Error::NotANumber))
}

/// Whether the value at the key is the expected one.
fn is_same(tables: &mut Tables<'_>, bucket: &Bucket, key: &[u8], expected: Option<&[u8]>) -> File<Result<bool>> {
    let before = match tables.before(bucket, key)? {
        Ok(before) => before.filter(|entry| !is_over(bucket, entry.head)),
        Err(error) => return Ok(Err(error)),
    };
    Ok(match (before, expected) {
        (None, None) => Ok(true),
        (Some(entry), Some(expected)) if entry.head.bytes() == expected.len() => {
            tables.price += expected.len();
            entry.value(&tables.chunks, 0).map(|value| value == expected)
        }
        _ => Ok(false),
    })
}
