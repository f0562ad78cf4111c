//! Which gateway runs what is due: on a store that several share, one of them claims each time of a schedule, and holds it
//! while the run goes on.
//!
//! Invariant: of one schedule no time is given to two, and none that is not later than the last one; so it does not matter
//! whose clock is ahead, and who is ahead of the store's by more than a minute is given nothing. While somebody runs an earlier one, nobody gets a later one: it is accounted for as overlapping, once.
//! Limit: a claim is remembered for [`REMEMBERED`]. A gateway whose clock is behind by more than that, or a Redis that lost its
//! last writes in a failover, may give a time again.

use std::time::Duration;

use super::{Backend, Result, Store};
use crate::ids::TenantId;

const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long a run is held without a word of whoever runs it; then it is taken to be gone.
pub(crate) const HELD: Duration = Duration::from_secs(6);

/// One time of one schedule, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due<'d> {
    pub(crate) tenant: &'d TenantId,
    pub(crate) schedule: &'d str,
    /// In seconds since 1970.
    pub(crate) at: u64,
    pub(crate) gateway: &'d str,
}

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Whoever asked.
    Ours,
    /// Somebody else did, or it is over.
    Others,
    /// Nobody: whoever asked is ahead of the store's own clock, and would keep the others from what is due.
    TooEarly,
    /// Nobody: an earlier one is still going on. This is said to one who asks.
    Overlaps,
}

impl Store {
    /// Whether runs of this tenant's are claimed among several gateways.
    pub(crate) fn claims_runs(&self, tenant: &TenantId) -> bool {
        matches!(*self.backend(tenant), Backend::Redis(_))
    }

    /// Asks for a run; it is whoever's asks where there can be no others. Asking again for what is held already is answered
    /// as it was.
    ///
    /// # Errors
    /// The store's; nobody knows then who has it.
    pub(crate) async fn claim_run(&self, due: Due<'_>) -> Result<Claim> {
        let backend = self.own_backend(due.tenant)?;
        let Backend::Redis(redis) = &*backend else { return Ok(Claim::Ours) };
        let key = self.prefix.runs(due.tenant, due.schedule);
        self.timed(Some(due.tenant), "claim-run", redis.claim_run(&key, due, [HELD, REMEMBERED])).await
    }

    /// Holds it for another while; whether it was still held.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn hold_run(&self, due: Due<'_>) -> Result<bool> {
        self.tell_run(due, HELD).await
    }

    /// The run has ended.
    ///
    /// # Errors
    /// The store's; what is due next is held up until it is taken to be gone.
    pub(crate) async fn end_run(&self, due: Due<'_>) -> Result<()> {
        self.tell_run(due, Duration::ZERO).await.map(|_was_held| ())
    }

    async fn tell_run(&self, due: Due<'_>, time: Duration) -> Result<bool> {
        let backend = self.own_backend(due.tenant)?;
        let Backend::Redis(redis) = &*backend else { return Ok(true) };
        let key = self.prefix.runs(due.tenant, due.schedule);
        self.timed(Some(due.tenant), "hold-run", redis.hold_run(&key, due, time)).await
    }
}
