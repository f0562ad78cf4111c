//! Starts components when their schedules are due: one task for all tenants, which sleeps until the next moment.
//!
//! A run takes the road of a message: both doors, the tenant's limits and quotas, its own instance and record. On a store
//! that gateways share, one of them claims each moment (`store/runs.rs`) and holds the claim during the run.
//!
//! Invariant: no two runs of one schedule overlap; a moment during a run is skipped and counted. Moments that were missed
//! because the gateway was down or late are not made up. A run that has started is never started again. Limit: one run for
//! each schedule, at most [`crate::route::SCHEDULES_MAX`] schedules of a tenant, and [`CLAIMS_AT_ONCE`] claims at once.

mod agenda;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, Semaphore};

use super::{Outcome, handle};
use crate::ids::{RequestId, TenantId};
use crate::request::Road;
use crate::route::Routed;
use crate::sandbox::Cause;
use crate::store::{Claim, Due, HELD, Result, Store};
use crate::telemetry::{Skipped, unix_ms};

use agenda::{Agenda, Forward, Key, LATE, Moment, Timed, Wanted};

/// How long a run may wait for its tenant's quotas.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest sleep: somebody may set the machine's clock meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// The pause after a claim that the store did not answer.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
const CLAIMS_AT_ONCE: usize = 64;

/// Starts what is due.
#[derive(Debug)]
pub(crate) struct Schedules {
    road: Arc<Road>,
    store: Arc<Store>,
    /// Locked to find what is due, and never across an await.
    agenda: Mutex<Agenda>,
    /// Whether there is a configuration that was not applied yet.
    is_new: AtomicBool,
    wake: Notify,
    /// This process's name among those that claim runs.
    gateway: String,
    claims: Semaphore,
}

impl Schedules {
    pub(crate) fn new(road: Arc<Road>, store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            road,
            store,
            agenda: Mutex::default(),
            is_new: AtomicBool::new(false),
            wake: Notify::new(),
            gateway: RequestId::new().to_string(),
            claims: Semaphore::new(CLAIMS_AT_ONCE),
        })
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All schedules, or those of a tenant, in no order.
    pub(crate) fn all(&self, of: Option<&TenantId>) -> Vec<Timed> {
        self.agenda().all(of)
    }

    /// Has the configuration in force applied.
    pub(crate) fn look(&self) {
        self.is_new.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Starts what is due until the gateway drains. Runs that have started are drained as requests are.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut time = Forward::default();
        while !self.road.tasks.is_draining() {
            let clock = unix_ms(SystemTime::now());
            let next = self.turn(time.at(clock) / 1000);
            // By the machine's clock: if it was set back, time stands still here meanwhile.
            let wait = next.map(|next| Duration::from_millis((next * 1000).saturating_sub(clock)));
            let sleep = wait.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.road.tasks.draining() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Starts what is due now. Returns when the next moment is.
    fn turn(self: &Arc<Self>, now: u64) -> Option<u64> {
        let (due, next) = {
            let mut agenda = self.agenda();
            if self.is_new.swap(false, Ordering::AcqRel) {
                let snapshot = self.road.snapshot.load();
                let wanted = snapshot.routes.schedules().map(|(tenant, schedule)| Wanted {
                    key: Key { tenant: tenant.clone(), schedule: schedule.id },
                    component: schedule.component.name.clone(),
                    expression: schedule.expression.clone(),
                });
                agenda.replace(wanted, now);
            }
            (agenda.due(now), agenda.next())
        };
        for moment in due {
            let schedules = Arc::clone(self);
            self.road.tasks.spawn(async move {
                let outcome = schedules.begin(&moment).await;
                schedules.agenda().ended(&moment, outcome);
            });
        }
        next
    }

    /// Runs what is due, or counts why it does not run. Returns the outcome in a word.
    async fn begin(&self, moment: &Moment) -> &'static str {
        let snapshot = self.road.snapshot.load_full();
        let Some(routed) = snapshot.routes.scheduled(&moment.key.tenant, moment.key.schedule) else { return "gone" };
        let ledger = Arc::clone(&routed.tenant().ledger);
        let skipped = |why: Skipped| {
            ledger.figures.runs_skipped(why, 1);
            why.name()
        };
        if moment.missed > 0 {
            ledger.figures.runs_skipped(Skipped::Missed, moment.missed);
        }
        let Some(at) = moment.at else { return Skipped::Missed.name() };
        if ledger.is_stopped() {
            return skipped(Skipped::Suspended);
        }
        let schedule = moment.key.schedule.to_string();
        let due = Due { tenant: &moment.key.tenant, schedule: &schedule, at, gateway: &self.gateway };
        match self.claim(due, moment.is_free).await {
            Ok(Claim::Ours) if moment.is_free => self.hold_and_run(due, routed, snapshot.generation).await,
            Ok(Claim::Ours) => {
                // The store was unreachable for so long that our claim expired, but our run is still in progress.
                self.let_go(due).await;
                skipped(Skipped::Overlap)
            }
            Ok(Claim::Overlaps) => skipped(Skipped::Overlap),
            Ok(Claim::Others) => "elsewhere",
            Ok(Claim::TooEarly) => {
                tracing::warn!(target: "trigger", tenant = %due.tenant, "this machine's clock is ahead of the \
                    storage's clock: scheduled runs are skipped");
                skipped(Skipped::Unclaimed)
            }
            Err(error) => {
                tracing::warn!(target: "trigger", tenant = %due.tenant, %error, "a run cannot be claimed and is skipped");
                skipped(Skipped::Unclaimed)
            }
        }
    }

    /// Claims until the store answers, or it is too late. An overlapping moment is claimed only once.
    async fn claim(&self, due: Due<'_>, is_free: bool) -> Result<Claim> {
        loop {
            let claimed = {
                // We never close it.
                let _place = self.claims.acquire().await;
                self.store.claim_run(due).await
            };
            let is_late = unix_ms(SystemTime::now()) / 1000 >= due.at + LATE;
            if claimed.is_ok() || is_late || !is_free || self.road.tasks.is_draining() {
                return claimed;
            }
            tokio::time::sleep(CLAIM_AGAIN).await;
        }
    }

    async fn hold_and_run(&self, due: Due<'_>, routed: Routed, generation: u64) -> &'static str {
        let run = handle(&self.road, routed, Cause::Due(due.at), (Instant::now(), PATIENCE), generation);
        if !self.store.claims_runs(due.tenant) {
            return word(run.await);
        }
        let hold = async {
            loop {
                tokio::time::sleep(HELD / 3).await;
                let held = self.store.hold_run(due).await;
                if !matches!(held, Ok(true)) {
                    tracing::warn!(target: "trigger", tenant = %due.tenant, ?held, "a run continues, but other \
                        gateways may assume that it ended");
                }
            }
        };
        let outcome = tokio::select! {
            outcome = run => word(outcome),
            never = hold => never,
        };
        self.let_go(due).await;
        outcome
    }

    async fn let_go(&self, due: Due<'_>) {
        if let Err(error) = self.store.end_run(due).await {
            tracing::warn!(target: "trigger", tenant = %due.tenant, %error, "a run has ended, but other gateways wait \
                until its lease expires");
        }
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "ok",
        Outcome::NotRun => "no-room",
        Outcome::Failed => "failed",
    }
}
