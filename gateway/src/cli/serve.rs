//! `tollgate serve`.

use std::io::Write as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Common, boot, runtime};
use crate::config::{self, Boot, Machine, Standing};
use crate::gateway::Gateway;
use crate::telemetry;

pub(super) fn serve(common: &Common, takeover: bool) -> anyhow::Result<ExitCode> {
    let boot = match boot(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(code),
    };
    run(boot, takeover)
}

/// Serves until it is told to stop, from the sockets of the gateway that runs where `takeover` is set.
pub(super) fn run(boot: Boot, takeover: bool) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let started = {
        let _within = runtime.enter();
        telemetry::start(&boot.telemetry)?
    };
    let otlp = started.otlp.clone();
    raise_descriptors();
    for warning in config::budget_warnings(&boot, Machine::here()) {
        tracing::warn!(target: "config", "{}", warning.line());
    }
    let dev = (boot.tls == crate::tls::Source::Dev && !boot.listen.is_plain).then(|| boot.state.join("tls/ca.pem"));
    let ended = runtime.block_on(async {
        // From here on SIGHUP does not end the process; what is loaded meanwhile is what is there.
        let _heard_later = signal(SignalKind::hangup())?;
        let gateway = Gateway::start(boot, takeover, otlp.clone()).await?;
        let said = announce(&gateway, dev.as_deref());
        // Nobody has to read it.
        let _closed = std::io::stdout().lock().write_all(said.as_bytes());
        let ended = gateway.run().await;
        if let Some(otlp) = otlp {
            // It waits for deliveries, which the runtime makes.
            tokio::task::spawn_blocking(move || otlp.end()).await?;
        }
        ended
    });
    let _seen_by_the_heir = ended?;
    Ok(ExitCode::SUCCESS)
}

/// As many descriptors as this process may have, without asking anybody.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(target: "listener", %error, "the limit on descriptors cannot be raised");
    }
}

/// The most tenants that are shown at the start.
const SHOWN_MAX: usize = 100;

/// The addresses, one line each, and a small table of the tenants.
fn announce(gateway: &Gateway, ca: Option<&std::path::Path>) -> String {
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
    // What is wrong first, where not all are shown.
    tenants.sort_by_key(|(_, standing, _)| !matches!(standing, Standing::Broken | Standing::Stale));
    let more = tenants.len().saturating_sub(SHOWN_MAX);
    tenants.truncate(SHOWN_MAX);
    let width = tenants.iter().map(|(id, ..)| id.len()).max().unwrap_or(0);
    text += "\n";
    for (id, standing, url) in tenants {
        let note = match standing {
            Standing::Serving => "",
            Standing::Suspended => " (suspended)",
            Standing::Stale => " (stale: its files are wrong now)",
            Standing::Broken => " (left out: tollgate check says why)",
        };
        text += &format!("{id:width$}  {}{note}\n", url.as_deref().unwrap_or("-"));
    }
    if more > 0 {
        text += &format!("and {more} more\n");
    }
    text
}
