//! Builds and joins the rooms: start, reload, drain.

mod asked;
mod certify;
mod confined;
mod door;
mod first;
mod hosts;
mod listen;
mod loading;
mod reload;
mod succession;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::admin::{Moves, Running, Suspension, Words};
use crate::admission::Doors;
use crate::cache::Caches;
use crate::canary::Canary;
use crate::config::{Boot, Changed, Known, Snapshot, Standing, Watch};
use crate::domain::Pattern;
use crate::host::Egress;
use crate::ids::TenantId;
use crate::listener::Offer;
use crate::owners::Owners;
use crate::request::Road;
use crate::sandbox::{Compiler, Instances, Sandbox, Surroundings};
use crate::store::Store;
use crate::telemetry::{AccessLog, GuestLogs, LinesToTheEnd, Metrics, Otlp, Tasks};
use crate::tenant::{Count, Registry};
use crate::tls::{self, Acme, DevCa, Terminator};
use crate::trigger::{Messages, Neighbours, Schedules};

pub(crate) use confined::Prepared;
use loading::{Loading, Verdict};
pub(crate) use succession::Takeover;

/// A gateway that listens.
pub(crate) struct Gateway {
    boot: Boot,
    road: Arc<Road>,
    store: Arc<Store>,
    terminator: Terminator,
    dev_ca: Arc<DevCa>,
    acme: Option<Arc<Acme>>,
    registry: Arc<Registry>,
    suspension: Suspension,
    owners: Arc<Owners>,
    egress: Arc<Egress>,
    compiler: Arc<Compiler>,
    tasks: Tasks,
    messages: Arc<Messages>,
    schedules: Arc<Schedules>,
    /// Copies of the files that components may read.
    staged: PathBuf,
    /// What the tenants' files said when they were read last.
    known: Arc<Mutex<Known>>,
    /// And how far what they said is.
    loading: Loading,
    watch: Option<Watch>,
    /// The access log's last lines, where it has a way of its own.
    _access_to_the_end: Option<LinesToTheEnd>,
    /// What operators ask of it.
    words: Option<Words>,
    /// Its sockets, for a process that takes over.
    offer: Option<Offer>,
    /// Of the operators' listener.
    admin_tasks: Tasks,
    /// What it listens on, with the ports that were chosen.
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Opens everything, loads the tenants, and begins to serve; from the sockets of the gateway that runs where `takeover` is
    /// set.
    ///
    /// # Errors
    /// In words for the operator: what cannot be opened, made or listened on. A tenant's problem is not one of them.
    pub(crate) async fn start(
        mut boot: Boot,
        takeover: Takeover,
        prepared: Prepared,
        otlp: Option<Arc<Otlp>>,
    ) -> anyhow::Result<Self> {
        // What is heard of changes is by absolute paths.
        let dir = std::path::absolute(&boot.tenants_dir)?;
        boot.tenants_dir = std::fs::canonicalize(&dir).unwrap_or(dir);
        let Prepared { starter, sockets, outcome } = prepared;
        let metrics = Arc::new(Metrics::new(boot.telemetry.metrics_tenants));
        let compiler = Arc::new(Compiler::open(&boot.sandbox, starter, Arc::clone(&metrics))?);
        let (mut sockets, store) = Box::pin(succession::succeed(&boot, takeover, sockets, &compiler, &metrics)).await?;
        let access_to_the_end = tell(&metrics, &boot, otlp)?;
        let tasks = Tasks::default();
        let moves = Moves::load(boot.state.join("moved"), Arc::clone(&store), boot.storage.tls.clone())?;
        let logs = guest_logs(&boot.state, &metrics)?;
        let egress = Egress::new(boot.egress.clone(), &metrics, tasks.clone()).context("egress.ca cannot be used")?;
        let (dev_ca, acme, terminator) = secured(&boot)?;
        let around = Surroundings {
            store: Arc::clone(&store),
            logs,
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
            egress: Arc::clone(&egress),
            memory: Arc::new(Count::of(boot.sandbox.memory)),
            is_metered: boot.sandbox.metering,
            instances: Instances::new(boot.sandbox.instances, &metrics),
        };
        let road = Arc::new(Road {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            doors: Doors::new(boot.admission),
            sandbox: Sandbox::new(&boot.sandbox, &compiler, around)?,
            caches: Caches::default(),
            http: boot.http.clone(),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
            server_timing: boot.tls == tls::Source::Dev,
            is_project: boot.project.is_some(),
        });
        let registry = Arc::new(Registry::new(Arc::clone(&metrics)));
        let mut gateway = Self {
            admin: boot.listen.admin,
            staged: boot.state.join("files"),
            watch: reload::watch(&boot),
            suspension: suspension(&boot, &registry)?,
            owners: hosts::open(&boot, &store)?,
            boot,
            messages: Messages::new(Arc::clone(&road), Arc::clone(&store)),
            schedules: Schedules::new(Arc::clone(&road), Arc::clone(&store)),
            road,
            store,
            terminator,
            dev_ca,
            acme,
            registry,
            egress,
            compiler,
            tasks,
            known: Arc::default(),
            loading: Loading::default(),
            _access_to_the_end: access_to_the_end,
            words: None,
            offer: None,
            admin_tasks: Tasks::default(),
            https: vec![],
            http: vec![],
        };
        gateway.join();
        Box::pin(gateway.first_load(takeover.is_one())).await?;
        gateway.listen(&metrics, moves, &mut sockets).await?;
        confined::started(outcome.is_some());
        succession::relieve(sockets.old).await;
        gateway.begin();
        Ok(gateway)
    }

    /// Leads requests between a tenant's components, and messages that the store hears, to who takes them.
    fn join(&self) {
        self.egress.lead_to(Box::new(Neighbours::new(&self.road)));
        let messages = Arc::clone(&self.messages);
        self.store.hand_messages_to(move |heard| messages.take(heard));
    }

    /// Begins what goes on beside requests. Last, so that on a store of its own the process before has started its last run.
    fn begin(&self) {
        tokio::spawn(Arc::clone(&self.schedules).run());
        tokio::spawn(self.canary().keep());
    }

    /// What looks whether tenants are apart.
    fn canary(&self) -> Canary {
        Canary {
            road: Arc::clone(&self.road),
            registry: Arc::clone(&self.registry),
            compiler: Arc::clone(&self.compiler),
            logs: self.boot.state.join("logs"),
            watches: self.boot.watch_isolation,
            stores: self.boot.storage.tenant_users.is_none(),
        }
    }

    /// The tenants' standing and one URL each, for whoever started it.
    pub(crate) fn tenants(&self) -> Vec<(String, Standing, Option<String>)> {
        let snapshot = self.road.snapshot.load();
        let (scheme, listeners) = if self.boot.listen.is_plain { ("http", &self.http) } else { ("https", &self.https) };
        let port = listeners.first().map_or(443, SocketAddr::port);
        let url = |id: &str| {
            let plan = snapshot.plan(&TenantId::parse(id)?)?;
            let host = plan.hosts.iter().find_map(|host| match host {
                Pattern::Exact(name) => Some(name),
                Pattern::Wildcard(_) => None,
            })?;
            let is_standard = port == if scheme == "https" { 443 } else { 80 };
            Some(if is_standard { format!("{scheme}://{host}/") } else { format!("{scheme}://{host}:{port}/") })
        };
        snapshot.standings.iter().map(|(id, standing)| (id.clone(), *standing, url(id))).collect()
    }

    /// Serves until SIGTERM or SIGINT, or until another process took over, reloading all at each SIGHUP and what changes by
    /// itself; then drains.
    ///
    /// What is returned is to be held until all that this process had open is closed: its end is what the process that took
    /// over waits for.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub(crate) async fn run(mut self) -> anyhow::Result<Option<tokio::net::UnixStream>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut asked, drain) = self.asked();
        let (mut loading, mut fetch_at) = (std::mem::take(&mut self.loading), None);
        let offer = self.offer.take();
        // A task of its own: an exchange goes on whatever else happens.
        let mut taken = tokio::spawn(async move {
            match offer {
                Some(offer) => offer.taken().await,
                None => std::future::pending().await,
            }
        });
        let heir = loop {
            asked.answer(loading.is_under_way());
            let (again, in_force) = (loading.again_at(), Arc::clone(&self.road.snapshot.load().owners));
            let due = tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                heir = &mut taken => break heir.ok(),
                () = drain.cancelled() => break None,
                _ = hangup.recv() => Due::Changed(Changed::All),
                () = asked.heard() => Due::Changed(Changed::All),
                seen = self.seen(&mut fetch_at) => Due::Changed(seen),
                () = self.owners.changed(&in_force) => Due::Changed(Changed::Folders(BTreeSet::new())),
                () = until(again) => Due::Changed(Changed::Folders(loading.due(&self.boot.tenants_dir))),
                verdict = loading.next() => Due::Found(verdict),
            };
            // To read what thousands of tenants have takes seconds; the end need not wait for it.
            let done = async {
                match due {
                    Due::Changed(changed) => self.reload(&mut loading, &changed).await,
                    Due::Found(verdict) => self.found(&mut loading, verdict).await,
                }
            };
            tokio::select! {
                done = done => {
                    if let Err(error) = &done {
                        tracing::error!(target: "config", %error, "the reload failed; what was before it stays");
                    }
                    asked.done(done.is_ok());
                }
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                () = drain.cancelled() => break None,
            }
        };
        Running::end(&self.boot.state);
        // Who waits for a reload is told that there is none; and nothing is compiled any more.
        drop((asked, loading));
        // The sockets close, unless another process has them; and then it answers operators too.
        taken.abort();
        if heir.is_some() {
            self.admin_tasks.begin_to_drain();
        }
        let limit = self.boot.listen.drain;
        tracing::info!(target: "gateway", limit_ms = limit.as_millis(), "draining");
        let cut_off = self.tasks.drain(limit).await;
        tracing::info!(target: "gateway", cut_off, taken_over = heir.is_some(), "stopped");
        Ok(heir)
    }
}

/// Waits until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// What the gateway does next.
enum Due {
    Changed(Changed),
    Found(Verdict),
}

/// Where what guests print goes.
fn guest_logs(state: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<GuestLogs> {
    let logs = GuestLogs::open(&state.join("logs"), Arc::clone(metrics));
    logs.with_context(|| format!("cannot write logs under {}", state.display()))
}

/// What TLS takes: who makes certificates, and who serves them; none yet.
fn secured(boot: &Boot) -> anyhow::Result<(Arc<DevCa>, Option<Arc<Acme>>, Terminator)> {
    let dev_ca = DevCa::load_or_make(&boot.state.join("tls"))?;
    let acme = boot.acme.clone().map(|settings| Acme::load(settings, &boot.state.join("acme"))).transpose()?;
    let challenges = acme.as_ref().map(|acme| Arc::clone(&acme.challenges));
    let none = reload::certificates(&dev_ca, None, &Snapshot::default())?;
    let terminator = Terminator::new(none, boot.http.handshake_time, challenges)?;
    Ok((Arc::new(dev_ca), acme.map(Arc::new), terminator))
}

/// Has what is counted and logged go where it is sent.
fn tell(metrics: &Arc<Metrics>, boot: &Boot, otlp: Option<Arc<Otlp>>) -> anyhow::Result<Option<LinesToTheEnd>> {
    let counted = Arc::downgrade(metrics);
    let dropped = move |lines| {
        if let Some(metrics) = counted.upgrade() {
            metrics.access_lines_dropped(lines);
        }
    };
    let access = boot.telemetry.access.as_ref().map(|access| AccessLog::start(access, dropped)).transpose();
    let (access, to_the_end) = access.context("telemetry.access cannot be used")?.unzip();
    access.into_iter().for_each(|access| metrics.log_to(access));
    if let Some(otlp) = otlp {
        otlp.spans().into_iter().for_each(|spans| metrics.trace_to(spans));
        tokio::spawn(otlp.report(Arc::clone(metrics)));
    }
    Ok(to_the_end)
}

/// Between two counts of what tenants with a quota of it have in the store, and before the first.
const COUNT_EVERY: Duration = Duration::from_secs(3600);
const COUNT_FIRST: Duration = Duration::from_secs(5);

/// Repairs the sums that are kept beside tenants' data, one tenant after the other, as long as the process lives.
async fn keep_counts(road: Arc<Road>, store: Arc<Store>) {
    let mut pause = COUNT_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = COUNT_EVERY;
        let snapshot = road.snapshot.load_full();
        for plan in snapshot.plans.values().filter(|plan| plan.quota.storage.is_some()) {
            match store.count(&plan.id).await {
                Ok((booked, usage)) if booked != usage => tracing::warn!(
                    target: "store", tenant = %plan.id, ?booked, ?usage, "what the tenant has was counted anew"
                ),
                Ok(_same) => {}
                Err(error) => {
                    tracing::warn!(target: "store", tenant = %plan.id, %error, "what the tenant has cannot be counted")
                }
            }
        }
    }
}

/// Who is suspended, as it was noted in the state folder.
fn suspension(boot: &Boot, registry: &Arc<Registry>) -> anyhow::Result<Suspension> {
    Suspension::load(boot.state.join("suspended"), Arc::clone(registry))
        .with_context(|| format!("cannot use {}/suspended", boot.state.display()))
}
