//! The lines of an export: the first says what the file is, the last one how much is in it, so that a file that is not whole
//! is found out. Between them, in any order and one thing a line, marks aside: a pair of a store, a raw Redis key with its value or a part
//! of it (the first part says `starts`), or when a raw key expires.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::store::Text;

/// Elements of a collection on one line, and pairs of a store in one call.
pub(super) const PART: usize = 500;
/// Bytes of keys and values in one call.
pub(super) const CALL_BYTES: usize = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Line {
    Head {
        tollgate: u32,
        tenant: String,
    },
    Pair {
        store: String,
        key: Text,
        value: Text,
    },
    Raw(Part),
    Expiry {
        raw: Text,
        expires_at_ms: i64,
    },
    /// Up to here it is whole, and from here an export goes on; an import passes by.
    Mark(Mark),
    End {
        pairs: u64,
        raw: u64,
    },
}

/// How far an export is. Raw keys come first, a page of names after the other, then store after store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) at: At,
    /// Pairs and raw keys before it.
    pub(super) pairs: u64,
    pub(super) raw: u64,
    /// Stores that were found so far, and are still to be written.
    pub(super) stores: BTreeSet<String>,
}

/// Where an export goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum At {
    Names { cursor: Option<String> },
    Store { store: String, cursor: Option<String> },
}

impl Default for At {
    fn default() -> Self {
        Self::Names { cursor: None }
    }
}

/// A raw key's value, or some of its elements.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) raw: Text,
    pub(super) kind: Kind,
    /// One string; members; fields and values, or members and scores, in turn; elements in order; or an entry's identity
    /// with its fields and values.
    pub(super) elements: Vec<Text>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) starts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    String,
    Set,
    Hash,
    SortedSet,
    List,
    StreamEntry,
}

impl Kind {
    /// The command that adds elements.
    pub(super) const fn adds(self) -> &'static [u8] {
        match self {
            Self::String => b"SET",
            Self::Set => b"SADD",
            Self::Hash => b"HSET",
            Self::SortedSet => b"ZADD",
            Self::List => b"RPUSH",
            Self::StreamEntry => b"XADD",
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Replies {
    pub(super) replies: Vec<Reply>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Text),
}

/// What of the answer is bytes, in order.
pub(super) fn bytes(replies: Vec<Reply>) -> Vec<Text> {
    let text = |reply| match reply {
        Reply::Bytes(bytes) => Some(bytes),
        Reply::Nil | Reply::Status(_) | Reply::Int(_) => None,
    };
    replies.into_iter().filter_map(text).collect()
}

/// What prints as itself, and `\xNN` for the rest.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => c.to_string().bytes().for_each(|byte| text.push_str(&format!("\\x{byte:02x}"))),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_told_in_hex() {
        assert_eq!(printable("straße\n\\".as_bytes()), "straße\\x0a\\\\");
        assert_eq!(printable(b"a\0\xff\x1b[31m"), "a\\x00\\xff\\x1b[31m");
    }
}
