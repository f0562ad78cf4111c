//! What is replaced if slots were not clean, or one tenant saw another's data: the engines and everything that is loaded in
//! them.
//!
//! Security: between the end of the old engines and the start of the new ones nothing runs ([`Fault::Renewed`]), and the
//! new ones start only after their slots were checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::artifacts::Artifacts;
use super::cache::Components;
use super::engine::{self, Clock, Each};
use super::machine::Machine;
use super::reaper::Reaper;
use super::slots::{self, Between, SlotCheck, SlotChecker, Slots};
use super::{Sandbox, Settings};
use crate::fault::Fault;
use crate::telemetry::Metrics;

/// The codes for the log if slots are not clean, or cannot be relied on to stay clean. `tollgate explain` describes them.
pub(crate) const UNCLEAN: &str = "W0505";
pub(crate) const SWAP: &str = "W0504";

/// How long to wait before an engine that could not be created is tried again. Until then every request is refused.
const AGAIN: Duration = Duration::from_secs(1);

/// Set once nothing of an engine may run any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended(Arc<AtomicBool>);

impl Ended {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The engines, what is loaded in them, and the checks of their slots.
pub(super) struct EngineSet {
    pub(super) components: Components,
    pub(super) slots: Slots,
    checkers: Each<SlotChecker>,
    ended: Ended,
}

/// Creates them.
pub(super) struct EngineFactory {
    pub(super) settings: Settings,
    pub(super) artifacts: Artifacts,
    pub(super) reaper: Reaper,
    pub(super) metrics: Arc<Metrics>,
    pub(super) machine: Machine,
    pub(super) clock: Clock,
    /// Whether the kernel's information about pages was wrong once.
    pub(super) distrusts: AtomicBool,
}

impl EngineFactory {
    /// Creates engines whose slots are reset by what the kernel says about pages if that is reliable, or else whole.
    ///
    /// # Errors
    /// In words for the operator: the pools do not fit, or slots are not clean even if they are reset whole.
    pub(super) fn make(&self) -> anyhow::Result<EngineSet> {
        if self.may_scan() {
            let inside = self.with(Slots::Scanned)?;
            if inside.look(self)? == SlotCheck::Clean {
                return Ok(inside.told());
            }
        }
        let inside = self.with(Slots::Whole)?;
        anyhow::ensure!(
            !matches!(inside.look(self)?, SlotCheck::Unclean(_)),
            "slots of the instance pools are not clean for the next instance, however the gateway clears them: on this \
                machine, the gateway cannot keep one tenant's memory from another tenant (tollgate explain {UNCLEAN})"
        );
        Ok(inside.told())
    }

    /// Whether the kernel can be asked which pages were written: it is configured, and no page can be in swap.
    fn may_scan(&self) -> bool {
        match self.machine.swap() {
            _ if self.settings.slots == Slots::Whole || self.distrusts.load(Ordering::Relaxed) => false,
            None => true,
            Some(area) => {
                tracing::warn!(
                    target: "isolation", code = SWAP, area,
                    "memory of components may be swapped out: slots are cleared completely, which makes each request \
                        slower (MemorySwapMax=0 prevents it)"
                );
                false
            }
        }
    }

    fn with(&self, slots: Slots) -> anyhow::Result<EngineSet> {
        let Settings { instances, metering, .. } = self.settings;
        let engines = Each::try_from(|calls| engine::pooling(calls, instances, metering, slots))?;
        let checkers = Each::try_from(|calls| SlotChecker::new(engines.of(calls), metering))?;
        let ended = Ended::default();
        let evicted = (self.reaper.clone(), Arc::clone(&self.metrics));
        let components = Components::new(&self.settings, (&engines, ended.clone()), self.artifacts.clone(), evicted)?;
        self.clock.also(&engines);
        Ok(EngineSet { components, slots, checkers, ended })
    }
}

impl EngineSet {
    fn told(self) -> Self {
        tracing::info!(target: "isolation", slots = self.slots.name(), "slots of the instance pools were checked");
        self
    }

    /// Checks one slot of each pool, counts the result, and logs a bad one.
    ///
    /// # Errors
    /// No slot is free.
    fn look(&self, of: &EngineFactory) -> anyhow::Result<SlotCheck> {
        let is_pretended = self.slots == Slots::Scanned && of.machine.has_unclean_slots();
        let between = if is_pretended { Between::LeftAsItIs } else { Between::PutBack };
        let looked = slots::look(&self.checkers, between);
        let result = match &looked {
            Ok(SlotCheck::Clean) => "clean",
            Ok(SlotCheck::Unclean(_)) => "found",
            Ok(SlotCheck::Missed) | Err(_) => "failed",
        };
        of.metrics.isolation_check("slots", result);
        let looked = looked?;
        if let SlotCheck::Unclean(_) = looked {
            of.distrusts.store(true, Ordering::Relaxed);
            let (slots, places) = (self.slots.name(), looked.places());
            tracing::error!(
                target: "isolation", code = UNCLEAN, slots, places,
                "a slot of the instance pools still had data of its previous instance"
            );
        }
        Ok(looked)
    }
}

/// The result of a check of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// They may be reused.
    Fine,
    /// They may soon be in swap: new engines are needed, without ending any request.
    Swappable,
    /// They were not clean.
    Unclean,
}

impl Sandbox {
    /// Checks a free slot of each pool, and where pages may be swapped to. Takes some milliseconds.
    pub(crate) fn health(&self) -> Health {
        let Some(inside) = self.inside.load_full() else { return Health::Fine };
        match inside.look(&self.maker) {
            Ok(SlotCheck::Unclean(_)) => Health::Unclean,
            Ok(_) if inside.slots == Slots::Scanned && self.maker.machine.swap().is_some() => Health::Swappable,
            Ok(_) => Health::Fine,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(target: "isolation", error, "slots could not be checked");
                Health::Fine
            }
        }
    }

    /// Makes the next engines reset slots whole, because some slots were not clean.
    pub(crate) fn distrust_slots(&self) {
        self.maker.distrusts.store(true, Ordering::Relaxed);
    }

    /// Runs new requests in new engines. Running ones continue.
    ///
    /// # Errors
    /// The new engines cannot be created beside the old ones.
    pub(crate) async fn renew_gently(&self) -> anyhow::Result<()> {
        let _one = self.renewing.lock().await;
        let new = self.make().await?;
        self.inside.store(Some(Arc::new(new)));
        Ok(())
    }

    /// Ends everything that runs, and refuses new requests until there are new engines. `interrupt` ends waits.
    pub(crate) async fn renew(&self, interrupt: impl Fn()) {
        let _one = self.renewing.lock().await;
        if let Some(old) = self.inside.swap(None) {
            old.ended.0.store(true, Ordering::Release);
        }
        interrupt();
        self.around.instances.idle_instances.all().into_iter().for_each(|idle| idle.clear_away(&self.maker.reaper));
        loop {
            match self.make().await {
                Ok(new) => {
                    tracing::warn!(target: "isolation", slots = new.slots.name(), "new engines are in use");
                    self.inside.store(Some(Arc::new(new)));
                    return;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(target: "isolation", error, "no engine can be created: no request is served, and \
                        the gateway tries again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn make(&self) -> anyhow::Result<EngineSet> {
        let maker = Arc::clone(&self.maker);
        tokio::task::spawn_blocking(move || maker.make()).await.context("creating it panicked")?
    }

    /// The engines that serve.
    ///
    /// # Errors
    /// [`Fault::Renewed`] while there are none.
    pub(super) fn inside(&self) -> Result<Arc<EngineSet>, Fault> {
        self.inside.load_full().ok_or(Fault::Renewed)
    }
}
