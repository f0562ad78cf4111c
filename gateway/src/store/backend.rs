//! What keeps the keys, and what it is asked to change.

use std::time::Duration;

use super::{Kind, Value, embedded, redis};

/// One thing to do in one bucket. A backend does each whole or not at all.
#[derive(Debug)]
pub(super) enum Write {
    Set(Vec<(Vec<u8>, Value)>),
    Delete(Vec<Vec<u8>>),
    Increment(Vec<u8>, i64),
    /// Replaces the value if it still is this one.
    Swap {
        key: Vec<u8>,
        expected: Option<Value>,
        new: Value,
    },
}

impl Write {
    /// What it is about.
    pub(super) fn keys(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Set(pairs) => Box::new(pairs.iter().map(|(key, _)| key.as_slice())),
            Self::Delete(keys) => Box::new(keys.iter().map(Vec::as_slice)),
            Self::Increment(key, _) | Self::Swap { key, .. } => Box::new(std::iter::once(key.as_slice())),
        }
    }

    /// What it carries, in bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Delete(keys) => keys.iter().map(Vec::len).sum(),
            Self::Increment(key, _) => key.len(),
            Self::Swap { key, expected, new } => key.len() + expected.as_ref().map_or(0, Vec::len) + new.len(),
        }
    }
}

/// What came of a [`Write`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    Sum(i64),
    Swapped(bool),
}

#[derive(Debug)]
pub(super) enum Backend {
    Embedded(embedded::Embedded),
    Redis(Box<redis::Redis>),
}

impl Backend {
    /// As `storage.backend` has it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Redis(redis) => redis.name(),
        }
    }

    pub(super) fn open(kind: &Kind, timeout: Duration) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Embedded(dir) => Self::Embedded(embedded::Embedded::open(dir)?),
            Kind::Redis(servers) => Self::Redis(Box::new(redis::Redis::new(servers, timeout)?)),
        })
    }
}
