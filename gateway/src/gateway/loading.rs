//! The present contents of the tenants' files, and the progress of loading them. Each tenant's components are checked
//! separately, so that each tenant comes into force when it is ready and waits for no other.
//!
//! Limit: one task for each tenant with a component to compile; the compiler decides which is next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{self, Changed, Plan, Planned, Problem};
use crate::ids::TenantId;
use crate::sandbox::Compiler;

/// When a component that the machine failed to compile is tried again; the pause doubles each time.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
/// How often the pause doubles: eleven minutes.
const DOUBLINGS_MAX: u32 = 6;
/// Verdicts that may wait to be put in force; a further one blocks its sender.
const VERDICTS_WAITING: usize = 64;

/// The result of checking one plan.
#[derive(Debug)]
pub(super) struct Verdict {
    plan: Arc<Plan>,
    problems: Vec<Problem>,
    /// Whether the machine is to blame, so that another attempt may succeed.
    may_pass: bool,
}

impl Verdict {
    fn of(plan: Arc<Plan>, problems: Vec<Problem>) -> Self {
        Self { plan, may_pass: config::may_pass(&problems), problems }
    }

    fn is_good(&self) -> bool {
        self.problems.iter().all(Problem::is_warning)
    }
}

/// A component that the machine failed to compile.
#[derive(Debug)]
struct Again {
    tries: u32,
    at: Instant,
}

#[derive(Debug)]
pub(super) struct Loading {
    /// The contents of the files at the last read.
    wanted: Planned,
    verdicts: BTreeMap<TenantId, Verdict>,
    under_way: BTreeMap<TenantId, (Arc<Plan>, AbortOnDropHandle<()>)>,
    again: BTreeMap<TenantId, Again>,
    found: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
}

impl Default for Loading {
    fn default() -> Self {
        Self {
            wanted: Planned::default(),
            verdicts: BTreeMap::new(),
            under_way: BTreeMap::new(),
            again: BTreeMap::new(),
            found: mpsc::channel(VERDICTS_WAITING),
        }
    }
}

/// The state of a plan that is wanted.
pub(super) enum Stage {
    Good,
    Bad,
    /// A component of it is being compiled.
    UnderWay,
}

impl Loading {
    /// Takes over what was read. Plans that are not wanted any more are not checked further. A reload of everything, or of
    /// a tenant that the machine failed, causes a new check.
    pub(super) fn want(&mut self, planned: Planned, changed: &Changed, tenants_dir: &Path) {
        self.wanted = planned;
        let wanted = &self.wanted.plans;
        let is_wanted = |plan: &Arc<Plan>| config::is_known(wanted, plan);
        let is_asked = |id: &TenantId| match changed {
            Changed::All => true,
            Changed::Folders(folders) => folders.contains(&tenants_dir.join(id.as_str())),
        };
        self.under_way.retain(|_, (plan, _)| is_wanted(plan));
        self.verdicts.retain(|id, verdict| {
            let is_final = match changed {
                Changed::All => verdict.is_good(),
                Changed::Folders(_) => !verdict.may_pass || !is_asked(id),
            };
            is_wanted(&verdict.plan) && is_final
        });
        self.again.retain(|id, _| wanted.contains_key(id));
    }

    /// Checks plans that are neither in force nor checked: at once if everything is compiled, and otherwise in the
    /// background.
    pub(super) async fn look(&mut self, in_force: &BTreeMap<TenantId, Arc<Plan>>, compiler: &Arc<Compiler>) {
        let is_new = |(id, plan): &(&TenantId, &Arc<Plan>)| {
            let is_looked_at = self.verdicts.contains_key(*id) || self.under_way.contains_key(*id);
            !is_looked_at && !config::is_known(in_force, plan)
        };
        let new: Vec<_> = self.wanted.plans.iter().filter(is_new).map(|(_, plan)| Arc::clone(plan)).collect();
        for plan in new {
            if let Some(problems) = config::look_now(&plan, compiler) {
                self.judge(Verdict::of(plan, problems));
                // This reads files, of thousands of tenants at a start.
                tokio::task::yield_now().await;
                continue;
            }
            let (of, compiler, tell) = (Arc::clone(&plan), Arc::clone(compiler), self.found.0.clone());
            let look = async move {
                let problems = config::look(&of, &compiler).await;
                // At the very end there is no receiver.
                let _told = tell.send(Verdict::of(of, problems)).await;
            };
            self.under_way.insert(plan.id.clone(), (plan, AbortOnDropHandle::new(tokio::spawn(look))));
        }
    }

    /// The next verdict. Waits for ever if nothing is being checked.
    ///
    /// Cancel safety: nothing is lost.
    pub(super) async fn next(&mut self) -> Verdict {
        match self.found.1.recv().await {
            Some(verdict) => verdict,
            // Cannot happen: a sender is held here.
            None => std::future::pending().await,
        }
    }

    /// Notes a verdict, and all that wait behind it.
    pub(super) fn note(&mut self, first: Verdict) {
        let mut next = Some(first);
        while let Some(verdict) = next {
            // The verdict may be about a plan that was replaced meanwhile.
            let id = verdict.plan.id.clone();
            if self.under_way.get(&id).is_some_and(|(plan, _)| Arc::ptr_eq(plan, &verdict.plan)) {
                self.under_way.remove(&id);
                self.judge(verdict);
            }
            next = self.found.1.try_recv().ok();
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        let id = verdict.plan.id.clone();
        if verdict.may_pass {
            self.try_again(&id);
        } else {
            self.again.remove(&id);
        }
        self.verdicts.insert(id, verdict);
    }

    fn try_again(&mut self, id: &TenantId) {
        let tries = self.again.get(id).map_or(0, |again| again.tries);
        let at = Instant::now() + AGAIN_FIRST * 2_u32.pow(tries.min(DOUBLINGS_MAX));
        self.again.insert(id.clone(), Again { tries: tries + 1, at });
    }

    fn waiting(&self) -> impl Iterator<Item = (&TenantId, Instant)> {
        let is_waiting = |(id, _): &(&TenantId, &Again)| !self.under_way.contains_key(*id);
        self.again.iter().filter(is_waiting).map(|(id, again)| (id, again.at))
    }

    /// When the next retry is due, if any.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.waiting().map(|(_, at)| at).min()
    }

    /// Folders of tenants whose components are due for a retry.
    pub(super) fn due(&mut self, tenants_dir: &Path) -> BTreeSet<PathBuf> {
        let now = Instant::now();
        let due: Vec<TenantId> = self.waiting().filter(|(_, at)| *at <= now).map(|(id, _)| id.clone()).collect();
        // Whatever the outcome, no tenant is due twice at once.
        for id in &due {
            if let Some(again) = self.again.get_mut(id) {
                again.at = now + AGAIN_FIRST;
            }
        }
        due.iter().map(|id| tenants_dir.join(id.as_str())).collect()
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The wanted plans and their states.
    pub(super) fn plans(&self, in_force: &BTreeMap<TenantId, Arc<Plan>>) -> impl Iterator<Item = (&Arc<Plan>, Stage)> {
        self.wanted.plans.iter().map(move |(id, plan)| {
            let stage = match self.verdicts.get(id) {
                _ if config::is_known(in_force, plan) => Stage::Good,
                Some(verdict) if verdict.is_good() => Stage::Good,
                Some(_) => Stage::Bad,
                None => Stage::UnderWay,
            };
            (plan, stage)
        })
    }

    /// All plans that are or will be in force.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.wanted.plans.values()
    }

    /// Plans that are good and not in force yet.
    pub(super) fn ready(&self, in_force: &BTreeMap<TenantId, Arc<Plan>>) -> BTreeMap<TenantId, Arc<Plan>> {
        let good = self.verdicts.values().filter(|verdict| verdict.is_good());
        let new = good.filter(|verdict| !config::is_known(in_force, &verdict.plan));
        new.map(|verdict| (verdict.plan.id.clone(), Arc::clone(&verdict.plan))).collect()
    }

    /// Adds that files of ready plans could not be copied; the disk may have room later.
    pub(super) fn add(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            let Some(id) = problem.tenant.clone() else { continue };
            let Some(verdict) = self.verdicts.get_mut(&id) else { continue };
            verdict.problems.push(problem);
            verdict.may_pass = true;
            self.try_again(&id);
        }
    }

    /// All problems: first those of files, then those of components, by tenant.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let found = self.verdicts.values().flat_map(|verdict| &verdict.problems);
        self.wanted.problems.iter().chain(found).cloned().collect()
    }
}
