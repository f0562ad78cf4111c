//! Measures Tollgate beside its peers: `cargo run --release -p loadtest -- [SCENARIO …]`, or `make bench`.
//!
//! Every scenario starts its servers on the first core and sends from the others. Where it compares servers, it takes them
//! in turn, round by round, so that other work on the machine slows all of them alike. All load goes to loopback and is
//! bounded in count or time.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod load;
mod report;
mod scenarios;
mod servers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

/// What to measure, and how long.
#[derive(Debug, Parser)]
#[command(name = "loadtest", about = "Measures Tollgate beside its peers, and writes a report")]
struct Arguments {
    /// Which scenarios, in this order; all of them where none is named
    #[arg(value_enum)]
    scenarios: Vec<scenarios::Name>,
    /// Of each run of a server
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Runs of each server, of which the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Tenants of the scenario `density`
    #[arg(long, default_value_t = 10_000)]
    tenants: usize,
    /// How long the scenario `soak` takes
    #[arg(long, default_value_t = 10)]
    soak_minutes: u64,
    /// Where `report.md` and its plots go
    #[arg(long, default_value = "loadtest/out/report")]
    report: PathBuf,
    /// The gateway's program; without it, the one that was built beside this program
    #[arg(long)]
    tollgate: Option<PathBuf>,
    /// An earlier build of the gateway, which `outbound` measures beside it
    #[arg(long)]
    before: Option<PathBuf>,
    /// Built from Cargo's registry: cargo install --locked wasmtime-cli@48
    #[arg(long, default_value = "wasmtime")]
    wasmtime: PathBuf,
    /// From npm: npm install workerd, then node_modules/.bin/workerd
    #[arg(long, default_value = "workerd")]
    workerd: PathBuf,
    /// Another server that runs already, for `hello`: NAME=https://HOST:PORT/PATH
    #[arg(long)]
    peer: Vec<String>,
    /// The tests' guests, by `make guests`
    #[arg(long, env = "TOLLGATE_GUESTS", default_value = "tests/guests/target/components")]
    guests: PathBuf,
    /// A large component for `cold`, such as one of JavaScript: tollgate new --template http-js, tollgate build
    #[arg(long)]
    large: Option<PathBuf>,
    /// What the scenario `instructions` compares with
    #[arg(long, default_value = "loadtest/instructions.toml")]
    instructions: PathBuf,
    /// Writes that anew, of what is counted now
    #[arg(long)]
    keep_instructions: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let cores = servers::share_cores()?;
    raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().event_interval(8).enable_all().build()?;
    let plan = scenarios::Plan {
        time: Duration::from_secs(arguments.seconds),
        rounds: arguments.rounds.max(1),
        connections: arguments.connections,
        tenants: arguments.tenants,
        tollgate: arguments.tollgate.map_or_else(|| servers::built("tollgate"), Ok)?,
        before: arguments.before,
        soak: Duration::from_secs(arguments.soak_minutes * 60),
        wasmtime: arguments.wasmtime,
        workerd: arguments.workerd,
        peers: arguments.peer,
        guests: std::path::absolute(arguments.guests)?,
        hello: std::path::absolute("tenants/hello/site.wasm")?,
        large: arguments.large.map(std::path::absolute).transpose()?,
        instructions: arguments.instructions,
        keep_instructions: arguments.keep_instructions,
        dir: tempfile::tempdir()?,
    };
    anyhow::ensure!(
        plan.hello.exists(),
        "{} is missing: run this from the top of the repository",
        plan.hello.display()
    );
    let wanted = if arguments.scenarios.is_empty() { scenarios::Name::all() } else { arguments.scenarios };
    let machine = machine(cores, &plan.tollgate)?;
    let mut sections = Vec::new();
    for scenario in wanted {
        eprintln!("{scenario:?} …");
        let found = runtime.block_on(scenario.run(&plan)).with_context(|| format!("{scenario:?}"))?;
        for section in &found {
            println!("{}\n\n{}", section.title, section.table());
        }
        sections.extend(found);
        // Written after each scenario, so that a failure later does not lose it.
        if !sections.is_empty() {
            report::write(&arguments.report, &machine, &sections)?;
        }
    }
    if !sections.is_empty() {
        println!("{}", arguments.report.join("report.md").display());
    }
    let worse: Vec<&str> = sections.iter().flat_map(|section| &section.worse).map(String::as_str).collect();
    anyhow::ensure!(worse.is_empty(), "worse than the baseline:\n{}", worse.join("\n"));
    Ok(())
}

/// For ten thousand connections and more; the servers get the same limit.
fn raise_descriptors() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}

/// What was measured, and on which machine.
fn machine(cores: usize, tollgate: &Path) -> anyhow::Result<String> {
    let digest = report::sha256(&std::fs::read(tollgate).with_context(|| tollgate.display().to_string())?);
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} (sha256 {digest:.12}…), on {cores} cores of {}, Linux {}; servers on the first core, the load on the rest.",
        tollgate.display(),
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    ))
}
