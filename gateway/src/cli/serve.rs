//! `tollgate serve`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use super::{Common, boot, runtime};
use crate::config::{self, Boot, Machine, Standing};
use crate::gateway::{Gateway, Prepared, Signals, Takeover};
use crate::telemetry;

pub(super) fn serve(common: &Common, takeover: Takeover) -> anyhow::Result<ExitCode> {
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    let prepared = Prepared::confined(&boot, takeover.is_one())?;
    run(boot, takeover, prepared)
}

/// Serves until it is told to stop. With `takeover`, from the sockets of the running gateway.
pub(super) fn run(boot: Boot, takeover: Takeover, prepared: Prepared) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let started = {
        let _within = runtime.enter();
        telemetry::start(&boot.telemetry)?
    };
    let otlp = started.otlp.clone();
    raise_descriptors(config::descriptors(&boot));
    refuse_huge_pages();
    close_off(&boot.state);
    for warning in config::budget_warnings(&boot, &Machine::here()).into_iter().chain(config::left_behind(&boot)) {
        tracing::warn!(target: "config", found = %warning.found, hint = warning.hint.as_deref(), "{}", warning.line());
    }
    prepared.tell();
    let dev = (boot.tls == crate::tls::Source::Dev && !boot.listen.is_plain).then(|| boot.state.join("tls/ca.pem"));
    runtime.block_on(async {
        // From here on SIGHUP and similar signals do not end the process; they are handled once it serves.
        let signals = Signals::listen()?;
        let is_project = boot.project.is_some();
        let gateway = Gateway::start(boot, takeover, prepared, otlp.clone()).await?;
        let said = announce(&gateway, dev.as_deref(), is_project);
        // The reader may be gone.
        let _closed = std::io::stdout().lock().write_all(said.as_bytes());
        let ended = gateway.run(signals).await;
        if let Some(otlp) = otlp {
            // It waits for deliveries, which run on the runtime.
            tokio::task::spawn_blocking(move || otlp.end()).await?;
        }
        ended?.close().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes the state folder accessible to this user only: it contains keys, tenants' data and what their guests print.
fn close_off(state: &Path) {
    let closed = || {
        std::fs::create_dir_all(state)?;
        if std::fs::metadata(state)?.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700))
    };
    if let Err(error) = closed() {
        tracing::warn!(target: "gateway", state = %state.display(), %error, "other users can read the state folder");
    }
}

/// Allows as many file descriptors as the hard limit permits, and reserves space for `wanted` of them now. The kernel
/// doubles its table when it is full, and meanwhile `accept` waits until every processor has been outside of the kernel: 9
/// to 15 ms for every connection of that thread, at 256 descriptors, 512, 1024 …
fn raise_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(target: "listener", %error, "the limit on file descriptors cannot be raised");
    }
    let last = wanted.min(limit.maximum.unwrap_or(u64::MAX)).saturating_sub(1);
    let opened = i32::try_from(last).is_ok_and(|last| rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last).is_ok());
    if !opened {
        tracing::warn!(target: "listener", wanted, "the table of file descriptors cannot be enlarged yet");
    }
}

/// A thread that touches the first byte of a huge page waits until 2 MiB are cleared: 5 ms if a virtual machine's host must
/// find them first, and it may be any tenant's turn. Huge pages would also make memory resident that nobody asked for.
/// Requests per second are the same without them, and so is compiling: children inherit the setting (prctl(2),
/// PR_SET_THP_DISABLE).
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(target: "sandbox", %error, "transparent huge pages cannot be turned off: requests may wait \
            while memory grows");
    }
}

/// The most tenants that are shown at the start.
const SHOWN_MAX: usize = 100;

/// The addresses, one line each, and a small table of the tenants.
fn announce(gateway: &Gateway, ca: Option<&std::path::Path>, is_project: bool) -> String {
    let mut text = String::new();
    for address in &gateway.https {
        text += &format!("https  {address}\n");
    }
    for address in &gateway.http {
        text += &format!("http   {address}\n");
    }
    text += &format!("admin  {}\n", gateway.admin);
    if let Some(ca) = ca {
        text += &format!("ca     {}\n", ca.display());
    }
    let mut tenants = gateway.tenants();
    // Tenants with problems come first if not all are shown.
    tenants.sort_by_key(|(_, standing, _)| !matches!(standing, Standing::Broken | Standing::Stale));
    let more = tenants.len().saturating_sub(SHOWN_MAX);
    tenants.truncate(SHOWN_MAX);
    let width = tenants.iter().map(|(id, ..)| id.len()).max().unwrap_or(0);
    text += "\n";
    for (id, standing, url) in tenants {
        let note = match standing {
            Standing::Serving => "",
            Standing::Suspended => " (suspended)",
            Standing::Stale => " (stale: its files are invalid now; the last valid configuration is served)",
            Standing::Broken if is_project => " (not served: see the problem above)",
            Standing::Broken => " (not served: see tollgate check)",
            Standing::Loading => " (loading: its components are compiling)",
        };
        text += &format!("{id:width$}  {}{note}\n", url.as_deref().unwrap_or("-"));
    }
    if more > 0 {
        text += &format!("and {more} more\n");
    }
    text
}
