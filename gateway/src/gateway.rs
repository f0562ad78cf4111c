//! Builds and connects the rooms: start, reload, drain.

mod certify;
mod confined;
mod connections;
mod expiry;
mod fallback;
mod first_load;
mod health;
mod hosts;
mod listen;
mod loading;
mod notify;
mod reload;
mod reload_waiters;
mod renewal_info;
mod resources;
mod signals;
mod takeover;
mod usage_counts;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Moves, OrderReceiver, Running, Suspension};
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
use crate::sandbox::{Compiler, Instances, Sandbox, Services};
use crate::store::Store;
use crate::telemetry::{AccessLog, GuestLogs, LinesToTheEnd, Metrics, Otlp, Tasks};
use crate::tenant::{Count, PerAddress, Registry};
use crate::tls::{self, Acme, DevCa, Terminator};
use crate::trigger::{Messages, Neighbours, Schedules};

pub(crate) use confined::Prepared;
use expiry::Expiry;
use fallback::Fallback;
use loading::{Loading, Verdict};
use notify::Notify;
use resources::{Ended, Opened};
use signals::SignalAction;
pub(crate) use signals::Signals;
pub(crate) use takeover::Takeover;

/// How many clients are counted individually, if the operator limits their requests.
const ADDRESSES_MAX: usize = 65_536;

/// A gateway that listens.
pub(crate) struct Gateway {
    boot: Boot,
    road: Arc<Road>,
    store: Arc<Store>,
    terminator: Terminator,
    fallback: Arc<Fallback>,
    acme: Option<Arc<Acme>>,
    registry: Arc<Registry>,
    suspension: Suspension,
    owners: Arc<Owners>,
    egress: Arc<Egress>,
    compiler: Arc<Compiler>,
    tasks: Tasks,
    messages: Arc<Messages>,
    schedules: Arc<Schedules>,
    /// The folder for copies of the files that components may read.
    staged: PathBuf,
    /// The contents of the tenants' files at the last read.
    known: Arc<Mutex<Known>>,
    /// The progress of loading them.
    loading: Loading,
    watch: Option<Watch>,
    /// What guests print, by tenant.
    logs: GuestLogs,
    /// Writes the access log's last lines on drop, if the log is separate.
    _access_to_the_end: Option<LinesToTheEnd>,
    /// Cancelled when the first load is over.
    started: CancellationToken,
    notify: Notify,
    /// Operators' orders.
    words: Option<OrderReceiver>,
    /// Its sockets, for a process that takes over.
    offer: Option<Offer>,
    /// Tasks of the operators' listener.
    admin_tasks: Tasks,
    /// The addresses that it listens on, with the ports that were chosen.
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Opens everything, loads the tenants, and starts to serve. With `takeover`, uses the sockets of the running gateway.
    ///
    /// # Errors
    /// In words for the operator: what cannot be opened, created or listened on. A tenant's problem is not an error.
    pub(crate) async fn start(
        mut boot: Boot,
        takeover: Takeover,
        prepared: Prepared,
        otlp: Option<Arc<Otlp>>,
    ) -> anyhow::Result<Self> {
        // File events have absolute paths.
        let dir = std::path::absolute(&boot.tenants_dir)?;
        boot.tenants_dir = std::fs::canonicalize(&dir).unwrap_or(dir);
        let Prepared { starter, sockets, notify, outcome } = prepared;
        let metrics = Arc::new(Metrics::new(boot.telemetry.metrics_tenants));
        let compiler = Arc::new(Compiler::open(&boot.sandbox, starter, Arc::clone(&metrics))?);
        let relay = (&*compiler, &metrics, &notify);
        let (sockets, store) = Box::pin(takeover::succeed(&boot, takeover, sockets, relay)).await?;
        let open =
            Opened { sockets, notify, is_confined: outcome.is_some(), compiler, metrics, store: Arc::clone(&store) };
        let started = Box::pin(Self::start_with(boot, takeover, open, otlp)).await;
        if started.is_err() {
            store.close().await;
        }
        started
    }

    async fn start_with(boot: Boot, takeover: Takeover, open: Opened, otlp: Option<Arc<Otlp>>) -> anyhow::Result<Self> {
        let Opened { mut sockets, notify, is_confined, compiler, metrics, store } = open;
        let access_to_the_end = tell(&metrics, &boot, otlp)?;
        let tasks = Tasks::default();
        let moves = Moves::load(boot.state.join("moved"), Arc::clone(&store), boot.storage.tls.clone())?;
        let logs = guest_logs(&boot.state, &metrics)?;
        let egress = Egress::new(boot.egress.clone(), &metrics, tasks.clone()).context("egress.ca cannot be used")?;
        let (fallback, acme, terminator) = secured(&boot)?;
        let around = Services {
            store: Arc::clone(&store),
            logs: logs.clone(),
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
            egress: Arc::clone(&egress),
            memory: Arc::new(Count::of(boot.sandbox.memory)),
            is_metered: boot.sandbox.metering,
            instances: Instances::new(boot.sandbox.instances, &metrics),
        };
        let sandbox = Sandbox::new(&boot.sandbox, &compiler, around)?;
        let road = road(&boot, sandbox, &metrics, &tasks);
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
            fallback,
            acme,
            registry,
            egress,
            compiler,
            tasks,
            known: Arc::default(),
            loading: Loading::default(),
            logs,
            _access_to_the_end: access_to_the_end,
            started: CancellationToken::new(),
            notify,
            words: None,
            offer: None,
            admin_tasks: Tasks::default(),
            https: vec![],
            http: vec![],
        };
        gateway.join();
        Box::pin(gateway.first_load(takeover.is_one())).await?;
        gateway.listen(&metrics, moves, &mut sockets).await?;
        confined::started(is_confined);
        takeover::relieve(sockets.old, &gateway.notify).await;
        gateway.begin();
        gateway.notify.serves(takeover.is_one());
        Ok(gateway)
    }

    /// Connects requests between a tenant's components, and messages from the store, with their receivers.
    fn join(&self) {
        self.egress.lead_to(Box::new(Neighbours::new(&self.road)));
        let messages = Arc::clone(&self.messages);
        self.store.hand_messages_to(move |heard| messages.take(heard));
    }

    /// Starts background work. Last, so that on an embedded store the previous process has started its last run.
    fn begin(&self) {
        tokio::spawn(Arc::clone(&self.schedules).run());
        tokio::spawn(self.canary().keep());
    }

    /// The check of whether tenants are isolated.
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

    /// The tenants' states with a URL each, for the user who started the gateway.
    pub(crate) fn tenants(&self) -> Vec<(String, Standing, Option<String>)> {
        let snapshot = self.road.snapshot.load();
        let (scheme, listeners) = if self.boot.listen.is_plain { ("http", &self.http) } else { ("https", &self.https) };
        let port = if scheme == "https" { self.public_https() } else { listeners.first().map_or(80, SocketAddr::port) };
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

    /// The port at which clients reach https.
    fn public_https(&self) -> u16 {
        let own = || self.https.first().map_or(443, SocketAddr::port);
        self.boot.listen.public_https.unwrap_or_else(own)
    }

    /// Serves until it is told to stop or another process took over; then drains. Meanwhile it reloads everything at each
    /// SIGHUP, and tenants whose files change.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub(crate) async fn run(mut self, mut signals: Signals) -> anyhow::Result<Ended> {
        signals.listen_for_the_end()?;
        let (mut asked, drain) = self.asked();
        let (mut loading, mut fetch_at) = (std::mem::take(&mut self.loading), None);
        let mut expiry = Expiry::begin(&self.road.snapshot.load());
        let offer = self.offer.take();
        // A task of its own: an exchange continues whatever else happens.
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
                asks = signals.next() => match asks {
                    SignalAction::Drain => break None,
                    SignalAction::Reload => Due::Changed(Changed::All),
                    SignalAction::Reopen | SignalAction::Nothing => Due::Reopened,
                },
                heir = &mut taken => break heir.ok(),
                () = drain.cancelled() => break None,
                () = asked.heard() => Due::Changed(Changed::All),
                seen = self.seen(&mut fetch_at) => Due::Changed(seen),
                () = self.owners.changed(&in_force) => Due::Changed(Changed::Folders(BTreeSet::new())),
                () = until(again) => Due::Changed(Changed::Folders(loading.due(&self.boot.tenants_dir))),
                verdict = loading.next() => Due::Found(verdict),
                () = expiry.due() => {
                    Due::Changed(Changed::Folders(expiry.look(&self.road.snapshot.load(), &self.boot.tenants_dir)))
                }
            };
            if matches!(due, Due::Reopened | Due::Changed(Changed::All)) {
                self.reopen_logs();
            }
            // Reading thousands of tenants takes seconds, which the shutdown must not wait for.
            let done = async {
                match due {
                    Due::Changed(changed) => self.reload(&mut loading, &changed).await,
                    Due::Found(verdict) => self.found(&mut loading, verdict).await,
                    Due::Reopened => Ok(()),
                }
            };
            tokio::select! {
                done = done => {
                    if let Err(error) = &done {
                        tracing::error!(target: "config", %error, "the reload failed; the previous configuration stays \
                            in force");
                    }
                    asked.done(done.is_ok());
                }
                () = signals.end() => break None,
                () = drain.cancelled() => break None,
            }
        };
        Running::end(&self.boot.state);
        // A caller that waits for a reload learns that there is none, and compiling stops.
        drop((asked, loading));
        if heir.is_none() {
            self.notify.ends();
            self.leave(&mut signals).await;
        }
        // The sockets close, unless another process has them, which then also answers operators.
        taken.abort();
        if heir.is_some() {
            self.admin_tasks.begin_to_drain();
        }
        let limit = self.boot.listen.drain;
        tracing::info!(target: "gateway", limit_ms = limit.as_millis(), "draining");
        let cut_off = self.tasks.drain(limit).await;
        tracing::info!(target: "gateway", cut_off, taken_over = heir.is_some(), "stopped");
        Ok(Ended::of(self.store, heir))
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
    /// Only the log files were reopened.
    Reopened,
}

/// The destination of what guests print.
fn guest_logs(state: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<GuestLogs> {
    let logs = GuestLogs::open(&state.join("logs"), Arc::clone(metrics));
    logs.with_context(|| format!("cannot write logs under {}", state.display()))
}

/// The parts of TLS: what issues certificates, and what serves them; none yet.
fn secured(boot: &Boot) -> anyhow::Result<(Arc<Fallback>, Option<Arc<Acme>>, Terminator)> {
    let dev_ca = DevCa::load_or_make(&boot.state.join("tls"))?;
    let fallback = Fallback::new(dev_ca, boot.default_pair.clone()).context("tls.default_cert cannot be used")?;
    let acme = boot.acme.clone().map(|settings| Acme::load(settings, &boot.state.join("acme"))).transpose()?;
    let challenges = acme.as_ref().map(|acme| Arc::clone(&acme.challenges));
    let none = reload::certificates(&fallback, None, &Snapshot::default())?;
    let terminator = Terminator::new(none, boot.http.handshake_time, challenges)?;
    Ok((Arc::new(fallback), acme.map(Arc::new), terminator))
}

/// Sends metrics and logs to their destinations.
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

/// The road of all requests, with nothing in force yet.
fn road(boot: &Boot, sandbox: Sandbox, metrics: &Arc<Metrics>, tasks: &Tasks) -> Arc<Road> {
    let by_address = PerAddress::new(ADDRESSES_MAX);
    by_address.set(boot.requests_per_address);
    Arc::new(Road {
        snapshot: ArcSwap::from_pointee(Snapshot::default()),
        doors: Doors::new(boot.admission),
        sandbox,
        caches: Caches::default(),
        http: boot.http.clone(),
        metrics: Arc::clone(metrics),
        tasks: tasks.clone(),
        by_address,
        shows: boot.telemetry.access_shows,
        server_timing: boot.tls == tls::Source::Dev,
        is_project: boot.project.is_some(),
    })
}

/// The suspended tenants, as noted in the state folder.
fn suspension(boot: &Boot, registry: &Arc<Registry>) -> anyhow::Result<Suspension> {
    Suspension::load(boot.state.join("suspended"), Arc::clone(registry))
        .with_context(|| format!("cannot use {}/suspended", boot.state.display()))
}
