//! The lines of an export. The first one identifies the file, and the last one states how much it contains, so that an
//! incomplete file is detected. Between them, in any order except for marks, each line is one thing: a pair of a store, a
//! raw Redis key with its value or a part of it (the first part says `starts`), or when a raw key expires.

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
    /// Up to here the file is complete, and an export resumes here. An import ignores it.
    Mark(Mark),
    End {
        pairs: u64,
        raw: u64,
    },
}

/// The progress of an export. Raw keys come first, page by page, then one store after the other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) at: At,
    /// Pairs and raw keys before it.
    pub(super) pairs: u64,
    pub(super) raw: u64,
    /// Stores that were found and are still to be exported.
    pub(super) stores: BTreeSet<String>,
}

/// Where an export resumes.
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
    /// One string; members; alternating fields and values, or members and scores; elements in order; or an entry's id with
    /// its fields and values.
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

/// The byte strings of the answer, in order.
pub(super) fn bytes(replies: Vec<Reply>) -> Vec<Text> {
    let text = |reply| match reply {
        Reply::Bytes(bytes) => Some(bytes),
        Reply::Nil | Reply::Status(_) | Reply::Int(_) => None,
    };
    replies.into_iter().filter_map(text).collect()
}

/// Printable characters as they are, and `\xNN` for the rest.
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
    fn unprintable_bytes_are_shown_in_hexadecimal() {
        assert_eq!(printable("straße\n\\".as_bytes()), "straße\\x0a\\\\");
        assert_eq!(printable(b"a\0\xff\x1b[31m"), "a\\x00\\xff\\x1b[31m");
    }
}
