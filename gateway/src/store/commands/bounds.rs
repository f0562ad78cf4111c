//! Limits on a command's arguments, checked before it is sent: offsets, counts, lengths and numbers of elements.
//!
//! Limits that depend on the data at the keys are checked by the server itself, in one step with the command (`guard.rs`).

use super::options::{Claimed, Entry, Scan, Streams, behind, first_name};
use super::table::{Bound, Kind, Rule};
use super::{Error, Result, VALUE_BYTES_MAX, number, upper};

/// The longest member of a set or sorted set, and the longest field name. [`COUNT_MAX`] of them are a mebibyte.
pub(in crate::store) const MEMBER_BYTES_MAX: usize = 4 << 10;
/// The most bytes of members that one command adds to a set or a sorted set: each is hashed or compared, and copied twice.
const ADDED_BYTES_MAX: usize = 512 << 10;
/// Elements that one command may pop or choose.
const COUNT_MAX: i64 = 250;
/// Elements of a list, a sorted set or a stream that one command may request by number. The server checks their size.
const ASKED_MAX: i64 = 1_000;
/// The most bytes of a stream's entry, and the most fields and values.
const ENTRY_BYTES_MAX: usize = 64 << 10;
const ENTRY_WORDS_MAX: usize = 256;
/// Entries that one XCLAIM may return.
const CLAIMED_MAX: usize = 16;
/// Keys that one DEL or UNLINK frees: each is looked at up to three times.
const FREED_KEYS_MAX: usize = 500;
const BITOP_SOURCES_MAX: usize = 8;
const PATTERN_BYTES_MAX: usize = 128;
const WILDCARDS_MAX: usize = 4;
const SAMPLES_MAX: i64 = 100;
const BITS: u64 = (VALUE_BYTES_MAX as u64) * 8;

/// An error that names the command.
pub(super) fn too_much(rule: &Rule, what: &'static str) -> Error {
    Error::TooMuch { command: rule.name, what }
}

/// Whether the argument is a number above `max` or below zero.
fn is_outside(argument: Option<&Vec<u8>>, max: i64) -> bool {
    number(argument).is_some_and(|count| !(0..=max).contains(&count))
}

#[expect(clippy::too_many_lines, reason = "a list: one arm for each bound")]
pub(super) fn check(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Result<()> {
    let ensure = |is_bounded: bool, what: &'static str| if is_bounded { Ok(()) } else { Err(too_much(rule, what)) };
    match rule.bound {
        Bound::Bit(at) => {
            let is_near = number(arguments.get(at)).is_none_or(|bit| bit.unsigned_abs() < BITS);
            ensure(is_near, "an offset may reach 1 MiB")
        }
        Bound::Byte(at) => {
            let more = arguments.get(at + 1).map_or(0, Vec::len) as u64;
            let reaches = |byte: i64| byte.unsigned_abs().saturating_add(more) <= BITS / 8;
            ensure(number(arguments.get(at)).is_none_or(reaches), "an offset may reach 1 MiB")
        }
        Bound::Bitfield => ensure(are_offsets_near(arguments), "an offset may reach 1 MiB"),
        Bound::Keys(max) => ensure(keys.len() <= max, "32 keys at once; merge them in parts"),
        Bound::Bits => ensure(keys.len() <= BITOP_SOURCES_MAX + 1, "8 sources at once; combine them in parts"),
        Bound::Count | Bound::Pops | Bound::CountOption => counts(rule, keys, arguments),
        Bound::Frees => ensure(keys.len() <= FREED_KEYS_MAX, "500 keys at once; name them in parts"),
        Bound::Ids(from, max) => ensure(arguments.len() <= from + max, "100 ids at once; name them in parts"),
        Bound::Scan => scans(rule, arguments),
        Bound::Adds(kind, first, step) => {
            let names = arguments.iter().skip(first_name(kind, first, step, arguments));
            let longest = names.step_by(step).map(Vec::len).max().unwrap_or_default();
            let carried: usize = arguments.iter().map(Vec::len).sum();
            let is_sorted_in = matches!(kind, Kind::Set | Kind::Sorted);
            ensure(
                !is_sorted_in || carried <= ADDED_BYTES_MAX,
                "members may have 512 KiB together; add them in parts",
            )?;
            ensure(
                kind == Kind::List || longest <= MEMBER_BYTES_MAX,
                "a member, or a field's name, may have 4 KiB; keep what is longer under a key of its own",
            )
        }
        Bound::Walks(_) => {
            let count = behind(arguments, 2, b"COUNT").and_then(|count| number(Some(count)));
            ensure(count.is_none_or(|count| count <= ASKED_MAX), "COUNT may be 1000")
        }
        Bound::Entries => {
            let count = arguments.get(4);
            ensure(!is_outside(count, ASKED_MAX), "COUNT may be 0 to 1000")
        }
        Bound::Reads => {
            let count = Streams::parse(rule, arguments).and_then(|streams| streams.count);
            ensure(count.is_none_or(|count| (0..=ASKED_MAX).contains(&count)), "COUNT may be 0 to 1000")
        }
        Bound::AutoClaims => {
            let count = behind(arguments, 5, b"COUNT");
            ensure(!is_outside(count, ASKED_MAX), "COUNT may be 1 to 1000")
        }
        Bound::Claims => {
            let Claimed { ids, is_just_ids, .. } = Claimed::parse(arguments);
            let max = if is_just_ids { 250 } else { CLAIMED_MAX };
            ensure(ids <= max, "16 ids at once, or 250 with JUSTID; XAUTOCLAIM goes from page to page")
        }
        Bound::Stream if rule.name == "XADD" => {
            let Entry { words, bytes, .. } = Entry::parse(arguments, true);
            ensure(
                words <= ENTRY_WORDS_MAX && bytes <= ENTRY_BYTES_MAX,
                "an entry may have 128 fields and 64 KiB; keep what is larger under a key of its own and name that",
            )
        }
        Bound::Info => {
            let is_full = arguments.iter().skip(2).any(|option| upper(option) == b"FULL");
            ensure(!is_full, "FULL is not served: it tells all of every consumer; XPENDING tells it in parts")
        }
        Bound::Pending => {
            let is_idle = arguments.get(2).is_some_and(|option| upper(option) == b"IDLE");
            let count = arguments.get(if is_idle { 6 } else { 4 });
            ensure(!is_outside(count, ASKED_MAX), "a count may be 0 to 1000")
        }
        Bound::Samples => {
            let samples = behind(arguments, 2, b"SAMPLES").and_then(|samples| number(Some(samples)));
            ensure(samples.is_none_or(|samples| (1..=SAMPLES_MAX).contains(&samples)), "SAMPLES may be 1 to 100")
        }
        Bound::Small
        | Bound::Appends
        | Bound::Moves(..)
        | Bound::Replaces
        | Bound::Renames
        | Bound::Expires
        | Bound::FreesFields
        | Bound::Whole(..)
        | Bound::Common(_)
        | Bound::Values
        | Bound::List
        | Bound::Trims
        | Bound::Inserts
        | Bound::Sorted(_)
        | Bound::Removes(_)
        | Bound::Group
        | Bound::Stream => Ok(()),
        Bound::Copies => {
            if arguments.iter().skip(2).any(|option| upper(option) == b"DB") {
                return Err(super::refused(rule.name, "DB names another database"));
            }
            Ok(())
        }
    }
}

fn counts(rule: &Rule, keys: &[usize], arguments: &[Vec<u8>]) -> Result<()> {
    // The arguments after the key, or after a number and as many keys.
    let count = if matches!(rule.keys, super::Keys::Counted) {
        behind(arguments, keys.len() + 2, b"COUNT")
    } else {
        arguments.get(1)
    };
    if is_outside(count, COUNT_MAX) {
        return Err(too_much(rule, "a count may be 0 to 250; ask again for more"));
    }
    Ok(())
}

fn scans(rule: &Rule, arguments: &[Vec<u8>]) -> Result<()> {
    let scan = Scan::parse(arguments).ok_or_else(|| super::syntax(rule))?;
    let wildcards = |pattern: &Vec<u8>| pattern.iter().filter(|byte| matches!(byte, b'*' | b'?' | b'[')).count();
    let is_long = |pattern: &Vec<u8>| pattern.len() > PATTERN_BYTES_MAX || wildcards(pattern) > WILDCARDS_MAX;
    if scan.patterns.iter().filter_map(|&at| arguments.get(at)).any(is_long) {
        return Err(too_much(rule, "a pattern may have 128 bytes and four wildcards; match the rest yourself"));
    }
    if scan.counts.iter().any(|&at| is_outside(arguments.get(at), ASKED_MAX)) {
        return Err(too_much(rule, "COUNT may be 1 to 1000"));
    }
    Ok(())
}

/// Numbers in these arguments are widths of types, offsets or values. Only an offset can be large; after `#` it counts in
/// widths.
fn are_offsets_near(arguments: &[Vec<u8>]) -> bool {
    let pairs = arguments.windows(3).filter(|window| {
        matches!(upper(window.first().map_or(&[][..], Vec::as_slice)).as_slice(), b"GET" | b"SET" | b"INCRBY")
    });
    pairs.filter_map(|window| window.get(2)).all(|offset| {
        let (text, width) = match offset.strip_prefix(b"#") {
            Some(text) => (text.to_vec(), 64),
            None => (offset.clone(), 1),
        };
        number(Some(&text)).is_none_or(|at| at.unsigned_abs().saturating_mul(width) < BITS - 64)
    })
}
