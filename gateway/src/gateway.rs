//! Builds and joins the rooms: start, reload, drain.

mod door;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{Admin, Data, Moves, Suspension, Token};
use crate::admission::Doors;
use crate::config::{self, Boot, Plan, Planned, Snapshot, Standing};
use crate::domain::{Domain, Pattern};
use crate::fleet::Fleet;
use crate::host::Egress;
use crate::listener::{self, Connections};
use crate::request::Road;
use crate::route::{Route, Served, Subscription, Table};
use crate::sandbox::{Compiler, Sandbox, Surroundings};
use crate::store::{Listened, Store};
use crate::telemetry::{GuestLogs, Metrics, Tasks};
use crate::tenant::{Component, Count, Registry, Tenant};
use crate::tls::{self, Certificates, DevCa, Terminator};
use crate::trigger::{Messages, Neighbours};
use door::Door;

/// A gateway that listens.
pub(crate) struct Gateway {
    boot: Boot,
    road: Arc<Road>,
    store: Arc<Store>,
    terminator: Terminator,
    dev_ca: DevCa,
    registry: Arc<Registry>,
    suspension: Suspension,
    egress: Arc<Egress>,
    compiler: Compiler,
    tasks: Tasks,
    messages: Arc<Messages>,
    /// Copies of the files that components may read.
    staged: PathBuf,
    /// What it listens on, with the ports that were chosen.
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Opens everything, loads the tenants, and begins to serve.
    ///
    /// # Errors
    /// In words for the operator: what cannot be opened, made or listened on. A tenant's problem is not one of them.
    pub(crate) async fn start(boot: Boot) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let tasks = Tasks::default();
        let store = Arc::new(Store::open(&boot.storage, Arc::clone(&metrics))?);
        let moves = Moves::load(boot.state.join("moved"), Arc::clone(&store), boot.storage.tls.clone())?;
        let logs = GuestLogs::open(&boot.state.join("logs"), Arc::clone(&metrics))
            .with_context(|| format!("cannot write logs under {}", boot.state.display()))?;
        let egress = Arc::new(Egress::new(boot.egress.clone()).context("egress.ca cannot be used")?);
        let dev_ca = DevCa::load_or_make(&boot.state.join("tls"))?;
        let around = Surroundings {
            store: Arc::clone(&store),
            logs,
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
            egress: Arc::clone(&egress),
            memory: Arc::new(Count::of(boot.sandbox.memory)),
            is_metered: boot.sandbox.metering,
        };
        let compiler = Compiler::open(&boot.sandbox, Arc::clone(&metrics))?;
        let road = Arc::new(Road {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            doors: Doors::new(boot.admission),
            sandbox: Sandbox::new(&boot.sandbox, &compiler, around)?,
            http: boot.http.clone(),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
            server_timing: boot.tls == tls::Source::Dev,
        });
        let terminator = Terminator::new(certificates(&dev_ca, &[])?, boot.http.handshake_time)?;
        let admin = boot.listen.admin;
        let registry = Arc::<Registry>::default();
        let suspension = Suspension::load(boot.state.join("suspended"), Arc::clone(&registry));
        let suspension = suspension.with_context(|| format!("cannot use {}/suspended", boot.state.display()))?;
        let staged = boot.state.join("files");
        let mut gateway = Self {
            boot,
            messages: Messages::new(Arc::clone(&road), Arc::clone(&store)),
            road,
            store,
            terminator,
            dev_ca,
            registry,
            suspension,
            egress,
            compiler,
            tasks,
            staged,
            https: vec![],
            http: vec![],
            admin,
        };
        gateway.egress.lead_to(Box::new(Neighbours::new(&gateway.road)));
        let messages = Arc::clone(&gateway.messages);
        gateway.store.hand_messages_to(move |heard| messages.take(heard));
        gateway.reload().await?;
        gateway.listen(&metrics, moves).await?;
        Ok(gateway)
    }

    async fn listen(&mut self, metrics: &Arc<Metrics>, moves: Moves) -> anyhow::Result<()> {
        let connections = Connections::new(self.boot.listen.connections, Arc::clone(metrics));
        for address in &self.boot.listen.https {
            let listener = listener::bind(*address).await?;
            self.https.push(listener.local_addr()?);
            let door = Door { road: Arc::clone(&self.road), terminator: self.terminator.clone() };
            let serve = move |stream, peer| door.clone().https(stream, peer);
            self.tasks.spawn(listener::accept(listener, connections.clone(), self.tasks.clone(), serve));
        }
        let https_port = self.https.first().map_or(443, SocketAddr::port);
        for address in &self.boot.listen.http {
            let listener = listener::bind(*address).await?;
            self.http.push(listener.local_addr()?);
            let door = Door { road: Arc::clone(&self.road), terminator: self.terminator.clone() };
            let (connections, tasks) = (connections.clone(), self.tasks.clone());
            if self.boot.listen.is_plain {
                let serve = move |stream, peer| door.clone().plain(stream, peer);
                self.tasks.spawn(listener::accept(listener, connections, tasks, serve));
            } else {
                let serve = move |stream, _peer| door.clone().http(stream, https_port);
                self.tasks.spawn(listener::accept(listener, connections, tasks, serve));
            }
        }
        let listener = listener::bind(self.boot.listen.admin).await?;
        self.admin = listener.local_addr()?;
        // Connections of its own, so that it answers when the clients' are all taken; and it outlives a drain's start.
        self.egress.own_listeners([self.https.as_slice(), &self.http, &[self.admin]].concat());
        let store = Arc::clone(&self.store);
        tokio::spawn(keep_counts(Arc::clone(&self.road), Arc::clone(&store)));
        tokio::spawn(Fleet::new(Arc::clone(&store), Arc::clone(&self.registry), Arc::clone(metrics)).talk());
        let token = self.boot.state.join("admin.token");
        let token = Token::load_or_make(&token).with_context(|| format!("cannot use {}", token.display()))?;
        let data = Data { store: Arc::clone(&store), token, moves };
        let admin = Admin { road: Arc::clone(&self.road), store, suspension: self.suspension.clone(), data };
        let connections = Connections::new(100, Arc::new(Metrics::default()));
        let serve = move |stream, _peer| admin.clone().serve(stream);
        tokio::spawn(listener::accept(listener, connections, Tasks::default(), serve));
        Ok(())
    }

    /// Loads the tenants' files anew and swaps the configuration whole.
    ///
    /// # Errors
    /// The development CA cannot sign.
    async fn reload(&self) -> anyhow::Result<()> {
        let before = self.road.snapshot.load_full();
        let owners = config::owners(&before.plans);
        let boot = self.boot.clone();
        let planned = tokio::task::spawn_blocking(move || config::tenants(&boot, &owners)).await?;
        let planned = config::prepare(planned, &self.compiler).await;
        let staged = self.staged.clone();
        let planned = tokio::task::spawn_blocking(move || config::stage(planned, &staged)).await?;
        for problem in &planned.problems {
            tracing::error!(target: "config", tenant = problem.tenant.as_ref().map(|id| id.as_str()), "{}", problem.line());
        }
        let snapshot = self.snapshot(&before, planned);
        let plans: Vec<_> = snapshot.plans.values().cloned().collect();
        self.terminator.replace(certificates(&self.dev_ca, &plans)?);
        self.registry.keep_only(|id| snapshot.plans.contains_key(id));
        let metrics = &self.road.metrics;
        metrics.config_generation.set(snapshot.generation);
        metrics.config_problems.set(i64::try_from(snapshot.problems.len()).unwrap_or(i64::MAX));
        self.store.spread(snapshot.plans.values().map(|plan| (plan.id.clone(), plan.quota.shards)));
        let (generation, tenants) = (snapshot.generation, snapshot.plans.len());
        let channels = snapshot.routes.channels().map(listened).collect();
        let files = config::files_of([&snapshot.plans, &before.plans], &self.staged);
        self.road.snapshot.store(Arc::new(snapshot));
        self.store.listen(channels);
        self.messages.look();
        tracing::info!(target: "config", generation, tenants, "the configuration is in force");
        let staged = self.staged.clone();
        // The next reload makes copies; it must not meet this.
        tokio::task::spawn_blocking(move || config::clear_away(&staged, |copy| files.contains(copy))).await?;
        Ok(())
    }

    /// Joins what was planned with what was there: a tenant whose files are wrong now keeps its last good plan.
    fn snapshot(&self, before: &Snapshot, planned: Planned) -> Snapshot {
        let mut snapshot = Snapshot { generation: before.generation + 1, ..Snapshot::default() };
        for (id, plan) in planned.plans {
            let standing = if plan.enabled { Standing::Serving } else { Standing::Suspended };
            snapshot.standings.insert(id.to_string(), standing);
            snapshot.plans.insert(id, plan);
        }
        for id in planned.problems.iter().filter_map(|problem| problem.tenant.as_ref()) {
            if snapshot.plans.contains_key(id) {
                continue;
            }
            let last_good = before.plans.get(id);
            let standing = if last_good.is_some() { Standing::Stale } else { Standing::Broken };
            snapshot.standings.insert(id.to_string(), standing);
            snapshot.plans.extend(last_good.map(|plan| (id.clone(), Arc::clone(plan))));
        }
        snapshot.problems = planned.problems;
        for plan in snapshot.plans.values() {
            self.add(&mut snapshot.routes, plan);
        }
        snapshot
    }

    fn add(&self, table: &mut Table, plan: &Plan) {
        let tenant = Tenant {
            id: plan.id.clone(),
            store_ttl: plan.store_ttl.clone(),
            ledger: self.registry.ledger(&plan.id, &plan.quota, plan.enabled),
        };
        let components: Vec<_> = plan
            .components
            .iter()
            .map(|component| {
                Arc::new(Component {
                    name: component.name.clone(),
                    digest: component.digest,
                    stores: component.stores.clone(),
                    redis: component.redis.clone(),
                    environment: component.environment.clone(),
                    files: component.files.as_ref().map(|files| files.place(&self.staged, &plan.id)),
                    variables: component.variables.clone(),
                    egress: component.egress.clone(),
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
        let served = Served {
            routes: routes.collect(),
            fixed: plan.fixed.clone(),
            subscriptions: subscriptions.collect(),
            components: components.iter().map(|component| (Arc::clone(component), Arc::clone(&limits))).collect(),
        };
        table.add(Arc::new(tenant), plan.hosts.clone(), served);
    }

    /// The tenants' standing and one URL each, for whoever started it.
    pub(crate) fn tenants(&self) -> Vec<(String, Standing, Option<String>)> {
        let snapshot = self.road.snapshot.load();
        let (scheme, listeners) = if self.boot.listen.is_plain { ("http", &self.http) } else { ("https", &self.https) };
        let port = listeners.first().map_or(443, SocketAddr::port);
        let url = |id: &str| {
            let (_, plan) = snapshot.plans.iter().find(|(plan, _)| plan.as_str() == id)?;
            let host = plan.hosts.iter().find_map(|host| match host {
                Pattern::Exact(name) => Some(name),
                Pattern::Wildcard(_) => None,
            })?;
            let is_standard = port == if scheme == "https" { 443 } else { 80 };
            Some(if is_standard { format!("{scheme}://{host}/") } else { format!("{scheme}://{host}:{port}/") })
        };
        snapshot.standings.iter().map(|(id, standing)| (id.clone(), *standing, url(id))).collect()
    }

    /// Serves until SIGTERM or SIGINT, reloading at each SIGHUP; then drains.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    // A reload may compile for minutes; the end need not wait for it.
                    tokio::select! {
                        reloaded = self.reload() => if let Err(error) = reloaded {
                            tracing::error!(target: "config", %error, "the reload failed; what was before it stays");
                        },
                        _ = terminate.recv() => break,
                        _ = interrupt.recv() => break,
                    }
                }
            }
        }
        let limit = self.boot.listen.drain;
        tracing::info!(target: "gateway", limit_ms = limit.as_millis(), "draining");
        let cut_off = self.tasks.drain(limit).await;
        tracing::info!(target: "gateway", cut_off, "stopped");
        Ok(())
    }
}

fn listened(of: crate::route::Channel<'_>) -> Listened {
    Listened { tenant: of.tenant.clone(), channel: of.name.to_owned(), is_once: of.is_once }
}

/// Certificates for all hosts of these tenants, and one for strangers.
fn certificates(dev_ca: &DevCa, plans: &[Arc<Plan>]) -> anyhow::Result<Certificates> {
    let nobody = Domain::parse("localhost").map(Pattern::Exact);
    let default = dev_ca.issue(nobody.as_slice()).context("the development CA cannot sign")?;
    let mut certificates = Certificates::new(default);
    for plan in plans {
        let key = match &plan.pair {
            Some(pair) => Arc::clone(&pair.key),
            None => dev_ca.issue(&plan.hosts).with_context(|| format!("no certificate for {}", plan.id))?,
        };
        for host in &plan.hosts {
            certificates.add(host.clone(), Arc::clone(&key));
        }
    }
    Ok(certificates)
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
