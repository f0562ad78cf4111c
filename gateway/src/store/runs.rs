//! Which gateway runs a schedule: on a shared store, one gateway claims each due time, and holds the claim while the run is
//! in progress.
//!
//! Invariant: no time of a schedule is claimed twice, and none that is not later than the last one. So differing clocks do
//! no harm, and a gateway that is ahead of the store's clock by more than a minute gets no claim. While an earlier run is
//! in progress, no later one is given; it is counted as overlapping, once. Limit: a claim is remembered for [`REMEMBERED`].
//! A gateway whose clock is behind by more than that, or a Redis that lost its last writes in a failover, may repeat a
//! time.

use std::time::Duration;

use super::{Backend, Result, Store};
use crate::ids::TenantId;

const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long a claim lasts if its gateway does not renew it. After that, the gateway is considered gone.
pub(crate) const HELD: Duration = Duration::from_secs(6);

/// One time of one schedule, and the gateway that asks for it.
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
    /// The caller.
    Ours,
    /// Another gateway, or it is over.
    Others,
    /// Nobody: the caller is ahead of the store's own clock, and would keep the others from due times.
    TooEarly,
    /// Nobody: an earlier run is still in progress. Only one caller gets this answer.
    Overlaps,
}

impl Store {
    /// Whether several gateways compete for runs of this tenant.
    pub(crate) fn claims_runs(&self, tenant: &TenantId) -> bool {
        matches!(*self.backend(tenant), Backend::Redis(_))
    }

    /// Claims a run. The caller always gets it if there can be no other gateway. Claiming again what is already held gives
    /// the same answer.
    ///
    /// # Errors
    /// Errors of the store; then nobody knows who has it.
    pub(crate) async fn claim_run(&self, due: Due<'_>) -> Result<Claim> {
        let backend = self.own_backend(due.tenant)?;
        let Backend::Redis(redis) = &*backend else { return Ok(Claim::Ours) };
        let key = self.prefix.runs(due.tenant, due.schedule);
        self.timed(Some(due.tenant), "claim-run", redis.claim_run(&key, due, [HELD, REMEMBERED])).await
    }

    /// Extends a claim. Returns whether it was still held.
    ///
    /// # Errors
    /// Errors of the store.
    pub(crate) async fn hold_run(&self, due: Due<'_>) -> Result<bool> {
        self.tell_run(due, HELD).await
    }

    /// Releases the claim at the end of the run.
    ///
    /// # Errors
    /// Errors of the store; then the next due time is delayed until the claim expires.
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
