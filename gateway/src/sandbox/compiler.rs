//! Has each component compiled once, by children in an order that is fair to tenants, and remembers the results.
//!
//! A refusal that is remembered on disk is a verdict about the component itself. The limits are noted with it, and the
//! component is not tried again under the same limits. If the machine is to blame (a child was killed or stood still), the
//! failure is not remembered.
//!
//! Limit: [`CHILDREN_MAX`] children, each on half of the processors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::artifacts::{Artifacts, Bounds, Report};
use super::child::{self, Ended, HEAVY_STEPS, IDLE_MAX, NICENESS, Orders, STARVED_AFTER};
use super::compile::REPORT_BYTES_MAX;
use super::compile_queue::{CompilePermit, CompileQueue};
use super::engine::{self, Each};
use super::recipe::Misfit;
use super::spawn::{Order, Starter, Work};
use super::{Settings, fault_injection};
use crate::ids::{Digest, TenantId};
use crate::telemetry::Metrics;

/// Most children at once.
pub(super) const CHILDREN_MAX: usize = 2;

/// Why a component cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum CompileError {
    #[error("it is not a valid component: {0}")]
    Invalid(String),
    #[error("{0}")]
    NoHandler(String),
    /// Its parts cannot be joined.
    #[error("{0}")]
    Misfit(Misfit),
    #[error("compiling took more than {0:?} of processor time")]
    TookTooLong(Duration),
    #[error("the compiler ended: {0}")]
    Crashed(String),
    #[error("the compiler's report has more than {} KiB", REPORT_BYTES_MAX >> 10)]
    TooMuchSaid,
    #[error("the compiler used no processor time for {0:?}")]
    Idle(Duration),
    #[error("the compiler was killed by {0}, as the kernel does when memory is short")]
    Killed(String),
    #[error("the compiler could not be run: {0}")]
    Failed(String),
}

impl CompileError {
    /// Whether it is a verdict about the component, which will be the same next time. Otherwise the machine is to blame.
    pub(crate) const fn is_of_component(&self) -> bool {
        match self {
            Self::Invalid(_)
            | Self::NoHandler(_)
            | Self::Misfit(_)
            | Self::TookTooLong(_)
            | Self::Crashed(_)
            | Self::TooMuchSaid => true,
            Self::Idle(_) | Self::Killed(_) | Self::Failed(_) => false,
        }
    }
}

/// Runs children, a few at a time.
#[derive(Debug)]
pub(crate) struct Compiler {
    artifacts: Artifacts,
    starter: Starter,
    work: Work,
    time: Duration,
    places: CompileQueue,
    /// The entry of [`NICENESS`] with which a child starts. It advances while the machine is so busy that earlier children
    /// made no progress.
    step: AtomicUsize,
    /// Digests that are being compiled; everybody else who needs one waits for it.
    under_way: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    metrics: Arc<Metrics>,
}

impl Compiler {
    /// # Errors
    /// In words for the operator: the folder of compiled components cannot be used.
    pub(crate) fn open(settings: &Settings, starter: Starter, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        Ok(Self {
            artifacts: Artifacts::open(
                &settings.compiled,
                &Each::try_from(|calls| engine::compiling(calls, settings.metering))?,
            )?,
            starter,
            work: Work::of(settings),
            time: settings.compile_time,
            places: CompileQueue::new(CHILDREN_MAX),
            step: AtomicUsize::new(0),
            under_way: Mutex::default(),
            metrics,
        })
    }

    /// The folder for its results.
    pub(super) fn artifacts(&self) -> Artifacts {
        self.artifacts.clone()
    }

    const fn bounds(&self) -> Bounds {
        Bounds::of(self.work.memory, self.time)
    }

    /// The result for a component that was compiled before.
    pub(crate) fn known(&self, digest: Digest) -> Option<Result<Report, CompileError>> {
        let report = self.artifacts.report(digest).map(Ok);
        report.or_else(|| self.artifacts.refusal(digest, &self.bounds()).map(Err))
    }

    /// The report about a component of this tenant. Compiles the component first if nobody has. Its bytes are read only at
    /// the tenant's turn, so that a thousand waiting components use no memory.
    ///
    /// # Errors
    /// [`CompileError`]: what is wrong with the component, or with compiling it.
    pub(crate) async fn prepare<R: Future<Output = Result<Arc<[u8]>, CompileError>>>(
        &self,
        tenant: &TenantId,
        digest: Digest,
        read: impl Fn() -> R,
    ) -> Result<Report, CompileError> {
        let mut tries = 0;
        loop {
            // Takes the place first: a caller that waits for a place delays nobody who needs the same component.
            let place = self.places.take(tenant).await;
            if let Some(known) = self.known(digest) {
                return known;
            }
            let one = self.alone(digest);
            let Ok(_alone) = one.0.try_lock() else {
                // Somebody compiles this component already. Meanwhile the place is of no use.
                drop(place);
                drop(one.0.lock().await);
                if let Some(known) = self.known(digest) {
                    return known;
                }
                continue;
            };
            let wasm = read().await?;
            match self.compile(&place, digest, &wasm, tries).await {
                Ok(report) => return Ok(report),
                Err(Ended::Starved) => tries += 1,
                Err(Ended::With(error)) => return Err(error),
            }
        }
    }

    async fn compile(&self, place: &CompilePermit, digest: Digest, wasm: &[u8], tries: usize) -> Result<Report, Ended> {
        let steps = if place.is_light { NICENESS.len() } else { HEAVY_STEPS };
        let step = tries.max(self.step.load(Ordering::Relaxed)).min(steps - 1);
        let code = self.artifacts.scratch().map_err(failed)?;
        let orders = Orders {
            starter: &self.starter,
            work: &self.work,
            order: Order {
                name: code.file_name().unwrap_or_default().into(),
                nice: NICENESS.get(step).copied().unwrap_or_default(),
                pretend: fault_injection::told(digest),
            },
            time: self.time,
            // The last attempt cannot be restarted.
            starved_after: (step + 1 < steps).then_some(STARVED_AFTER),
            idle_max: IDLE_MAX,
        };
        let began = Instant::now();
        let ended = child::run(&orders, wasm, place).await;
        if matches!(ended, Err(Ended::Starved)) {
            self.step.fetch_max(step + 1, Ordering::Relaxed);
        } else if place.used() * 2 > began.elapsed() {
            // The machine is no longer busy: the next child gets a higher nice value.
            self.step.store(step.saturating_sub(1), Ordering::Relaxed);
        }
        match ended {
            Ok(report) => {
                self.metrics.compiled();
                Ok(self.artifacts.keep(digest, code, report).map_err(failed)?)
            }
            Err(Ended::Starved) => {
                tracing::info!(target: "sandbox", %digest, nice = orders.order.nice, "a compiler gets no processor \
                    time; the gateway restarts it with a higher priority");
                Err(Ended::Starved)
            }
            Err(Ended::With(error)) => {
                self.metrics.compiled();
                if error.is_of_component()
                    && let Err(cause) = self.artifacts.keep_refusal(digest, &error, &self.bounds())
                {
                    tracing::warn!(target: "sandbox", %digest, %cause, "the refusal of a component cannot be recorded");
                }
                Err(error.into())
            }
        }
    }

    /// Locks a digest while it is compiled, until the guard is dropped.
    fn alone(&self, digest: Digest) -> Alone<'_> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        Alone(Arc::clone(under_way.entry(digest).or_default()), self, digest)
    }
}

struct Alone<'c>(Arc<tokio::sync::Mutex<()>>, &'c Compiler, Digest);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut under_way = self.1.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own reference, and this one.
        if Arc::strong_count(&self.0) == 2 {
            under_way.remove(&self.2);
        }
    }
}

fn failed(error: impl std::fmt::Display) -> CompileError {
    CompileError::Failed(error.to_string())
}
