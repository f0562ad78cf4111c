//! What a backend sees for a tenant's store: `tg:{tenant}:kv:store`, one hash, the guest's keys being its fields.
//!
//! Invariant: no two (tenant, store) give one bucket and none is a prefix of another's field space, because neither name
//! can hold `:`, `{`, `}` or `.`. The braces are Redis Cluster's hash tag: what is in one [`Place`] shares a slot, and braces
//! in a guest's key cannot move it, since that key is a field and not part of the Redis key.
//!
//! A tenant is one place, or several (`quota.shards`): `{tenant}`, or `{tenant.0}`, `{tenant.1}` and so on.

use crate::ids::{StoreName, TenantId};
use std::sync::Arc;
use std::time::Duration;

/// What all keys of this gateway begin with, `tg` unless the operator says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(Arc<str>);

impl Default for Prefix {
    fn default() -> Self {
        Self("tg".into())
    }
}

/// Where all that a tenant has is in one slot: the whole of it, or one of its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Box<str>);

impl Place {
    /// The one at `index`, of so many.
    pub(super) fn of(tenant: &TenantId, index: u16, shards: u16) -> Self {
        Self(if shards == 1 { tenant.as_str().into() } else { format!("{tenant}.{index}").into() })
    }
}

impl Prefix {
    /// Takes 1 to 32 letters, digits, `-`, `_` or `.`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        ((1..=32).contains(&text.len()) && text.bytes().all(good)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A raw key as an operator names it to Redis; for a person to read.
    pub(crate) fn shown_key(&self, place: &str, key: &str) -> String {
        format!("{}:{{{place}}}:r:{key}", self.0)
    }

    /// A channel in the same way.
    pub(crate) fn shown_channel(&self, tenant: &TenantId, channel: &str) -> String {
        format!("{}:{{{tenant}}}:ch:{channel}", self.0)
    }

    /// What all keys of a place begin with.
    pub(super) fn of_place(&self, place: &Place) -> String {
        format!("{}:{{{}}}:", self.0, place.0)
    }

    /// Of raw Redis keys.
    pub(super) fn namespace(&self, place: &Place) -> Namespace {
        Namespace(format!("{}:{{{}}}:r:", self.0, place.0).into_bytes().into())
    }

    /// Of the tenant's channels.
    pub(super) fn channels(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:ch:", self.0).into_bytes().into())
    }

    /// Of messages that are kept until one gateway handled them.
    pub(super) fn messages(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:ms:", self.0).into_bytes().into())
    }

    /// Of those that failed too often.
    pub(super) fn dead(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:dl:", self.0).into_bytes().into())
    }

    /// Where it is counted what the tenant has there.
    pub(super) fn usage(&self, place: &Place) -> Bucket {
        Bucket::named(format!("{}:{{{}}}:q:usage", self.0, place.0).into_bytes().into())
    }

    /// Where it is noted over how many places the tenant is spread.
    pub(super) fn layout(&self, tenant: &TenantId) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:layout", self.0).into_bytes().into())
    }

    /// Where gateways that share this store keep the sums of the tenant's rates.
    pub(super) fn rates(&self, tenant: &TenantId) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:rates", self.0).into_bytes().into())
    }

    /// Where it is noted which time of a schedule was run last, and by whom.
    pub(super) fn runs(&self, tenant: &TenantId, schedule: &str) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:runs:{schedule}", self.0).into_bytes().into())
    }

    /// What is of the gateways together; no tenant's name has a `+`.
    pub(super) fn common(&self, name: &str) -> Vec<u8> {
        format!("{}:{{+}}:{name}", self.0).into_bytes()
    }

    pub(super) fn bucket(&self, place: &Place, store: &StoreName) -> Bucket {
        Bucket::named(format!("{}:{{{}}}:kv:{store}", self.0, place.0).into_bytes().into())
    }
}

/// What a tenant's raw keys, or its channels, begin with: `tg:{tenant}:r:`, and whatever bytes follow are the guest's. Only
/// this file makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace(Arc<[u8]>);

impl Namespace {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the embedded store keeps them.
    pub(super) fn as_bucket(&self) -> Bucket {
        Bucket::named(Arc::clone(&self.0))
    }

    pub(super) fn key(&self, own: &[u8]) -> Vec<u8> {
        [&self.0, own].concat()
    }
}

/// The whole name of one tenant's one store, and how long what is set in it lasts. Only this file makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    name: Arc<[u8]>,
    ttl: Option<Duration>,
}

impl Bucket {
    fn named(name: Arc<[u8]>) -> Self {
        Self { name, ttl: None }
    }

    /// The same, of which each key goes so long after it was set.
    pub(super) fn lasting(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    pub(super) const fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Beside a store in Redis: when its keys go.
    pub(super) fn expiries(&self) -> Vec<u8> {
        let kind = b"}:kv:".as_slice();
        let at = self.name.windows(kind.len()).position(|some| some == kind).unwrap_or_default();
        let (before, after) = self.name.split_at(at);
        [before, b"}:q:ttl:".as_slice(), after.get(kind.len()..).unwrap_or_default()].concat()
    }

    /// One that stands in the embedded file, if it is below this tenant's prefix.
    pub(super) fn found(name: &[u8], prefix: &[u8]) -> Option<Self> {
        name.starts_with(prefix).then(|| Self::named(name.into()))
    }

    /// Where it is counted what the tenant of this bucket has.
    pub(super) fn usage_beside(bucket: &[u8]) -> Option<Vec<u8>> {
        let end = bucket.windows(2).position(|pair| pair == b"}:")? + 2;
        Some([bucket.get(..end)?, b"q:usage".as_slice()].concat())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.name
    }
}

/// The slot of a key: CRC16 of what stands in its first braces, or of all of it (cluster specification, "Key distribution
/// model").
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key.get(open..)?.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
        key.get(open..open + length)
    };
    crc16::State::<crc16::XMODEM>::calculate(tag().unwrap_or(key)) % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` of redis-server 7.0.15 has them.
    #[test]
    fn slots_are_the_servers_own() {
        for (key, wanted) in [
            ("foo", 12182),
            ("tg:{acme}:kv:default", slot(b"acme")),
            ("{user1000}.following", slot(b"user1000")),
            ("foo{}{bar}", slot(b"foo{}{bar}")),
            ("foo{{bar}}zap", slot(b"{bar")),
            ("123456789", 0x31C3),
        ] {
            assert_eq!(slot(key.as_bytes()), wanted, "{key}");
        }
    }
}
