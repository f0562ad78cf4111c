//! Certificates that expire while nothing else changes: their tenants' files are read again, so that the problems mention
//! it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::config::{EXPIRES_SOON, Snapshot};

/// The longest and the shortest time between two checks.
const LOOK_MAX: Duration = Duration::from_hours(1);
const LOOK_MIN: Duration = Duration::from_secs(1);

/// When certificates were last checked, and the next time.
#[derive(Debug)]
pub(super) struct Expiry {
    last: SystemTime,
    at: Instant,
}

impl Expiry {
    /// Starts now; what is true now was reported when the files were read.
    pub(super) fn begin(of: &Snapshot) -> Self {
        let now = SystemTime::now();
        Self { last: now, at: Instant::now() + pause(of, now) }
    }

    /// Waits for the next check. Cancel safety: nothing is noted.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.at).await;
    }

    /// Folders of tenants with a certificate that passed one of its dates since the last check.
    pub(super) fn look(&mut self, of: &Snapshot, dir: &Path) -> BTreeSet<PathBuf> {
        let (since, now) = (self.last, SystemTime::now());
        (self.last, self.at) = (now, Instant::now() + pause(of, now));
        let came = |date: SystemTime| since < date && date <= now;
        let plans = of.plans.values().filter(|plan| plan.pairs.iter().flat_map(dates).any(came));
        plans.map(|plan| dir.join(plan.id.as_str())).collect()
    }
}

/// The dates at which the report about a pair changes.
fn dates(pair: &crate::tls::Pair) -> [SystemTime; 3] {
    let [from, until] = pair.verdict.good;
    [from, until.checked_sub(EXPIRES_SOON).unwrap_or(until), until]
}

/// The time until the next date of any certificate, within bounds: later tenants are checked with the others.
fn pause(of: &Snapshot, now: SystemTime) -> Duration {
    let all = of.plans.values().flat_map(|plan| &plan.pairs).flat_map(dates);
    let next = all.filter_map(|date| date.duration_since(now).ok()).min().unwrap_or(LOOK_MAX);
    // Dates are whole seconds.
    (next + LOOK_MIN).clamp(LOOK_MIN, LOOK_MAX)
}
