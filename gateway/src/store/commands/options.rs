//! Parses the arguments after a command's keys, only as far as the cost depends on them. The server refuses malformed ones.

use super::table::{By, Kind, ONE, Rule};
use super::{number, upper};

/// The word after the last option with this name. Options begin at this index.
pub(super) fn behind<'w>(arguments: &'w [Vec<u8>], from: usize, name: &[u8]) -> Option<&'w Vec<u8>> {
    let options = arguments.get(from..).unwrap_or_default().windows(2);
    options.rev().find_map(|pair| match pair {
        [option, word] if upper(option) == name => Some(word),
        _ => None,
    })
}

fn word(arguments: &[Vec<u8>], at: usize) -> Vec<u8> {
    arguments.get(at).map(|word| upper(word)).unwrap_or_default()
}

/// The index of the first name that is added; `from` is the index after the key.
pub(super) fn first_name(kind: Kind, from: usize, step: usize, arguments: &[Vec<u8>]) -> usize {
    if kind != Kind::Sorted || step == ONE {
        return from;
    }
    let is_option = |word: &&Vec<u8>| matches!(upper(word).as_slice(), b"NX" | b"XX" | b"GT" | b"LT" | b"CH" | b"INCR");
    // A score, or two coordinates, and then the name.
    from + arguments.iter().skip(from).take_while(is_option).count() + step - 1
}

/// The options of HSCAN, SSCAN and ZSCAN, by their indexes.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) patterns: Vec<usize>,
    pub(super) counts: Vec<usize>,
    pub(super) no_values: bool,
}

impl Scan {
    /// Returns nothing if they are malformed: a pattern must not be mistaken for something else.
    pub(super) fn parse(arguments: &[Vec<u8>]) -> Option<Self> {
        let (mut scan, mut at) = (Self::default(), 2);
        while at < arguments.len() {
            let places = match word(arguments, at).as_slice() {
                b"MATCH" => &mut scan.patterns,
                b"COUNT" => &mut scan.counts,
                b"NOVALUES" => {
                    scan.no_values = true;
                    at += 1;
                    continue;
                }
                _ => return None,
            };
            arguments.get(at + 1)?;
            places.push(at + 1);
            at += 2;
        }
        Some(scan)
    }
}

/// XADD and XTRIM.
pub(super) struct Entry {
    /// How many entries stay: -1 if the stream is not trimmed, -2 if it is trimmed by id.
    pub(super) stays: i64,
    /// The number of fields and values.
    pub(super) words: usize,
    pub(super) bytes: usize,
}

impl Entry {
    pub(super) fn parse(arguments: &[Vec<u8>], has_entry: bool) -> Self {
        let (mut at, mut stays) = (1, -1);
        loop {
            match word(arguments, at).as_slice() {
                b"NOMKSTREAM" | b"KEEPREF" | b"DELREF" | b"ACKED" => at += 1,
                b"LIMIT" => at += 2,
                option @ (b"MAXLEN" | b"MINID") => {
                    at += 1;
                    at += usize::from(matches!(word(arguments, at).as_slice(), b"=" | b"~"));
                    let max = number(arguments.get(at)).map_or(-2, |max| max.max(0));
                    stays = if option == b"MAXLEN" { max } else { -2 };
                    at += 1;
                }
                _ => break,
            }
        }
        let rest = arguments.get(at + 1..).unwrap_or_default();
        let (words, bytes) = if has_entry { (rest.len(), rest.iter().map(Vec::len).sum()) } else { (0, 0) };
        Self { stays, words, bytes }
    }
}

/// XREAD and XREADGROUP.
pub(super) struct Streams<'w> {
    pub(super) count: Option<i64>,
    pub(super) group: Option<(&'w [u8], &'w [u8])>,
    /// Everything before STREAMS, except COUNT.
    pub(super) head: Vec<Vec<u8>>,
    pub(super) ids: &'w [Vec<u8>],
}

impl<'w> Streams<'w> {
    pub(super) fn parse(rule: &Rule, arguments: &'w [Vec<u8>]) -> Option<Self> {
        let mut streams = Self { count: None, group: None, head: Vec::new(), ids: &[] };
        let mut at = 0;
        loop {
            match word(arguments, at).as_slice() {
                b"COUNT" => {
                    streams.count = number(arguments.get(at + 1));
                    at += 2;
                }
                b"GROUP" if rule.name == "XREADGROUP" => {
                    streams.group = Some((arguments.get(at + 1)?, arguments.get(at + 2)?));
                    streams.head.extend_from_slice(arguments.get(at..at + 3)?);
                    at += 3;
                }
                b"NOACK" if rule.name == "XREADGROUP" => {
                    streams.head.push(b"NOACK".to_vec());
                    at += 1;
                }
                b"STREAMS" => {
                    let rest = arguments.get(at + 1..)?;
                    streams.ids = rest.get(rest.len() / 2..)?;
                    return Some(streams);
                }
                _ => return None,
            }
        }
    }
}

/// XCLAIM.
pub(super) struct Claimed {
    pub(super) ids: usize,
    pub(super) is_just_ids: bool,
}

impl Claimed {
    pub(super) fn parse(arguments: &[Vec<u8>]) -> Self {
        let is_option = |word: &Vec<u8>| {
            matches!(upper(word).as_slice(), b"IDLE" | b"TIME" | b"RETRYCOUNT" | b"FORCE" | b"JUSTID" | b"LASTID")
        };
        let ids = arguments.iter().skip(4).take_while(|word| !is_option(word)).count();
        let is_just_ids = arguments.iter().skip(4 + ids).any(|word| upper(word) == b"JUSTID");
        Self { ids, is_just_ids }
    }
}

/// A range of a sorted set.
pub(super) struct Range<'w> {
    /// The command that counts the elements between `from` and `to`.
    pub(super) counted_by: &'static str,
    pub(super) from: &'w [u8],
    pub(super) to: &'w [u8],
    pub(super) offset: i64,
    /// -1 for all.
    pub(super) count: i64,
}

impl<'w> Range<'w> {
    /// The range whose first bound is at this index. Nothing if it is malformed.
    pub(super) fn parse(rule: &Rule, by: By, arguments: &'w [Vec<u8>], at: usize) -> Option<Self> {
        let (mut from, mut to) = (arguments.get(at)?.as_slice(), arguments.get(at + 1)?.as_slice());
        let options = arguments.get(at + 2..)?;
        let has = |name: &[u8]| options.iter().any(|option| upper(option) == name);
        // If it is given twice, the server uses the last one.
        let said = options.iter().rev().find_map(|option| match upper(option).as_slice() {
            b"BYSCORE" => Some(By::Score),
            b"BYLEX" => Some(By::Name),
            _ => None,
        });
        let by = if by == By::Option { said.unwrap_or(By::Rank) } else { by };
        let counted_by = match by {
            By::Score => "ZCOUNT",
            By::Name => "ZLEXCOUNT",
            By::Rank | By::Option => "ZCARD",
        };
        if counted_by == "ZCARD" {
            number(Some(&from.to_vec()))?;
            number(Some(&to.to_vec()))?;
        } else if has(b"REV") || rule.name.starts_with("ZREVRANGEBY") {
            std::mem::swap(&mut from, &mut to);
        }
        let limit = options.iter().rposition(|option| upper(option) == b"LIMIT");
        let (offset, count) = match limit {
            Some(at) => (number(options.get(at + 1))?.max(0), number(options.get(at + 2))?.max(-1)),
            None => (0, -1),
        };
        Some(Self { counted_by, from, to, offset, count })
    }

    /// Whether the range has at most this many elements, whatever the data.
    pub(super) fn is_few(&self, few: i64) -> bool {
        if self.counted_by != "ZCARD" {
            return (0..=few).contains(&self.count) && self.offset <= 1_000;
        }
        let (Some(from), Some(to)) = (number(Some(&self.from.to_vec())), number(Some(&self.to.to_vec()))) else {
            return false;
        };
        (from < 0) == (to < 0) && to.saturating_sub(from) < few
    }
}
