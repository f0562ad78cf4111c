//! The names that key everything else: tenants, components, stores, digests, requests.
//!
//! Invariant: only `parse` makes a name, except for the gateway's own tenants (`_` and a name). The alphabet of tenants
//! (`a-z 0-9 -`) has no `:`, `{`, `}` or NUL. So a storage key that begins with a tenant's name can be split in only one
//! way. A store may have any name; `store/layout.rs` encodes it for keys.

use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes. It is also a DNS label.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// The rule for names, in words for error messages.
pub(crate) const NAME_RULE: &str = "1 to 63 of a-z, 0-9 and -, beginning with a letter or a digit";

/// The longest name of a store, in bytes.
const STORE_BYTES_MAX: usize = 128;

/// The rule for names of stores, in words for error messages.
pub(crate) const STORE_RULE: &str = "1 to 128 bytes of text, without control characters";

/// The rule for component ids of a Spin manifest, in words for error messages.
pub(crate) const COMPONENT_RULE: &str = "1 to 63 of A-Z, a-z, 0-9, - and _, beginning with a letter or a digit";

/// Whether a text follows [`NAME_RULE`].
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && text.len() <= NAME_BYTES_MAX && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// Parses a name. Returns nothing if it violates [`NAME_RULE`].
            pub(crate) fn parse(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.into()))
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A tenant: the owner of hosts, components, storage and quotas. It is the name of the tenant's folder.
    TenantId
);
name!(
    /// One of a tenant's components, as its tenant file or its manifest names it.
    ComponentName
);

impl TenantId {
    /// Makes the id of one of the gateway's own tenants. No file can contain it, because names do not begin with `_`;
    /// neither do the store's other keys.
    pub(crate) fn of_gateway(name: &'static str) -> Self {
        Self(format!("_{name}").into())
    }
}

impl ComponentName {
    /// Parses a component id of a Spin manifest. Returns nothing if it violates [`COMPONENT_RULE`].
    pub(crate) fn of_manifest(id: &str) -> Option<Self> {
        let is_good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        (first && id.len() <= NAME_BYTES_MAX && id.bytes().all(is_good)).then(|| Self(id.into()))
    }
}

/// One of a tenant's key-value stores, by the label that its components use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StoreName(Arc<str>);

impl StoreName {
    /// Parses a label. Returns nothing if it violates [`STORE_RULE`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_good = (1..=STORE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        is_good.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// Parses the displayed form: 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Identifies one request in the access log, in error bodies and for the guest. Ids sort by time (UUID version 7, RFC
/// 9562).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(uuid::Uuid);

impl RequestId {
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    pub(crate) const fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

/// The position of a message in a chain of messages, each of which was sent because of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Number of messages so far, including this one; 0 if there is none yet.
    pub(crate) number: u32,
    /// The request, message or run that started the chain.
    pub(crate) cause: RequestId,
}

impl Line {
    /// The line of something that is not a message and was not caused by one.
    pub(crate) const fn none(cause: RequestId) -> Self {
        Self { number: 0, cause }
    }

    /// The line of a message about which nothing else is known.
    pub(crate) fn first() -> Self {
        Self { number: 1, cause: RequestId::new() }
    }

    pub(crate) const fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }

    /// Parses the displayed form. A number without a cause gets a new one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, cause) = text.split_once('.').map_or((text, None), |(number, cause)| (number, Some(cause)));
        let cause = match cause {
            Some(cause) => RequestId(uuid::Uuid::try_parse(cause).ok()?),
            None => RequestId::new(),
        };
        Some(Self { number: number.parse().ok()?, cause })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.cause)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_its_alphabet() {
        for good in ["a", "0", "acme", "acme-3", &"a".repeat(63)] {
            assert!(TenantId::parse(good).is_some(), "{good}");
        }
        let own = TenantId::of_gateway("canary");
        assert_eq!((own.as_str(), TenantId::parse(own.as_str())), ("_canary", None), "nobody can name it");
        for bad in ["", "-a", "A", "_a", "a_b", "a:b", "a{b}", "a\0", "ä", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_store_and_a_component_of_a_manifest_keep_their_own_spelling() {
        for good in ["my_store", "My Store", "ACME", "é:{}%", "-", &"a".repeat(128)] {
            assert_eq!(StoreName::parse(good).map(|name| name.to_string()).as_deref(), Some(good));
        }
        for bad in ["", "a\0", "a\nb", "\u{85}", &"a".repeat(129)] {
            assert!(StoreName::parse(bad).is_none(), "{bad:?}");
        }
        for good in ["rps_rock", "MY-COMP", "a"] {
            assert_eq!(ComponentName::of_manifest(good).map(|name| name.to_string()).as_deref(), Some(good));
        }
        for bad in ["", "_a", "-a", "a b", "a.b", "é", &"a".repeat(64)] {
            assert!(ComponentName::of_manifest(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let line = Line::none(RequestId::new()).next().next();
        assert_eq!((line.number, Line::parse(&line.to_string())), (2, Some(line)));
        assert_eq!(Line::parse("16").map(|line| line.number), Some(16));
        for bad in ["", ".", "x", "-1", "1.", "1.x", "99999999999", "1.2.3"] {
            assert_eq!(Line::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_digest_is_sha_256_in_hex() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
    }
}
