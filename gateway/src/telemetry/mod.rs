//! What the gateway says about itself: every metric, the access log, the tenants' logs, and the spawner of tasks.
//!
//! Limit: no label is taken from what a stranger sent. Tenants come from the operator's files; everything that belongs
//! to nobody counts under the tenant `-`.

mod access;
mod figures;
mod guest_log;
mod labels;
mod latencies;
mod lines;
mod metrics;
mod tasks;

pub(crate) use access::{Record, Times};
pub(crate) use figures::{Counted, FaultSeen, Figures};
pub(crate) use guest_log::{GuestLogs, Line, Stream};
pub(crate) use latencies::Counts;
pub(crate) use lines::LinesToTheEnd;
pub(crate) use metrics::Metrics;
pub(crate) use tasks::Tasks;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    /// A filter in `tracing`'s words, such as `info` or `info,access=off`.
    pub(crate) log: String,
    /// So many tenants have series of their own; the others share one.
    pub(crate) metrics_tenants: usize,
}

/// Starts logging to standard error, once in a process, by a thread of its own. What it returns must live as long as
/// the process: on drop, the last lines are written.
///
/// # Errors
/// The filter is not one, logging was started already, or no thread can be had.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<LinesToTheEnd> {
    let filter = EnvFilter::try_new(&settings.log)?;
    let (lines, to_the_end) = lines::Lines::start(std::io::stderr())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(move || lines.clone());
    let started = match settings.format {
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        Format::Text => builder.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    Ok(to_the_end)
}
