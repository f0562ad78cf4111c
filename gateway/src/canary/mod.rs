//! A pair of the gateway's own tenants: one leaves secrets wherever a guest can leave something, and the other looks for
//! them.
//!
//! A few times a minute they use everybody's pools, store, caches and log, under ids that no file can name; no list, metric
//! or access log line contains them. If they find something, the gateway ends the engines and everything that runs in them,
//! refuses requests until there are new engines, and raises an alarm. In addition, a slot of each pool is checked directly.

mod pair;
mod round;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::TenantId;
use crate::request::Road;
use crate::sandbox::{Compiler, Health, Machine};
use crate::tenant::Registry;

use pair::{CACHE_BYTES, Kind, Pair};
use round::Round;

/// The code for the log if one tenant saw another's data; `tollgate explain` describes it.
const NOT_APART: &str = "E0506";

/// How often it checks.
struct Pace {
    first: Duration,
    every: Duration,
}

const PACE: Pace = Pace { first: Duration::from_secs(10), every: Duration::from_secs(20) };
const PACE_OF_TESTS: Pace = Pace { first: Duration::ZERO, every: Duration::from_millis(100) };
/// The time limit for one round. Each of its requests has its own deadline.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// What the checks need.
pub(crate) struct Canary {
    pub(crate) road: Arc<Road>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) compiler: Arc<Compiler>,
    /// The folder of tenants' logs.
    pub(crate) logs: PathBuf,
    /// Whether the pair runs, or only slots are checked.
    pub(crate) watches: bool,
    /// Whether the pair may use the store; not if somebody would have to create a Redis user for it first.
    pub(crate) stores: bool,
}

/// The tenants that may keep responses, and for how many bytes.
pub(crate) fn caches() -> impl Iterator<Item = (TenantId, u64)> {
    Kind::ALL.into_iter().flat_map(Kind::sides).map(|id| (id, CACHE_BYTES))
}

impl Canary {
    /// Checks for as long as the process serves.
    pub(crate) async fn keep(self) {
        let machine = Machine::here();
        let pace = if machine.is_real() { PACE } else { PACE_OF_TESTS };
        tokio::time::sleep(pace.first).await;
        let mut pairs = Vec::new();
        while !self.road.tasks.is_draining() {
            self.look_at_slots().await;
            if self.watches {
                if pairs.is_empty() {
                    pairs = self.pairs().await;
                }
                for pair in &pairs {
                    self.round(pair, machine.plants()).await;
                }
            }
            tokio::time::sleep(pace.every).await;
        }
    }

    /// One pair of each kind. None if they cannot be compiled now.
    async fn pairs(&self) -> Vec<Pair> {
        match self.compiled().await {
            Ok(()) => Kind::ALL.map(|kind| Pair::new(kind, &self.registry, self.stores)).into(),
            Err(error) => {
                self.road.metrics.isolation_check("canary", "failed");
                let error = format!("{error:#}");
                tracing::warn!(target: "isolation", error, "the canaries cannot be compiled; the gateway tries again");
                Vec::new()
            }
        }
    }

    /// Has them compiled, unless they are.
    async fn compiled(&self) -> anyhow::Result<()> {
        for kind in Kind::ALL {
            let [side, _] = kind.sides();
            let _report = self.compiler.prepare(&side, kind.digest(), async || Ok(kind.wasm())).await?;
        }
        Ok(())
    }

    async fn look_at_slots(&self) {
        let road = Arc::clone(&self.road);
        let health = tokio::task::spawn_blocking(move || road.sandbox.health()).await;
        match health.unwrap_or(Health::Fine) {
            Health::Fine => {}
            Health::Swappable => {
                if let Err(error) = self.road.sandbox.renew_gently().await {
                    let error = format!("{error:#}");
                    tracing::warn!(target: "isolation", error, "there is no memory for two engines: everything that \
                        runs is ended");
                    self.renew().await;
                }
            }
            Health::Unclean => self.renew().await,
        }
    }

    /// Checks whether one half of a pair finds what the other left, and acts on the result.
    async fn round(&self, pair: &Pair, plants: bool) {
        let round = Round::new(&self.road, &self.logs, pair);
        let outcome = tokio::time::timeout(ROUND_MAX, round.run(plants)).await;
        let outcome = outcome.unwrap_or_else(|_elapsed| round::Outcome::failed("it took too long"));
        self.road.metrics.isolation_check("canary", outcome.result());
        if let Some(failed) = outcome.failed.filter(|_| outcome.found.is_empty()) {
            tracing::warn!(target: "isolation", kind = pair.kind.name(), failed, "the canaries could not check anything");
        }
        if outcome.found.is_empty() {
            return;
        }
        let found = outcome.found.join(", ");
        tracing::error!(
            target: "isolation", code = NOT_APART, kind = pair.kind.name(), found,
            "a canary found data of another tenant: everything that runs is ended, and new engines are created"
        );
        if outcome.found.iter().any(|place| pair::is_of_slots(place)) {
            self.road.sandbox.distrust_slots();
        }
        self.renew().await;
    }

    /// Ends everything that runs, and empties the caches.
    async fn renew(&self) {
        self.road.sandbox.renew(|| self.registry.interrupt()).await;
        self.road.caches.forget();
    }
}
