//! The scenarios: one file each.

mod cold;
mod composed;
mod density;
mod embedded;
mod handshakes;
mod hello;
mod inside;
mod instructions;
mod outbound;
mod pages;
mod prices;
mod soak;
mod storage;
mod stream;
mod training;
mod variants;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::load::Outcome;
use crate::report::Section;
use crate::servers::{Server, Site};

/// What all scenarios need to know.
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    pub(crate) tenants: usize,
    /// The gateway's program.
    pub(crate) tollgate: PathBuf,
    /// An earlier build of the gateway.
    pub(crate) before: Option<PathBuf>,
    pub(crate) soak: Duration,
    pub(crate) wasmtime: PathBuf,
    pub(crate) workerd: PathBuf,
    pub(crate) peers: Vec<String>,
    pub(crate) guests: PathBuf,
    /// The demo tenant's component.
    pub(crate) hello: PathBuf,
    /// A component of many megabytes, for the scenario `cold`.
    pub(crate) large: Option<PathBuf>,
    /// The baseline of the scenario `instructions`, and whether to write it again.
    pub(crate) instructions: PathBuf,
    pub(crate) keep_instructions: bool,
    pub(crate) dir: tempfile::TempDir,
}

impl Plan {
    /// Makes a gateway's folder of this name, with `more` in its file.
    fn site(&self, name: &str, more: &str) -> anyhow::Result<Site> {
        Site::new(&self.dir.path().join(name), &self.tollgate, more)
    }

    /// One of the tests' guests.
    fn guest(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.guests.join(format!("{name}.wasm"));
        anyhow::ensure!(path.exists(), "{} is missing: run make guests", path.display());
        Ok(path)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    Hello,
    Handshakes,
    Inside,
    Instructions,
    Outbound,
    Cold,
    Composed,
    Density,
    Storage,
    Embedded,
    Stream,
    /// Pages of JavaScript, Python and Go at full load, of which none may be refused
    Pages,
    /// What a unit of fuel costs the processor, for every function that guests may call
    Prices,
    Soak,
    /// Load for a gateway that writes down what it runs, not measured: `make pgo`
    Training,
}

impl Name {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|name| *name != Self::Training).collect()
    }

    pub(crate) async fn run(self, plan: &Plan) -> anyhow::Result<Vec<Section>> {
        match self {
            Self::Hello => hello::run(plan).await,
            Self::Handshakes => handshakes::run(plan).await,
            Self::Inside => inside::run(plan).await,
            Self::Instructions => instructions::run(plan).await,
            Self::Outbound => outbound::run(plan).await,
            Self::Cold => cold::run(plan).await,
            Self::Composed => composed::run(plan).await,
            Self::Density => density::run(plan).await,
            Self::Storage => storage::run(plan).await,
            Self::Embedded => embedded::run(plan).await,
            Self::Stream => stream::run(plan).await,
            Self::Pages => pages::run(plan).await,
            Self::Prices => prices::run(plan).await,
            Self::Soak => soak::run(plan).await,
            Self::Training => training::run(plan).await.map(|()| Vec::new()),
        }
    }
}

/// A run, and the processor time that the server took for it.
struct Run {
    outcome: Outcome,
    processor: Duration,
}

/// Measures a server while it is under load.
async fn measured(server: &Server, load: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Run> {
    let before = server.processor_time()?;
    let outcome = load.await?;
    Ok(Run { outcome, processor: server.processor_time()?.saturating_sub(before) })
}

/// What a table says about the runs of one server.
struct Summary {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of its core for each request.
    cost: f64,
    /// The share of its core that it used.
    busy: f64,
    failed: u64,
    spread: String,
}

/// Runs each of `servers` once per round, in turn, and sums up the runs of each.
async fn in_turn<T>(
    rounds: usize,
    servers: &[T],
    run: impl AsyncFn(&T) -> anyhow::Result<Run>,
) -> anyhow::Result<Vec<Summary>> {
    let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            runs.push(run(server).await?);
        }
    }
    Ok(runs.iter().map(|runs| summary(runs)).collect())
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn summary(runs: &[Run]) -> Summary {
    let each = |figure: &dyn Fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
    let rates = each(&|run| run.outcome.per_second());
    let spread: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    Summary {
        per_second: median(rates),
        p50: median(each(&|run| run.outcome.quantile(0.5))),
        p99: median(each(&|run| run.outcome.quantile(0.99))),
        cost: median(each(&|run| {
            run.processor.as_secs_f64() * 1e6 / crate::load::to_f64(run.outcome.latencies.len().max(1))
        })),
        busy: median(each(&|run| run.processor.as_secs_f64() / run.outcome.took.as_secs_f64())),
        failed: runs.iter().map(|run| run.outcome.failed).sum(),
        spread: spread.join(" "),
    }
}
