//! Compiles a project's components before it is served, and says how long that takes, because the first time is slow.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::note;
use crate::cli::runtime;
use crate::config::{self, Boot, Planned};
use crate::sandbox::{Compiler, Starter};
use crate::telemetry::Metrics;

/// Bytes that are compiled in a second, roughly: 12 MB of a JavaScript engine take 20 seconds on two cores.
const BYTES_A_SECOND: u64 = 600_000;
/// Shorter work is not announced.
const SECONDS_MIN: u64 = 2;
const TICK: Duration = Duration::from_millis(200);

/// Refused components are reported by the server, which reuses what was found here.
///
/// # Errors
/// The folder of compiled code cannot be used.
pub(super) fn compile(boot: &Boot, planned: &Planned) -> anyhow::Result<()> {
    let compiler = Compiler::open(&boot.sandbox, Starter::Here, Arc::new(Metrics::default()))?;
    let components = planned.plans.values().flat_map(|plan| &plan.components);
    let new: Vec<_> = components.filter(|component| compiler.known(component.digest).is_none()).collect();
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let bytes: u64 = new.iter().flat_map(|component| component.paths()).map(size).sum();
    let seconds = bytes / BYTES_A_SECOND;
    if new.is_empty() || seconds < SECONDS_MIN {
        return Ok(());
    }
    let names: Vec<_> = new.iter().map(|component| component.name.as_str()).collect();
    let size = indicatif::DecimalBytes(bytes);
    note(&format!("compiling {} ({size}), about {seconds} s the first time", names.join(", ")));
    let began = Instant::now();
    let bar = std::io::stderr().is_terminal().then(|| bar(seconds)).transpose()?;
    let plans = Planned { plans: planned.plans.clone(), problems: Vec::new() };
    runtime()?.block_on(async {
        let mut prepared = std::pin::pin!(config::prepare(plans, &compiler, |_, _| ()));
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _done = &mut prepared => return,
                _ = ticks.tick() => {
                    // The bar must not show the estimate as finished before the work is.
                    bar.iter().for_each(|bar| bar.set_position(began.elapsed().as_secs().min(seconds.saturating_sub(1))));
                }
            }
        }
    });
    bar.iter().for_each(ProgressBar::finish_and_clear);
    note(&format!("compiled in {} s; the result is kept for later starts", began.elapsed().as_secs().max(1)));
    Ok(())
}

fn bar(seconds: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {elapsed} of about {len} s").context("the bar has no style")?;
    Ok(ProgressBar::new(seconds).with_style(style))
}
