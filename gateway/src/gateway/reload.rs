//! Puts the tenants' files in force: all of them or those that changed, each tenant when its components are ready.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::Gateway;
use super::fallback::Fallback;
use super::hosts;
use super::loading::{Loading, Stage, Verdict};
use crate::canary;
use crate::config::{self, Boot, Changed, Plan, Planned, Problem, Snapshot, Standing, Watch};
use crate::domain::Pattern;
use crate::route::{Route, Schedule, Served, Subscription, Table};
use crate::store::ChannelListener;
use crate::tenant::{Callers, Component, Needs, Tenant};
use crate::tls::{Acme, Certificates};

/// When a component that could not be fetched is tried again.
const FETCH_AGAIN: Duration = Duration::from_secs(10);

impl Gateway {
    /// Waits until the tenants' files change or must be fetched again, or for ever. The caller keeps `fetch_at`.
    pub(super) async fn seen(&self, fetch_at: &mut Option<Instant>) -> Changed {
        let watched = async {
            match &self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let waiting = self.unfetched();
        let again = (!waiting.is_empty()).then(|| fetch_at.unwrap_or_else(|| Instant::now() + FETCH_AGAIN));
        *fetch_at = again;
        tokio::select! {
            changed = watched => changed,
            () = super::until(again) => {
                *fetch_at = None;
                Changed::Folders(waiting)
            }
        }
    }

    /// Folders of tenants with a component that could not be fetched.
    fn unfetched(&self) -> BTreeSet<PathBuf> {
        let snapshot = self.road.snapshot.load();
        let of = snapshot.problems.iter().filter(|problem| problem.kind == config::Kind::NotFetched);
        of.filter_map(|problem| Some(self.boot.tenants_dir.join(problem.tenant.as_ref()?.as_str()))).collect()
    }

    /// Reads the tenants' files that changed. Tenants that need no compiling are in force when this returns; the others are
    /// checked in the background. Unchanged files stay as they are: they cost a look, and are not read.
    ///
    /// # Errors
    /// The development CA cannot sign.
    pub(super) async fn reload(&self, loading: &mut Loading, changed: &Changed) -> anyhow::Result<()> {
        if matches!(changed, Changed::All) {
            let fallback = Arc::clone(&self.fallback);
            tokio::task::spawn_blocking(move || fallback.reload()).await?;
        }
        let before = self.road.snapshot.load_full();
        if matches!(changed, Changed::All) {
            self.store.reload_login().await;
        }
        // Watched before they are read, so that no change is missed in between.
        self.watch_over(config::watched_folders(&self.boot.tenants_dir, changed), false);
        self.owners.refresh().await;
        let (planned, dirs) = self.read(changed, &before).await?;
        self.watch_over(dirs, true);
        loading.want(planned, changed, &self.boot.tenants_dir);
        loading.look(&before.plans, &self.compiler).await;
        let is_settled = self.settle(loading, matches!(changed, Changed::All)).await?;
        self.judge_again(loading, is_settled).await
    }

    /// If a host went to a tenant of another gateway in the meantime, the tenant that wanted it must learn of it.
    async fn judge_again(&self, loading: &mut Loading, is_settled: bool) -> anyhow::Result<()> {
        if is_settled {
            return Ok(());
        }
        let before = self.road.snapshot.load_full();
        let none = Changed::Folders(BTreeSet::new());
        let (planned, _dirs) = self.read(&none, &before).await?;
        loading.want(planned, &none, &self.boot.tenants_dir);
        loading.look(&before.plans, &self.compiler).await;
        self.settle(loading, false).await.map(|_is_settled| ())
    }

    /// Puts in force what was found meanwhile.
    ///
    /// # Errors
    /// As for a reload.
    pub(super) async fn found(&self, loading: &mut Loading, verdict: Verdict) -> anyhow::Result<()> {
        loading.note(verdict);
        let is_settled = self.settle(loading, false).await?;
        self.judge_again(loading, is_settled).await
    }

    /// Swaps in a new configuration with everything that is ready. Returns whether every host went to its tenant.
    async fn settle(&self, loading: &mut Loading, is_all: bool) -> anyhow::Result<bool> {
        let before = self.road.snapshot.load_full();
        let ready = Planned { plans: loading.ready(&before.plans), problems: Vec::new() };
        let (staged, in_force) = (self.staged.clone(), Arc::clone(&before));
        let put_aside = tokio::task::spawn_blocking(move || config::stage(ready, &in_force.plans, &staged)).await?;
        loading.add(put_aside.problems);
        let mut snapshot = self.snapshot(&before, loading);
        // Noted before it is served, so that the process cannot end in between.
        let is_settled = self.owners.note(&hosts::changes(&self.owners.noted(), &before, &snapshot)).await;
        snapshot.owners = self.owners.noted();
        snapshot.routes = self.routes(&before, &snapshot);
        let told: HashSet<String> =
            if is_all { HashSet::new() } else { before.problems.iter().map(Problem::line).collect() };
        self.tell(snapshot.problems.iter().filter(|problem| !told.contains(&problem.line())), before.generation == 0);
        if !is_all && says_the_same(&snapshot, &before) {
            return Ok(is_settled);
        }
        let files = config::files_of([&snapshot.plans, &before.plans], &self.staged);
        let (generation, tenants, waiting) = (snapshot.generation, snapshot.plans.len(), snapshot.loading.len());
        self.put_in_force(snapshot)?;
        self.messages.look();
        self.schedules.look();
        tracing::info!(target: "config", generation, tenants, loading = waiting, "the configuration is in force");
        let staged = self.staged.clone();
        // The next reload makes copies and must not overlap with this.
        let (components, in_force) = (self.boot.components.clone(), self.road.snapshot.load_full());
        let wanted: Vec<Arc<Plan>> = loading.wanted().map(Arc::clone).collect();
        let clear = move || {
            config::clear_away(&staged, |copy| files.contains(copy));
            let components_of = in_force.plans.values().chain(&wanted).flat_map(|plan| &plan.components);
            let named: HashSet<&Path> = components_of.flat_map(config::PlannedComponent::paths).collect();
            components.clear_away(|kept| named.contains(kept));
        };
        tokio::task::spawn_blocking(clear).await?;
        Ok(is_settled)
    }

    /// Swaps the snapshot, and the certificates with it.
    fn put_in_force(&self, snapshot: Snapshot) -> anyhow::Result<()> {
        self.show_expiry(&snapshot);
        let change = self.terminator.change();
        change.replace(certificates(&self.fallback, self.acme.as_deref(), &snapshot)?);
        let cached = snapshot.plans.values().filter(|plan| plan.quota.cache > 0);
        self.road.caches.set(cached.map(|plan| (plan.id.clone(), plan.quota.cache)).chain(canary::caches()));
        self.egress.keep_only(|id| snapshot.plans.contains_key(id));
        self.registry.keep_only(|id| snapshot.plan(id).is_some());
        let metrics = &self.road.metrics;
        metrics.config_generation.set(snapshot.generation);
        let errors = snapshot.problems.iter().filter(|problem| !problem.is_warning()).count();
        metrics.config_problems.set(i64::try_from(errors).unwrap_or(i64::MAX));
        metrics.config_loading.set(i64::try_from(snapshot.loading.len()).unwrap_or(i64::MAX));
        self.store.spread(snapshot.plans.values().map(|plan| (plan.id.clone(), plan.quota.shards)));
        let channels = snapshot.routes.channels().map(listened).collect();
        self.road.snapshot.store(Arc::new(snapshot));
        drop(change);
        self.store.listen(channels);
        Ok(())
    }

    /// Exports the earliest expiry of all certificates.
    fn show_expiry(&self, snapshot: &Snapshot) {
        let pairs = snapshot.plans.values().flat_map(|plan| plan.certificates(self.acme.as_deref()));
        self.road.metrics.certificate_expiry.set(pairs.map(|pair| pair.ends_seconds()).min().unwrap_or(0));
    }

    fn watch_over(&self, dirs: Vec<(PathBuf, PathBuf)>, again: bool) {
        if let Some(Err(error)) = self.watch.as_ref().map(|watch| watch.over(dirs, again)) {
            cannot_watch(&error);
        }
    }

    /// Reads what changed, and returns its directories.
    async fn read(
        &self,
        changed: &Changed,
        before: &Arc<Snapshot>,
    ) -> anyhow::Result<(Planned, Vec<(PathBuf, PathBuf)>)> {
        let (boot, known, before, changed) =
            (self.boot.clone(), Arc::clone(&self.known), Arc::clone(before), changed.clone());
        let noted = self.owners.noted();
        let read = move || {
            let before = config::Before::of(hosts::owners(&noted, &before), &before);
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let planned = known.read(&boot, &changed, &before);
            (planned, known.dirs(&changed))
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    /// Combines what is wanted with what was in force: a tenant whose files are invalid, or whose components are not ready,
    /// keeps its last good plan.
    fn snapshot(&self, before: &Snapshot, loading: &Loading) -> Snapshot {
        let mut snapshot = Snapshot { generation: before.generation + 1, ..Snapshot::default() };
        snapshot.problems = loading.problems();
        for (plan, stage) in loading.plans(&before.plans) {
            let standing = |plan: &Plan| if plan.enabled { Standing::Serving } else { Standing::Suspended };
            let (id, last_good) = (&plan.id, before.plans.get(&plan.id));
            let (standing, served) = match (stage, last_good) {
                (Stage::Good, _) => (standing(plan), Some(plan)),
                // A tenant that must be stopped does not continue while its next version compiles or is invalid.
                (Stage::Bad | Stage::UnderWay, Some(last_good)) if !plan.enabled => {
                    let _stopped = self.registry.ledger(id, &last_good.quota, false);
                    (Standing::Suspended, Some(last_good))
                }
                (Stage::Bad, last_good) => (of_wrong(last_good.is_some()), last_good),
                (Stage::UnderWay, Some(last_good)) => (standing(last_good), Some(last_good)),
                (Stage::UnderWay, None) => {
                    snapshot.loading.insert(id.clone(), Arc::clone(plan));
                    (Standing::Loading, None)
                }
            };
            snapshot.standings.insert(id.to_string(), standing);
            snapshot.plans.extend(served.map(|plan| (id.clone(), Arc::clone(plan))));
        }
        for id in snapshot.problems.iter().filter_map(|problem| problem.tenant.as_ref()) {
            if snapshot.standings.contains_key(id.as_str()) {
                continue;
            }
            let last_good = before.plans.get(id);
            snapshot.standings.insert(id.to_string(), of_wrong(last_good.is_some()));
            snapshot.plans.extend(last_good.map(|plan| (id.clone(), Arc::clone(plan))));
        }
        snapshot
    }

    /// Which tenant answers where. A host that one tenant gives up for another is handed over when the first one's next
    /// version is ready.
    fn routes(&self, before: &Snapshot, snapshot: &Snapshot) -> Table {
        let hosts = |plan: &Plan| match self.owners.is_kept() {
            true => hosts::of(plan, &snapshot.owners, before, snapshot),
            false => plan.hosts.clone(),
        };
        let is_kept = |plan: &Arc<Plan>| config::is_known(&before.plans, plan);
        let (kept, new): (Vec<_>, Vec<_>) = snapshot.plans.values().partition(|plan| is_kept(plan));
        let mut routes = Table::default();
        for plan in kept {
            if !routes.keep(&before.routes, &plan.id, hosts(plan)) {
                self.add(&mut routes, plan, hosts(plan));
            }
        }
        new.into_iter().for_each(|plan| self.add(&mut routes, plan, hosts(plan)));
        for plan in snapshot.loading.values() {
            let served = Served { is_loading: true, ..Served::default() };
            routes.add(Arc::new(self.tenant(plan)), hosts(plan), served);
        }
        routes
    }

    fn tenant(&self, plan: &Plan) -> Tenant {
        Tenant {
            id: plan.id.clone(),
            store_ttl: plan.store_ttl.clone(),
            ledger: self.registry.ledger(&plan.id, &plan.quota, plan.enabled),
            callers: plan.clients.as_ref().map(|of| Callers { by: of.digest, is_required: of.is_required }),
            compress: plan.compress.clone(),
        }
    }

    fn add(&self, table: &mut Table, plan: &Plan, hosts: Vec<Pattern>) {
        let components: Vec<_> = plan
            .components
            .iter()
            .map(|component| {
                Arc::new(Component {
                    name: component.name.clone(),
                    digest: component.digest,
                    reuse: component.reuse,
                    needs: Needs::default(),
                    handler: component.handler,
                    stores: component.stores.clone(),
                    redis: component.redis.clone(),
                    environment: component.environment.clone(),
                    files: component.files.as_ref().map(|files| files.place(&self.staged, &plan.id)),
                    variables: component.variables.clone(),
                    egress: component.egress.clone(),
                    is_spin: component.is_spin,
                })
            })
            .collect();
        let routes = plan.routes.iter().filter_map(|route| {
            let component = Arc::clone(components.get(route.component)?);
            Some(Route {
                pattern: route.pattern.clone(),
                component,
                limits: Arc::new(route.limits.clone()),
                is_spin: route.is_spin,
            })
        });
        let limits = Arc::new(plan.limits.clone());
        let subscriptions = plan.subscriptions.iter().filter_map(|subscription| {
            let component = Arc::clone(components.get(subscription.component)?);
            Some(Subscription {
                channel: subscription.channel.clone(),
                component,
                limits: Arc::clone(&limits),
                at_once: plan.quota.messages_at_once,
                is_once: subscription.is_once,
            })
        });
        let schedules = plan.schedules.iter().filter_map(|schedule| {
            let component = Arc::clone(components.get(schedule.component)?);
            let (expression, limits) = (schedule.expression.clone(), Arc::clone(&limits));
            Some(Schedule { id: schedule.id, expression, component, limits })
        });
        let served = Served {
            routes: routes.collect(),
            fixed: plan.fixed.clone(),
            subscriptions: subscriptions.collect(),
            schedules: schedules.collect(),
            components: components.iter().map(|component| (Arc::clone(component), Arc::clone(&limits))).collect(),
            is_loading: false,
        };
        table.add(Arc::new(self.tenant(plan)), hosts, served);
    }
}

/// The state of a tenant whose files or components are invalid.
const fn of_wrong(was_good: bool) -> Standing {
    if was_good { Standing::Stale } else { Standing::Broken }
}

impl Gateway {
    /// Reports problems: to the log, or to the developer of a single project, who saw those of its files at the start.
    fn tell<'p>(&self, problems: impl Iterator<Item = &'p Problem>, is_first: bool) {
        let Some(project) = &self.boot.project else { return tell(problems) };
        let problems: Vec<_> = problems.filter(|problem| !is_first || !problem.is_warning()).cloned().collect();
        if !problems.is_empty() {
            project.teller.tell(&problems);
        }
    }
}

/// Logs problems.
fn tell<'p>(problems: impl Iterator<Item = &'p Problem>) {
    for problem in problems {
        let tenant = problem.tenant.as_ref().map(|id| id.as_str());
        if problem.is_warning() {
            tracing::warn!(target: "config", tenant, "{}", problem.line());
        } else {
            tracing::error!(target: "config", tenant, "{}", problem.line());
        }
    }
}

/// Whether nothing would change: a file was touched, or another file in its directory changed.
fn says_the_same(new: &Snapshot, old: &Snapshot) -> bool {
    let lines = |of: &Snapshot| of.problems.iter().map(Problem::line).collect::<Vec<_>>();
    new.plans.len() == old.plans.len()
        && new.plans.values().all(|plan| config::is_known(&old.plans, plan))
        && new.loading.len() == old.loading.len()
        && new.loading.values().all(|plan| config::is_known(&old.loading, plan))
        && new.standings == old.standings
        && new.owners == old.owners
        && lines(new) == lines(old)
}

/// A watch over the tenants' files, if it is configured and possible.
pub(super) fn watch(boot: &Boot) -> Option<Watch> {
    let watch = boot.watch.then(|| Watch::start(&boot.tenants_dir)).transpose();
    watch.unwrap_or_else(|error| {
        cannot_watch(&error);
        None
    })
}

/// What the operator can do without file events.
fn cannot_watch(error: &notify::Error) {
    tracing::warn!(
        target: "config", %error,
        "some changes of tenants' files are not detected; SIGHUP reloads them (is fs.inotify.max_user_watches too small?)"
    );
}

fn listened(of: crate::route::Channel<'_>) -> ChannelListener {
    ChannelListener { tenant: of.tenant.clone(), channel: of.name.to_owned(), is_once: of.is_once }
}

/// Certificates for all hosts of all tenants, and one for strangers. A host has the certificate of the tenant that answers
/// there.
pub(super) fn certificates(fallback: &Fallback, acme: Option<&Acme>, of: &Snapshot) -> anyhow::Result<Certificates> {
    let mut certificates = Certificates::new(vec![fallback.for_nobody()?]);
    for plan in of.all() {
        let mut keys: Vec<_> = plan.certificates(acme).into_iter().map(|pair| pair.key).collect();
        if keys.is_empty() {
            if acme.is_some() {
                // Until the CA issues one, there is none.
                continue;
            }
            keys.push(fallback.for_hosts(&plan.hosts).with_context(|| format!("no certificate for {}", plan.id))?);
        }
        let keys: Arc<[_]> = keys.into();
        for host in plan.hosts.iter().filter(|host| of.routes.has(&plan.id, host)) {
            certificates.add(host.clone(), Arc::clone(&keys), plan.clients.clone());
        }
    }
    Ok(certificates)
}
