//! What a tenant uses in the store, and its quota.
//!
//! It counts keys, and the bytes of keys and values; for raw Redis keys, the memory that Redis reports. The sum is stored
//! beside the data and changes in the same step: always in the embedded store, and on Redis only for tenants with
//! `quota.storage`, because it doubles the cost of a write for the server.

use super::layout::Bucket;

/// A tenant's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
}

/// Where a tenant's use is counted, and its quota.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) usage: Bucket,
    /// Unlimited if absent.
    pub(super) allowance: Option<Allowance>,
}

/// What a tenant uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
}

impl Usage {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), keys: self.keys.saturating_add(other.keys) }
    }

    /// The use after a change, if the quota allows it. A change that reduces it is always allowed.
    ///
    /// # Errors
    /// The name of the quota that is exceeded.
    pub(super) fn after(self, change: Change, allowance: Option<Allowance>) -> Result<Self, &'static str> {
        let after = Self { bytes: add(self.bytes, change.bytes), keys: add(self.keys, change.keys) };
        match allowance {
            Some(max) if change.bytes > 0 && after.bytes > max.bytes => Err("bytes"),
            Some(max) if change.keys > 0 && after.keys > max.keys => Err("keys"),
            _ => Ok(after),
        }
    }
}

fn add(number: u64, change: i64) -> u64 {
    number.saturating_add_signed(change)
}

/// How a write changes a tenant's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) bytes: i64,
    pub(super) keys: i64,
}

impl Change {
    /// The change for one key: the length of its value before and after, if there is one.
    pub(super) fn of(key: &[u8], before: Option<usize>, after: Option<usize>) -> Self {
        let size = |value: Option<usize>| value.map_or(0, |length| signed(key.len() + length));
        let bytes = size(after) - size(before);
        Self { bytes, keys: i64::from(after.is_some()) - i64::from(before.is_some()) }
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), keys: self.keys.saturating_add(other.keys) }
    }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_above_the_quota_is_refused_and_reduction_never_is() {
        let max = Some(Allowance { bytes: 100, keys: 2 });
        let now = Usage { bytes: 95, keys: 1 };
        let set = |before, after| now.after(Change::of(b"key", before, after), max);
        assert_eq!(set(None, Some(2)), Ok(Usage { bytes: 100, keys: 2 }));
        assert_eq!(set(None, Some(3)), Err("bytes"));
        assert_eq!(set(Some(10), Some(15)), Ok(Usage { bytes: 100, keys: 1 }));
        assert_eq!(set(Some(10), None), Ok(Usage { bytes: 82, keys: 0 }));
        let over = Usage { bytes: 500, keys: 2 };
        assert_eq!(over.after(Change::of(b"k", Some(50), Some(10)), max), Ok(Usage { bytes: 460, keys: 2 }), "less");
        assert_eq!(Usage { bytes: 1, keys: 2 }.after(Change::of(b"k", None, Some(0)), max), Err("keys"));
    }
}
