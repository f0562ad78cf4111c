//! Redis commands from a guest, made fit to be sent: every key gets its tenant's prefix, and what could name another's key
//! is refused.
//!
//! Security: a [`Prepared`] is made by [`prepare`] and by nothing else, and a backend sends nothing else for a guest. Before
//! it is sent its keys are looked at once more ([`Prepared::is_inside`]). Answers and error texts lose the prefix again.
//!
//! Limit: [`ARGUMENTS_MAX`] arguments, keys and values as for every store, [`ARGUMENT_BYTES_MAX`] bytes altogether; offsets
//! and counts as [`table`] bounds them.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the redis crate are open")]

mod bounds;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod split;
mod table;
#[cfg(test)]
mod tests;

use deadpool_redis::redis;

use super::layout::Namespace;
use super::{Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
pub(super) use split::{join, split};
pub(super) use table::Effect;
use table::{Bound, Keys, Names, Rule};

pub(crate) const ARGUMENTS_MAX: usize = 1000;
const ARGUMENT_BYTES_MAX: usize = 8 << 20;

/// Elements of the largest size that may be read without a look at how much they are.
const FEW: i64 = 4;

/// What a guest asks of Redis: a command, and arguments that are bytes.
type Words = Vec<Vec<u8>>;

/// A command whose keys are all inside one tenant's prefix.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The command's name first.
    words: Words,
    /// Which of the words are keys.
    keys: Vec<usize>,
    rule: &'static Rule,
    inside: Namespace,
}

/// A piece of an answer; what is nested is told flat, as `fermyon:spin/redis` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Vec<u8>),
}

impl Prepared {
    pub(super) fn words(&self) -> &[Vec<u8>] {
        &self.words
    }

    pub(super) fn name(&self) -> &'static str {
        self.rule.name
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().filter_map(|&at| self.words.get(at).map(Vec::as_slice))
    }

    /// What it does to the sum of the tenant's data.
    pub(super) fn effect(&self) -> Effect {
        table::effect(self.rule.name)
    }

    /// Whether each key begins with the tenant's prefix, looked at where it is sent and not where it was made.
    pub(super) fn is_inside(&self) -> bool {
        self.keys().count() > 0 && self.keys().all(|key| key.starts_with(self.inside.as_bytes()))
    }

    /// Whether the backend must look at how large its keys are before it does this.
    pub(super) fn reads_whole(&self) -> bool {
        self.rule.bound == Bound::Whole && !self.asks_few()
    }

    /// Whether it names a range of so few elements that these are small by what an element may be.
    fn asks_few(&self) -> bool {
        let word = |at: usize| number(self.words.get(at));
        match self.rule.name {
            "LRANGE" => match (word(2), word(3)) {
                (Some(from), Some(to)) => (from < 0) == (to < 0) && to.saturating_sub(from) < FEW,
                _ => false,
            },
            "XRANGE" | "XREVRANGE" => {
                self.words.get(4).is_some_and(|option| upper(option) == b"COUNT") && word(5) == Some(1)
            }
            _ => false,
        }
    }

    /// Whether it makes a value longer by what it carries, which then may be too long.
    pub(super) fn appends(&self) -> bool {
        self.rule.bound == Bound::Appends
    }

    /// A text of the server's, without the prefix.
    pub(super) fn without_prefix(&self, text: &str) -> String {
        text.replace(&*String::from_utf8_lossy(self.inside.as_bytes()), "")
    }

    /// What the answer is to the guest: flat, and with its own names for its keys.
    pub(super) fn answer(&self, value: redis::Value) -> Vec<Reply> {
        let mut flat = Vec::new();
        match (self.rule.names, value) {
            (Names::First, redis::Value::Array(elements)) => self.named(elements, &mut flat),
            (Names::FirstOfEach, redis::Value::Array(elements)) => {
                for element in elements {
                    match element {
                        redis::Value::Array(elements) => self.named(elements, &mut flat),
                        other => flatten(other, &mut flat),
                    }
                }
            }
            (_, value) => flatten(value, &mut flat),
        }
        flat
    }

    /// A key, and what is there.
    fn named(&self, elements: Vec<redis::Value>, flat: &mut Vec<Reply>) {
        for (at, element) in elements.into_iter().enumerate() {
            match element {
                redis::Value::BulkString(key) if at == 0 => {
                    let own = key.strip_prefix(self.inside.as_bytes()).unwrap_or_default();
                    flat.push(Reply::Bytes(own.to_vec()));
                }
                other => flatten(other, flat),
            }
        }
    }
}

fn flatten(value: redis::Value, flat: &mut Vec<Reply>) {
    match value {
        redis::Value::Nil => flat.push(Reply::Nil),
        redis::Value::Int(number) => flat.push(Reply::Int(number)),
        redis::Value::BulkString(bytes) => flat.push(Reply::Bytes(bytes)),
        redis::Value::SimpleString(text) => flat.push(Reply::Status(text)),
        redis::Value::Okay => flat.push(Reply::Status("OK".to_owned())),
        redis::Value::Array(elements) | redis::Value::Set(elements) => {
            elements.into_iter().for_each(|element| flatten(element, flat));
        }
        redis::Value::Boolean(truth) => flat.push(Reply::Int(truth.into())),
        redis::Value::Double(number) => flat.push(Reply::Bytes(number.to_string().into_bytes())),
        // RESP2 has none of the others.
        other => flat.push(Reply::Status(format!("{other:?}"))),
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::Refused(format!("{name}: {why}"))
}

/// What is sent for guests, as Redis names it for its users' rules: in small letters, subcommands behind a `|`.
pub(super) fn names() -> impl Iterator<Item = String> {
    table::RULES.iter().flat_map(|rule| {
        let name = rule.name.to_ascii_lowercase();
        match rule.keys {
            Keys::Under(words) => words.iter().map(|word| format!("{name}|{}", word.to_ascii_lowercase())).collect(),
            _ => vec![name],
        }
    })
}

/// Makes a command of the guest's fit to be sent.
///
/// # Errors
/// [`Error::Refused`] where the command is not served or an option of it is not; [`Error::TooLarge`] where an argument is;
/// [`Error::Command`] where it is not well formed.
pub(super) fn prepare(inside: &Namespace, name: &[u8], arguments: Words) -> Result<Prepared> {
    let name = printable(name);
    let Some(rule) = table::find(&name) else { return Err(refused(&name, table::why_not(&name))) };
    check_sizes(&arguments)?;
    let keys = keys(rule, &arguments)?;
    bounds::check(rule, &keys, &arguments)?;
    let mut words = Vec::with_capacity(arguments.len() + 1);
    // Both have the same answer, and this one does not hold the server up.
    let sent = if rule.name == "DEL" { "UNLINK" } else { rule.name };
    words.push(sent.as_bytes().to_vec());
    words.extend(arguments);
    let keys: Vec<usize> = keys.into_iter().map(|at| at + 1).collect();
    for &at in &keys {
        let Some(key) = words.get_mut(at) else { return Err(wrong_number(rule)) };
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::TooLarge("a key may have 1024 bytes"));
        }
        *key = inside.key(key);
    }
    Ok(Prepared { words, keys, rule, inside: inside.clone() })
}

/// In capitals; what is not a name comes out as one that is in no table, and is safe to print.
fn printable(name: &[u8]) -> String {
    let text: String = name.iter().take(32).map(|byte| char::from(byte.to_ascii_uppercase())).collect();
    text.escape_default().to_string()
}

fn wrong_number(rule: &Rule) -> Error {
    Error::Command(format!("ERR wrong number of arguments for '{}' command", rule.name.to_ascii_lowercase()))
}

fn syntax(rule: &Rule) -> Error {
    Error::Command(format!("ERR syntax error in '{}' command", rule.name.to_ascii_lowercase()))
}

fn check_sizes(arguments: &[Vec<u8>]) -> Result<()> {
    if arguments.len() > ARGUMENTS_MAX {
        return Err(Error::TooLarge("a command may have 1000 arguments"));
    }
    if arguments.iter().any(|argument| argument.len() > VALUE_BYTES_MAX) {
        return Err(Error::TooLarge("a value may have 1 MiB"));
    }
    if arguments.iter().map(Vec::len).sum::<usize>() > ARGUMENT_BYTES_MAX {
        return Err(Error::TooLarge("a command may carry 8 MiB"));
    }
    Ok(())
}

fn upper(argument: &[u8]) -> Vec<u8> {
    argument.to_ascii_uppercase()
}

/// A number as Redis reads one.
fn number(argument: Option<&Vec<u8>>) -> Option<i64> {
    str::from_utf8(argument?).ok()?.parse().ok()
}

/// The places of the keys among the arguments; there is one at least.
fn keys(rule: &Rule, arguments: &[Vec<u8>]) -> Result<Vec<usize>> {
    let len = arguments.len();
    let counted = |at: usize| {
        let count = number(arguments.get(at)).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        count.filter(|count| at + count < len).map(|count| at + 1..=at + count).ok_or_else(|| syntax(rule))
    };
    let places: Vec<usize> = match rule.keys {
        Keys::First => (0..1).collect(),
        Keys::Two => (0..2).collect(),
        Keys::All => (0..len).collect(),
        Keys::Alternate => (0..len).step_by(2).collect(),
        Keys::Rest => (1..len).collect(),
        Keys::Counted => counted(0)?.collect(),
        Keys::FirstAndCounted => std::iter::once(0).chain(counted(1)?).collect(),
        Keys::Under(words) => {
            let word = arguments.first().map(|word| upper(word)).unwrap_or_default();
            if !words.iter().any(|known| known.as_bytes() == word) {
                return Err(refused(rule.name, &format!("of its subcommands, {} are served", words.join(", "))));
            }
            (1..2).collect()
        }
        Keys::Streams => streams(rule, arguments)?,
    };
    let is_whole = !places.is_empty() && places.iter().all(|&at| at < len);
    let is_paired = rule.keys != Keys::Alternate || len.is_multiple_of(2);
    if is_whole && is_paired { Ok(places) } else { Err(wrong_number(rule)) }
}

/// XREAD and XREADGROUP, option by option: a group may be called STREAMS.
fn streams(rule: &Rule, arguments: &[Vec<u8>]) -> Result<Vec<usize>> {
    let mut at = 0;
    while let Some(option) = arguments.get(at) {
        at += match upper(option).as_slice() {
            b"STREAMS" => {
                let rest = arguments.len() - at - 1;
                if rest == 0 || !rest.is_multiple_of(2) {
                    return Err(syntax(rule));
                }
                return Ok((at + 1..=at + rest / 2).collect());
            }
            b"BLOCK" => return Err(refused(rule.name, "BLOCK holds the connection that all share")),
            b"COUNT" => 2,
            b"NOACK" if rule.name == "XREADGROUP" => 1,
            b"GROUP" if rule.name == "XREADGROUP" => 3,
            _ => return Err(syntax(rule)),
        };
    }
    Err(syntax(rule))
}
