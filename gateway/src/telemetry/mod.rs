//! What the gateway reports about itself: metrics, the access log, the tenants' logs, traces; and the spawner of tasks.
//!
//! Limit: no label comes from what a stranger sent. Tenants come from the operator's files; everything that belongs to no
//! tenant counts under the tenant `-`.

mod access;
mod access_log;
mod rotating_file;
mod figures;
mod guest_log;
mod labels;
mod recent;
mod latencies;
mod lines;
mod metrics;
mod otlp;
mod peak;
mod record;
mod escape;
mod tasks;
mod tenant_files;
mod trace;

pub(crate) use access_log::{
    AccessLog, Format as AccessFormat, NAMES as ACCESS_NAMES, Settings as AccessSettings, Shows as AccessShows,
    To as AccessTo,
};
pub(crate) use figures::{FaultLooked, FaultSeen, Figures, Skipped, TotalsSnapshot};
pub(crate) use guest_log::{GuestLogs, Line, Stream, cut_at};
pub(crate) use latencies::Counts;
pub(crate) use lines::LinesToTheEnd;
pub(crate) use metrics::Metrics;
pub(crate) use otlp::{Otlp, Settings as OtlpSettings, Transport};
pub(crate) use peak::Peak;
pub(crate) use recent::Recent;
pub(crate) use record::{Record, Times};
pub(crate) use tasks::Tasks;
pub(crate) use trace::{GuestSpan, OutboundSpan, storage_call, within};

use std::sync::Arc;
use std::time::SystemTime;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Milliseconds since 1970, as in operators' files and API calls.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// Text for a person at a terminal.
    Text,
}

/// What the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    /// A filter in `tracing`'s syntax, such as `info` or `info,access=off`.
    pub(crate) log: String,
    /// This many tenants have series of their own; the others share one.
    pub(crate) metrics_tenants: usize,
    /// The destination of the access log, if it is separate from the other lines.
    pub(crate) access: Option<AccessSettings>,
    /// What the access log shows about clients.
    pub(crate) access_shows: AccessShows,
    /// Where traces, metrics and logs are sent, if anywhere.
    pub(crate) otlp: Option<OtlpSettings>,
}

/// What was started. Dropping it writes the last lines.
pub(crate) struct Started {
    _lines: LinesToTheEnd,
    /// The exporter to a collector, if there is one.
    pub(crate) otlp: Option<Arc<Otlp>>,
}

/// Starts logging to standard error from a thread of its own, and to a collector if one is configured. Call it once in a
/// process, within the runtime. The result must live as long as the process.
///
/// # Errors
/// The filter is invalid, logging was already started, the collector's address cannot be used, or the thread cannot start.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<Started> {
    let filter = EnvFilter::try_new(&settings.log)?;
    let (lines, to_the_end) = lines::Lines::start(std::io::stderr(), lines::to_the_reader)?;
    let otlp = settings.otlp.clone().map(Otlp::start).transpose()?.map(Arc::new);
    let fmt = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(move || lines.clone());
    let fmt = match settings.format {
        Format::Json => fmt.json().flatten_event(true).with_current_span(false).boxed(),
        Format::Text => fmt.boxed(),
    };
    let bridge = otlp.as_ref().and_then(|otlp| otlp.bridge());
    let bridge = bridge.map(|(bridge, is_sent)| bridge.with_filter(filter_fn(is_sent)));
    let started = tracing_subscriber::registry().with(filter).with(fmt).with(bridge).try_init();
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    Ok(Started { _lines: to_the_end, otlp })
}
