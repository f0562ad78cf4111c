//! The Redis commands that the embedded store implements: strings, counters and sets.
//!
//! The first byte of a key's value is its kind: `s` and the string, or `S` and a set (`sets.rs`). Kind, length and number
//! of members are answered from the entry: a key that is named a thousand times is looked up once, and its value is not
//! read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Entry, Kind};
use super::sets::{self, Members};
use super::tables::{Changes, Fresh};
use super::{Result, own};
use crate::store::layout::Bucket;
use crate::store::{Error, Prepared, Reply, VALUE_BYTES_MAX};

const WRONG_TYPE: &str = "Operation against a key holding the wrong kind of value";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

/// Where a command finds the data at its keys.
pub(super) trait Keys {
    fn look(&mut self, key: &[u8]) -> Result<Option<Entry>>;
    /// The value of an entry without this many of its first bytes.
    fn value(&mut self, entry: &Entry, skip: usize) -> Result<Vec<u8>>;
}

/// A command's changes and its answer.
pub(super) type Done = (Changes<'static>, Vec<Reply>);

/// Executes a command.
///
/// # Errors
/// In Redis's words; [`Error::Refused`] for the commands that need a Redis.
pub(super) fn run(command: &Prepared, bucket: &Bucket, keys: &mut impl Keys) -> Result<Done> {
    let words = command.words().get(1..).unwrap_or_default();
    let name = command.name();
    let Some((key, rest)) = words.split_first() else { return Err(needs_redis(name)) };
    // In all commands that are implemented here, the first word is a key.
    if command.keys().next() != Some(key.as_slice()) {
        return Err(needs_redis(name));
    }
    match name {
        "EXISTS" => {
            let there = there(words, bucket, keys)?;
            Ok((Vec::new(), count(words.iter().filter(|key| there.contains(own(bucket, key))).count())))
        }
        "DEL" | "UNLINK" => {
            let there = there(words, bucket, keys)?;
            let gone = count(there.len());
            Ok((there.into_iter().map(|key| (Cow::Owned(key.to_vec()), None)).collect(), gone))
        }
        _ => {
            let one = One { key: own(bucket, key), found: keys.look(own(bucket, key))?, keys };
            let done = match name {
                "SADD" | "SREM" | "SMEMBERS" | "SISMEMBER" | "SCARD" => one.on_set(name, rest)?,
                _ => one.on_text(name, rest)?,
            };
            done.ok_or_else(|| needs_redis(name))
        }
    }
}

/// The pairs of an MSET as they are stored, each key once: the last value wins.
pub(super) fn pairs(command: &Prepared, bucket: &Bucket) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pairs = BTreeMap::new();
    for pair in command.words().get(1..).unwrap_or_default().chunks_exact(2) {
        if let [key, value] = pair {
            pairs.insert(own(bucket, key).to_vec(), bounded([b"s".as_slice(), value].concat())?);
        }
    }
    Ok(pairs.into_iter().collect())
}

pub(super) fn wrong_type() -> Error {
    Error::WrongType(WRONG_TYPE.to_owned())
}

fn needs_redis(name: &str) -> Error {
    let why = "the embedded store has strings, counters and sets, without options; this needs Redis";
    Error::Refused(format!("{name}: {why}"))
}

/// Returns which of the keys exist. Looks each of them up once.
fn there<'k>(words: &'k [Vec<u8>], bucket: &Bucket, keys: &mut impl Keys) -> Result<BTreeSet<&'k [u8]>> {
    let mut there: BTreeSet<&[u8]> = words.iter().map(|key| own(bucket, key)).collect();
    let mut failed = None;
    there.retain(|key| match keys.look(key) {
        Ok(found) => found.is_some(),
        Err(error) => failed.replace(error).is_some(),
    });
    failed.map_or(Ok(there), Err)
}

/// Checks the size. One byte of a value is its kind.
fn bounded(value: Vec<u8>) -> Result<Vec<u8>> {
    if value.len() > VALUE_BYTES_MAX + 1 {
        return Err(Error::TooLarge("a value, or a set in the embedded store, may have 1 MiB"));
    }
    Ok(value)
}

fn count(number: usize) -> Vec<Reply> {
    vec![Reply::Int(i64::try_from(number).unwrap_or(i64::MAX))]
}

fn ok() -> Vec<Reply> {
    vec![Reply::Status("OK".to_owned())]
}

fn bytes(value: Option<Vec<u8>>) -> Vec<Reply> {
    vec![value.map_or(Reply::Nil, Reply::Bytes)]
}

/// A command's only key, and its entry.
struct One<'c, K> {
    key: &'c [u8],
    found: Option<Entry>,
    keys: &'c mut K,
}

impl<K: Keys> One<'_, K> {
    /// The entry if it has this kind, or nothing if the key does not exist.
    fn of_kind(&self, kind: Kind) -> Result<Option<&Entry>> {
        match &self.found {
            Some(entry) if entry.head.kind != kind => Err(wrong_type()),
            found => Ok(found.as_ref()),
        }
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>> {
        let entry = self.of_kind(Kind::Text)?.cloned();
        entry.map(|entry| self.keys.value(&entry, 1)).transpose()
    }

    /// The set as it is stored. Empty if it does not exist.
    fn set(&mut self) -> Result<Vec<u8>> {
        let entry = self.of_kind(Kind::Set)?.cloned();
        entry.map_or_else(|| Ok(Vec::new()), |entry| self.keys.value(&entry, 0))
    }

    fn change(&self, fresh: Option<Fresh<'static>>) -> Changes<'static> {
        vec![(Cow::Owned(self.key.to_vec()), fresh)]
    }

    fn put(&self, text: &[u8]) -> Result<Changes<'static>> {
        let value = bounded([b"s".as_slice(), text].concat())?;
        Ok(self.change(Some(Fresh::of(Kind::Text, Cow::Owned(value)))))
    }

    /// Executes a command on one string, if this is one.
    fn on_text(mut self, name: &str, rest: &[Vec<u8>]) -> Result<Option<Done>> {
        let nothing = Vec::new();
        Ok(Some(match (name, rest) {
            ("GET", []) => (nothing, bytes(self.text()?)),
            ("STRLEN", []) => (nothing, count(self.of_kind(Kind::Text)?.map_or(0, |entry| entry.head.bytes() - 1))),
            ("TYPE", []) => {
                let kind = match self.found.as_ref().map(|entry| entry.head.kind) {
                    None => "none",
                    Some(Kind::Text | Kind::Plain) => "string",
                    Some(Kind::Set) => "set",
                };
                (nothing, vec![Reply::Status(kind.to_owned())])
            }
            ("SET", [value]) => (self.put(value)?, ok()),
            ("SETNX", [_]) if self.found.is_some() => (nothing, count(0)),
            ("SETNX", [value]) => (self.put(value)?, count(1)),
            ("GETSET", [value]) => (self.put(value)?, bytes(self.text()?)),
            ("GETDEL", []) => {
                let value = self.text()?;
                (self.change(None), bytes(value))
            }
            ("APPEND", [more]) => {
                let mut value = self.text()?.unwrap_or_default();
                value.extend(more);
                (self.put(&value)?, count(value.len()))
            }
            ("INCR", []) => self.add(Some(1))?,
            ("DECR", []) => self.add(Some(-1))?,
            ("INCRBY", [by]) => self.add(decimal(by))?,
            ("DECRBY", [by]) => self.add(decimal(by).and_then(i64::checked_neg))?,
            _ => return Ok(None),
        }))
    }

    fn add(&mut self, by: Option<i64>) -> Result<Done> {
        // A longer value is not a number.
        let is_long = self.of_kind(Kind::Text)?.is_some_and(|entry| !entry.head.is_near());
        let now = if is_long { None } else { self.text()?.map_or(Some(0), |text| decimal(&text)) };
        let (now, by) = now.zip(by).ok_or_else(|| Error::Command(NOT_A_NUMBER.to_owned()))?;
        let sum = now.checked_add(by).ok_or_else(|| Error::Command(OVERFLOW.to_owned()))?;
        Ok((self.put(sum.to_string().as_bytes())?, vec![Reply::Int(sum)]))
    }

    /// Executes a command on one set, if this is one.
    fn on_set(mut self, name: &str, rest: &[Vec<u8>]) -> Result<Option<Done>> {
        let before = self.of_kind(Kind::Set)?.map_or(0, |entry| entry.head.members as usize);
        let named = || rest.iter().map(Vec::as_slice).collect::<BTreeSet<_>>();
        Ok(Some(match (name, rest) {
            ("SADD", [_, ..]) => {
                let changed = sets::with(&self.set()?, &named())?;
                let added = count(changed.members - before);
                (self.change_set(changed)?, added)
            }
            ("SREM", [_, ..]) => {
                let changed = sets::without(&self.set()?, &named())?;
                let removed = count(before - changed.members);
                (self.change_set(changed)?, removed)
            }
            ("SMEMBERS", []) => {
                let set = self.set()?;
                let members = Members::of(&set).map(|member| Ok(Reply::Bytes(member?.to_vec())));
                (Vec::new(), members.collect::<Result<_>>()?)
            }
            ("SISMEMBER", [member]) => (Vec::new(), count(usize::from(sets::has(&self.set()?, member)?))),
            ("SCARD", []) => (Vec::new(), count(before)),
            _ => return Ok(None),
        }))
    }

    fn change_set(&self, changed: sets::Changed) -> Result<Changes<'static>> {
        if changed.members == 0 {
            return Ok(self.change(None));
        }
        let fresh = Fresh::of(Kind::Set, Cow::Owned(bounded(changed.bytes)?));
        Ok(self.change(Some(fresh.with_members(changed.members))))
    }
}

/// Parses a number as Redis does: no sign but `-`, no leading zeros, no surrounding characters.
pub(super) fn decimal(bytes: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == bytes).then_some(number)
}

/// A property that holds for any command: it reads only the keys that it names, and changes no other.
///
/// # Panics
/// The command violates it.
#[cfg(test)]
pub(in crate::store) fn stays_inside(command: &Prepared, bucket: &Bucket) {
    struct Held<'c>(&'c Prepared, &'c Bucket);
    impl Held<'_> {
        fn names(&self, key: &[u8]) -> bool {
            self.0.keys().any(|own_key| own(self.1, own_key) == key)
        }
    }
    impl Keys for Held<'_> {
        fn look(&mut self, key: &[u8]) -> Result<Option<Entry>> {
            assert!(self.names(key), "a key that was not named was looked at");
            let (value, kind, members) = match key {
                b"k" => (b"s42".as_slice(), Kind::Text, 0),
                b"s" => (b"S\x01\0\0\0x".as_slice(), Kind::Set, 1),
                _ => return Ok(None),
            };
            let length = u32::try_from(value.len()).unwrap_or_default();
            Entry::parse(&super::entries::Head { kind, members, length, goes: 0 }.near(value)).map(Some)
        }

        fn value(&mut self, entry: &Entry, skip: usize) -> Result<Vec<u8>> {
            Ok(entry.here().get(skip..).unwrap_or_default().to_vec())
        }
    }
    let mut held = Held(command, bucket);
    if let Ok((changes, _answer)) = run(command, bucket, &mut held) {
        for (key, _value) in changes {
            assert!(held.names(&key), "a key that was not named was changed");
        }
    }
}
