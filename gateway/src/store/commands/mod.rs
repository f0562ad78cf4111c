//! Redis commands from a guest, made fit to be sent: every key gets its tenant's prefix, and what could name another's key
//! is refused.
//!
//! Security: a [`Prepared`] is made by [`prepare`] and by nothing else, and a backend sends nothing else for a guest. Before
//! it is sent its keys are looked at once more ([`Prepared::is_inside`]). Answers and error texts lose the prefix again.
//!
//! Limit: [`ARGUMENTS_MAX`] arguments, keys and values as for every store, [`ARGUMENT_BYTES_MAX`] bytes altogether; what else
//! its words are held to says `bounds.rs`, what the server looks at before it does it `guard.rs`.

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
/// One of the largest values, and the names that go with it. Of what is carried a server makes copies where a script sends the
/// command: 2.5 ms for a mebibyte.
const ARGUMENT_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
/// Elements that a scan looks at, at the most, for one answer; its COUNT is a hint.
const SCANNED_MAX: i64 = 250;

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
    /// What is looked at on the server before it is done.
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

    /// What it does to the sum of the tenant's data.
    pub(super) fn effect(&self) -> Effect {
        effects::effect(self.rule.name)
    }

    /// Whether each key begins with the tenant's prefix, looked at where it is sent and not where it was made.
    pub(super) fn is_inside(&self) -> bool {
        self.keys().count() > 0 && self.keys().all(|key| key.starts_with(self.inside.as_bytes()))
    }

    /// Whose it is, as far as the backend knows that.
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
pub(super) fn prepare(inside: &Namespace, name: &[u8], mut arguments: Words) -> Result<Prepared> {
    let name = printable(name);
    let Some(rule) = table::find(&name) else { return Err(refused(&name, effects::why_not(&name))) };
    check_sizes(&arguments)?;
    let keys = keys(rule, &arguments)?;
    bounds::check(rule, &keys, &arguments)?;
    let pattern = if rule.bound == Bound::Scan { without_pattern(&mut arguments) } else { None };
    let guard = guard::of(rule, &keys, &arguments);
    let mut words = Vec::with_capacity(arguments.len() + 1);
    // Both have the same answer, and this one does not hold the server up.
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

/// Puts `*` where a scan's pattern is, which is matched here, and a smaller hint where its COUNT is large.
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
