//! Estimates how much memory an instance of a tenant's component will need, from what its other instances needed. Other
//! tenants' instances do not count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::deadline::Moment;

/// See the top of this file.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// What instances needed recently, or nothing until one has ended.
    usual: AtomicU64,
    /// When the first instance began, as a [`Moment`], or zero.
    began: AtomicU64,
}

/// How long the need counts as unknown while no instance ends.
const UNKNOWN: Duration = Duration::from_millis(250);
const UNKNOWN_SHARE: u64 = 3;

impl Needs {
    /// Bytes that an instance needs if `allowed` are allowed and it starts with `initial`. As long as nothing is known, it
    /// is a part of `allowed`, so that few instances start at once; the estimate may soon fall.
    pub(crate) fn of(&self, allowed: u64, initial: u64) -> u64 {
        let usual = self.usual.load(Ordering::Relaxed);
        if usual > 0 {
            return usual.min(allowed);
        }
        let now = Moment::now().0.max(1);
        let before = self.began.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let began = before.err().unwrap_or(now);
        let is_unknown = u128::from(now.saturating_sub(began)) < UNKNOWN.as_nanos();
        if is_unknown { allowed / UNKNOWN_SHARE } else { initial.saturating_add(initial / 4).min(allowed) }
    }

    /// Notes what one instance needed. The estimate rises quickly and falls slowly, but one large instance among many is no
    /// reason to wait.
    pub(crate) fn note(&self, bytes: u64) {
        let usual = self.usual.load(Ordering::Relaxed);
        let now = match bytes.checked_sub(usual) {
            _ if usual == 0 => bytes,
            Some(more) => usual + more.div_ceil(2),
            None => usual - (usual - bytes) / 8,
        };
        if now != usual {
            self.usual.store(now, Ordering::Relaxed);
        }
    }

    /// Halves the estimate, because a request waited too long for this much memory.
    pub(crate) fn forget(&self) {
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store((usual / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_what_recent_instances_needed() {
        let needs = Needs::default();
        let of = |allowed| needs.of(allowed, 4000);
        assert_eq!((of(100_000), of(100_000)), (33_333, 33_333), "nothing is known");
        std::thread::sleep(UNKNOWN);
        assert_eq!((of(100_000), of(4500)), (5000, 4500), "none has ended: a quarter more than it begins with");
        needs.note(9000);
        assert_eq!(of(100_000), 9000);
        needs.note(20_000);
        assert_eq!((of(100_000), of(10_000)), (14_500, 10_000), "one is not believed at once");
        needs.note(4500);
        assert_eq!(of(100_000), 13_250);
        (0..100).for_each(|_| needs.note(4500));
        assert!((4500..4510).contains(&of(100_000)), "{}", of(100_000));
        needs.forget();
        assert!(of(100_000) < 2300);
    }
}
