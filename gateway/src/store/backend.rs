//! The backends that store keys, and the changes that they apply.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::layout::{Bucket, Namespace};
use super::redis::Refusals;
use super::{Answered, Kind, Page, Prepared, Result, Value, embedded, redis};
use crate::telemetry::Metrics;

/// A change in one bucket. A backend applies it completely or not at all.
#[derive(Debug)]
pub(super) enum Write {
    Set(Vec<(Vec<u8>, Value)>),
    Delete(Vec<Vec<u8>>),
    Increment(Vec<u8>, i64),
    /// Replaces the value if it is still the expected one.
    Swap {
        key: Vec<u8>,
        expected: Option<Value>,
        new: Value,
    },
}

impl Write {
    /// The keys that it concerns.
    pub(super) fn keys(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Set(pairs) => Box::new(pairs.iter().map(|(key, _)| key.as_slice())),
            Self::Delete(keys) => Box::new(keys.iter().map(Vec::as_slice)),
            Self::Increment(key, _) | Self::Swap { key, .. } => Box::new(std::iter::once(key.as_slice())),
        }
    }
}

/// The result of a [`Write`].
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
    /// The value of `storage.backend`.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Redis(redis) => redis.name(),
        }
    }

    pub(super) fn open(
        kind: &Kind,
        timeout: Duration,
        (metrics, refusals): (&Arc<Metrics>, &Arc<Refusals>),
    ) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Embedded(dir) => Self::Embedded(embedded::Embedded::open(dir, metrics)?),
            Kind::Redis(servers) => Self::Redis(Box::new(redis::Redis::new(servers, timeout, refusals)?)),
        })
    }

    /// Closes what only this process has open.
    pub(super) async fn close(&self) {
        match self {
            Self::Embedded(embedded) => embedded.close().await,
            Self::Redis(_) => {}
        }
    }

    pub(super) async fn get_many(&self, bucket: &Bucket, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        match self {
            Self::Embedded(embedded) => embedded.get_many(bucket, keys).await,
            Self::Redis(redis) => redis.get_many(bucket, keys).await,
        }
    }

    pub(super) async fn exists(&self, bucket: &Bucket, key: &[u8]) -> Result<bool> {
        match self {
            Self::Embedded(embedded) => embedded.exists(bucket, key),
            Self::Redis(redis) => redis.exists(bucket, key).await,
        }
    }

    pub(super) async fn list(&self, bucket: &Bucket, cursor: Option<&str>) -> Result<Page> {
        match self {
            Self::Embedded(embedded) => embedded.list(bucket, cursor).await,
            Self::Redis(redis) => redis.list(bucket, cursor).await,
        }
    }

    pub(super) async fn write(&self, account: &Account, bucket: &Bucket, write: Write) -> Result<Written> {
        match self {
            Self::Embedded(embedded) => embedded.write(account, bucket, write).await,
            Self::Redis(redis) => redis.write(account, bucket, write).await,
        }
    }

    pub(super) async fn execute(&self, account: &Account, space: &Namespace, command: Prepared) -> Result<Answered> {
        match self {
            Self::Embedded(embedded) => {
                let replies = embedded.execute(account, space, command).await?;
                Ok(Answered { replies, work: 0 })
            }
            Self::Redis(redis) => redis.execute(account, &command).await,
        }
    }

    /// The noted number of shards of the tenant, if there is a note.
    pub(super) async fn noted_layout(&self, layout: &Bucket) -> Result<Option<u16>> {
        match self {
            Self::Embedded(embedded) => embedded.noted_layout(layout),
            Self::Redis(redis) => redis.noted_layout(layout).await,
        }
    }

    /// Notes a tenant's number of shards. Returns the number that was noted before, if there was one, or else this one.
    pub(super) async fn note_layout(&self, layout: &Bucket, (prefix, shards): (&str, u16)) -> Result<u16> {
        match self {
            Self::Embedded(embedded) => embedded.note_layout(layout, (prefix, shards)).await,
            Self::Redis(redis) => redis.note_layout(layout, shards).await,
        }
    }

    pub(super) async fn forget_layout(&self, layout: &Bucket) -> Result<()> {
        match self {
            Self::Embedded(embedded) => embedded.forget_layout(layout).await,
            Self::Redis(redis) => redis.forget_layout(layout).await,
        }
    }
}
