//! The commands that the embedded store answers itself: strings, counters and sets.
//!
//! A key's value says of which kind it is by its first byte: `s` and the string, or `S` and the members of a set, each
//! behind its length (four bytes, little end first), in order.

use std::collections::BTreeSet;

use super::{Prepared, redis};
use crate::store::{Error, Result, VALUE_BYTES_MAX};

/// What a command does to keys; nothing is there for a key that goes.
pub(in crate::store) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

const WRONG_TYPE: &str = "Operation against a key holding the wrong kind of value";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const NOT_A_NUMBER: &str = "ERR value is not an integer or out of range";

/// What is at a key.
enum Held {
    Nothing,
    Text(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
}

impl Held {
    fn read(bytes: Option<Vec<u8>>) -> Result<Self> {
        let Some(mut bytes) = bytes else { return Ok(Self::Nothing) };
        match bytes.first() {
            Some(b's') => {
                bytes.remove(0);
                Ok(Self::Text(bytes))
            }
            Some(b'S') => {
                let mut members = BTreeSet::new();
                let mut rest = bytes.get(1..).unwrap_or_default();
                while let Some((length, more)) = rest.split_first_chunk::<4>() {
                    let length = u32::from_le_bytes(*length) as usize;
                    let (member, more) = more.split_at_checked(length).ok_or(Error::Internal)?;
                    members.insert(member.to_vec());
                    rest = more;
                }
                Ok(Self::Set(members))
            }
            _ => Err(Error::Internal),
        }
    }

    /// As it is kept, where there is something to keep.
    fn written(self) -> Result<Option<Vec<u8>>> {
        let bytes = match self {
            Self::Nothing => return Ok(None),
            Self::Text(text) => [b"s".as_slice(), &text].concat(),
            Self::Set(members) if members.is_empty() => return Ok(None),
            Self::Set(members) => {
                let mut bytes = vec![b'S'];
                for member in members {
                    let length = u32::try_from(member.len()).map_err(|_too_long| Error::Internal)?;
                    bytes.extend(length.to_le_bytes());
                    bytes.extend(member);
                }
                bytes
            }
        };
        // One byte says which kind it is.
        if bytes.len() > VALUE_BYTES_MAX + 1 {
            return Err(Error::TooLarge("a value, or a set in the embedded store, may have 1 MiB"));
        }
        Ok(Some(bytes))
    }

    fn text(self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Set(_) => Err(Error::WrongType(WRONG_TYPE.to_owned())),
        }
    }

    fn set(self) -> Result<BTreeSet<Vec<u8>>> {
        match self {
            Self::Nothing => Ok(BTreeSet::new()),
            Self::Set(members) => Ok(members),
            Self::Text(_) => Err(Error::WrongType(WRONG_TYPE.to_owned())),
        }
    }
}

/// Does a command on keys that are got by `get`; says what it changes and what it answers.
///
/// # Errors
/// As Redis words them; [`Error::Refused`] for the commands that need one.
pub(in crate::store) fn run(command: &Prepared, mut get: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>>) -> Result<Done> {
    let words = command.words().get(1..).unwrap_or_default();
    let mut held = |key: &[u8]| Held::read(get(key)?);
    let (key, rest) = words.split_first().ok_or_else(|| super::wrong_number(command.rule))?;
    // Of the commands that are answered here, the first word is a key.
    if command.keys().next() != Some(key.as_slice()) {
        return Err(needs_redis(command.name()));
    }
    Ok(match (command.name(), rest) {
        ("EXISTS", _) => (Vec::new(), count(there(words, held)?.len())),
        ("DEL" | "UNLINK", _) => {
            let there: BTreeSet<_> = there(words, held)?.into_iter().collect();
            let gone = count(there.len());
            (there.into_iter().map(|key| (key, None)).collect(), gone)
        }
        ("MGET", _) => {
            let values = words.iter().map(|key| Ok(text(held(key)?.text().unwrap_or_default())));
            (Vec::new(), redis::Value::Array(values.collect::<Result<_>>()?))
        }
        ("MSET", _) => {
            let mut changes = Vec::new();
            for pair in words.chunks_exact(2) {
                if let [key, value] = pair {
                    changes.extend(change(key, Held::Text(value.clone()))?);
                }
            }
            (changes, redis::Value::Okay)
        }
        (name, _) => {
            let held = held(key)?;
            let done = match name {
                "SADD" | "SREM" | "SMEMBERS" | "SISMEMBER" | "SCARD" => on_set(name, key, rest, held)?,
                _ => on_text(name, key, rest, held)?,
            };
            done.ok_or_else(|| needs_redis(name))?
        }
    })
}

fn needs_redis(name: &str) -> Error {
    let why = "the embedded store has strings, counters and sets, without options; this needs Redis";
    Error::Refused(format!("{name}: {why}"))
}

type Done = (Changes, redis::Value);

fn there(keys: &[Vec<u8>], mut held: impl FnMut(&[u8]) -> Result<Held>) -> Result<Vec<Vec<u8>>> {
    let mut there = Vec::new();
    for key in keys {
        if !matches!(held(key)?, Held::Nothing) {
            there.push(key.clone());
        }
    }
    Ok(there)
}

fn text(value: Option<Vec<u8>>) -> redis::Value {
    value.map_or(redis::Value::Nil, redis::Value::BulkString)
}

/// What works on one string, if this is it.
fn on_text(name: &str, key: &[u8], rest: &[Vec<u8>], held: Held) -> Result<Option<Done>> {
    Ok(Some(match (name, rest) {
        ("GET", []) => (Vec::new(), text(held.text()?)),
        ("STRLEN", []) => (Vec::new(), count(held.text()?.map_or(0, |text| text.len()))),
        ("TYPE", []) => {
            let kind = match held {
                Held::Nothing => "none",
                Held::Text(_) => "string",
                Held::Set(_) => "set",
            };
            (Vec::new(), redis::Value::SimpleString(kind.to_owned()))
        }
        ("SET", [value]) => (change(key, Held::Text(value.clone()))?, redis::Value::Okay),
        ("SETNX", [_]) if !matches!(held, Held::Nothing) => (Vec::new(), redis::Value::Int(0)),
        ("SETNX", [value]) => (change(key, Held::Text(value.clone()))?, redis::Value::Int(1)),
        ("GETSET", [value]) => (change(key, Held::Text(value.clone()))?, text(held.text()?)),
        ("GETDEL", []) => (change(key, Held::Nothing)?, text(held.text()?)),
        ("APPEND", [more]) => {
            let mut value = held.text()?.unwrap_or_default();
            value.extend(more);
            let length = count(value.len());
            (change(key, Held::Text(value))?, length)
        }
        ("INCR", []) => add(key, held, Some(1))?,
        ("DECR", []) => add(key, held, Some(-1))?,
        ("INCRBY", [by]) => add(key, held, decimal(by))?,
        ("DECRBY", [by]) => add(key, held, decimal(by).and_then(i64::checked_neg))?,
        _ => return Ok(None),
    }))
}

/// What works on one set, if this is it.
fn on_set(name: &str, key: &[u8], rest: &[Vec<u8>], held: Held) -> Result<Option<Done>> {
    let mut members = held.set()?;
    let before = members.len();
    Ok(Some(match (name, rest) {
        ("SADD", [_, ..]) => {
            members.extend(rest.iter().cloned());
            let added = count(members.len() - before);
            (change(key, Held::Set(members))?, added)
        }
        ("SREM", [_, ..]) => {
            members.retain(|member| !rest.contains(member));
            let removed = count(before - members.len());
            (change(key, Held::Set(members))?, removed)
        }
        ("SMEMBERS", []) => {
            let members = members.into_iter().map(redis::Value::BulkString);
            (Vec::new(), redis::Value::Array(members.collect()))
        }
        ("SISMEMBER", [member]) => (Vec::new(), redis::Value::Int(members.contains(member).into())),
        ("SCARD", []) => (Vec::new(), count(before)),
        _ => return Ok(None),
    }))
}

fn count(number: usize) -> redis::Value {
    redis::Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn change(key: &[u8], to: Held) -> Result<Changes> {
    Ok(vec![(key.to_vec(), to.written()?)])
}

/// A number as Redis reads one: no sign but `-`, no leading zeros, nothing around it.
pub(in crate::store) fn decimal(bytes: &[u8]) -> Option<i64> {
    let number: i64 = str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == bytes).then_some(number)
}

fn add(key: &[u8], held: Held, by: Option<i64>) -> Result<Done> {
    let now = held.text()?.map_or(Some(0), |text| decimal(&text));
    let (now, by) = now.zip(by).ok_or_else(|| Error::Command(NOT_A_NUMBER.to_owned()))?;
    let sum = now.checked_add(by).ok_or_else(|| Error::Command(OVERFLOW.to_owned()))?;
    Ok((change(key, Held::Text(sum.to_string().into_bytes()))?, redis::Value::Int(sum)))
}
