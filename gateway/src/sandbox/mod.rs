//! Runs components: two engines, a cache of compiled components, and a separate instance for each request.
//!
//! Invariant: limits and the deadline are set before instantiation, because start functions run there. A guest that
//! computes yields after every [`engine::FUEL_SLICE`] of fuel and at every tick of the epoch clock; `turns` decides who
//! continues.

mod artifacts;
mod cache;
mod call;
mod child;
mod compile;
mod compiler;
mod compose;
mod running;
mod engine;
mod fuel;
mod handler;
mod helper;
mod imports;
mod engines;
mod backlog;
mod machine;
mod traps;
mod memories;
mod message;
mod modules;
mod compile_queue;
mod fault_injection;
mod reaper;
mod recipe;
mod rename;
mod reply;
mod responder;
mod reuse;
mod run;
mod signature;
mod slots;
mod spawn;
mod schedule_handler;
mod turns;
mod without_turns;
mod versions;
mod whose;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::admission::Admitted;
use crate::fault::Fault;
use crate::host::Egress;
use crate::http::{BodyOutcome, RequestBody};
use crate::store::Store;
use crate::telemetry::{GuestLogs, Metrics, Record, Tasks};
use crate::tenant::{Budget, Count};

use arc_swap::ArcSwapOption;

use engine::Pulse;
use engines::{EngineFactory, EngineSet};
use memories::Memories;
use reuse::IdleInstances;

pub(crate) use artifacts::Report;
pub(crate) use compile::{Begun, compile_in_child};
pub(crate) use compiler::{CompileError, Compiler};
pub(crate) use engines::Health;
#[cfg(test)]
pub(crate) use engines::{SWAP, UNCLEAN};
pub(crate) use helper::help;
pub(crate) use machine::Machine;
pub(crate) use message::{Cause, Handled, Message};
pub(crate) use recipe::{Dependency, Misfit, PARTS_MAX, Part, Recipe, Step};
pub(crate) use reply::Reply;
pub(crate) use slots::Slots;
pub(crate) use spawn::{Helper, Starter, Work};

/// How often instances are checked that rest without being reused.
const BETWEEN_EXPIRIES: Duration = Duration::from_secs(1);

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Instances that may run at once: slots of the pool.
    pub(crate) instances: u32,
    /// The folder of compiled components. Security: its files run as native code.
    pub(crate) compiled: PathBuf,
    /// Bytes of compiled code that stay mapped while they are not used.
    pub(crate) cache_bytes: u64,
    /// Idle time after which a component is evicted from the cache.
    pub(crate) cache_idle: Duration,
    /// Whether tenants take turns. Can be switched off for comparison.
    pub(crate) fair_turns: bool,
    /// Whether fuel is counted, which turns and quotas need. Can be switched off to measure its cost.
    pub(crate) metering: bool,
    /// Bytes of memories and tables of all instances together.
    pub(crate) memory: u64,
    /// How slots are reset, if the machine allows a choice.
    pub(crate) slots: Slots,
    /// The memory and the processor time that compiling one component may use.
    pub(crate) compile_memory: u64,
    pub(crate) compile_time: Duration,
    /// Whether compiling children and the gateway confine themselves.
    pub(crate) confine: bool,
    /// What a confined gateway may read beside the files that its configuration names.
    pub(crate) confine_read: Vec<PathBuf>,
}

impl Settings {
    /// The most memory that all of this may use, in bytes, by purpose and by the key that sets it.
    pub(crate) fn memory_bounds(&self) -> [(&'static str, &'static str, u64); 4] {
        [
            (
                "components, and the same again for copies by host calls",
                "sandbox.memory",
                self.memory.saturating_mul(2),
            ),
            ("memory that unused slots keep", "sandbox.instances", engine::kept_bytes_max(self.instances)),
            ("compiled code", "sandbox.cache", self.cache_bytes),
            ("compilers", "sandbox.compile_memory", self.compile_memory.saturating_mul(compiler::CHILDREN_MAX as u64)),
        ]
    }
}

/// What an instance reaches outside of itself.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) store: Arc<Store>,
    pub(crate) logs: GuestLogs,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
    /// What guests may reach over the network.
    pub(crate) egress: Arc<Egress>,
    /// Bytes of memories and tables of all instances together.
    pub(crate) memory: Arc<Count>,
    /// Whether fuel is counted.
    pub(crate) is_metered: bool,
    pub(crate) instances: Instances,
}

/// What instances share.
#[derive(Clone, Debug)]
pub(crate) struct Instances {
    idle_instances: IdleInstances,
    pulse: Pulse,
    /// The memories that composed components may have beyond those of any instance.
    memories: Memories,
}

impl Instances {
    /// For this many concurrent instances.
    pub(crate) fn new(most: u32, metrics: &Arc<Metrics>) -> Self {
        Self {
            idle_instances: IdleInstances::new(most, metrics),
            pulse: Pulse::default(),
            memories: Memories::new(most),
        }
    }
}

/// The engines and everything that is loaded in them.
pub(crate) struct Sandbox {
    /// Nothing while it is being replaced.
    inside: ArcSwapOption<EngineSet>,
    maker: Arc<EngineFactory>,
    renewing: tokio::sync::Mutex<()>,
    around: Arc<Services>,
    turns: Option<turns::Turns>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

impl Sandbox {
    /// # Errors
    /// In words for the operator: the pool does not fit the address space, its slots are not clean, or the folder is not
    /// writable.
    pub(crate) fn new(settings: &Settings, compiler: &Compiler, around: Services) -> anyhow::Result<Self> {
        let reaper = reaper::Reaper::start(settings.memory)?;
        let beside = reaper.clone();
        let runners = tokio::runtime::Handle::current().metrics().num_workers();
        let turns = (settings.fair_turns && settings.metering)
            .then(|| turns::Turns::start(runners, reaper.clone()))
            .transpose()?;
        let look = turns.as_ref().map(turns::Turns::look);
        let Instances { idle_instances, pulse, .. } = around.instances.clone();
        let mut looked = Instant::now();
        let clock = engine::Clock::start(pulse, move || {
            look.iter().for_each(|look| look());
            if looked.elapsed() > BETWEEN_EXPIRIES {
                looked = Instant::now();
                idle_instances.expired().into_iter().for_each(|idle| idle.clear_away(&beside));
            }
        })?;
        let (settings, artifacts, metrics) = (settings.clone(), compiler.artifacts(), Arc::clone(&around.metrics));
        let maker = EngineFactory {
            settings,
            artifacts,
            reaper,
            metrics,
            machine: Machine::here(),
            clock,
            distrusts: AtomicBool::new(false),
        };
        let inside = ArcSwapOption::from_pointee(maker.make()?);
        let renewing = tokio::sync::Mutex::new(());
        Ok(Self { inside, maker: Arc::new(maker), renewing, around: Arc::new(around), turns })
    }

    /// Bytes of memories and tables of all instances now, and their maximum.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.around.memory.now(), self.around.memory.max())
    }

    /// Returns the most bytes that all instances had at once since the last call.
    pub(crate) fn take_memory_peak(&self) -> u64 {
        self.around.memory.take_peak()
    }

    /// Runs a request in an instance of its own. If a component sent it to its own tenant, it is `within` the budget of the
    /// request that the component answers. Every other request has its route's limits to itself.
    ///
    /// Cancel safety: dropping the future, or later the reply's body, ends the instance at its next yield.
    ///
    /// # Errors
    /// The fault, if the guest did not return a response.
    pub(crate) async fn run(
        &self,
        admitted: Arc<Admitted>,
        request: http::Request<RequestBody>,
        verdict: BodyOutcome,
        record: Arc<Record>,
        within: Option<Budget>,
    ) -> Result<Reply, Fault> {
        let component = self.load(&admitted, &record).await?;
        let asked = (request, verdict, within);
        run::run(&self.around, self.turns.as_ref(), component, admitted, asked, record).await
    }

    /// Starts an instance for a message or a schedule, and waits until it is done.
    ///
    /// Cancel safety: as [`Sandbox::run`].
    ///
    /// # Errors
    /// The fault, if the guest did not end by itself.
    pub(crate) async fn handle(
        &self,
        admitted: Arc<Admitted>,
        cause: Cause,
        record: &Arc<Record>,
    ) -> Result<Handled, Fault> {
        let component = self.load(&admitted, record).await?;
        run::handle(&self.around, self.turns.as_ref(), component, admitted, cause, record).await
    }

    async fn load(&self, admitted: &Admitted, record: &Record) -> Result<Arc<cache::Ready>, Fault> {
        let started = Instant::now();
        let digest = admitted.routed.component().digest;
        let payer = &admitted.routed.tenant().ledger;
        let inside = self.inside()?;
        let component = inside.components.load(digest, self.turns.as_ref(), payer).await.map_err(|error| {
            tracing::error!(target: "sandbox", %digest, %error, "a compiled component cannot be loaded");
            Fault::Internal
        })?;
        record.loaded(started.elapsed());
        Ok(component)
    }
}
