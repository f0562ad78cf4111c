//! The names that a backend sees for a tenant's store: `tg:{tenant}:kv:store`, one hash whose fields are the guest's keys.
//!
//! Invariant: no two (tenant, store) have the same bucket, and none is a prefix of another's field space, because neither a
//! tenant's name nor an encoded store name contains `:`, `{`, `}` or `.`. The braces are Redis Cluster's hash tag:
//! everything in one [`Place`] is in one slot. Braces in a guest's key cannot change that, because that key is a field and
//! not part of the Redis key.
//!
//! A store's name is encoded: `a-z`, `0-9` and `-` stay as they are, and every other byte becomes `%` and two digits, for
//! example `my%5Fstore` for `my_store`. The encoding is unique, and names of that alphabet keep the keys that they had
//! before other names were allowed.
//!
//! A tenant is one place, or several (`quota.shards`): `{tenant}`, or `{tenant.0}`, `{tenant.1}` and so on.

use crate::ids::{StoreName, TenantId};
use std::sync::Arc;
use std::time::Duration;

/// The beginning of all keys of this gateway: `tg` by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(Arc<str>);

impl Default for Prefix {
    fn default() -> Self {
        Self("tg".into())
    }
}

/// One slot with a tenant's data: all of it, or one of its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Box<str>);

impl Place {
    /// The place at `index` of `shards`.
    pub(super) fn of(tenant: &TenantId, index: u16, shards: u16) -> Self {
        Self(if shards == 1 { tenant.as_str().into() } else { format!("{tenant}.{index}").into() })
    }
}

impl Prefix {
    /// Parses 1 to 32 letters, digits, `-`, `_` or `.`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        ((1..=32).contains(&text.len()) && text.bytes().all(good)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A raw key as an operator would type it for Redis, in readable form.
    pub(crate) fn shown_key(&self, place: &str, key: &str) -> String {
        format!("{}:{{{place}}}:r:{key}", self.0)
    }

    /// A channel in the same form.
    pub(crate) fn shown_channel(&self, tenant: &TenantId, channel: &str) -> String {
        format!("{}:{{{tenant}}}:ch:{channel}", self.0)
    }

    /// The beginning of all keys of a place.
    pub(super) fn of_place(&self, place: &Place) -> String {
        format!("{}:{{{}}}:", self.0, place.0)
    }

    /// For raw Redis keys.
    pub(super) fn namespace(&self, place: &Place) -> Namespace {
        Namespace(format!("{}:{{{}}}:r:", self.0, place.0).into_bytes().into())
    }

    /// For the tenant's channels.
    pub(super) fn channels(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:ch:", self.0).into_bytes().into())
    }

    /// For messages that are kept until one gateway has handled them.
    pub(super) fn messages(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:ms:", self.0).into_bytes().into())
    }

    /// For messages that failed too often.
    pub(super) fn dead(&self, tenant: &TenantId) -> Namespace {
        Namespace(format!("{}:{{{tenant}}}:dl:", self.0).into_bytes().into())
    }

    /// Where the tenant's use is counted.
    pub(super) fn usage(&self, place: &Place) -> Bucket {
        Bucket::named(format!("{}:{{{}}}:q:usage", self.0, place.0).into_bytes().into())
    }

    /// Where the tenant's number of shards is noted.
    pub(super) fn layout(&self, tenant: &TenantId) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:layout", self.0).into_bytes().into())
    }

    /// Where gateways that share this store keep the sums of the tenant's rates.
    pub(super) fn rates(&self, tenant: &TenantId) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:rates", self.0).into_bytes().into())
    }

    /// Where the last time that a schedule ran is noted, and which gateway ran it.
    pub(super) fn runs(&self, tenant: &TenantId, schedule: &str) -> Bucket {
        Bucket::named(format!("{}:{{{tenant}}}:q:runs:{schedule}", self.0).into_bytes().into())
    }

    /// Keys that belong to all gateways together; no tenant's name has a `+`.
    pub(super) fn common(&self, name: &str) -> Vec<u8> {
        format!("{}:{{+}}:{name}", self.0).into_bytes()
    }

    pub(super) fn bucket(&self, place: &Place, store: &StoreName) -> Bucket {
        Bucket::named(format!("{}:{{{}}}:kv:{}", self.0, place.0, spelt(store)).into_bytes().into())
    }
}

/// A store's name as it is encoded in keys.
fn spelt(store: &StoreName) -> String {
    use std::fmt::Write as _;
    let mut spelling = String::with_capacity(store.as_str().len());
    for byte in store.as_str().bytes() {
        if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-') {
            spelling.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(spelling, "%{byte:02X}");
        }
    }
    spelling
}

/// Decodes a store's name. Nothing if it is not a valid encoding.
pub(super) fn store_of(spelling: &str) -> Option<StoreName> {
    let mut bytes = Vec::with_capacity(spelling.len());
    let mut rest = spelling;
    while let Some((before, after)) = rest.split_once('%') {
        let (digits, behind) = after.split_at_checked(2)?;
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = behind;
    }
    bytes.extend(rest.bytes());
    let store = StoreName::parse(str::from_utf8(&bytes).ok()?)?;
    (spelt(&store) == spelling).then_some(store)
}

/// The beginning of a tenant's raw keys, or of its channels: `tg:{tenant}:r:`; any bytes that follow are the guest's. Only
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

    /// A channel beside `own`, on which gateways tell each other about its messages. No guest's channel has this name,
    /// because those are texts, and this is not one.
    pub(super) fn note(&self, own: &[u8]) -> Vec<u8> {
        [&self.0, b"\xff".as_slice(), own].concat()
    }
}

/// The complete name of one tenant's one store, and how long values in it last. Only this file makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    name: Arc<[u8]>,
    ttl: Option<Duration>,
}

impl Bucket {
    fn named(name: Arc<[u8]>) -> Self {
        Self { name, ttl: None }
    }

    /// The same with keys that expire this long after they were set.
    pub(super) fn lasting(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    pub(super) const fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Beside a store in Redis: when its keys expire.
    pub(super) fn expiries(&self) -> Vec<u8> {
        let kind = b"}:kv:".as_slice();
        let at = self.name.windows(kind.len()).position(|some| some == kind).unwrap_or_default();
        let (before, after) = self.name.split_at(at);
        [before, b"}:q:ttl:".as_slice(), after.get(kind.len()..).unwrap_or_default()].concat()
    }

    /// A bucket in the embedded file, if it has this tenant's prefix.
    pub(super) fn found(name: &[u8], prefix: &[u8]) -> Option<Self> {
        name.starts_with(prefix).then(|| Self::named(name.into()))
    }

    /// Where the use of this bucket's tenant is counted.
    pub(super) fn usage_beside(bucket: &[u8]) -> Option<Vec<u8>> {
        let end = bucket.windows(2).position(|pair| pair == b"}:")? + 2;
        Some([bucket.get(..end)?, b"q:usage".as_slice()].concat())
    }

    /// Whether the bucket contains raw Redis keys.
    pub(super) fn is_raw(name: &[u8]) -> bool {
        name.ends_with(b"}:r:")
    }

    pub(super) fn owner(&self) -> &[u8] {
        owner(&self.name)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.name
    }
}

/// The owner of a bucket, or of anything else that begins with a place: the tenant's name, the same for all its shards.
pub(super) fn owner(name: &[u8]) -> &[u8] {
    let open = name.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
    let inside = name.get(open..).unwrap_or_default();
    let end = inside.iter().position(|byte| matches!(byte, b'}' | b'.')).unwrap_or(inside.len());
    inside.get(..end).unwrap_or_default()
}

/// The slot of a key: CRC16 of the text in its first braces, or of the whole key (cluster specification, "Key distribution
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

    #[test]
    fn a_stores_name_is_encoded_as_it_is_or_with_escapes() {
        for (name, spelling) in [
            ("default", "default"),
            ("a-1", "a-1"),
            ("my_store", "my%5Fstore"),
            ("My Store", "%4Dy%20%53tore"),
            ("a:b}{%", "a%3Ab%7D%7B%25"),
            ("é", "%C3%A9"),
        ] {
            let store = StoreName::parse(name).unwrap();
            assert_eq!(spelt(&store), spelling);
            assert_eq!(store_of(spelling), Some(store));
        }
        for bad in ["", "my_store", "%5f", "%61", "%", "%5", "a:b", "%C3", "%00", "%+5"] {
            assert_eq!(store_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn everything_of_a_tenant_has_one_owner() {
        let (prefix, tenant) = (Prefix::parse("a.b").unwrap(), TenantId::parse("acme-1").unwrap());
        let store = StoreName::parse("s.t}").unwrap();
        for place in [Place::of(&tenant, 0, 1), Place::of(&tenant, 3, 4)] {
            assert_eq!(prefix.bucket(&place, &store).owner(), b"acme-1");
            assert_eq!(prefix.namespace(&place).as_bucket().owner(), b"acme-1");
            assert_eq!(prefix.usage(&place).owner(), b"acme-1");
            assert_eq!(owner(prefix.of_place(&place).as_bytes()), b"acme-1");
            assert!(Bucket::is_raw(prefix.namespace(&place).as_bytes()));
            assert!(!Bucket::is_raw(prefix.bucket(&place, &store).as_bytes()));
        }
    }

    proptest::proptest! {
        /// No two stores have the same encoding, and none contains a separator of keys.
        #[test]
        fn an_encoding_belongs_to_one_store(name in "[ -~é\u{2028}]{1,40}", other in "[a-b%5F_:]{1,4}") {
            let store = StoreName::parse(&name).unwrap();
            let other = StoreName::parse(&other).unwrap();
            let spelling = spelt(&store);
            let parts_a_key = spelling.contains([':', '{', '}', '.']);
            proptest::prop_assert!(!parts_a_key);
            proptest::prop_assert_eq!(store_of(&spelling), Some(store.clone()));
            proptest::prop_assert_eq!(spelt(&other) == spelling, other == store);
            // Names that were valid before others were allowed keep their keys.
            if crate::ids::is_name(&name) {
                proptest::prop_assert_eq!(&spelling, &name);
            }
            if let Some(of) = store_of(other.as_str()) {
                proptest::prop_assert_eq!(spelt(&of), other.as_str());
            }
        }
    }

    /// Compared with `CLUSTER KEYSLOT` of redis-server 7.0.15.
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
