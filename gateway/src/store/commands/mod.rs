//! Prepares a guest's Redis commands for sending: every key gets its tenant's prefix, and everything that could name
//! another tenant's key is refused.
//!
//! Security: only [`prepare`] makes a [`Prepared`], and a backend sends nothing else for a guest. Before it is sent, its
//! keys are checked once more ([`Prepared::is_inside`]). Answers and error texts lose the prefix again.
//!
//! Limit: [`ARGUMENTS_MAX`] arguments, keys and values as for every store, and [`ARGUMENT_BYTES_MAX`] bytes in all.
//! `bounds.rs` has the other limits on arguments, and `guard.rs` what the server checks first.

#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of the redis crate are open")]

mod answers;
mod bounds;
mod effects;
mod guard;
mod options;
mod pattern;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod split;
mod table;
#[cfg(test)]
mod maxima;
#[cfg(test)]
mod tests;

use deadpool_redis::redis;

use super::layout::Namespace;
use super::{Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
pub(crate) use answers::{Answered, Reply};
pub(super) use effects::Effect;
pub(super) use guard::Guard;
use pattern::Pattern;
pub(super) use split::{Joined, Part, join, split};
use table::{Bound, Keys, Rule};

pub(crate) const ARGUMENTS_MAX: usize = 1000;
/// One of the largest values, and the names that go with it. If a script sends the command, the server copies its
/// arguments: 2.5 ms for a mebibyte.
const ARGUMENT_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
/// The most elements that a scan looks at for one answer; COUNT is a hint.
const SCANNED_MAX: i64 = 250;

/// A guest's Redis command: its name and its arguments, which are bytes.
type Words = Vec<Vec<u8>>;

/// A command whose keys are all inside one tenant's prefix.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The command's name comes first.
    words: Words,
    /// The indexes of the keys among the words.
    keys: Vec<usize>,
    rule: &'static Rule,
    /// What the server checks before the command.
    guard: Option<Guard>,
    /// Which names of the answer are wanted.
    pattern: Option<Pattern>,
    inside: Namespace,
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

    /// How it changes the sum of the tenant's data.
    pub(super) fn effect(&self) -> Effect {
        effects::effect(self.rule.name)
    }

    /// Whether each key begins with the tenant's prefix. Checked when the command is sent, not when it is prepared.
    pub(super) fn is_inside(&self) -> bool {
        self.keys().count() > 0 && self.keys().all(|key| key.starts_with(self.inside.as_bytes()))
    }

    /// The tenant's namespace, which is all that the backend knows of the tenant.
    pub(super) const fn inside(&self) -> &Namespace {
        &self.inside
    }

    pub(super) const fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::Refused(format!("{name}: {why}"))
}

/// The commands that are sent for guests, as in Redis's ACL rules: in lower case, with `|` before subcommands.
pub(super) fn names() -> impl Iterator<Item = String> {
    table::RULES.iter().flat_map(|rule| {
        let name = rule.name.to_ascii_lowercase();
        match rule.keys {
            Keys::Under(words) => words.iter().map(|word| format!("{name}|{}", word.to_ascii_lowercase())).collect(),
            _ => vec![name],
        }
    })
}

/// Prepares a guest's command for sending.
///
/// # Errors
/// [`Error::Refused`] if the command or one of its options is not served; [`Error::TooLarge`] if an argument is too large;
/// [`Error::Command`] if it is malformed.
pub(super) fn prepare(inside: &Namespace, name: &[u8], mut arguments: Words) -> Result<Prepared> {
    let name = printable(name);
    let Some(rule) = table::find(&name) else { return Err(refused(&name, effects::why_not(&name))) };
    check_sizes(&arguments)?;
    let keys = keys(rule, &arguments)?;
    bounds::check(rule, &keys, &arguments)?;
    let pattern = if rule.bound == Bound::Scan { without_pattern(&mut arguments) } else { None };
    let guard = guard::of(rule, &keys, &arguments);
    let mut words = Vec::with_capacity(arguments.len() + 1);
    // Both have the same answer, and UNLINK does not block the server.
    let sent = if rule.name == "DEL" { "UNLINK" } else { rule.name };
    words.push(sent.as_bytes().to_vec());
    words.extend(arguments);
    let keys: Vec<usize> = keys.into_iter().map(|at| at + 1).collect();
    for &at in &keys {
        let Some(key) = words.get_mut(at) else { return Err(wrong_number(rule)) };
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::TooLarge("a key may have at most 1024 bytes"));
        }
        *key = inside.key(key);
    }
    Ok(Prepared { words, keys, rule, guard, pattern, inside: inside.clone() })
}

/// Replaces a scan's pattern by `*`, because it is matched here, and a large COUNT by a smaller hint.
fn without_pattern(arguments: &mut Words) -> Option<Pattern> {
    let scan = options::Scan::parse(arguments)?;
    let mut pattern = None;
    for at in scan.patterns {
        let word = std::mem::replace(arguments.get_mut(at)?, b"*".to_vec());
        pattern = Some(Pattern::parse(&word));
    }
    for at in scan.counts {
        let word = arguments.get_mut(at)?;
        if number(Some(word)).is_some_and(|count| count > SCANNED_MAX) {
            *word = SCANNED_MAX.to_string().into_bytes();
        }
    }
    pattern
}

/// The name in upper case. An invalid name becomes one that is in no table and is safe to print.
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
        return Err(Error::TooLarge("a value may have at most 1 MiB"));
    }
    if arguments.iter().map(Vec::len).sum::<usize>() > ARGUMENT_BYTES_MAX {
        return Err(Error::TooLarge("a command may carry 1 MiB and 64 KiB; send it in parts"));
    }
    Ok(())
}

fn upper(argument: &[u8]) -> Vec<u8> {
    argument.to_ascii_uppercase()
}

/// Parses a number as Redis does.
fn number(argument: Option<&Vec<u8>>) -> Option<i64> {
    str::from_utf8(argument?).ok()?.parse().ok()
}

/// The indexes of the keys among the arguments; at least one.
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

/// For XREAD and XREADGROUP, parses option by option: a group may have the name STREAMS.
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
