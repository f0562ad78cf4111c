//! What the server checks in one step before a command: how many elements and bytes the keys have, what would be freed, and
//! whether there is room for more. `gateway/redis/guarded.lua` performs the check; this file says what to check.
//!
//! A command without a guard costs about as much as its arguments, and answers with at most a mebibyte, because of the
//! limits on its arguments and on elements.

use super::options::{Entry, Range, Scan, Streams, behind, first_name};
use super::table::{Bound, By, Goal, Kind, Rule};
use super::{number, upper};

/// A check and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Guard {
    pub(in crate::store) check: &'static str,
    pub(in crate::store) words: Vec<Vec<u8>>,
}

/// A parameter of a check.
trait Word {
    fn word(self) -> Vec<u8>;
}

macro_rules! numbers {
    ($($kind:ty),*) => { $(impl Word for $kind { fn word(self) -> Vec<u8> { self.to_string().into_bytes() } })* };
}
numbers!(usize, i64, u32);

impl Word for &str {
    fn word(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Word for &[u8] {
    fn word(self) -> Vec<u8> {
        self.to_vec()
    }
}

macro_rules! guard {
    ($check:literal $(, $word:expr)*) => { Guard { check: $check, words: vec![$(Word::word($word)),*] } };
}

/// For this many elements, the limit [`super::bounds::MEMBER_BYTES_MAX`] is enough, and no check is needed.
const FEW: i64 = 64;
/// The longest list in which LPOS may search for all positions.
const LISTED: u32 = 2_000;
/// List elements that may be compared.
const WALKED: u32 = 50_000;

/// What to check before this command, if anything.
#[expect(clippy::too_many_lines, reason = "a list: one arm for each bound")]
pub(super) fn of(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Option<Guard> {
    let first = |goal: Goal| match goal {
        Goal::Answer => (1_usize, "0"),
        Goal::FirstKey => (2, "1"),
    };
    match rule.bound {
        Bound::Appends => Some(guard!("append", arguments.get(1).map_or(0, Vec::len))),
        Bound::Adds(kind, from, step) => Some(adds(kind, from, step, arguments)),
        Bound::Moves(Kind::List, _) => {
            let is_left = arguments.get(2).is_some_and(|side| upper(side) == b"LEFT");
            Some(guard!("moves", if is_left { "LEFT" } else { "RIGHT" }))
        }
        Bound::Moves(kind, at) => {
            let longest = arguments.get(at).map_or(0, Vec::len);
            Some(guard!("room", 2_usize, length(kind), 1_usize, longest, longest, at + 1, 1_000_usize))
        }
        Bound::Replaces => replaces(rule, keys, arguments),
        Bound::Renames => Some(guard!("light", "replaces", 2_usize)),
        Bound::Bits => Some(guard!("bits")),
        Bound::Expires => Some(guard!("light", "expires", 1_usize)),
        Bound::Copies => {
            let replaces = arguments.iter().skip(2).any(|option| upper(option) == b"REPLACE");
            Some(guard!("copies", if replaces { "1" } else { "0" }))
        }
        Bound::Frees => (keys.len() > 1).then(|| guard!("free")),
        Bound::FreesFields => (arguments.len() > 33).then(|| guard!("fields", 2_usize, 1_usize)),
        Bound::Whole(which, most) => {
            let (from, stores) = first(which);
            // GEOSEARCH returns a distance, a hash and two coordinates for each.
            let times = if most == super::table::GEO { 10_usize } else { 1 };
            Some(guard!("whole", from, most, stores, times))
        }
        Bound::Common(which) => {
            let (from, stores) = first(which);
            let most = if which == Goal::Answer { super::table::ALL } else { super::table::GATHERED };
            Some(guard!("common", from, most, stores))
        }
        Bound::Values => values(rule, arguments),
        Bound::Count => random(rule, arguments),
        Bound::Scan => scan(rule, arguments),
        Bound::Pops => pops(rule, keys, arguments),
        Bound::List | Bound::Trims => {
            let (from, to) = (number(arguments.get(1))?, number(arguments.get(2))?);
            let trims = rule.bound == Bound::Trims;
            Some(if trims { guard!("trim", from, to) } else { guard!("list", from, to) })
        }
        Bound::Walks(at) => {
            let tells_all = behind(arguments, 2, b"COUNT").is_some_and(|count| number(Some(count)) == Some(0));
            let most = if tells_all { LISTED } else { WALKED };
            Some(guard!("walk", arguments.get(at).map_or(0, Vec::len), most))
        }
        Bound::Inserts => {
            let length = |at: usize| arguments.get(at).map_or(0, Vec::len);
            Some(guard!("insert", length(2), length(3)))
        }
        Bound::Sorted(by) => sorted(rule, by, arguments),
        Bound::Removes(by) => {
            let range = Range::parse(rule, by, arguments, 1)?;
            Some(guard!("removes", range.counted_by, range.from, range.to))
        }
        Bound::Stream | Bound::Entries | Bound::Reads | Bound::Claims | Bound::AutoClaims | Bound::Group => {
            stream(rule, arguments)
        }
        Bound::Small
        | Bound::Bit(_)
        | Bound::Byte(_)
        | Bound::Bitfield
        | Bound::Keys(_)
        | Bound::CountOption
        | Bound::Ids(..)
        | Bound::Info
        | Bound::Pending
        | Bound::Samples => None,
    }
}

const fn length(kind: Kind) -> &'static str {
    match kind {
        Kind::Hash => "HLEN",
        Kind::List => "LLEN",
        Kind::Set => "SCARD",
        Kind::Sorted => "ZCARD",
    }
}

/// Checks that there is room for elements. The indexes count from the command's name: the first argument is the script's
/// second word.
fn adds(kind: Kind, from: usize, step: usize, arguments: &[Vec<u8>]) -> Guard {
    let from = first_name(kind, from, step, arguments);
    let step = step.min(1_000);
    let each = arguments.iter().skip(if kind == Kind::Hash { from + 1 } else { from });
    let longest = each.map(Vec::len).max().unwrap_or_default();
    let carried: usize = arguments.iter().skip(from).map(Vec::len).sum();
    let count = arguments.len().saturating_sub(from).div_ceil(step);
    let names = if kind == Kind::List { 0 } else { from + 1 };
    guard!("room", 1_usize, length(kind), count, longest, carried, names, step)
}

/// For SET and similar commands, unless they leave existing values alone.
fn replaces(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Option<Guard> {
    let options = arguments.iter().skip(2);
    if rule.name == "SET" && options.map(|option| upper(option)).any(|option| option == b"NX" || option == b"GET") {
        // With GET, a value that is not a string gives an error.
        return None;
    }
    let places = (1..=keys.len()).map(Word::word);
    Some(Guard { check: "light", words: std::iter::once("replaces".word()).chain(places).collect() })
}

fn values(rule: &Rule, arguments: &[Vec<u8>]) -> Option<Guard> {
    let (length, one) = if rule.name == "MGET" { ("STRLEN", 1) } else { ("HSTRLEN", 2) };
    (arguments.len() > one).then(|| guard!("values", length))
}

/// For several fields with their values.
fn random(rule: &Rule, arguments: &[Vec<u8>]) -> Option<Guard> {
    let is_one = number(arguments.get(1)).is_none_or(|count| count <= 1);
    (rule.name == "HRANDFIELD" && arguments.len() > 2 && !is_one)
        .then(|| guard!("whole", 1_usize, super::table::ALL, "0", 1_usize))
}

fn scan(rule: &Rule, arguments: &[Vec<u8>]) -> Option<Guard> {
    let options = Scan::parse(arguments)?;
    let count = options.counts.last().and_then(|&at| number(arguments.get(at))).unwrap_or(10);
    let cursor = arguments.get(1)?.as_slice();
    (rule.name == "HSCAN" && !options.no_values).then(|| guard!("scan", cursor, count))
}

fn pops(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Option<Guard> {
    let (side, count) = match rule.name {
        "LMPOP" => {
            let side = arguments.get(keys.len() + 1).map(|side| upper(side)).unwrap_or_default();
            (if side == b"LEFT" { "LEFT" } else { "RIGHT" }, behind(arguments, keys.len() + 2, b"COUNT"))
        }
        "LPOP" => ("LEFT", arguments.get(1)),
        _ => ("RIGHT", arguments.get(1)),
    };
    let count = number(count).filter(|count| *count > 1)?;
    Some(guard!("pops", side, count))
}

fn sorted(rule: &Rule, by: By, arguments: &[Vec<u8>]) -> Option<Guard> {
    let (at, key, stores) = if rule.name == "ZRANGESTORE" { (2, 2_usize, "1") } else { (1, 1, "0") };
    let range = Range::parse(rule, by, arguments, at)?;
    if stores == "0" && range.is_few(FEW) {
        return None;
    }
    Some(guard!("sorted", key, range.counted_by, range.from, range.to, range.offset, range.count, stores))
}

fn stream(rule: &Rule, arguments: &[Vec<u8>]) -> Option<Guard> {
    let at = |at: usize| arguments.get(at).map(Vec::as_slice);
    match rule.bound {
        Bound::Stream => {
            let comes = rule.name == "XADD";
            let Entry { stays, bytes, .. } = Entry::parse(arguments, comes);
            Some(guard!("stream", usize::from(comes), stays, bytes))
        }
        Bound::Entries => {
            let count = number(arguments.get(4)).unwrap_or(-1);
            let is_few = (0..=4).contains(&count);
            (!is_few).then(|| Some(guard!("entries", at(1)?, at(2)?, count))).flatten()
        }
        Bound::Reads => {
            let Streams { count, group, head, ids } = Streams::parse(rule, arguments)?;
            // In Redis, 0 means all.
            let count = count.filter(|count| *count > 0).unwrap_or(-1);
            let (group, consumer) = group.unwrap_or_default();
            let Guard { check, mut words } = guard!("read", count, group, consumer, head.len());
            words.extend(head);
            words.extend_from_slice(ids);
            Some(Guard { check, words })
        }
        Bound::Claims => Some(guard!("group", at(1)?, at(2)?)),
        Bound::AutoClaims => {
            let count = behind(arguments, 5, b"COUNT").and_then(|count| number(Some(count))).unwrap_or(100);
            let is_just_ids = arguments.iter().skip(5).any(|option| upper(option) == b"JUSTID");
            let Guard { check, mut words } = guard!("claim", at(1)?, at(2)?, at(3)?, at(4)?, count);
            words.extend(is_just_ids.then(|| b"JUSTID".to_vec()));
            Some(Guard { check, words })
        }
        _ => match upper(at(0)?).as_slice() {
            b"CREATE" => Some(guard!("group", at(2)?, "")),
            b"CREATECONSUMER" => Some(guard!("group", at(2)?, at(3)?)),
            _ => None,
        },
    }
}
